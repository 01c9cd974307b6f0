"""The data of channels on this machine's disk: fetched once, then hard-linked into the tree of every rehearsal."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.rehearsal.channels import Placed
from sagemaker_launcher.storage import Check, Storage, changed
from sagemaker_launcher.unfinished import hold, remove_abandoned
from sagemaker_launcher.unique import unique_name

if TYPE_CHECKING:
    from queue import SimpleQueue

LIMIT_VARIABLE = "SAGEMAKER_LAUNCHER_CACHE_GB"
_LIMIT_GIB = 50.0
_GIB = 2**30
_CONCURRENT = 32
_LOOK_S = 0.01
_BUSY = 0.6
_MODE = 0o444
# Every entry has this time (2000-01-01): one with another time was changed by a program, whatever its mode said.
_TIME_NS = 946_684_800 * 10**9
# What a file system says that cannot link these two: it is another one, it knows no links, or has too many of this file.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


class DataCache:
    """Objects by their URI, tag and size.

    An entry is a file of mode 0444 that took its name when it was complete, so parallel rehearsals and killed ones
    never see half of one. The cache keeps to 50 GiB, or as many as SAGEMAKER_LAUNCHER_CACHE_GB says, by
    removing what was not used for the longest time; what this object was asked for stays.

    Args:
        folder: Where the entries are; made when needed.
        storage: Where the objects are.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder = folder
        self._storage = storage
        self._limit_bytes = _limit_bytes()
        self._wanted: set[str] = set()  # entries of this rehearsal, which make room for no others

    def missing(self, objects: Iterable[Placed]) -> tuple[Placed, ...]:
        """What `fetch` would bring: objects that are not here, or that a program has changed; each once."""
        wanted = {self._entry(placed): placed for placed in objects}
        self._wanted.update(wanted)
        return tuple(placed for entry, placed in wanted.items() if not _is_intact(entry, placed.size))

    def fetch(self, objects: Iterable[Placed], advance: Callable[[int], None] = lambda _: None) -> None:
        """Brings what is missing, many at once.

        Args:
            objects: What has to be here afterwards.
            advance: Called in this thread with the size of each object that was fetched, in bytes.

        Raises:
            EnvironmentProblemError: The disk has no room for them; nothing was fetched.
            IntegrityError: An object was replaced since it was listed.
            LauncherError: An object cannot be read.
        """
        missing = self.missing(objects)
        if not missing:
            return
        with _disk_errors(self._folder):
            self._prepare()
            self._require_space(sum(placed.size for placed in missing))
        self._fetch_all(missing, advance)
        with _disk_errors(self._folder):
            self._shrink()

    def link(self, objects: Iterable[Placed], folder: Path) -> None:
        """Puts objects that were fetched below a channel's folder, as read-only files with the cache's content.

        Raises:
            EnvironmentProblemError: The disk is full, or two names are one to this file system.
        """
        base, made = str(folder), set[str]()
        with _disk_errors(folder):
            for placed in objects:
                path = f"{base}/{placed.relative}"
                parent = path.rpartition("/")[0]
                if parent not in made:
                    os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - of thousands of files: Path costs as much as the link
                    made.add(parent)
                self._link(placed, path)

    def open(self, placed: Placed) -> BinaryIO:
        """An object's bytes. Raises what `fetch` raises, should it have to be fetched again."""
        entry = self._entry(placed)
        try:
            file = open(entry, "rb")  # noqa: PTH123, SIM115 - the caller closes it
        except FileNotFoundError:
            self.fetch([placed])  # another rehearsal has just made room for its own data
            file = open(entry, "rb")  # noqa: PTH123, SIM115
        _touch(entry)
        return file

    @property
    def _incoming(self) -> Path:
        return self._folder / "incoming"

    def _entry(self, placed: Placed) -> str:
        identity = f"{placed.source}\0{placed.tag}\0{placed.size}"
        # A file name of a stand-in folder may hold bytes that are no text.
        return f"{self._folder}/{sha256(identity.encode('utf-8', 'surrogateescape'))}"

    def _prepare(self) -> None:
        """Makes the folders, private ones, and removes what killed rehearsals left half."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        remove_abandoned(self._incoming)

    def _require_space(self, needed: int) -> None:
        lacking = needed - shutil.disk_usage(self._folder).free
        if lacking <= 0:
            return
        self._remove_unused(self._entries(), lacking)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise EnvironmentProblemError(
                f"the data has {needed:,} bytes that are not on this machine yet, and the disk of {self._folder} has"
                f" {free:,} bytes free",
                hint="free some space, or rehearse with less data",
                code="disk_full",
            )

    def _fetch_all(self, missing: tuple[Placed, ...], advance: Callable[[int], None]) -> None:
        from queue import Empty, SimpleQueue  # noqa: PLC0415 - most rehearsals have all their data

        todo, done = SimpleQueue[Placed](), SimpleQueue[Placed | BaseException]()
        stop = threading.Event()
        for placed in missing:
            todo.put(placed)
        threads, looked_at, used_s, left = 0, 0.0, 0.0, len(missing)
        try:
            while left:
                now = time.perf_counter()
                if now > looked_at + _LOOK_S and threads < min(_CONCURRENT, len(missing)):
                    # More of them make a far server faster; with a near one they would only wait for the processor.
                    if time.process_time() - used_s < _BUSY * (now - looked_at):
                        threads += 1
                        # A daemon: nobody who presses Ctrl-C waits for what a dead network does not send.
                        threading.Thread(
                            target=self._fetch_some, args=(todo, done, stop), name="fetch", daemon=True
                        ).start()
                    looked_at, used_s = now, time.process_time()
                with suppress(Empty):
                    result = done.get(timeout=_LOOK_S)
                    if isinstance(result, BaseException):
                        raise result
                    advance(result.size)
                    left -= 1
        finally:
            stop.set()

    def _fetch_some(
        self, todo: SimpleQueue[Placed], done: SimpleQueue[Placed | BaseException], stop: threading.Event
    ) -> None:
        def check() -> None:
            if stop.is_set():
                raise _StoppedError

        from queue import Empty  # noqa: PLC0415 - see above

        with suppress(Empty):
            while not stop.is_set():
                placed = todo.get_nowait()
                try:
                    self._fetch_one(placed, check)
                except BaseException as error:  # noqa: BLE001 - whoever waits for the objects raises it
                    done.put(error)
                    return
                done.put(placed)

    def _fetch_one(self, placed: Placed, check: Check) -> None:
        path, entry = f"{self._incoming}/{unique_name(8)}", self._entry(placed)
        with _disk_errors(Path(path)):
            try:
                with open(path, "wb") as file:  # noqa: PTH123 - thousands of files
                    if not hold(file):
                        self._fetch_one(placed, check)
                        return
                    self._storage.download(placed.source, file, placed.tag, check)
                    _seal(file, placed)
                    # Before the file is closed: then nobody holds it, and others take it for abandoned.
                    if _is_intact(entry, placed.size):
                        os.unlink(path)  # noqa: PTH108 - the same; another rehearsal was faster, and may be linking it
                    else:
                        os.replace(path, entry)  # noqa: PTH105 - the same
            except BaseException:
                Path(path).unlink(missing_ok=True)
                raise

    def _link(self, placed: Placed, path: str) -> None:
        entry = self._entry(placed)
        try:
            try:
                os.link(entry, path)
            except FileNotFoundError:
                self.fetch([placed])  # another rehearsal has just made room for its own data
                os.link(entry, path)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(entry, path)
            shutil.copystat(entry, path)
            _touch(entry)

    def _entries(self) -> list[tuple[str, os.stat_result]]:
        """Paths and states of all entries."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another rehearsal makes room, too
                    if entry.is_file(follow_symlinks=False):
                        found.append((entry.path, entry.stat(follow_symlinks=False)))
        return found

    def _shrink(self) -> None:
        entries = self._entries()
        total = sum(status.st_size for _, status in entries)
        self._remove_unused(entries, total - self._limit_bytes)

    def _remove_unused(self, entries: list[tuple[str, os.stat_result]], excess: float) -> None:
        """Removes entries that are in no tree, those first that were not linked or opened for the longest time."""
        for entry, status in sorted(entries, key=lambda item: item[1].st_ctime_ns):
            if excess <= 0:
                return
            if status.st_nlink == 1 and entry not in self._wanted:
                Path(entry).unlink(missing_ok=True)
                excess -= status.st_size


