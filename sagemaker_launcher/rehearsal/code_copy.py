"""The copy of the training code that a host has, as an image would."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.user_cache import place

# What tools keep beside code: neither hashed as the code of a launch, nor copied.
NOT_SOURCE = frozenset(
    {
        ".git",
        ".venv",
        "__pycache__",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
    }
)
_NAMED = 10  # of the files that cannot be copied
_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def check_copyable(folder: Path) -> None:
    """Finds what `copy_code` would fail on, before there is anything of a launch that could be left.

    Raises:
        EnvironmentProblemError: With the first ten.
    """
    real = os.path.realpath(folder)
    found = list(islice(_not_copyable(real), _NAMED + 1))
    if found:
        shown = sorted(f"{os.path.relpath(path, real)} ({why})" for path, why in found[:_NAMED])
        more = ", and more" if len(found) > _NAMED else ""
        raise EnvironmentProblemError(
            f"cannot copy {folder}: {', '.join(shown)}{more}",
            hint="only files, folders and links that you may read can be in SOURCE.DIR: move the others elsewhere",
            code="no_source",
        )


def _not_copyable(folder: str) -> Iterator[tuple[str, str]]:
    """What cannot be copied, and why."""
    folders, cache = [folder], os.path.realpath(place())
    while folders:
        folder = folders.pop()
        try:
            found = os.scandir(folder)
        except OSError as error:
            yield folder, str(error.strerror)
            continue
        with found:
            for entry in found:
                if entry.name in NOT_SOURCE or entry.path == cache or entry.is_symlink():
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                elif not entry.is_file():
                    yield entry.path, _KINDS.get(stat.S_IFMT(entry.stat().st_mode), "a device")
                elif not os.access(entry.path, os.R_OK):
                    yield entry.path, os.strerror(errno.EACCES)


def copy_code(source: Path, target: Path) -> None:
    """Makes a copy, as in an image: what the program writes there is not for the user's folder, and lost with its host.

    The cache of this tool, in which the copy lies, is no part of the code, though it may be somewhere in its folder.

    Raises:
        EnvironmentProblemError: Something cannot be copied.
    """
    not_code = {os.path.realpath(place()), os.path.realpath(target)}

    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name in NOT_SOURCE or f"{folder}{os.sep}{name}" in not_code}

    try:
        shutil.copytree(os.path.realpath(source), target, symlinks=True, ignore=left_out)
    except OSError as error:
        # copytree goes on as far as it can, and lists at the end what it could not copy: source, target and why.
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        raise EnvironmentProblemError(
            f"cannot copy {source}: {why}",
            hint="only files, folders and links can be in SOURCE.DIR",
            code="no_source",
        ) from error
