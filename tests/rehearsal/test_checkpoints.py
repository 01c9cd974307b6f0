"""Checkpoints: restored, copied while the program runs, deleted when it deletes them."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError, UnsafeError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync
from sagemaker_launcher.rehearsal.own_files import held
from sagemaker_launcher.storage import FolderStorage
from tests.fidelity import reproduces
from tests.stand_in import Listing, snapshot

PREFIX = S3Uri.parse("s3://team/checkpoints/job/")


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    folder = tmp_path / "s3" / "team"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def sync_of(bucket: Path, local: Path) -> CheckpointSync:
    return CheckpointSync(local, PREFIX, FolderStorage(bucket.parent))


def wait_for(condition: Callable[[], bool], limit_s: float = 10) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def put(bucket: Path, key: str, text: str) -> Path:
    path = bucket / "checkpoints" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@reproduces("checkpoints")
def test_everything_under_the_prefix_is_there_before_the_program_starts(bucket: Path, local: Path) -> None:
    put(bucket, "job/epoch-1", "one")
    put(bucket, "job/optimizer/state", "two")
    put(bucket, "job2/epoch-9", "another job's")
    assert sync_of(bucket, local).restore() == 2
    assert snapshot(local) == {"epoch-1": b"one", "optimizer": None, "optimizer/state": b"two"}


def test_a_first_run_has_nothing_to_restore(bucket: Path, local: Path) -> None:
    assert sync_of(bucket, local).restore() == 0
    assert snapshot(local) == {}


@reproduces("checkpoints")
def test_what_the_program_writes_is_copied_while_it_runs(bucket: Path, local: Path) -> None:
    with sync_of(bucket, local).running():
        (local / "epoch-1").write_text("one")
        wait_for((bucket / "checkpoints/job/epoch-1").is_file)
        (local / "epoch-1").write_text("one again")
        wait_for(lambda: (bucket / "checkpoints/job/epoch-1").read_text() == "one again")


@reproduces("checkpoints")
def test_what_the_program_deletes_is_deleted_while_it_runs(bucket: Path, local: Path) -> None:
    restored = put(bucket, "job/epoch-1", "one")
    sync = sync_of(bucket, local)
    sync.restore()
    with sync.running():
        (local / "epoch-1").unlink()
        wait_for(lambda: not restored.exists())


def test_what_comes_last_is_copied_at_the_end(bucket: Path, local: Path) -> None:
    put(bucket, "job/epoch-1", "one")
    sync = sync_of(bucket, local)
    sync.restore()
    (local / "deep").mkdir()
    (local / "deep" / "epoch-2").write_text("two")
    (local / "epoch-1").unlink()
    sync.sync()
    assert snapshot(bucket / "checkpoints/job") == {"deep": None, "deep/epoch-2": b"two"}


def test_a_file_may_become_a_folder_and_a_folder_a_file(bucket: Path, local: Path) -> None:
    sync = sync_of(bucket, local)
    (local / "best").write_text("a file")
    (local / "last" / "deep").mkdir(parents=True)
    (local / "last" / "deep" / "state").write_text("in a folder")
    sync.sync()
    (local / "best").unlink()
    (local / "best" / "deep").mkdir(parents=True)
    (local / "best" / "deep" / "state").write_text("in a folder")
    shutil.rmtree(local / "last")
    (local / "last").write_text("a file")
    sync.sync()
    assert snapshot(bucket / "checkpoints/job") == {
        "best": None,
        "best/deep": None,
        "best/deep/state": b"in a folder",
        "last": b"a file",
    }
    again = sync_of(bucket, local.parent / "restored")
    assert again.restore() == 2
    assert (local.parent / "restored/last").read_text() == "a file"


def test_what_is_unchanged_is_not_copied_again(bucket: Path, local: Path) -> None:
    stored = put(bucket, "job/epoch-1", "one")
    sync = sync_of(bucket, local)
    sync.restore()
    stored.write_text("changed by somebody else after the start")
    sync.sync()
    assert stored.read_text() == "changed by somebody else after the start"


def test_objects_that_others_add_later_are_neither_fetched_nor_deleted(bucket: Path, local: Path) -> None:
    sync = sync_of(bucket, local)
    sync.restore()
    late = put(bucket, "job/late", "by another")
    sync.sync()
    assert late.exists()
    assert snapshot(local) == {}


def test_a_file_that_comes_and_goes_does_not_stop_the_copying(bucket: Path, local: Path) -> None:
    sync = sync_of(bucket, local)
    with sync.running():
        for number in range(300):
            (local / "epoch.tmp").write_text(str(number))
            (local / "epoch.tmp").replace(local / "epoch")
            time.sleep(0.005)
    sync.sync()
    assert snapshot(bucket / "checkpoints/job") == {"epoch": b"299"}


def test_a_copy_that_fails_at_the_end_is_told(bucket: Path, local: Path) -> None:
    (bucket / "checkpoints").write_text("a file where a folder has to be")
    sync = sync_of(bucket, local)
    with sync.running():
        (local / "epoch-1").write_text("one")
    with pytest.raises(LauncherError, match="s3://team/checkpoints/job/epoch-1"):
        sync.sync()


@pytest.mark.parametrize("key", ["checkpoints/job/../../../x", "checkpoints/job//etc/passwd"])
def test_a_key_that_could_leave_the_checkpoint_folder_is_refused(bucket: Path, local: Path, key: str) -> None:
    with pytest.raises(UnsafeError):
        CheckpointSync(local, PREFIX, Listing(bucket.parent, key)).restore()
    assert snapshot(local) == {}


def test_the_marker_of_the_folder_is_no_checkpoint(bucket: Path, local: Path) -> None:
    assert CheckpointSync(local, PREFIX, Listing(bucket.parent, "checkpoints/job/")).restore() == 0


@pytest.mark.parametrize("keys", [("job/a", "job/a/b"), ("job/a", "job/a-z", "job/a/deep/b")])
def test_a_checkpoint_below_another_is_refused_with_both_keys(
    bucket: Path, local: Path, keys: tuple[str, ...]
) -> None:
    for key in ("job/a", "job/a-z"):
        put(bucket, key, "as S3 has them; no folder can")
    storage = Listing(bucket.parent, *(f"checkpoints/{key}" for key in keys))
    with pytest.raises(EnvironmentProblemError) as refused:
        CheckpointSync(local, PREFIX, storage).restore()
    assert f"s3://team/checkpoints/{keys[0]} " in refused.value.message
    assert f"s3://team/checkpoints/{keys[-1]} " in refused.value.message
    assert "remove one of them" in refused.value.hint
    assert snapshot(local) == {}


# --- links, and what else is no file ---


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host, beside that of the checkpoints."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "credentials").write_text("secret")
    return folder


def saved(bucket: Path) -> dict[str, bytes | None]:
    return snapshot(bucket / "checkpoints/job")


def test_a_link_within_the_folder_is_saved_with_what_it_leads_to(bucket: Path, local: Path) -> None:
    sync = sync_of(bucket, local)
    (local / "epochs").mkdir()
    (local / "epochs" / "3.pt").write_text("three")
    (local / "latest.pt").symlink_to("epochs/3.pt")
    (local / "round-about").symlink_to("../checkpoints/latest.pt")
    sync.sync()
    epochs = {"epochs": None, "epochs/3.pt": b"three"}
    assert saved(bucket) == {**epochs, "latest.pt": b"three", "round-about": b"three"}
    (local / "epochs" / "4.pt").write_text("four, longer")
    (local / "latest.pt").unlink()
    (local / "latest.pt").symlink_to("epochs/4.pt")
    (local / "round-about").unlink()
    sync.sync()
    assert saved(bucket) == {**epochs, "epochs/4.pt": b"four, longer", "latest.pt": b"four, longer"}


def test_nothing_is_saved_through_a_link_that_leads_out(bucket: Path, local: Path, outside: Path) -> None:
    (local / "deep").mkdir()
    (local / "a").symlink_to(outside / "credentials")
    (local / "deep" / "b").symlink_to("../../outside/credentials")
    (local / "by-way-of-a").symlink_to("a")
    (local / "folder").symlink_to(outside)
    (local / "through-a-folder").symlink_to("folder/credentials")
    (local / "epoch-1").write_text("one")
    sync_of(bucket, local).sync()
    assert saved(bucket) == {"epoch-1": b"one"}


def test_what_is_no_file_is_left_out_and_stops_nothing(bucket: Path, local: Path) -> None:
    (local / "loop").symlink_to("loop")
    (local / "there").symlink_to("back")
    (local / "back").symlink_to("there")
    (local / "dangling").symlink_to("nowhere")
    (local / "not-a-folder").symlink_to("epoch-1/x")
    (local / "too-long").symlink_to("x" * 300)
    os.mkfifo(local / "fifo")
    (local / "to-the-fifo").symlink_to("fifo")
    (local / "a-folder-of-its-own").symlink_to(".")
    (local / "epoch-1").write_text("one")
    sync_of(bucket, local).sync()
    assert saved(bucket) == {"epoch-1": b"one"}


def test_a_checkpoint_that_becomes_a_link_out_of_the_folder_is_gone(
    bucket: Path, local: Path, outside: Path
) -> None:
    (local / "a").write_text("one")
    (local / "b").write_text("two")
    sync = sync_of(bucket, local)
    sync.sync()
    (local / "a").unlink()
    (local / "a").symlink_to(outside / "credentials")
    sync.sync()
    assert saved(bucket) == {"b": b"two"}


def test_a_link_in_the_place_of_the_folder_counts_as_no_folder(
    bucket: Path, local: Path, outside: Path, tmp_path: Path
) -> None:
    sync = sync_of(bucket, local)
    (local / "credentials").write_text("one")
    sync.sync()
    local.rename(tmp_path / "away")
    local.symlink_to(outside)
    sync.sync()
    assert saved(bucket) == {}  # not even a name is looked at there


def test_a_folder_behind_a_link_of_the_users_own_is_synced(bucket: Path, local: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (local / "epoch-1").write_text("one")
    sync_of(bucket, tmp_path / "link" / local.name).sync()
    assert saved(bucket) == {"epoch-1": b"one"}


class Swapping(FolderStorage):
    """Lets a program do something at the worst moment: when the first file is about to be read."""

    def __init__(self, folder: Path, swap: Callable[[str], None]) -> None:
        super().__init__(folder)
        self._swap = swap
        self.uploaded: list[str] = []

    def upload(self, path: Path, uri: S3Uri) -> None:
        if not self.uploaded:
            self._swap(uri.key.removeprefix(PREFIX.key))
        self.uploaded.append(uri.name)
        super().upload(path, uri)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux has a path for an open file")
def test_a_file_that_is_swapped_for_a_link_while_it_is_read_does_not_leak(
    bucket: Path, local: Path, outside: Path
) -> None:
    def swap(name: str) -> None:
        (local / name).unlink()
        (local / name).symlink_to(outside / "credentials")

    (local / "a").write_text("one")
    CheckpointSync(local, PREFIX, Swapping(bucket.parent, swap)).sync()
    assert saved(bucket) == {"a": b"one"}


def test_a_file_that_is_swapped_for_a_link_after_it_was_listed_does_not_leak(
    bucket: Path, local: Path, outside: Path
) -> None:
    def swap(name: str) -> None:
        other = local / ("b" if name == "a" else "a")
        other.unlink()
        other.symlink_to(outside / "credentials")

    (local / "a").write_text("one")
    (local / "b").write_text("one")
    CheckpointSync(local, PREFIX, storage := Swapping(bucket.parent, swap)).sync()
    assert saved(bucket) == {storage.uploaded[0]: b"one"}


def test_a_folder_that_is_swapped_for_a_link_after_it_was_listed_does_not_leak(
    bucket: Path, local: Path, outside: Path
) -> None:
    (local / "deep").mkdir()
    for name in ("credentials", "others"):
        (local / "deep" / name).write_text("one")
        (outside / name).write_text("secret")

    def swap(_: str) -> None:
        (local / "deep").rename(local.parent / "away")
        (local / "deep").symlink_to(outside)

    CheckpointSync(local, PREFIX, storage := Swapping(bucket.parent, swap)).sync()
    assert saved(bucket) == {"deep": None, f"deep/{storage.uploaded[0]}": b"one"}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux says where an open file lies")
def test_a_folder_that_is_swapped_for_a_link_again_and_again_does_not_leak(
    local: Path, outside: Path
) -> None:
    deep, away, link = local / "deep", local / "away", local / "link"
    deep.mkdir()
    (deep / "credentials").write_text("one")
    link.symlink_to(outside)
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            deep.rename(away)
            link.rename(deep)
            deep.rename(link)
            away.rename(deep)

    swapper = threading.Thread(target=swap)
    swapper.start()
    read = set()
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with held(deep / "credentials", local) as file:
                read.add(file.read_text() if file else "nothing")
    finally:
        ended.set()
        swapper.join()
    assert "one" in read
    assert "secret" not in read


def test_a_file_that_is_swapped_for_a_fifo_does_not_block(bucket: Path, local: Path) -> None:
    def swap(name: str) -> None:
        other = local / ("b" if name == "a" else "a")
        other.unlink()
        os.mkfifo(other)

    (local / "a").write_text("one")
    (local / "b").write_text("one")
    CheckpointSync(local, PREFIX, storage := Swapping(bucket.parent, swap)).sync()
    assert saved(bucket) == {storage.uploaded[0]: b"one"}


# --- files that S3 cannot have, or that have just gone ---


def test_a_name_that_is_no_text_is_told_once_all_others_are_saved(bucket: Path, local: Path) -> None:
    sync = sync_of(bucket, local)
    (local / "gone").write_text("zero")
    sync.sync()
    (local / "gone").unlink()
    (local / os.fsdecode(b"epoch-\xff")).write_text("no key")
    for name in ("a", "z"):
        (local / name).write_text("one")
    for _ in range(2):
        with pytest.raises(LauncherError, match=r"epoch-\\udcff.*not UTF-8") as told:
            sync.sync()
        assert "rename" in told.value.hint
        told.value.message.encode()
        assert saved(bucket) == {"a": b"one", "z": b"one"}


def test_a_file_that_is_removed_during_the_round_does_not_keep_the_others_from_being_saved(
    bucket: Path, local: Path
) -> None:
    names = {"a", "b", "c"}
    for name in names:
        (local / name).write_text("one")
    storage = Swapping(bucket.parent, lambda first: (local / min(names - {first})).unlink())
    CheckpointSync(local, PREFIX, storage).sync()
    assert sorted(saved(bucket)) == sorted(path.name for path in local.iterdir())
    assert len(saved(bucket)) == 2


def test_a_copy_that_fails_of_a_file_that_has_gone_meanwhile_is_no_failure(bucket: Path, local: Path) -> None:
    (bucket / "checkpoints").write_text("a file where a folder has to be")
    (local / "a").write_text("one")
    sync = CheckpointSync(local, PREFIX, Swapping(bucket.parent, lambda name: (local / name).unlink()))
    sync.sync()
    assert sync.newest_at == 0
