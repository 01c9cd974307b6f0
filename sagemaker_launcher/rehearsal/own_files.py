"""The files of a program that runs or has run, looked at without being led to anybody else's.

A program may leave links, and put other things in the place of its files at any time. On this machine a link can lead to
whatever the user may read, which a container's program may not.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.naming import S3Uri

_OPEN_FILES = Path("/proc/self/fd")  # of this process; only Linux has it
# What looking at a file says that has just gone, or at a link that leads nowhere or in a circle.
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}


def is_own_folder(folder: Path) -> bool:
    """Whether a program has its folder still, and no link in its place, or in that of one above.

    Args:
        folder: As it was before the program started, without a link in its path.
    """
    return folder.is_dir() and _real(folder) == folder


def file_within(path: Path, folder: Path) -> os.stat_result | None:
    """The state of a file that a program left, or of that to which its link leads; None: it is no file, or lies elsewhere.

    Args:
        path: Where the program left it; links among the folders above are for `held` to see, since nobody walks through them.
        folder: The folder that belongs to the program, without a link in its path.
    """
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            real = _real(path)
            if not (real and real.is_relative_to(folder)):
                return None
            status = real.lstat()
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    return status if stat.S_ISREG(status.st_mode) else None


@contextmanager
def held(path: Path, folder: Path) -> Iterator[Path | None]:
    """Opens a file that a program left, so that it cannot put something else in its place while it is read.

    Between a look at a file and its being opened, a program has time to replace it, or a folder above it, by a link. What
    was opened can be asked where it lies, and read by way of its descriptor whatever becomes of its name. Where there is
    no such way, as on macOS, it is read by its path without links, which leaves a moment.

    Args:
        path: Where the program left it.
        folder: The folder that belongs to the program, without a link in its path.

    Yields:
        What to read; None: there is nothing that `file_within` finds.
    """
    real = _real(path)
    descriptor = _opened(real, folder) if real else None
    if descriptor is None:
        yield None
        return
    try:
        yield _OPEN_FILES / str(descriptor) if _OPEN_FILES.is_dir() else real
    finally:
        os.close(descriptor)


def _real(path: Path) -> Path | None:
    """Where a path leads; None while a program changes it: between a look at a link and its being read, it may have gone."""
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return None


def _opened(path: Path, folder: Path) -> int | None:
    if not path.is_relative_to(folder) or not file_within(path, folder):
        return None
    try:
        # Without O_NONBLOCK, a FIFO would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    if _is_file_within(descriptor, folder):
        return descriptor
    os.close(descriptor)
    return None


def _is_file_within(descriptor: int, folder: Path) -> bool:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return False
    return not _OPEN_FILES.is_dir() or (_OPEN_FILES / str(descriptor)).readlink().is_relative_to(folder)


def is_text(name: str) -> bool:
    """Whether a file's name can be part of a key: file systems take any bytes, S3 only UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_nameless(names: Iterable[str], place: S3Uri) -> None:
    """Raises EnvironmentProblemError when there are names that cannot be part of a key.

    Args:
        names: Paths of files.
        place: Where they were to go.
    """
    nameless = sorted(name for name in names if not is_text(name))
    if not nameless:
        return
    example = nameless[0].encode("utf-8", "backslashreplace").decode()
    raise EnvironmentProblemError(
        f"{len(nameless)} files cannot be saved in {place}, such as {example}: their names are not UTF-8, which keys of S3"
        " have to be",
        hint="let the program rename them; all other files are saved",
        code="not_utf8",
    )
