"""The folder that stands in for S3."""

from __future__ import annotations

import io
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import (
    ConflictError,
    EnvironmentProblemError,
    IntegrityError,
    NotFoundError,
    UnsafeError,
)
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import FolderStorage, appearing
from tests.stand_in import snapshot

SEGMENT = st.text(st.sampled_from("abz019-_.!~ é"), min_size=1, max_size=4).filter(
    lambda name: name.strip(".") != ""
)
KEYS = st.sets(st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), max_size=12)


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    (tmp_path / "team").mkdir()
    return FolderStorage(tmp_path)


def uri(key: str) -> S3Uri:
    return S3Uri("team", key)


def keys(storage: FolderStorage, prefix: str = "", limit: int = 0) -> list[str]:
    return [item.uri.key for item in storage.list(uri(prefix), limit)]


def test_an_object_is_the_file_of_its_key(storage: FolderStorage, tmp_path: Path) -> None:
    storage.create(uri("a/b.json"), b"one")
    assert (tmp_path / "team/a/b.json").read_bytes() == b"one"
    assert storage.read(uri("a/b.json"), 3) == b"one"
    assert snapshot(tmp_path / ".incomplete") == {}


def test_what_exists_is_never_replaced(storage: FolderStorage) -> None:
    storage.create(uri("a"), b"one")
    with pytest.raises(ConflictError, match="s3://team/a exists already"):
        storage.create(uri("a"), b"two")
    assert storage.read(uri("a"), 10) == b"one"


def test_writing_the_same_again_is_a_repeated_request_and_no_conflict(storage: FolderStorage) -> None:
    storage.create(uri("a"), b"one")
    storage.create(uri("a"), b"one")


def test_of_many_writers_exactly_one_wins(storage: FolderStorage) -> None:
    def create(number: int) -> bool:
        try:
            storage.create(uri("a/b"), f"writer {number}".encode())
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        won = list(pool.map(create, range(32)))
    assert won.count(True) == 1
    assert storage.read(uri("a/b"), 20) == f"writer {won.index(True)}".encode()


def test_reading_stops_at_the_limit(storage: FolderStorage) -> None:
    storage.create(uri("a"), b"12345")
    assert storage.read(uri("a"), 5) == b"12345"
    with pytest.raises(IntegrityError, match="larger than 4 bytes"):
        storage.read(uri("a"), 4)


@pytest.mark.parametrize("key", ["nothing", "a", "a/b/c"])
def test_a_missing_object_is_told_with_its_uri(storage: FolderStorage, key: str) -> None:
    storage.create(uri("a/b"), b"")
    with pytest.raises(NotFoundError, match=f"no such object: s3://team/{key}") as missing:
        storage.read(uri(key), 10)
    assert missing.value.code == "object_not_found"


def test_a_missing_bucket_is_told_with_its_folder(storage: FolderStorage, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=f"no such bucket: s3://nobody .{tmp_path}/nobody") as missing:
        list(storage.list(S3Uri("nobody")))
    assert missing.value.code == "bucket_not_found"


def test_a_root_that_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="no such folder"):
        FolderStorage(tmp_path / "nothing")


@settings(deadline=None, max_examples=60)
@given(names=KEYS, data=st.data())
def test_a_list_has_the_keys_with_the_prefix_in_the_order_of_s3(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], data: st.DataObject
) -> None:
    # A file system cannot have both `a` and `a/b`.
    wanted = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    folder = tmp_path_factory.mktemp("s3")
    (folder / "team").mkdir()
    storage = FolderStorage(folder)
    for name in wanted:
        storage.create(uri(name), b"x")
    # Any beginning of a key is a prefix.
    longest = data.draw(st.sampled_from(["nothing/at/all", *sorted(wanted)]))
    prefix = longest[: data.draw(st.integers(0, len(longest)))]
    expected = sorted((name for name in wanted if name.startswith(prefix)), key=lambda name: name.encode())
    assert keys(storage, prefix) == expected
    assert keys(storage, prefix, 2) == expected[:2]


def test_a_list_tells_sizes_and_tags_that_change_with_the_content(
    storage: FolderStorage, tmp_path: Path
) -> None:
    storage.create(uri("a"), b"12345")
    (before,) = storage.list(uri(""))
    assert before.size == 5
    (tmp_path / "team/a").write_bytes(b"54321")
    os.utime(tmp_path / "team/a", ns=(1, 1))
    (after,) = storage.list(uri(""))
    assert before.tag != after.tag


def test_no_copy_with_the_size_and_the_time_of_another_file_has_its_tag(tmp_path: Path) -> None:
    tags = set()
    for version, root in (("1", "one"), ("2", "two"), ("3", "two"), ("4", "two")):
        path = tmp_path / root / "team" / "a"
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path if version == "3" else path.with_name("new")  # written in place, or put there by a rename
        new.write_text(f"version {version}")
        os.utime(new, ns=(1, 1))  # as cp -p, rsync -a and tar -x do
        new.replace(path)
        time.sleep(0.02)  # the clock of files has steps of up to 10 ms
        (item,) = FolderStorage(tmp_path / root).list(uri("a"))
        tags.add(item.tag)
    assert len(tags) == 4


