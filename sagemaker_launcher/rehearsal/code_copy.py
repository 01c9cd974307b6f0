"""The copy of the training code that a container has."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError

# Neither belongs to what a Dockerfile would copy.
_NOT_COPIED = ("__pycache__", ".git")
_NAMED = 10  # of the files that cannot be copied
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def check_copyable(folder: Path) -> None:
    """Finds what `copy_code` would fail on, before there is anything of a launch that could be left.

    Raises:
        EnvironmentProblemError: With the first ten.
    """
    found = list(islice(_not_copyable(str(folder)), _NAMED + 1))
    if found:
        shown = sorted(f"{os.path.relpath(path, folder)} ({why})" for path, why in found[:_NAMED])
        more = ", and more" if len(found) > _NAMED else ""
        raise EnvironmentProblemError(
            f"cannot copy {folder}: {', '.join(shown)}{more}",
            hint="only files, folders and links that you may read can be in SOURCE.DIR: move the others elsewhere",
            code="no_source",
        )


def _not_copyable(folder: str) -> Iterator[tuple[str, str]]:
    """What cannot be copied, and why."""
    folders = [folder]
    while folders:
        folder = folders.pop()
        try:
            found = os.scandir(folder)
        except OSError as error:
            yield folder, str(error.strerror)
            continue
        with found:
            for entry in found:
                if entry.name in _NOT_COPIED or entry.is_symlink():
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif not entry.is_file():
                    yield entry.path, _KINDS.get(stat.S_IFMT(entry.stat().st_mode), "a device")
                elif not os.access(entry.path, os.R_OK):
                    yield entry.path, os.strerror(errno.EACCES)


def copy_code(source: Path, target: Path) -> None:
    """Makes a copy, as in an image: what the program writes there, as root, is not for the user's folder.

    Raises:
        EnvironmentProblemError: Something cannot be copied.
    """
    try:
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*_NOT_COPIED))
    except OSError as error:
        # copytree goes on as far as it can, and lists at the end what it could not copy: source, target and why.
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise EnvironmentProblemError(
            f"cannot copy {source}: {why}",
            hint="only files, folders and links can be in SOURCE.DIR",
            code="no_source",
        ) from error
