"""Pipe mode: the objects of a channel as a stream that the program reads once per epoch, from a FIFO of its own each time.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import errno
import gzip
import os
import random
import select
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import RECORD_MAX_BYTES, ChannelContent, Placed

_CHUNK_BYTES = 2**16
_LOOK_S = 0.02
_MODE = 0o644  # a program in a container may run as another user
_RECORD_MAGIC = 0xCED7230A
# What follows from what a program did to its pipe or to the folder: it removed them, put something else there, or shut us out.
_PROGRAMS_DOING = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EEXIST,
    errno.EISDIR,
    errno.ETXTBSY,
    errno.EACCES,
    errno.EPERM,
}


class PipeFeeder:
    """Feeds one Pipe channel of one host.

    The FIFO `<channel>_<epoch>` exists from the end of the epoch before (`_0`: from the start), and until its own epoch
    has ended: when the reader has all data, or has closed the FIFO. As on the service a program may have to wait for the next.
    A program that removes the FIFO, or puts something else in its place, wants no more of the channel, which ends.

    Args:
        content: The channel.
        objects: What the host gets of it.
        folder: The host's input/data.
        cache: Holds the objects.

    Attributes:
        problem: Why the data could not be read; the reader has only got what came before. None when all is well.
    """

    def __init__(
        self, content: ChannelContent, objects: tuple[Placed, ...], folder: Path, cache: DataCache
    ) -> None:
        self._content = content
        self._objects = objects
        self._folder = folder
        self._cache = cache
        self._stop = threading.Event()
        self.problem: LauncherError | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Feeds while the block runs; at its end no FIFO is left, and a reader that still reads sees the end of its data.

        Raises:
            EnvironmentProblemError: There can be no FIFO in this folder.
        """
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _no_pipe(self._path(0), error) from error
        try:
            with self._feeding(folder):
                yield
        finally:
            os.close(folder)

    @contextmanager
    def _feeding(self, folder: int) -> Iterator[None]:
        first = _Fifo(folder, self._path(0))
        try:
            first.make()
        except OSError as error:  # no program runs yet whose doing this could be
            raise _no_pipe(first.path, error) from error
        thread = threading.Thread(target=self._run, args=(first,), name="pipe", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self, fifo: _Fifo) -> None:
        try:
            for epoch, order in enumerate(self._orders(), start=1):
                self._feed(fifo, order)
                fifo.remove()
                if self._stop.is_set():
                    return
                fifo = _Fifo(fifo.folder, self._path(epoch))
                fifo.make()
        except LauncherError as error:
            self.problem = error
        except OSError as error:
            if error.errno not in _PROGRAMS_DOING:
                self.problem = _no_pipe(fifo.path, error)
        finally:
            fifo.remove()

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{self._content.name}_{epoch}"

    def _orders(self) -> Iterator[list[Placed]]:
        """The objects of every epoch, in another order each time when the request says so (ShuffleConfig)."""
        order = list(self._objects)
        shuffle = random.Random(self._content.shuffle_seed)  # noqa: S311 - no secret depends on it
        while True:
            if self._content.shuffle_seed is not None:
                shuffle.shuffle(order)
            yield order

    def _feed(self, fifo: _Fifo, order: list[Placed]) -> None:
        """One epoch, to its end or to that of its reader."""
        pipe = self._open(fifo)
        if pipe is None:
            return
        try:
            with suppress(BrokenPipeError):
                for placed in order:
                    for chunk in self._chunks(placed):
                        self._write(pipe, chunk)
                        if self._stop.is_set():
                            return
        finally:
            os.close(pipe)

    def _open(self, fifo: _Fifo) -> int | None:
        """Waits for a reader, and never in the kernel: there may come none. None when the program has ended."""
        while not self._stop.wait(_LOOK_S):
            try:
                return fifo.open(os.O_WRONLY)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
        return None

    def _write(self, pipe: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest and not self._stop.is_set():
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                room = select.poll()
                room.register(pipe, select.POLLOUT)
                room.poll(_LOOK_S * 1000)

    def _chunks(self, placed: Placed) -> Iterator[bytes]:
        if not self._content.record_io:
            yield from self._content_of(placed)
            return
        size = sum(map(len, self._content_of(placed))) if self._content.gzip else placed.size
        if size > RECORD_MAX_BYTES:
            raise EnvironmentProblemError(
                f"{placed.source} has {size:,} bytes, and a RecordIO record at most {RECORD_MAX_BYTES:,}",
                hint="divide the object",
                code="not_rehearsable",
            )
        yield record_head(size)
        yield from self._content_of(placed)
        yield record_padding(size)

    def _content_of(self, placed: Placed) -> Iterator[bytes]:
        try:
            with self._cache.open(placed) as file:
                source = gzip.GzipFile(fileobj=file) if self._content.gzip else file
                while chunk := source.read(_CHUNK_BYTES):
                    yield chunk
        except (OSError, EOFError, zlib.error) as error:
            raise EnvironmentProblemError(
                f"cannot read {placed.source} as the channel {self._content.name!r} says: {error}",
                hint="with CompressionType Gzip every object has to be a gzip file" * self._content.gzip,
                code="data_unreadable",
            ) from error


@frozen
class _Fifo:
    """A FIFO in a folder that belongs to a program, which may put there whatever it likes, such as links to a user's files.

    Attributes:
        folder: The folder, open since before the program started: its path may lead elsewhere by now.
        path: For messages, and where a system cannot make a FIFO in an open folder.
    """

    folder: int
    path: Path

    def make(self) -> None:
        """Makes it, readable for everybody."""
        if os.mkfifo in os.supports_dir_fd:
            os.mkfifo(self.path.name, _MODE, dir_fd=self.folder)
        else:  # macOS before 13, where containers get no FIFO of this machine, and other programs are the user's own
            os.mkfifo(self.path, _MODE)
        pipe = self.open(os.O_RDONLY)  # by its name something else might get the mode
        try:
            os.fchmod(pipe, _MODE)  # whatever the umask
        finally:
            os.close(pipe)

    def open(self, way: int) -> int:
        """Opens it, and nothing that has taken its place. Raises OSError: ENXIO for writing as long as nobody reads."""
        flags = way | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
        pipe = os.open(self.path.name, flags, dir_fd=self.folder)
        if stat.S_ISFIFO(os.fstat(pipe).st_mode):
            return pipe
        os.close(pipe)
        raise FileNotFoundError(errno.ENOENT, "it is no pipe any more", str(self.path))

    def remove(self) -> None:
        """Removes it; what a program has put in its place stays."""
        with suppress(OSError):  # it is in a folder that will be removed as a whole
            status = os.stat(self.path.name, dir_fd=self.folder, follow_symlinks=False)
            if stat.S_ISFIFO(status.st_mode):
                os.unlink(self.path.name, dir_fd=self.folder)


def _no_pipe(path: Path, error: OSError) -> EnvironmentProblemError:
    return EnvironmentProblemError(
        f"cannot make the pipe {path}: {error.strerror}", hint="use File mode", code="no_pipe"
    )


def record_head(size: int) -> bytes:
    """What stands before the bytes of a RecordIO record: the magic number and the size, both little-endian.

    https://mxnet.apache.org/versions/1.9.1/api/architecture/note_data_loading; the SDK reads it in
    `sagemaker.amazon.common.read_recordio`.
    """
    return struct.pack("<II", _RECORD_MAGIC, size)


def record_padding(size: int) -> bytes:
    """What stands after them: zeros up to a multiple of four bytes."""
    return bytes(-size % 4)
