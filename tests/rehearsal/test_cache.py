"""The cache of data: fetched once, linked into every tree, never wrong whatever happened to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from sagemaker_launcher.errors import EnvironmentProblemError, IntegrityError, LauncherError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import Placed, placed_objects
from sagemaker_launcher.storage import FolderStorage
from sagemaker_launcher.unfinished import hold, remove_abandoned
from tests.commands import ROOT
from tests.fault_rows import provokes
from tests.stand_in import Counting, snapshot

PREFIX = S3Uri("bkt", "d/")
LIMIT = "SAGEMAKER_LAUNCHER_CACHE_GB"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "s3" / "bkt" / "d"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def storage(bucket: Path) -> Counting:
    return Counting(bucket.parent.parent)


@pytest.fixture
def cache(tmp_path: Path, storage: Counting) -> DataCache:
    return DataCache(tmp_path / "cache", storage)


def put(bucket: Path, **files: str) -> None:
    for name, text in files.items():
        path = bucket / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def objects(storage: FolderStorage) -> tuple[Placed, ...]:
    return placed_objects(PREFIX, storage)


def bring(cache: DataCache, storage: FolderStorage, folder: Path) -> None:
    cache.fetch(objects(storage))
    cache.link(objects(storage), folder)


def entries(cache_folder: Path) -> list[Path]:
    return [path for path in cache_folder.iterdir() if path.is_file()]


def wait_for_other_downloads() -> None:
    deadline = time.monotonic() + 60
    while any(thread.name == "fetch" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_objects_lie_below_the_channels_folder_as_read_only_files(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one", x__b="two", x__y__c="")
    bring(cache, storage, tmp_path / "tree")
    assert snapshot(tmp_path / "tree") == {
        "a": b"one",
        "x": None,
        "x/b": b"two",
        "x/y": None,
        "x/y/c": b"",
    }
    files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    assert all(path.stat().st_nlink == 2 for path in files)


def test_many_objects_are_brought_once_and_each_one_is_told(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, **{f"f{number % 7}__{number}": "x" * number for number in range(200)})
    sizes: list[int] = []
    cache.fetch(objects(storage), sizes.append)
    assert sorted(sizes) == list(range(200))
    assert len(storage.downloaded) == 200
    assert not list((tmp_path / "cache" / "incoming").iterdir())


def test_what_is_here_is_asked_for_no_more_also_by_another_rehearsal(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one", b="two")
    assert [placed.relative for placed in cache.missing(objects(storage))] == ["a", "b"]
    bring(cache, storage, tmp_path / "tree")
    storage.downloaded.clear()
    again = DataCache(tmp_path / "cache", storage)
    assert again.missing(objects(storage)) == ()
    bring(again, storage, tmp_path / "second")
    assert storage.downloaded == []
    assert snapshot(tmp_path / "second") == {"a": b"one", "b": b"two"}


def test_one_object_of_two_channels_is_fetched_once(
    bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one")
    cache.fetch([*objects(storage), *placed_objects(S3Uri("bkt", ""), storage)])
    assert storage.downloaded == ["d/a"]


def test_an_object_with_another_tag_is_fetched_again(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one", b="two")
    bring(cache, storage, tmp_path / "first")
    put(bucket, a="new")
    os.utime(bucket / "a", ns=(1, 1))
    storage.downloaded.clear()
    bring(cache, storage, tmp_path / "second")
    assert storage.downloaded == ["d/a"]
    assert snapshot(tmp_path / "first") == {"a": b"one", "b": b"two"}
    assert snapshot(tmp_path / "second") == {"a": b"new", "b": b"two"}


def test_two_stand_in_folders_never_share_an_object(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one")
    other = tmp_path / "other" / "bkt" / "d"
    other.mkdir(parents=True)
    put(other, a="two")
    for folder in (bucket, other):
        os.utime(folder / "a", ns=(1, 1))
    bring(cache, storage, tmp_path / "first")
    others = Counting(tmp_path / "other")
    bring(DataCache(tmp_path / "cache", others), others, tmp_path / "second")
    assert snapshot(tmp_path / "second") == {"a": b"two"}


@pytest.mark.parametrize("text", ["ONE", "longer", ""])
def test_what_a_program_did_to_its_data_is_noticed_and_reaches_neither_the_bucket_nor_the_next_run(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache, text: str
) -> None:
    put(bucket, a="one")
    bring(cache, storage, tmp_path / "first")
    (tmp_path / "first" / "a").chmod(0o644)
    (tmp_path / "first" / "a").write_text(text)
    bring(cache, storage, tmp_path / "second")
    assert snapshot(tmp_path / "second") == {"a": b"one"}
    assert snapshot(tmp_path / "first") == {"a": text.encode()}
    assert (bucket / "a").read_text() == "one"


@pytest.mark.parametrize("text", ["ONE", "longer"])
def test_an_object_that_is_replaced_after_it_was_listed_is_told(
    bucket: Path, storage: Counting, cache: DataCache, text: str
) -> None:
    put(bucket, a="one")
    listed = objects(storage)
    put(bucket, a=text)
    os.utime(bucket / "a", ns=(1, 1))
    with pytest.raises(IntegrityError, match="s3://bkt/d/a was replaced after it was listed"):
        cache.fetch(listed)
    assert cache.missing(listed) == listed


def test_an_object_that_is_gone_is_told_and_leaves_nothing_half(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one", b="two")
    listed = objects(storage)
    (bucket / "a").unlink()
    with pytest.raises(LauncherError, match="no such object: s3://bkt/d/a"):
        cache.fetch(listed)
    wait_for_other_downloads()
    assert {path.read_text() for path in entries(tmp_path / "cache")} <= {"two"}
    assert not list((tmp_path / "cache" / "incoming").iterdir())


def test_more_data_than_the_disk_has_room_for_is_refused_before_anything_is_fetched(
    storage: Counting, cache: DataCache
) -> None:
    huge = Placed(S3Uri("bkt", "d/huge"), 2**60, "tag", "huge")
    with pytest.raises(
        EnvironmentProblemError, match=r"1,152,921,504,606,846,976 bytes .* bytes free"
    ) as full:
        cache.fetch([huge])
    assert full.value.code == "disk_full"
    assert storage.downloaded == []


def test_another_file_system_gets_copies(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    put(bucket, a="one")
    cache.fetch(objects(storage))
    folder = memory / f"tree-{os.getpid()}"
    try:
        cache.link(objects(storage), folder)
        assert (folder / "a").read_text() == "one"
        assert (folder / "a").stat().st_mode & 0o777 == 0o444
        (folder / "a").chmod(0o644)
        (folder / "a").write_text("changed")
        assert cache.missing(objects(storage)) == ()
    finally:
        (folder / "a").unlink(missing_ok=True)
        folder.rmdir()


def test_a_file_with_more_links_than_the_disk_allows_is_copied(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one")
    cache.fetch(objects(storage))
    (entry,) = entries(tmp_path / "cache")
    (tmp_path / "many").mkdir()
    for number in range(70_000):
        try:
            os.link(entry, tmp_path / "many" / str(number))
        except OSError:
            break
    else:
        pytest.skip("this file system allows more links than anybody needs")
    cache.link(objects(storage), tmp_path / "tree")
    assert (tmp_path / "tree" / "a").read_text() == "one"


def age(entry: Path) -> None:
    """Makes all later ctimes different from this entry's."""
    before = entry.stat().st_ctime_ns
    probe = entry.with_name("probe")
    while True:
        probe.touch()
        now = probe.stat().st_ctime_ns
        probe.unlink()
        if now > before:
            return
        time.sleep(0.001)


