"""Pipe mode: the objects of a channel as a stream that the program reads once per epoch, from a FIFO of its own each time.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
"""

from __future__ import annotations

import errno
import gzip
import os
import random
import select
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import RECORD_MAX_BYTES, ChannelContent, Placed

_CHUNK_BYTES = 2**16
_LOOK_S = 0.02
_MODE = 0o644  # a program in a container may run as another user
_RECORD_MAGIC = 0xCED7230A


class PipeFeeder:
    """Feeds one Pipe channel of one host.

    The FIFO `<channel>_<epoch>` exists from the end of the epoch before (`_0`: from the start), and until its own epoch
    has ended: when the reader has all data, or has closed the FIFO. As on the service a program may have to wait for the next.

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
        first = self._make(0)
        thread = threading.Thread(target=self._run, args=(first,), name="pipe", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self, path: Path) -> None:
        epoch = 0
        try:
            for order in self._orders():
                self._feed(path, order)
                if self._stop.is_set():
                    return
                epoch += 1
                path.unlink(missing_ok=True)
                path = self._make(epoch)
        except LauncherError as error:
            self.problem = error
        finally:
            path.unlink(missing_ok=True)

    def _make(self, epoch: int) -> Path:
        path = self._folder / f"{self._content.name}_{epoch}"
        try:
            os.mkfifo(path)
            path.chmod(_MODE)  # whatever the umask
        except OSError as error:
            raise EnvironmentProblemError(
                f"cannot make the pipe {path}: {error.strerror}",
                hint="use File mode",
                code="no_pipe",
            ) from error
        return path

    def _orders(self) -> Iterator[list[Placed]]:
        """The objects of every epoch, in another order each time when the request says so (ShuffleConfig)."""
        order = list(self._objects)
        shuffle = random.Random(self._content.shuffle_seed)  # noqa: S311 - no secret depends on it
        while True:
            if self._content.shuffle_seed is not None:
                shuffle.shuffle(order)
            yield order

    def _feed(self, path: Path, order: list[Placed]) -> None:
        """One epoch, to its end or to that of its reader."""
        pipe = self._open(path)
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

    def _open(self, path: Path) -> int | None:
        """Waits for a reader, and never in the kernel: there may come none. None when the program has ended."""
        while not self._stop.wait(_LOOK_S):
            try:
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
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


def record_head(size: int) -> bytes:
    """What stands before the bytes of a RecordIO record: the magic number and the size, both little-endian.

    https://mxnet.apache.org/versions/1.9.1/api/architecture/note_data_loading; the SDK reads it in
    `sagemaker.amazon.common.read_recordio`.
    """
    return struct.pack("<II", _RECORD_MAGIC, size)


def record_padding(size: int) -> bytes:
    """What stands after them: zeros up to a multiple of four bytes."""
    return bytes(-size % 4)
