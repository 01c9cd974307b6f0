"""Pipe mode, with real FIFOs and real programs that read them."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import ChannelContent, placed_objects
from sagemaker_launcher.rehearsal.pipes import PipeFeeder, record_head, record_padding
from sagemaker_launcher.storage import FolderStorage
from tests.fidelity import reproduces

# What the documentation tells a program to do: it opens the next FIFO for each epoch, and tries again when there is none.
READER = textwrap.dedent("""
    import sys, time

    folder, epochs, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for epoch in range(epochs):
        deadline = time.monotonic() + 60
        while True:
            try:
                fifo = open(f"{folder}/train_{epoch}", "rb", buffering=0)
                break
            except FileNotFoundError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
        data = b""
        while limit < 0 or len(data) < limit:
            part = fifo.read(65536 if limit < 0 else limit - len(data))
            if not part:
                break
            data += part
        fifo.close()
        sys.stdout.buffer.write(len(data).to_bytes(8, "big") + data)
        sys.stdout.buffer.flush()
""")


class Channel:
    """A Pipe channel with some objects, and the folder in which its FIFOs appear."""

    def __init__(self, folder: Path, **objects: bytes) -> None:
        bucket = folder / "s3" / "bkt" / "d"
        bucket.mkdir(parents=True)
        for name, data in objects.items():
            (bucket / name).write_bytes(data)
        storage = FolderStorage(folder / "s3")
        self.cache = DataCache(folder / "cache", storage)
        placed = placed_objects(S3Uri("bkt", "d/"), storage)
        self.content = ChannelContent(
            "train", "Pipe", placed, sharded=False, groups=(), gzip=False, record_io=False, shuffle_seed=None
        )
        self.cache.fetch(placed)
        self.folder = folder / "input" / "data"
        self.folder.mkdir(parents=True)

    def feeder(self, **changes: object) -> PipeFeeder:
        content = replace(self.content, **changes)  # type: ignore[arg-type]
        return PipeFeeder(content, content.objects, self.folder, self.cache)

    def read(self, epochs: int = 1, limit: int = -1, **changes: object) -> list[bytes]:
        """What a program gets in each epoch."""
        with self.feeder(**changes).running():
            return run_reader(self.folder, epochs, limit)


def run_reader(folder: Path, epochs: int, limit: int = -1) -> list[bytes]:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(folder), str(epochs), str(limit)],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    stream = io.BytesIO(done.stdout)
    return [stream.read(int.from_bytes(stream.read(8), "big")) for _ in range(epochs)]


def fifos(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_fifo())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Fails when the block leaves a thread, an open file or a FIFO, or takes long to end."""
    threads, files = threading.active_count(), open_files()
    yield
    assert threading.active_count() == threads
    assert open_files() == files
    assert fifos(folder) == []


@reproduces("pipe")
def test_a_program_reads_all_objects_one_after_the_other_in_every_epoch(tmp_path: Path) -> None:
    large = os.urandom(3_000_000)
    channel = Channel(tmp_path, a=b"first,", b=large, c=b"", d=b"last")
    with nothing_left(channel.folder):
        assert channel.read(epochs=5) == [b"first," + large + b"last"] * 5


def test_the_first_fifo_is_there_before_the_program_and_readable_by_everybody(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"1")
    before = os.umask(0o077)
    try:
        with channel.feeder().running():
            assert fifos(channel.folder) == ["train_0"]
            assert (channel.folder / "train_0").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_a_reader_that_closes_early_ends_only_its_epoch(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=os.urandom(500_000), b=b"end")
    start = (tmp_path / "s3/bkt/d/a").read_bytes()[:10]
    with nothing_left(channel.folder):
        assert channel.read(epochs=4, limit=10) == [start] * 4


def test_the_next_fifo_exists_soon_and_the_old_one_no_more(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"x" * 1000)
    with channel.feeder().running():
        (channel.folder / "train_0").read_bytes()
        deadline = time.monotonic() + 60
        while fifos(channel.folder) != ["train_1"]:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_a_host_without_objects_reads_an_empty_stream(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"1")
    feeder = PipeFeeder(channel.content, (), channel.folder, channel.cache)
    with feeder.running():
        assert run_reader(channel.folder, 2) == [b"", b""]