def test_a_folder_has_the_same_tags_whatever_leads_to_it(storage: FolderStorage, tmp_path: Path) -> None:
    storage.create(uri("a"), b"1")
    (tmp_path / "link").symlink_to(tmp_path)
    assert list(storage.list(uri(""))) == list(FolderStorage(tmp_path / "link").list(uri("")))


def test_a_list_looks_only_where_the_prefix_leads(storage: FolderStorage, tmp_path: Path) -> None:
    storage.create(uri("a/b/c"), b"")
    (tmp_path / "team/a/dangling").symlink_to("nowhere")
    assert keys(storage, "a/b/") == ["a/b/c"]
    assert keys(storage, "nothing/") == []
    assert keys(storage, "a/b/c/d") == []


def test_a_link_that_leads_nowhere_hides_no_data(storage: FolderStorage, tmp_path: Path) -> None:
    storage.create(uri("data/a.csv"), b"1,2")
    (tmp_path / "team/data/.#a.csv").symlink_to("me@laptop.4711:1700000000")  # how Emacs locks a file
    assert keys(storage, "data/") == ["data/a.csv"]
    assert keys(storage, "data/", 1) == ["data/a.csv"]


def test_what_is_deleted_while_it_is_listed_hides_nothing_else(
    storage: FolderStorage, tmp_path: Path
) -> None:
    for name in ("a", "b", "c/d", "e"):
        storage.create(uri(name), b"")
    listing = storage.list(uri(""))
    assert next(listing).uri == uri("a")
    storage.delete(uri("b"))
    shutil.rmtree(tmp_path / "team/c")
    assert [item.uri for item in listing] == [uri("e")]


def test_folders_that_contain_themselves_are_told(storage: FolderStorage, tmp_path: Path) -> None:
    (tmp_path / "team/loop").symlink_to(".")
    with pytest.raises(EnvironmentProblemError, match="s3://team/"):
        keys(storage)


def test_uploads_replace_and_downloads_appear_complete(storage: FolderStorage, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "deep" / "copy"
    for content in (b"one", b"two"):
        source.write_bytes(content)
        storage.upload(source, uri("a/b"))
        with appearing(copy) as file:
            storage.download(uri("a/b"), file)
        assert copy.read_bytes() == content
    assert list(copy.parent.iterdir()) == [copy]
    assert snapshot(tmp_path / ".incomplete") == {}


def test_deleting_what_is_gone_is_no_error(storage: FolderStorage, tmp_path: Path) -> None:
    storage.create(uri("a"), b"")
    storage.delete(uri("a"))
    storage.delete(uri("a"))
    assert not (tmp_path / "team/a").exists()


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "..", "a/./b", "/outside", "a//b", "//outside"]
)
def test_no_key_leads_out_of_the_bucket(storage: FolderStorage, tmp_path: Path, key: str) -> None:
    (tmp_path / "outside").write_text("not yours")
    for act in (
        lambda: storage.read(uri(key), 100),
        lambda: storage.create(uri(key), b""),
        lambda: list(storage.list(uri(f"{key}/x"))),
        lambda: storage.download(uri(key), io.BytesIO()),
        lambda: storage.upload(tmp_path / "outside", uri(key)),
        lambda: storage.delete(uri(key)),
    ):
        with pytest.raises(UnsafeError):
            act()
    assert (tmp_path / "outside").read_text() == "not yours"


def test_hashes_are_sha256_in_hex() -> None:
    assert sha256(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_object_takes_the_place_of_folders_that_deleted_ones_have_left_and_of_no_others(
    tmp_path: Path,
) -> None:
    (tmp_path / "s3" / "team").mkdir(parents=True)
    (tmp_path / "elsewhere" / "empty").mkdir(parents=True)
    file = tmp_path / "file"
    file.write_text("x")
    storage, place = FolderStorage(tmp_path / "s3"), S3Uri.parse("s3://team/place")
    for key in ("a/b/one", "a/two"):
        storage.upload(file, place / key)
        storage.delete(place / key)
    storage.upload(file, place)
    assert snapshot(tmp_path / "s3" / "team") == {"place": b"x"}
    storage.upload(file, S3Uri.parse("s3://team/full/three"))
    for key in ("full", "full/three/four", "full/three/four/five"):
        with pytest.raises(EnvironmentProblemError, match=f"s3://team/{key} cannot be written"):
            storage.upload(file, S3Uri.parse(f"s3://team/{key}"))
    assert snapshot(tmp_path / "s3" / "team" / "full") == {"three": b"x"}
    (tmp_path / "s3" / "team" / "link").symlink_to(tmp_path / "elsewhere")
    storage.upload(file, S3Uri.parse("s3://team/link"))
    assert (tmp_path / "elsewhere" / "empty").is_dir()
