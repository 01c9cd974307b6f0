"""What `docker build` needs to install Python packages as this machine does: its certificates and pip's settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Where packages come from. The rest, such as folders of wheels, means nothing inside a container.
_CARRIED = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")

INSTRUCTIONS = f"COPY pip.conf /etc/pip.conf\nCOPY ca-certificates.crt {_BUNDLE}"


def files() -> dict[str, str | bytes]:
    """The files that INSTRUCTIONS copy into an image, by name."""
    settings = _settings()
    candidates = [settings.get("cert"), os.environ.get("SSL_CERT_FILE"), _BUNDLE]
    bundle = next(Path(path) for path in candidates if path and Path(path).is_file())
    lines = ["[global]", f"cert = {_BUNDLE}"]
    for name in _CARRIED:
        value = " ".join(word for word in settings.get(name, "").split() if not word.startswith("file:"))
        if value:
            lines.append(f"{name} = {value}")
    return {"pip.conf": "\n".join([*lines, ""]), "ca-certificates.crt": bundle.read_bytes()}


def _settings() -> dict[str, str]:
    """pip's settings on this machine; later ones, those of the environment last, replace earlier ones."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^(global|install|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE)
    order = ("global", "install", ":env:")
    return {name: value for _, name, value in sorted(found, key=lambda item: order.index(item[0]))}
