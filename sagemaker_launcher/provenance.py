"""Who launches, from which code, with which versions."""

from __future__ import annotations

import getpass
import os
import platform
import stat
import sys
from errno import ELOOP, ENOENT, ENOTDIR
from pathlib import Path
from typing import NoReturn

from sagemaker_launcher import __version__
from sagemaker_launcher.archive.manifest import Author, SourceState, pid_space
from sagemaker_launcher.checkout import Checkout, current_folder
from sagemaker_launcher.digest import new_sha256
from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.rehearsal.code_copy import NOT_SOURCE

_LEADS_NOWHERE = {ELOOP, ENOENT, ENOTDIR}  # what a link does that is dangling


def author(arn: str = "") -> Author:
    """The user, machine and process that launch."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container without a passwd entry
    return Author(_archivable(user), _archivable(platform.node()), os.getpid(), arn, pid_space())


def _archivable(name: str) -> str:
    """A name that the system gave, whose bytes need not be text."""
    return os.fsencode(name).decode("utf-8", "replace")


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
    """Describes the training code: where it lies in the repository (or below the current folder), and a hash of it all.

    Raises:
        EnvironmentProblemError: A part of the code cannot be read, or the current folder was deleted.
    """
    base = checkout.root if checkout else current_folder()
    try:
        files = [(path, path.stat().st_size) for path in sorted(_source_files(folder))]
        digest = new_sha256(sum(size for _, size in files))
        for path, size in files:
            # As bytes, since a name need not be UTF-8.
            name = os.fsencode(path.relative_to(folder).as_posix())
            digest.update(b"%s\0%d\0" % (name, size))
            digest.update(path.read_bytes())
    except OSError as error:
        raise EnvironmentProblemError(
            f"cannot read {error.filename}, a part of the training code: {error.strerror}",
            hint=f"make it readable, or keep it outside of SOURCE.DIR, {folder}",
            code="source_unreadable",
        ) from error
    place = Path(os.path.relpath(folder, base)).as_posix()
    return SourceState(_archivable(place), digest.hexdigest())


def _source_files(folder: Path) -> list[Path]:
    found = []
    for where, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if name not in NOT_SOURCE]
        found += [Path(where) / name for name in names if _is_file(Path(where) / name)]
    return found


def _refuse(error: OSError) -> NoReturn:
    raise error  # os.walk leaves out what it cannot read otherwise


def _is_file(path: Path) -> bool:
    """Whether this is a file, or leads to one; unlike Path's own, it raises in every Python when that cannot be known."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            return False
        raise