def test_a_program_that_never_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"1")
    with nothing_left(channel.folder), channel.feeder().running():
        start = time.monotonic()
    assert time.monotonic() - start < 30


def test_a_program_that_stops_reading_keeps_nobody_waiting(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=os.urandom(1_000_000))
    with nothing_left(channel.folder):
        with channel.feeder().running():
            fifo = os.open(channel.folder / "train_0", os.O_RDONLY)
            assert len(os.read(fifo, 10)) == 10
            start = time.monotonic()
        assert time.monotonic() - start < 30
        os.close(fifo)


@reproduces("pipe")
def test_gzip_objects_are_decompressed_on_their_way(tmp_path: Path) -> None:
    large = os.urandom(200_000)
    channel = Channel(
        tmp_path, a=gzip.compress(b"one,"), b=gzip.compress(large[:9]) + gzip.compress(large[9:])
    )
    assert channel.read(gzip=True) == [b"one," + large]
    assert channel.read(gzip=True, record_io=True) == [
        record_head(4) + b"one," + record_head(len(large)) + large + record_padding(len(large))
    ]


@pytest.mark.parametrize(
    "data", [b"no gzip at all", gzip.compress(os.urandom(1000))[:-20], b"\x1f\x8b\x08garbage"]
)
def test_an_object_that_is_no_gzip_file_ends_the_stream_and_is_told(tmp_path: Path, data: bytes) -> None:
    channel = Channel(tmp_path, a=gzip.compress(b"good"), b=data)
    feeder = channel.feeder(gzip=True)
    with nothing_left(channel.folder), feeder.running():
        assert (channel.folder / "train_0").read_bytes().startswith(b"good")
        deadline = time.monotonic() + 60
        while feeder.problem is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert "s3://bkt/d/b" in feeder.problem.message


def test_a_feeder_whose_program_read_everything_has_no_problem(tmp_path: Path) -> None:
    feeder = Channel(tmp_path, a=b"1").feeder()
    with feeder.running():
        assert run_reader(tmp_path / "input" / "data", 3) == [b"1"] * 3
    assert feeder.problem is None


@reproduces("pipe")
def test_a_seed_gives_every_epoch_another_order_and_every_rehearsal_the_same(tmp_path: Path) -> None:
    channel = Channel(tmp_path, **{f"o{number:02d}": b"%02d" % number for number in range(20)})
    first, second = channel.read(epochs=4, shuffle_seed=3), channel.read(epochs=4, shuffle_seed=3)
    assert first == second
    assert len({*first, channel.read()[0]}) == 5
    pairs = [sorted(data[place : place + 2] for place in range(0, 40, 2)) for data in first]
    assert pairs == [[b"%02d" % number for number in range(20)]] * 4
    assert channel.read(epochs=4, shuffle_seed=4) != first


