"""The example's image, made as its users make it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.commands import ROOT, clean_environment
from tests.servers.engine import Engine, one_at_a_time

_BUILD_TIMEOUT_S = 900


def build_example(engine: Engine, home: Path, *, base: str, tag: str) -> str:
    """Builds Dockerfile.sagemaker on a base image; some minutes, and a second when the engine has its layers already.

    Args:
        engine: Where to.
        home: A folder for the settings of `docker`.
        base: An image whose pip finds its packages.
        tag: Of the image that is made.

    Returns:
        The image's name and tag.
    """
    with one_at_a_time():
        built = subprocess.run(
            [
                *(str(ROOT / "build_and_push.sh"), "--local", "--image", "sagemaker-launcher-tests/example"),
                *("--tag", tag, "--base-image", base, "--", "--network", "host"),
            ],
            env=clean_environment(home, **engine.variables),
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    assert built.returncode == 0, built.stderr
    return built.stdout.strip()
