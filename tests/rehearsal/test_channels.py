"""Input channels: which objects they have, and where each lies on the host's disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError, NotFoundError, UnsafeError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.channels import (
    ChannelContent,
    Placed,
    list_channel,
    manifest_uris,
    refuse_shared_names,
    relative_path,
)
from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync
from sagemaker_launcher.storage import FolderStorage
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.stand_in import Counting, Listing

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


@reproduces("file mode")
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
    assert {placed.relative: placed.source.key for placed in content.objects} == {
        "a.csv": "data/train/a.csv",
        "train.csv": "data/train.csv",
        "train2/c.csv": "data/train2/c.csv",
        "x/b.csv": "data/train/x/b.csv",
    }
    assert sum(placed.size for placed in content.objects) == sum(len(f"content of {key}") for key in keys[:4])


def test_the_requests_input_mode_holds_for_channels_that_do_not_say(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "d/a.csv")
    assert list_channel(channel("s3://bkt/d/"), "FastFile", storage).mode == "FastFile"
    assert list_channel(channel("s3://bkt/d/", "File"), "FastFile", storage).mode == "File"


@pytest.mark.parametrize("uri", ["s3://bkt/nothing/", "s3://bkt/d/a.csvx", "s3://bkt/d/x"])
def test_a_channel_without_objects_is_refused_as_the_service_refuses_it(tmp_path: Path, uri: str) -> None:
    with pytest.raises(NotFoundError, match=f"channel 'training': no S3 objects found under {uri}"):
        list_channel(channel(uri), "File", bucket_with(tmp_path, "d/a.csv"))


def test_the_markers_of_empty_folders_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no S3 objects found"):
        list_channel(channel("s3://bkt/d/"), "File", Listing(tmp_path, "d/", "d/x/"))
    content = list_channel(channel("s3://bkt/d/"), "File", Listing(tmp_path, "d/", "d/x/", "d/x/a.csv"))
    assert [placed.relative for placed in content.objects] == ["x/a.csv"]


@provokes(80)
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
    ],
)
def test_a_key_that_could_leave_the_channels_folder_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UnsafeError, match="could leave the folder") as refused:
        list_channel(channel("s3://bkt/d/"), "File", Listing(tmp_path, "d/good.csv", key))
    assert refused.value.code == "traversal"


@pytest.mark.parametrize(
    "name", ["a b", "a\nb", "é", "'; rm -rf x", "-rf", "...", "\x1b[2J", "a" * 255, "a\\b", "..\\..\\b", "\\"]
)
def test_a_strange_but_harmless_key_is_data_like_any_other(tmp_path: Path, name: str) -> None:
    storage = bucket_with(tmp_path, f"d/{name}")
    content = list_channel(channel("s3://bkt/d/"), "File", storage)
    assert [placed.relative for placed in content.objects] == [name]


def test_a_checkpoint_with_a_backslash_comes_back_in_the_next_attempt(tmp_path: Path) -> None:
    storage, place = bucket_with(tmp_path), S3Uri("bkt", "checkpoints")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "a\\b").write_text("saved")
    CheckpointSync(first, place, storage).sync()
    assert CheckpointSync(second, place, storage).restore() == 1
    assert (second / "a\\b").read_text() == "saved"


def test_a_manifest_may_name_an_object_with_a_backslash(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "data/a\\b")
    request = manifest(storage, [{"prefix": "s3://bkt/data/"}, "a\\b"])
    assert [placed.relative for placed in list_channel(request, "File", storage).objects] == ["data/a\\b"]


def test_two_objects_for_one_place_are_refused_instead_of_losing_one(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "data/train/train2/a.csv", "data/train2/a.csv")
    with pytest.raises(EnvironmentProblemError, match=r"train2/a\.csv"):
        list_channel(channel("s3://bkt/data/train"), "File", storage)
    assert list_channel(channel("s3://bkt/data/train/"), "File", storage).objects


def test_a_file_where_another_object_needs_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="d/a/b/c and s3://bkt/d/a have the same place, a"):
        list_channel(channel("s3://bkt/d/"), "File", Listing(tmp_path, "d/a", "d/a/b/c"))


def test_in_a_pipe_no_object_has_a_place(tmp_path: Path) -> None:
    storage = Listing(tmp_path, "d/a", "d/a/b/c")
    assert len(list_channel(channel("s3://bkt/d/", "Pipe"), "File", storage).objects) == 2


@pytest.mark.parametrize("uri", ["s3://bkt/data/tr", "s3://bkt/data/train"])
def test_fast_file_mode_takes_no_beginning_of_a_name(tmp_path: Path, uri: str) -> None:
    storage = bucket_with(tmp_path, "data/train/a.csv", "data/train2/b.csv")
    with pytest.raises(EnvironmentProblemError, match="only the beginning of the name") as refused:
        list_channel(channel(uri, "FastFile"), "File", storage)
    assert refused.value.code == "not_rehearsable"
    assert list_channel(channel(uri, "File"), "File", storage).objects


@pytest.mark.parametrize("uri", ["s3://bkt/data/", "s3://bkt/data", "s3://bkt/data/a.csv", "s3://bkt/"])
def test_fast_file_mode_takes_folders_and_single_objects(tmp_path: Path, uri: str) -> None:
    storage = bucket_with(tmp_path, "data/a.csv")
    assert len(list_channel(channel(uri, "FastFile"), "File", storage).objects) == 1


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("Pipe", "AugmentedManifestFile"), ("File", "AugmentedManifestFile"), ("FastFile", "ManifestFile")],
)
def test_what_a_rehearsal_cannot_reproduce_is_refused(tmp_path: Path, mode: str, kind: str) -> None:
    with pytest.raises(EnvironmentProblemError, match=f"{kind} data in {mode} mode") as refused:
        list_channel(channel("s3://bkt/d/", mode, kind), "File", bucket_with(tmp_path, "d/a.csv"))
    assert refused.value.code == "not_rehearsable"


def test_a_file_system_cannot_be_reproduced_either(tmp_path: Path) -> None:
    request = {"ChannelName": "training", "DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-1"}}}
    with pytest.raises(EnvironmentProblemError, match="file system data in File mode"):
        list_channel(request, "File", bucket_with(tmp_path))


def test_the_requests_words_for_hosts_and_pipes_are_understood(tmp_path: Path) -> None:
    request = channel("s3://bkt/d/", "Pipe") | {
        "CompressionType": "Gzip",
        "RecordWrapperType": "RecordIO",
        "ShuffleConfig": {"Seed": 7},
    }
    source = request["DataSource"]["S3DataSource"]
    source |= {"S3DataDistributionType": "ShardedByS3Key", "InstanceGroupNames": ["workers"]}
    content = list_channel(request, "File", bucket_with(tmp_path, "d/a.csv"))
    assert (content.gzip, content.record_io, content.shuffle_seed) == (True, True, 7)
    assert (content.sharded, content.groups) == (True, ("workers",))
    plain = list_channel(channel("s3://bkt/d/"), "File", bucket_with(tmp_path / "plain", "d/a.csv"))
    assert (plain.gzip, plain.record_io, plain.shuffle_seed) == (False, False, None)
    assert (plain.sharded, plain.groups) == (False, ())


def test_an_object_that_is_too_large_for_a_record_is_refused_at_once(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "d/a")
    with (tmp_path / "s3/bkt/d/a").open("wb") as file:
        file.truncate(2**29)
    request = channel("s3://bkt/d/", "Pipe")
    assert list_channel(request, "File", storage).objects
    with pytest.raises(EnvironmentProblemError, match="s3://bkt/d/a has 536,870,912 bytes, and a RecordIO"):
        list_channel(request | {"RecordWrapperType": "RecordIO"}, "File", storage)


@reproduces("sharding")
@settings(deadline=None, max_examples=80)
@given(objects=st.integers(0, 30), hosts=st.integers(1, 8))
def test_shards_are_disjoint_and_complete_and_replicas_are_whole(objects: int, hosts: int) -> None:
    placed = tuple(Placed(S3Uri("bkt", str(number)), 1, "tag", str(number)) for number in range(objects))
    shards = [content_of(placed, sharded=True).part(index, hosts) for index in range(hosts)]
    assert sorted(shard.relative for part in shards for shard in part) == sorted(
        one.relative for one in placed
    )
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert {content_of(placed, sharded=False).part(index, hosts) for index in range(hosts)} == {placed}


def content_of(objects: tuple[Placed, ...], *, sharded: bool) -> ChannelContent:
    return ChannelContent(
        "training", "File", objects, sharded, (), gzip=False, record_io=False, shuffle_seed=None
    )


def manifest(storage: FolderStorage, document: object) -> dict[str, Any]:
    storage.create(S3Uri("bkt", "lists/train.manifest"), json.dumps(document).encode())
    return channel("s3://bkt/lists/train.manifest", kind="ManifestFile")


@reproduces("manifest")
def test_the_objects_of_a_manifest_keep_their_whole_keys_and_its_order(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "data/a.csv", "data/x/b.csv", "data/x/c.csv", "data/a.csv2")
    request = manifest(storage, [{"prefix": "s3://bkt/data/"}, "x/b.csv", "a.csv", "x/b.csv"])
    objects = list_channel(request, "File", storage).objects
    assert [placed.relative for placed in objects] == ["data/x/b.csv", "data/a.csv"]
    assert {placed.source: (placed.size, placed.tag) for placed in objects} == {
        item.uri: (item.size, item.tag)
        for item in storage.list(S3Uri("bkt", "data/"))
        if item.uri.key in {"data/a.csv", "data/x/b.csv"}
    }


def test_a_manifests_prefix_is_joined_as_a_text(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "data/part-1.csv", "part-1.csv")
    request = manifest(storage, [{"prefix": "s3://bkt/data/part-"}, "1.csv"])
    assert [placed.relative for placed in list_channel(request, "Pipe", storage).objects] == [
        "data/part-1.csv"
    ]


def test_missing_objects_of_a_manifest_are_counted_and_one_is_named(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "data/a.csv", "data/bb.csv")
    request = manifest(storage, [{"prefix": "s3://bkt/data/"}, "a.csv", "b", "c"])
    with pytest.raises(
        NotFoundError, match=r"2 of the 3 objects of s3://bkt/lists/.* such as s3://bkt/data/b"
    ):
        list_channel(request, "File", storage)


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    request = channel("s3://bkt/lists/none", kind="ManifestFile")
    with pytest.raises(NotFoundError, match="s3://bkt/lists/none"):
        list_channel(request, "File", bucket_with(tmp_path, "data/a.csv"))


def test_a_few_objects_of_a_huge_folder_are_not_found_by_listing_all_of_it(tmp_path: Path) -> None:
    keys = [f"data/{number:04d}" for number in range(1500)]
    bucket_with(tmp_path, *keys)
    storage = Counting(tmp_path / "s3")
    request = manifest(storage, [{"prefix": "s3://bkt/data/"}, "0000", "1499"])
    objects = list_channel(request, "File", storage).objects
    assert [placed.source.key for placed in objects] == ["data/0000", "data/1499"]
    assert storage.listed < 1100


@pytest.mark.parametrize("entry", ["../secret", "a/../../x", "a//b", "/etc/passwd", "a\0b", "."])
def test_a_manifest_cannot_lead_out_of_the_channels_folder(tmp_path: Path, entry: str) -> None:
    storage = bucket_with(tmp_path, "data/a.csv")
    with pytest.raises(UnsafeError, match="could leave the folder"):
        list_channel(manifest(storage, [{"prefix": "s3://bkt/data/"}, entry]), "File", storage)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"{}", "has to be a list"),
        (b"[]", "has to be a list"),
        (b'["a.csv"]', "its first entry"),
        (b'[{"prefix": 1}, "a.csv"]', "its first entry"),
        (b'[{"prefix": "s3://bkt"}, "/a.csv"]', "its first entry"),
        (b'[{"prefix": "s3://B!/"}, "a.csv"]', "illegal bucket name"),
        (b'[{"prefix": "s3://bkt/"}]', "names no objects"),
        (b'[{"prefix": "s3://bkt/"}, 1]', "has to be a text"),
        (b'[{"prefix": "s3://bkt/"}, "folder/"]', "'folder/' names no object"),
        (b'[{"prefix": "s3://bkt/"}, ""]', "'' names no object"),
        (b'[{"prefix": "s3://bkt/"}, "\\ud800"]', "is no text"),
    ],
)
def test_a_manifest_that_is_none_is_told_with_the_reason(tmp_path: Path, content: bytes, words: str) -> None:
    storage = bucket_with(tmp_path)
    storage.create(S3Uri("bkt", "m"), content)
    with pytest.raises(EnvironmentProblemError, match=f"the manifest s3://bkt/m is not one: .*{words}"):
        list_channel(channel("s3://bkt/m", kind="ManifestFile"), "File", storage)


def test_a_manifest_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    storage = bucket_with(tmp_path, "m")
    with (tmp_path / "s3/bkt/m").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(EnvironmentProblemError, match="larger than 64 MiB"):
        list_channel(channel("s3://bkt/m", kind="ManifestFile"), "File", storage)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.sampled_from(["a.csv", "x/b.csv", "", "../a", "\ud800", "x/"]) | st.text(max_size=12) | JSON
PREFIXES = st.sampled_from(["s3://bkt/data/", "s3://bkt/", "s3://other/", "s3:///", "data/"]) | JSON
MANIFESTS = JSON | st.builds(
    lambda prefix, entries: [{"prefix": prefix}, *entries], PREFIXES, st.lists(ENTRIES, max_size=4)
)


@settings(deadline=None, max_examples=300)
@given(document=MANIFESTS)
def test_any_manifest_gives_objects_or_an_error_in_words(
    tmp_path_factory: pytest.TempPathFactory, document: object
) -> None:
    storage = bucket_with(tmp_path_factory.mktemp("any"), "data/a.csv", "data/x/b.csv")
    try:
        objects = list_channel(manifest(storage, document), "File", storage).objects
    except LauncherError:
        return
    assert [placed.source for placed in objects] == list(manifest_uris(json.dumps(document).encode()))


def named(name: str, mode: str, *groups: str) -> ChannelContent:
    """A channel of which only the place matters."""
    return ChannelContent(
        name, mode, (), sharded=False, groups=groups, gzip=False, record_io=False, shuffle_seed=None
    )


@pytest.mark.parametrize("mode", ["File", "FastFile"])
@pytest.mark.parametrize("folder", ["training_0", "training_1", "training_12"])
def test_a_channel_whose_folder_has_the_name_of_anothers_pipe_is_refused(folder: str, mode: str) -> None:
    for contents in (
        (named("training", "Pipe"), named(folder, mode)),
        (named(folder, mode), named("training", "Pipe")),
    ):
        with pytest.raises(
            EnvironmentProblemError, match=f"channel 'training': .*pipe.*channel '{folder}'"
        ) as refused:
            refuse_shared_names(contents)
        assert refused.value.code == "not_rehearsable"
        assert "rename" in refused.value.hint


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("training", "Pipe"), ("training_0", "Pipe")),
        (("training", "File"), ("training_0", "File")),
        (("training", "Pipe"), ("training_00", "File")),
        (("training", "Pipe"), ("training_x", "File")),
        (("training", "Pipe"), ("training_0_x", "File")),
        (("training", "Pipe"), ("other_training_0", "File")),
        (("tr.ining", "Pipe"), ("training_0", "File")),
        (("training", "Pipe", "readers"), ("training_0", "File", "others")),
    ],
)
def test_channels_that_need_different_places_are_not_refused(
    first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    refuse_shared_names((named(*first), named(*second)))


@pytest.mark.parametrize("groups", [(), ("a",), ("b", "a")])
def test_one_host_that_gets_both_channels_is_enough(groups: tuple[str, ...]) -> None:
    with pytest.raises(EnvironmentProblemError, match="training_0"):
        refuse_shared_names((named("training", "Pipe", "a", "c"), named("training_0", "File", *groups)))