def test_when_the_limit_is_reached_the_entries_unused_for_the_longest_time_go(
    tmp_path: Path, bucket: Path, storage: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    names = ("linked", "opened", "unused", "in_use")
    put(bucket, **dict.fromkeys(names, "x" * 1000))
    by_name = {placed.relative: placed for placed in objects(storage)}
    for name in names:
        DataCache(folder, storage).fetch([by_name[name]])
        age(entries(folder)[-1])
    earlier = DataCache(folder, storage)
    earlier.link([by_name["in_use"]], tmp_path / "tree")
    earlier.link([by_name["linked"]], tmp_path / "past")
    (tmp_path / "past" / "linked").unlink()
    earlier.open(by_name["opened"]).close()
    time.sleep(0.02)
    put(bucket, new="y" * 1000)
    monkeypatch.setenv(LIMIT, str(4000 / 2**30))
    now = DataCache(folder, storage)
    now.fetch([placed for placed in objects(storage) if placed.relative == "new"])
    left = {name for name, placed in by_name.items() if not DataCache(folder, storage).missing([placed])}
    assert left == {"linked", "opened", "in_use"}


def test_what_a_rehearsal_needs_itself_and_what_others_use_stays_beyond_the_limit(
    tmp_path: Path, bucket: Path, storage: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, a="1", b="2", c="3")
    monkeypatch.setenv(LIMIT, "0")
    other = DataCache(tmp_path / "cache", storage)
    (a, b, c) = objects(storage)
    other.fetch([a])
    other.link([a], tmp_path / "tree")
    mine = DataCache(tmp_path / "cache", storage)
    mine.fetch([b])
    mine.fetch([c])
    assert {path.read_text() for path in entries(tmp_path / "cache")} == {"1", "2", "3"}


def test_an_entry_that_another_rehearsal_removed_meanwhile_is_fetched_again(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one", b="two")
    cache.fetch(objects(storage))
    for entry in entries(tmp_path / "cache"):
        entry.unlink()
    with cache.open(objects(storage)[0]) as file:
        assert file.read() == b"one"
    cache.link(objects(storage), tmp_path / "tree")
    assert snapshot(tmp_path / "tree") == {"a": b"one", "b": b"two"}


@pytest.mark.parametrize("text", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_told(
    tmp_path: Path, storage: Counting, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(EnvironmentProblemError, match=f"{LIMIT} is '{text}'"):
        DataCache(tmp_path, storage)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, bucket: Path, storage: Counting) -> None:
    put(bucket, a="one")
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblemError, match=f"cannot write {tmp_path}/file"):
        DataCache(tmp_path / "file", storage).fetch(objects(storage))


def test_two_names_that_are_one_to_the_disk_are_told(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, a="one")
    cache.fetch(objects(storage))
    with pytest.raises(EnvironmentProblemError, match=f"{tmp_path}/tree/a"):
        cache.link([*objects(storage), *objects(storage)], tmp_path / "tree")


def test_the_cache_is_private(tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache) -> None:
    put(bucket, a="one")
    cache.fetch(objects(storage))
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_what_a_killed_rehearsal_left_half_is_removed_and_what_is_being_fetched_is_not(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    incoming = tmp_path / "cache" / "incoming"
    incoming.mkdir(parents=True)
    (incoming / "killed").write_text("half")
    put(bucket, a="one")
    with (incoming / "fetched").open("wb") as file:
        assert hold(file)
        cache.fetch(objects(storage))
        assert [path.name for path in incoming.iterdir()] == ["fetched"]


@provokes(75)
def test_rehearsals_that_fetch_the_same_at_once_do_not_disturb_each_other(
    tmp_path: Path, bucket: Path, storage: Counting
) -> None:
    put(bucket, **{f"f{number}": str(number) * 1000 for number in range(100)})
    listed = objects(storage)
    problems: list[BaseException] = []

    def rehearse(number: int) -> None:
        try:
            cache = DataCache(tmp_path / "cache", storage)
            cache.fetch(listed)
            cache.link(listed, tmp_path / f"tree{number}")
        except BaseException as problem:
            problems.append(problem)
            raise

    threads = [threading.Thread(target=rehearse, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    expected = {f"f{number}": str(number).encode() * 1000 for number in range(100)}
    assert all(snapshot(tmp_path / f"tree{number}") == expected for number in range(4))


@provokes(75)
def test_whoever_cleans_up_all_the_time_takes_nothing_that_is_being_fetched(
    tmp_path: Path, bucket: Path, storage: Counting, cache: DataCache
) -> None:
    put(bucket, **{f"f{number}": str(number) * 100 for number in range(400)})
    incoming = tmp_path / "cache" / "incoming"
    incoming.mkdir(parents=True)
    done = threading.Event()

    def clean_up() -> None:
        while not done.is_set():
            remove_abandoned(incoming)

    cleaners = [threading.Thread(target=clean_up) for _ in range(2)]
    for cleaner in cleaners:
        cleaner.start()
    try:
        cache.fetch(objects(storage))
    finally:
        done.set()
        for cleaner in cleaners:
            cleaner.join()
    assert cache.missing(objects(storage)) == ()


def test_a_fetch_that_is_killed_leaves_nothing_wrong(tmp_path: Path, bucket: Path, storage: Counting) -> None:
    for number in range(60):
        (bucket / str(number)).write_bytes(bytes([number]) * 4_000_000)
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from sagemaker_launcher.naming import S3Uri
        from sagemaker_launcher.rehearsal.cache import DataCache
        from sagemaker_launcher.rehearsal.channels import placed_objects
        from sagemaker_launcher.storage import FolderStorage

        storage = FolderStorage(Path(sys.argv[1]))
        told = lambda size: print(size, flush=True)
        DataCache(Path(sys.argv[2]), storage).fetch(placed_objects(S3Uri("bkt", "d/"), storage), told)
    """)
    words = [sys.executable, "-c", script, str(tmp_path / "s3"), str(tmp_path / "cache")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    cache = DataCache(tmp_path / "cache", storage)
    assert 0 < len(cache.missing(objects(storage))) < 60
    bring(cache, storage, tmp_path / "tree")
    assert snapshot(tmp_path / "tree") == {str(number): bytes([number]) * 4_000_000 for number in range(60)}


def test_an_interrupt_ends_a_fetch_at_once(tmp_path: Path, bucket: Path, storage: Counting) -> None:
    put(bucket, **{f"f{number}": "x" for number in range(50)})
    cache = DataCache(tmp_path / "cache", storage)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.fetch(objects(storage), interrupt)
    wait_for_other_downloads()
    assert not list((tmp_path / "cache" / "incoming").iterdir())