@pytest.fixture(scope="module")
def read_records() -> Callable[[bytes], list[bytes]]:
    """The SDK's reader of records, which is not ours and no part of what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
        common = import_module("sagemaker.amazon.common")
    return lambda stream: list(common.read_recordio(io.BytesIO(stream)))


@reproduces("pipe")
def test_each_object_becomes_a_record_that_the_sdk_reads(
    tmp_path: Path, read_records: Callable[[bytes], list[bytes]]
) -> None:
    objects = {"a": b"", "b": b"1", "c": b"12345678", "d": os.urandom(100_001)}
    (stream,) = Channel(tmp_path, **objects).read(record_io=True)
    assert read_records(stream) == list(objects.values())


@settings(deadline=None, max_examples=100)
@given(payloads=st.lists(st.binary(max_size=40), max_size=6))
def test_records_are_framed_as_the_sdk_reads_them(
    read_records: Callable[[bytes], list[bytes]], payloads: list[bytes]
) -> None:
    stream = b"".join(record_head(len(data)) + data + record_padding(len(data)) for data in payloads)
    assert len(stream) % 4 == 0
    assert read_records(stream) == payloads


def test_a_folder_that_can_have_no_fifo_is_told(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"1")
    (channel.folder / "train_0").write_text("in the way")
    with (
        pytest.raises(EnvironmentProblemError, match=r"cannot make the pipe .*train_0"),
        channel.feeder().running(),
    ):
        pass


def wait_for_the_end_of_the_feeder() -> None:
    deadline = time.monotonic() + 60
    while any(thread.name == "pipe" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("mode", [0o600, 0o444])
def test_a_link_in_the_place_of_a_pipe_brings_the_data_into_no_other_file(tmp_path: Path, mode: int) -> None:
    channel = Channel(tmp_path, a=b"data of the channel")
    (tmp_path / "mine").write_text("of the host's user")
    (tmp_path / "mine").chmod(mode)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    feeder = channel.feeder()
    with nothing_left(channel.folder), feeder.running():
        (tmp_path / "link").rename(channel.folder / "train_0")
        wait_for_the_end_of_the_feeder()
    assert (tmp_path / "mine").read_text() == "of the host's user"
    assert (tmp_path / "mine").stat().st_mode & 0o777 == mode
    assert feeder.problem is None


def test_a_link_in_the_place_of_a_pipe_brings_the_data_into_no_other_pipe(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"data of the channel")
    os.mkfifo(tmp_path / "mine")
    reader = os.open(tmp_path / "mine", os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with channel.feeder().running():
        (tmp_path / "link").rename(channel.folder / "train_0")
        wait_for_the_end_of_the_feeder()
    assert os.read(reader, 10) == b""
    os.close(reader)


def in_place_of(pipe: Path, what: str) -> None:
    """Puts something else where a pipe was."""
    aside = pipe.parents[2] / "aside"
    if what == "a file":
        aside.write_text("the program's own")
        aside.rename(pipe)
    elif what == "a link to nothing":
        aside.symlink_to("nowhere")
        aside.rename(pipe)
    elif what == "a folder":
        pipe.unlink()
        pipe.mkdir()
    elif what == "nothing":
        pipe.unlink()
    else:
        shutil.rmtree(pipe.parent)
        if what == "a file where the folder was":
            pipe.parent.write_text("the program's own")


WHATEVER = [
    "a file",
    "a link to nothing",
    "a folder",
    "nothing",
    "nothing, and no folder",
    "a file where the folder was",
]


@pytest.mark.parametrize("what", WHATEVER)
def test_a_program_that_removes_its_pipe_ends_the_channel_and_nobody_complains(
    tmp_path: Path, what: str
) -> None:
    feeder = Channel(tmp_path, a=b"1").feeder()
    with feeder.running():
        in_place_of(tmp_path / "input/data/train_0", what)
        wait_for_the_end_of_the_feeder()
    assert feeder.problem is None


@pytest.mark.parametrize("what", WHATEVER)
def test_a_program_that_removes_its_pipe_while_it_reads_gets_the_rest_and_nobody_complains(
    tmp_path: Path, what: str
) -> None:
    channel = Channel(tmp_path, a=b"x" * 500_000)
    feeder = channel.feeder()
    with feeder.running():
        with (channel.folder / "train_0").open("rb") as pipe:
            data = pipe.read(10)
            in_place_of(channel.folder / "train_0", what)
            data += pipe.read()
        assert len(data) == 500_000
    assert feeder.problem is None


def test_what_a_program_puts_in_the_place_of_its_next_pipe_is_its_own(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"1")
    feeder = channel.feeder()
    with feeder.running():
        (channel.folder / "train_1").write_text("the program's own")
        assert (channel.folder / "train_0").read_bytes() == b"1"
        wait_for_the_end_of_the_feeder()
    assert (channel.folder / "train_1").read_text() == "the program's own"
    assert feeder.problem is None


def test_a_link_in_the_place_of_the_folder_leads_no_pipe_into_another_folder(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"1")
    other, moved = tmp_path / "other", tmp_path / "moved"
    other.mkdir()
    (other / "train_0").write_text("of the host's user")
    with channel.feeder().running():
        channel.folder.rename(moved)
        channel.folder.symlink_to(other)
        assert run_reader(moved, 3) == [b"1"] * 3
    assert [path.name for path in other.iterdir()] == ["train_0"]
    assert (other / "train_0").read_text() == "of the host's user"
    assert fifos(moved) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    channel = Channel(tmp_path, a=b"1")
    channel.folder.rmdir()
    with (
        pytest.raises(EnvironmentProblemError, match=r"cannot make the pipe .*train_0: No such file"),
        channel.feeder().running(),
    ):
        pass