def _is_intact(entry: str, size: int) -> bool:
    try:
        status = os.stat(entry)  # noqa: PTH116 - of thousands of files: Path costs more than the call
    except OSError:
        return False
    return status.st_size == size and status.st_mtime_ns == _TIME_NS


def _seal(file: BinaryIO, placed: Placed) -> None:
    if file.tell() != placed.size:
        raise changed(placed.source)
    file.flush()  # later it would change the time
    os.fchmod(file.fileno(), _MODE)
    _touch(file.fileno())


def _touch(entry: str | int) -> None:
    """Gives an entry its time; as linking does, that moves its ctime, which says when it was used."""
    with suppress(FileNotFoundError):
        os.utime(entry, ns=(_TIME_NS, _TIME_NS))


def _limit_bytes() -> float:
    text = os.environ.get(LIMIT_VARIABLE) or str(_LIMIT_GIB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:  # NaN, too
        raise EnvironmentProblemError(
            f"{LIMIT_VARIABLE} is {text!r}",
            hint="it has to be a number of GiB, such as 20",
            code="cache_limit",
        )
    return limit * _GIB


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblemError(
            f"cannot write {error.filename2 or error.filename or path}: {error.strerror or error}",
            hint="check the disk's free space and your rights on this folder",
            code="data_not_written",
        ) from error


class _StoppedError(Exception):
    """Ends the downloads of a rehearsal that has ended."""
