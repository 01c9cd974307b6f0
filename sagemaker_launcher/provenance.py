"""Who launches, from which code, with which versions."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import sys
from pathlib import Path

from sagemaker_launcher import __version__
from sagemaker_launcher.archive.manifest import Author, SourceState
from sagemaker_launcher.checkout import Checkout

_NOT_SOURCE = {
    ".git",
    ".venv",
    "__pycache__",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
}


def author(arn: str = "") -> Author:
    """The user and machine that launch."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container without a passwd entry
    return Author(user, platform.node(), os.getpid(), arn)


def versions(*packages: str) -> dict[str, str]:
    """Versions of this tool, of Python and of those of the packages that are installed."""
    found = {"launcher": __version__, "python": platform.python_version()}
    # Folders have them in their names: importlib.metadata would import all of `email` to read them in files.
    # https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-dist-info-directory
    for name in (name for folder in sys.path for name in _names_in(folder)):
        stem, _, kind = name.rpartition(".")
        package, version, *_ = *stem.split("-"), ""
        if package in packages and kind.endswith("-info"):
            found.setdefault(package, version)
    return found


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")  # noqa: PTH208 - hundreds of names, of which a few become paths
    except OSError:
        return []  # a part of the path may be a file, or missing


def source_state(folder: Path, checkout: Checkout | None) -> SourceState:
    """Describes the training code: where it lies in the repository (or below the current folder), and a hash of it all."""
    digest = hashlib.sha256()
    for path in sorted(_source_files(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    base = checkout.root if checkout else Path.cwd()
    return SourceState(Path(os.path.relpath(folder, base)).as_posix(), digest.hexdigest())


def _source_files(folder: Path) -> list[Path]:
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_SOURCE]
        found += [Path(where) / name for name in names if (Path(where) / name).is_file()]
    return found
