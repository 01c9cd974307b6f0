"""Checkpoints in a real S3: what programs do to their files while they are being saved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync
from sagemaker_launcher.s3_storage import S3Storage
from tests.integration.storages import ACCOUNT, REGION, storage_at
from tests.servers.seaweed import SeaweedServer

BUCKET = "team"


class Meddled(S3Storage):
    """S3, and a program that does something when the first file is about to be read."""

    def __init__(self, meddle: Callable[[str], None]) -> None:
        super().__init__(Aws(REGION), {BUCKET: ACCOUNT})
        self._meddle = meddle
        self._begun = False

    def upload(self, path: Path, uri: S3Uri) -> None:
        if not self._begun:
            self._begun = True
            self._meddle(uri.name)
        super().upload(path, uri)


@pytest.fixture
def storage(s3: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Storage]:
    yield from storage_at(s3.endpoint_url, s3.admin, monkeypatch)


@pytest.fixture
def prefix(tmp_path: Path) -> S3Uri:
    """A prefix of this test alone."""
    return S3Uri(BUCKET, f"checkpoints/{tmp_path.parent.name}-{tmp_path.name}/")


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def saved(storage: S3Storage, prefix: S3Uri) -> dict[str, bytes]:
    return {
        item.uri.key.removeprefix(prefix.key): storage.read(item.uri, item.size)
        for item in storage.list(prefix)
    }


def test_a_file_that_is_removed_during_the_round_does_not_keep_the_others_from_being_saved(
    storage: S3Storage, prefix: S3Uri, local: Path
) -> None:
    names = {"a", "b", "c", "d"}
    for name in names:
        (local / name).write_text("one")

    def remove(first: str) -> None:
        # The one that is about to be read, and another, whose turn comes.
        for name in (first, min(names - {first})):
            (local / name).unlink()

    sync = CheckpointSync(local, prefix, Meddled(remove))
    sync.sync()
    left = {path.name: b"one" for path in local.iterdir()}
    assert len(left) == 2
    assert left.items() <= saved(storage, prefix).items()
    sync.sync()
    assert saved(storage, prefix) == left


def test_a_file_that_is_swapped_for_a_link_while_it_is_read_does_not_leak(
    storage: S3Storage, prefix: S3Uri, local: Path, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("secret")

    def swap(name: str) -> None:
        (local / name).unlink()
        (local / name).symlink_to(tmp_path / "credentials")

    (local / "a").write_text("one")
    (local / "b").symlink_to(tmp_path / "credentials")
    CheckpointSync(local, prefix, Meddled(swap)).sync()
    assert saved(storage, prefix) == {"a": b"one"}


def test_a_file_of_many_parts_is_saved_whole(storage: S3Storage, prefix: S3Uri, local: Path) -> None:
    data = os.urandom(20 * 2**20)  # boto3 sends it in three parts, from as many threads
    (local / "a").write_bytes(data)
    CheckpointSync(local, prefix, storage).sync()
    assert saved(storage, prefix) == {"a": data}


def test_a_name_that_is_no_text_is_told_once_all_others_are_saved(
    storage: S3Storage, prefix: S3Uri, local: Path
) -> None:
    (local / os.fsdecode(b"epoch-\xff")).write_text("no key")
    for name in ("a", "z", "é"):
        (local / name).write_text("one")
    sync = CheckpointSync(local, prefix, storage)
    with pytest.raises(LauncherError, match=r"epoch-\\udcff.*not UTF-8"):
        sync.sync()
    assert saved(storage, prefix) == {"a": b"one", "z": b"one", "é": b"one"}


def test_a_name_that_is_no_text_ends_no_thread(storage: S3Storage, prefix: S3Uri, local: Path) -> None:
    # An exception that ends a thread is a warning of pytest's, and so a failure.
    sync = CheckpointSync(local, prefix, storage)
    (local / os.fsdecode(b"epoch-\xff")).write_text("no key")
    with sync.running():
        (local / "a").write_text("one")
        wait_for(lambda: "a" in saved(storage, prefix))
        (local / "b").write_text("two")
        wait_for(lambda: "b" in saved(storage, prefix))
    assert saved(storage, prefix) == {"a": b"one", "b": b"two"}
