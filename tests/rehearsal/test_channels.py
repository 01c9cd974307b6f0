"""Input channels: which objects they have, and where each lies on the host's disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.errors import EnvironmentProblemError, NotFoundError, UnsafeError
from sagemaker_launcher.rehearsal.channels import list_channel, materialise, relative_path
from sagemaker_launcher.storage import FolderStorage
from tests.stand_in import Listing, snapshot

SEGMENTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


def channel(uri: str, mode: str = "", kind: str = "S3Prefix") -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}}
    return {"ChannelName": "training", "DataSource": source} | ({"InputMode": mode} if mode else {})


def bucket_with(folder: Path, *keys: str) -> FolderStorage:
    (folder / "s3" / "bkt").mkdir(parents=True)
    for key in keys:
        path = folder / "s3" / "bkt" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {key}")
    return FolderStorage(folder / "s3")


@pytest.mark.parametrize(
    ("uri", "key", "place"),
    [
        ("data/train/", "data/train/x/a.csv", "x/a.csv"),
        ("data/train", "data/train/x/a.csv", "x/a.csv"),
        ("data/train/", "data/train/a.csv", "a.csv"),
        ("data/train.csv", "data/train.csv", "train.csv"),
        ("train.csv", "train.csv", "train.csv"),
        ("data/tr", "data/train-1.csv", "train-1.csv"),
        ("data/tr", "data/trial/x", "trial/x"),
        ("tr", "trial/x", "trial/x"),
        ("data/train", "data/train2/b.csv", "train2/b.csv"),
        ("data/train", "data/train.csv", "train.csv"),
        ("data/input.np", "data/input.np.y", "input.np.y"),
        ("", "data/a.csv", "data/a.csv"),
        ("a/a", "a/a/a/a", "a/a"),
    ],
)
def test_an_object_lies_where_the_service_puts_it(uri: str, key: str, place: str) -> None:
    assert relative_path(key, uri) == place


@settings(deadline=None, max_examples=60)
@given(folder=KEYS, key=KEYS)
def test_a_prefix_that_is_a_folder_disappears_with_and_without_its_slash(folder: str, key: str) -> None:
    assert relative_path(f"{folder}/{key}", f"{folder}/") == key
    assert relative_path(f"{folder}/{key}", folder) == key


@settings(deadline=None, max_examples=60)
@given(folder=KEYS, name=SEGMENTS, cut=st.integers(0, 8))
def test_a_prefix_that_begins_a_name_leaves_the_name_whole(folder: str, name: str, cut: int) -> None:
    assert relative_path(f"{folder}/{name}", f"{folder}/{name[:cut]}") == name


def test_a_channel_brings_everything_that_starts_with_its_text_siblings_too(tmp_path: Path) -> None:
    keys = ("data/train/a.csv", "data/train/x/b.csv", "data/train2/c.csv", "data/train.csv", "data/val/d.csv")
    storage = bucket_with(tmp_path, *keys)
    content = list_channel(channel("s3://bkt/data/train"), "File", storage)
    sizes: list[int] = []
    materialise(content, tmp_path / "channel", storage, sizes.append)
    assert snapshot(tmp_path / "channel") == {
        "a.csv": b"content of data/train/a.csv",
        "train.csv": b"content of data/train.csv",
        "train2": None,
        "train2/c.csv": b"content of data/train2/c.csv",
        "x": None,
        "x/b.csv": b"content of data/train/x/b.csv",
    }
    assert sum(sizes) == sum(len(f"content of {key}") for key in keys[:4])


def test_many_objects_come_complete(tmp_path: Path) -> None:
    keys = [f"d/{number % 7}/{number}.csv" for number in range(200)]
    storage = bucket_with(tmp_path, *keys)
    materialise(
        list_channel(channel("s3://bkt/d/"), "File", storage), tmp_path / "c", storage, lambda _: None
    )
    assert {name: data for name, data in snapshot(tmp_path / "c").items() if data is not None} == {
        key.removeprefix("d/"): f"content of {key}".encode() for key in keys
    }


def test_what_the_program_does_to_its_input_does_not_reach_the_bucket(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "d/a.csv")
    materialise(
        list_channel(channel("s3://bkt/d/"), "File", storage), tmp_path / "c", storage, lambda _: None
    )
    (tmp_path / "c" / "a.csv").write_text("changed")
    assert (tmp_path / "s3/bkt/d/a.csv").read_text() == "content of d/a.csv"


@pytest.mark.parametrize(("mode", "rights"), [("FastFile", 0o444), ("File", 0o644), ("", 0o644)])
def test_fast_file_data_is_read_only_and_other_data_is_not(tmp_path: Path, mode: str, rights: int) -> None:
    storage = bucket_with(tmp_path, "d/a.csv", "d/x/b.csv")
    materialise(
        list_channel(channel("s3://bkt/d/", mode), "File", storage), tmp_path / "c", storage, lambda _: None
    )
    files = [path for path in (tmp_path / "c").rglob("*") if path.is_file()]
    assert [path.stat().st_mode & 0o777 for path in files] == [rights, rights]


def test_the_requests_input_mode_holds_for_channels_that_do_not_say(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "d/a.csv")
    assert list_channel(channel("s3://bkt/d/"), "FastFile", storage).read_only
    assert not list_channel(channel("s3://bkt/d/", "File"), "FastFile", storage).read_only


@pytest.mark.parametrize("uri", ["s3://bkt/nothing/", "s3://bkt/d/a.csvx", "s3://bkt/d/x"])
def test_a_channel_without_objects_is_refused_as_the_service_refuses_it(tmp_path: Path, uri: str) -> None:
    with pytest.raises(NotFoundError, match=f"channel 'training': no S3 objects found under {uri}"):
        list_channel(channel(uri), "File", bucket_with(tmp_path, "d/a.csv"))


def test_the_markers_of_empty_folders_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no S3 objects found"):
        list_channel(channel("s3://bkt/d/"), "File", Listing(tmp_path, "d/", "d/x/"))
    content = list_channel(channel("s3://bkt/d/"), "File", Listing(tmp_path, "d/", "d/x/", "d/x/a.csv"))
    assert [placed.relative for placed in content.objects] == ["x/a.csv"]


@pytest.mark.parametrize(
    "key",
    [
        "d/../../../etc/passwd",
        "d/x/../y",
        "d/./x",
        "d//etc/passwd",
        "d/x//y",
        "d/..",
        "d/a\0b",
        "d/..\\..\\autoexec.bat",
        "d/C:\\windows",
    ],
)
def test_a_key_that_could_leave_the_channels_folder_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UnsafeError, match="could leave the folder") as refused:
        list_channel(channel("s3://bkt/d/"), "File", Listing(tmp_path, "d/good.csv", key))
    assert refused.value.code == "traversal"


@pytest.mark.parametrize("name", ["a b", "a\nb", "é", "'; rm -rf x", "-rf", "...", "\x1b[2J", "a" * 255])
def test_a_strange_but_harmless_key_is_data_like_any_other(tmp_path: Path, name: str) -> None:
    storage = bucket_with(tmp_path, f"d/{name}")
    materialise(
        list_channel(channel("s3://bkt/d/"), "File", storage), tmp_path / "c", storage, lambda _: None
    )
    assert [path.name for path in (tmp_path / "c").iterdir()] == [name]


def test_two_objects_for_one_place_are_refused_instead_of_losing_one(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "data/train/train2/a.csv", "data/train2/a.csv")
    with pytest.raises(EnvironmentProblemError, match=r"train2/a\.csv"):
        list_channel(channel("s3://bkt/data/train"), "File", storage)
    assert list_channel(channel("s3://bkt/data/train/"), "File", storage).objects


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("Pipe", "S3Prefix", "S3Prefix data in Pipe mode"),
        ("File", "ManifestFile", "ManifestFile data in File mode"),
        ("Pipe", "AugmentedManifestFile", "AugmentedManifestFile data in Pipe mode"),
    ],
)
def test_what_a_process_cannot_reproduce_is_refused(tmp_path: Path, mode: str, kind: str, words: str) -> None:
    with pytest.raises(EnvironmentProblemError, match=words) as refused:
        list_channel(channel("s3://bkt/d/", mode, kind), "File", bucket_with(tmp_path, "d/a.csv"))
    assert refused.value.code == "not_rehearsable"


def test_a_file_system_cannot_be_reproduced_either(tmp_path: Path) -> None:
    request = {"ChannelName": "training", "DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-1"}}}
    with pytest.raises(EnvironmentProblemError, match="file system data in File mode"):
        list_channel(request, "File", bucket_with(tmp_path))
