"""Checkpoints: restored, copied while the program runs, deleted when it deletes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sagemaker_launcher.errors import LauncherError, UnsafeError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync
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


@pytest.mark.parametrize(
    "key", ["checkpoints/job/../../../x", "checkpoints/job//etc/passwd", "checkpoints/job/a\\b"]
)
def test_a_key_that_could_leave_the_checkpoint_folder_is_refused(bucket: Path, local: Path, key: str) -> None:
    with pytest.raises(UnsafeError):
        CheckpointSync(local, PREFIX, Listing(bucket.parent, key)).restore()
    assert snapshot(local) == {}


def test_the_marker_of_the_folder_is_no_checkpoint(bucket: Path, local: Path) -> None:
    assert CheckpointSync(local, PREFIX, Listing(bucket.parent, "checkpoints/job/")).restore() == 0
