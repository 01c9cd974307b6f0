"""Checkpoints: restored before the program starts, copied to S3 while it runs, deleted there when it deletes them.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html

A program may leave links, and put other things in the place of its files at any time. On this machine a link can lead to
whatever the user may read, which a container's program may not: `file_within` and `held` are how its files are looked at.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.channels import Placed, placed_objects
from sagemaker_launcher.rehearsal.workspace import entries
from sagemaker_launcher.storage import Storage, appearing

_INTERVAL_S = 1.0
_OPEN_FILES = Path("/proc/self/fd")  # of this process; only Linux has it
# What looking at a file says that has just gone, or at a link that leads nowhere or in a circle.
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}


class CheckpointSync:
    """Keeps a local folder and an S3 prefix equal, in the direction of S3.

    A link to a file within the folder is copied as the file. All other links count as if they were not there: those to
    folders, those that lead out (an absolute path of a container does), nowhere or in a circle; and so do FIFOs, sockets and
    devices.

    Args:
        folder: The checkpoint folder of the host.
        prefix: The request's CheckpointConfig.S3Uri.
        storage: Where the objects are.
        open_up: Makes readable what a program wrote as another user.
    """

    def __init__(
        self, folder: Path, prefix: S3Uri, storage: Storage, open_up: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = Path(os.path.realpath(folder))  # before the program can put a link into its path
        self._prefix = prefix
        self._storage = storage
        self._open_up = open_up
        self._known: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self.newest_at = (
            0.0  # when the program wrote what was saved last, in seconds since 1970; 0 before that
        )

    def restore(self) -> int:
        """Copies everything under the prefix into the folder. Returns the number of files.

        Raises:
            UnsafeError: A key would leave the folder.
            EnvironmentProblemError: One object lies below another, as no file does.
        """
        objects = placed_objects(self._prefix, self._storage)
        _refuse_same_place(objects)
        for placed in objects:
            with appearing(self._folder / placed.relative) as file:
                self._storage.download(placed.source, file, placed.tag)
        self._known = self._files()
        return len(self._known)

    def sync(self) -> None:
        """Copies what is new or changed, and deletes what is gone.

        Raises:
            LauncherError: S3 refuses; or a file has a name that no key can have, which is told once all else is done.
        """
        complete = self._is_open()
        if not complete:
            self._open_up()
            complete = self._is_open()
        files = self._files()
        nameable = {name: state for name, state in files.items() if is_text(name)}
        for name, state in nameable.items():
            if self._known.get(name) != state and self._save(name):
                self._known[name] = state
                self.newest_at = max(self.newest_at, state[1] / 1e9)
        gone = set(self._known) - set(nameable) if complete else set()  # or they only cannot be seen
        for name in gone:
            self._storage.delete(self._prefix / name)
            del self._known[name]
        refuse_nameless(files, self._prefix)

    def _save(self, name: str) -> bool:
        """Copies a file; not when the program has just removed it, which the next round will see."""
        path = self._folder / name
        with held(path, self._folder) as file:
            if file is None:
                return False
            try:
                self._storage.upload(file, self._prefix / name)
            except (LauncherError, FileNotFoundError):
                if file_within(path, self._folder):
                    raise
                return False
        return True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Syncs every second while the block runs; what comes after the last of these is for `sync`."""
        thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            try:
                self.sync()
            except (LauncherError, OSError):
                continue  # the next round tries again, and the last one, after the program's end, reports

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self._paths():
            if status := file_within(path, self._folder):
                found[path.relative_to(self._folder).as_posix()] = (status.st_size, status.st_mtime_ns)
        return found

    def _is_open(self) -> bool:
        return all(map(_may_read, self._paths()))

    def _paths(self) -> list[Path]:
        if not is_own_folder(self._folder):
            return []
        return [Path(entry.path) for entry in entries(self._folder, skip_closed=True)]


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


def _refuse_same_place(objects: tuple[Placed, ...]) -> None:
    places = {placed.relative: placed.source for placed in objects}
    for placed in objects:
        folder = placed.relative
        while folder := folder.rpartition("/")[0]:
            if folder in places:
                raise EnvironmentProblemError(
                    f"the checkpoints {places[folder]} and {placed.source} cannot both be restored: a file cannot have the"
                    " name of a folder beside it",
                    hint="remove one of them from S3, or move it",
                    code="not_rehearsable",
                )


def _may_read(path: Path) -> bool:
    return path.is_symlink() or os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))
