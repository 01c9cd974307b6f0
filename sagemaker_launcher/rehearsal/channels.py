"""Input channels: which objects a channel has, and where each of them lies on the host's disk.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-access-training-data.html
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

from sagemaker_launcher.errors import EnvironmentProblemError, IntegrityError, NotFoundError, UnsafeError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.request import Request
from sagemaker_launcher.storage import Storage, StoredObject

# A record's length has 29 bits: https://mxnet.apache.org/versions/1.9.1/api/architecture/note_data_loading
RECORD_MAX_BYTES = 2**29 - 1
_MANIFEST_MAX_BYTES = 64 * 2**20
_CONCURRENT = 16
# Listing a folder is cheaper than asking for each object, unless most of the folder is not wanted.
_LISTED_PER_WANTED = 10
_LISTED_ALWAYS = 1000
_HOSTILE = {"", ".", ".."}
_REHEARSABLE = {
    ("S3Prefix", "File"),
    ("S3Prefix", "FastFile"),
    ("S3Prefix", "Pipe"),
    ("ManifestFile", "File"),
    ("ManifestFile", "Pipe"),
}


@frozen
class Placed:
    """An object of a channel and where the service puts it.

    Attributes:
        source: The object.
        size: In bytes.
        tag: Changes when the content does (S3: the ETag).
        relative: The path below the channel's folder.
    """

    source: S3Uri
    size: int
    tag: str
    relative: str


@frozen
class ChannelContent:
    """One channel with everything in it.

    Attributes:
        name: The channel's name.
        mode: `File`, `FastFile` or `Pipe`.
        objects: In the order of their keys, or of the manifest.
        sharded: Each host gets a part of the objects (ShardedByS3Key) instead of all of them.
        groups: The instance groups that get the channel; empty: all.
        gzip: Objects are decompressed on their way into a pipe.
        record_io: Each object becomes one RecordIO record in a pipe.
        shuffle_seed: Pipes have the objects in another order in each epoch; None: always in their own order.
    """

    name: str
    mode: str
    objects: tuple[Placed, ...]
    sharded: bool
    groups: tuple[str, ...]
    gzip: bool
    record_io: bool
    shuffle_seed: int | None

    def part(self, index: int, count: int) -> tuple[Placed, ...]:
        """What one host gets.

        The service does not say which object goes to which host (botocore model, S3DataDistributionType), only that
        each goes to exactly one, and that with fewer objects than hosts some hosts get nothing.

        Args:
            index: The host's place among those that get the channel, from 0.
            count: How many hosts get the channel.
        """
        return self.objects[index::count] if self.sharded else self.objects


def list_channel(channel: Request, default_mode: str, storage: Storage) -> ChannelContent:
    """Looks up what a channel has, before anything of the job is started.

    The objects of a ManifestFile keep their whole keys below the channel's folder. AWS does not document their
    places, and the one public report says so (https://github.com/aws/sagemaker-python-sdk/issues/723): programs should
    look for their files in all folders of such a channel.

    Args:
        channel: An entry of the request's InputDataConfig.
        default_mode: The request's TrainingInputMode.
        storage: Where the objects are.

    Raises:
        NotFoundError: No object has the prefix, or one of a manifest does not exist; the service refuses such a job.
        EnvironmentProblemError: The channel cannot be rehearsed, the service would refuse its mode, its manifest makes
            no sense, or two objects have the same place.
        UnsafeError: A key would leave the channel's folder.
    """
    name, mode = channel["ChannelName"], channel.get("InputMode", default_mode)
    source = channel["DataSource"].get("S3DataSource", {})
    kind = source.get("S3DataType", "file system")
    if (kind, mode) not in _REHEARSABLE:
        raise _not_rehearsable(
            f"channel {name!r}: {kind} data in {mode} mode cannot be rehearsed",
            f"rehearse it as plain files: --set CHANNELS.{name}.INPUT_MODE File, with an S3 prefix",
        )
    uri = S3Uri.parse(source["S3Uri"])
    objects = placed_objects(uri, storage) if kind == "S3Prefix" else _manifest_objects(name, uri, storage)
    if not objects:
        raise NotFoundError(
            f"channel {name!r}: no S3 objects found under {uri}",
            hint="check the URI; with --s3-root the objects have to be in that folder",
            code="no_input_data",
        )
    content = ChannelContent(
        name=name,
        mode=mode,
        objects=objects,
        sharded=source.get("S3DataDistributionType") == "ShardedByS3Key",
        groups=tuple(source.get("InstanceGroupNames", ())),
        gzip=channel.get("CompressionType") == "Gzip",
        record_io=channel.get("RecordWrapperType") == "RecordIO",
        shuffle_seed=channel.get("ShuffleConfig", {}).get("Seed"),
    )
    _check(content, uri)
    return content


def refuse_shared_names(contents: tuple[ChannelContent, ...]) -> None:
    """Refuses a channel whose folder would have the name of another one's pipe.

    Args:
        contents: All data channels of a job.

    Raises:
        EnvironmentProblemError: There is one; the message names both.
    """
    for piped in contents:
        for other in contents:
            if piped.mode == "Pipe" and _lies_on_a_pipe(other, piped) and _share_a_host(other, piped):
                raise _not_rehearsable(
                    f"channel {piped.name!r}: one of its pipes would have the name of the folder of the channel"
                    f" {other.name!r}",
                    "rename one of the two channels, or use another input mode for the first",
                )


def placed_objects(prefix: S3Uri, storage: Storage) -> tuple[Placed, ...]:
    """All objects under a prefix, without the markers of empty folders. Raises UnsafeError for a hostile key."""
    return tuple(
        _place(item, relative_path(item.uri.key, prefix.key))
        for item in storage.list(prefix)
        if not item.uri.key.endswith("/")
    )


def relative_path(key: str, prefix: str) -> str:
    """Where the service puts an object of a channel, below the channel's folder.

    A prefix that is a folder disappears; an object that is the prefix itself keeps its last part; a prefix that is the
    beginning of a name leaves that name whole.
    """
    for base in (prefix if prefix.endswith("/") else f"{prefix}/", f"{prefix.rpartition('/')[0]}/"):
        if key.startswith(base):
            return key.removeprefix(base)
    return key


def manifest_uris(content: bytes) -> tuple[S3Uri, ...]:
    """Reads a ManifestFile: `[{"prefix": "s3://bucket/base/"}, "relative/a.csv", ...]`.

    Returns:
        The prefix joined with each of the other entries, in their order and each once.

    Raises:
        ValueError: It is something else; the message says what (botocore model, S3DataSource.S3Uri).
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(document, list) or not document:
        raise ValueError('it has to be a list such as [{"prefix": "s3://bucket/folder/"}, "a.csv"]')
    head, *rest = document
    prefix = head.get("prefix") if isinstance(head, dict) else None
    if not isinstance(prefix, str) or not prefix.startswith("s3://") or "/" not in prefix[5:]:
        raise ValueError('its first entry has to be {"prefix": "s3://bucket/..."}')
    bucket, _, base = prefix.removeprefix("s3://").partition("/")
    S3Uri.parse(f"s3://{bucket}/")
    if not rest:
        raise ValueError("it names no objects")
    return tuple(dict.fromkeys(S3Uri(bucket, base + _entry(entry, base)) for entry in rest))


def _entry(entry: object, base: str) -> str:
    if not isinstance(entry, str):
        raise ValueError("every entry after the first has to be a text")  # noqa: TRY004 - a wrong document, no bug
    if not entry or entry.endswith("/"):
        raise ValueError(f"the entry {entry!r} names no object")
    try:
        (base + entry).encode()
    except UnicodeEncodeError:
        raise ValueError(f"the entry {entry!r} is no text") from None
    return entry


def _manifest_objects(channel: str, uri: S3Uri, storage: Storage) -> tuple[Placed, ...]:
    try:
        uris = manifest_uris(storage.read(uri, _MANIFEST_MAX_BYTES))
    except IntegrityError as error:
        raise EnvironmentProblemError(
            f"channel {channel!r}: the manifest {uri} is larger than 64 MiB",
            hint="divide it into several channels",
            code="manifest_invalid",
        ) from error
    except ValueError as error:
        raise EnvironmentProblemError(
            f"channel {channel!r}: the manifest {uri} is not one: {error}",
            hint="correct the file, or use the S3 prefix of the data itself",
            code="manifest_invalid",
        ) from error
    for wanted in uris:
        _refuse_hostile(wanted, wanted.key)
    items = _look_up(uris, storage)
    missing = [wanted for wanted in uris if wanted not in items]
    if missing:
        raise NotFoundError(
            f"channel {channel!r}: {len(missing)} of the {len(uris)} objects of {uri} do not exist, such as {missing[0]}",
            hint="correct the manifest, or upload them",
            code="no_input_data",
        )
    return tuple(_place(items[wanted], wanted.key) for wanted in uris)


def _look_up(uris: tuple[S3Uri, ...], storage: Storage) -> dict[S3Uri, StoredObject]:
    """Finds objects of one bucket: by one listing of what their keys begin with, and one by one where that is too long."""
    prefix = os.path.commonprefix([uri.key for uri in uris])  # noqa: RUF071 - S3 compares by characters, too
    limit = _LISTED_ALWAYS + _LISTED_PER_WANTED * len(uris)
    listed = list(storage.list(S3Uri(uris[0].bucket, prefix), limit))
    found = {item.uri: item for item in listed}
    if len(listed) == limit:
        from sagemaker_launcher.parallel import in_parallel  # noqa: PLC0415 - few manifests need it

        rest = [uri for uri in uris if uri not in found]
        for items in in_parallel(lambda uri: list(storage.list(uri, 1)), rest, _CONCURRENT):
            found.update((item.uri, item) for item in items)
    return found


def _check(content: ChannelContent, uri: S3Uri) -> None:
    if content.mode == "Pipe":
        _refuse_large_records(content)
        return
    if content.mode == "FastFile":
        _refuse_partial_names(content, uri)
    _refuse_same_place(content)


def _refuse_large_records(content: ChannelContent) -> None:
    largest = max(content.objects, key=lambda placed: placed.size)
    if content.record_io and largest.size > RECORD_MAX_BYTES:
        raise _not_rehearsable(
            f"channel {content.name!r}: {largest.source} has {largest.size:,} bytes, and a RecordIO record at most"
            f" {RECORD_MAX_BYTES:,}",
            "divide the object, or leave RecordWrapperType out",
        )


def _refuse_partial_names(content: ChannelContent, uri: S3Uri) -> None:
    """FastFile takes whole folders: https://docs.aws.amazon.com/sagemaker/latest/dg/model-access-training-data.html."""
    for placed in content.objects:
        if placed.source != uri and not placed.source.key.startswith(uri.folder.key):
            raise _not_rehearsable(
                f"channel {content.name!r}: {uri} is only the beginning of the name {placed.source}, which FastFile mode"
                " does not take",
                "end the channel's URI with a slash, or use File mode",
            )


def _refuse_same_place(content: ChannelContent) -> None:
    """Nothing says which of two objects the service would keep: `data/train` has `data/train/train2/x` and `data/train2/x`."""
    taken: dict[str, S3Uri] = {}
    folders: dict[str, S3Uri] = {}
    for placed in content.objects:
        other = taken.setdefault(placed.relative, placed.source)
        if other != placed.source:
            raise _same_place(content.name, other, placed)
        for folder in _folders(placed.relative):
            if folder in folders:
                break
            folders[folder] = placed.source
    for placed in content.objects:
        if placed.relative in folders:
            raise _same_place(content.name, folders[placed.relative], placed)


def _lies_on_a_pipe(other: ChannelContent, piped: ChannelContent) -> bool:
    """The pipe of each epoch is called `<channel>_<epoch>`, and a channel in Pipe mode has no folder."""
    pipes = rf"{re.escape(piped.name)}_(0|[1-9][0-9]*)"
    return other.mode != "Pipe" and re.fullmatch(pipes, other.name) is not None


def _share_a_host(one: ChannelContent, other: ChannelContent) -> bool:
    return not (one.groups and other.groups) or not set(one.groups).isdisjoint(other.groups)


def _folders(relative: str) -> Iterator[str]:
    """The folders above a path, the nearest first."""
    folder = relative.rpartition("/")[0]
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _same_place(channel: str, other: S3Uri, placed: Placed) -> EnvironmentProblemError:
    return _not_rehearsable(
        f"channel {channel!r}: {other} and {placed.source} have the same place, {placed.relative}",
        "end the channel's URI with a slash; no folder can have the name of a file beside it",
    )


def _not_rehearsable(message: str, hint: str) -> EnvironmentProblemError:
    return EnvironmentProblemError(message, hint=hint, code="not_rehearsable")


def _place(item: StoredObject, relative: str) -> Placed:
    _refuse_hostile(item.uri, relative)
    return Placed(item.uri, item.size, item.tag, relative)


def _refuse_hostile(uri: S3Uri, relative: str) -> None:
    # A backslash leads nowhere on the systems that this tool runs on, and a program's checkpoint may have one in its name.
    if not _HOSTILE.isdisjoint(relative.split("/")) or "\0" in relative:
        raise UnsafeError(
            f"{uri} has a key that could leave the folder it is copied to",
            hint="rename the object",
            code="traversal",
        )
