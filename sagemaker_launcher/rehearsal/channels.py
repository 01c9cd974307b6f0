"""Input channels: which objects a channel has, and where each of them lies on the host's disk.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-access-training-data.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError, NotFoundError, UnsafeError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.request import Request
from sagemaker_launcher.storage import Storage, StoredObject

_CONCURRENT = 16
_MODES = ("File", "FastFile")


@dataclass(frozen=True)
class Placed:
    """An object of a channel and the path below the channel's folder where the service puts it."""

    source: S3Uri
    size: int
    relative: str


@dataclass(frozen=True)
class ChannelContent:
    """One channel with everything in it."""

    name: str
    read_only: bool
    objects: tuple[Placed, ...]


def list_channel(channel: Request, default_mode: str, storage: Storage) -> ChannelContent:
    """Looks up what a channel has, before anything of the job is started.

    Args:
        channel: An entry of the request's InputDataConfig.
        default_mode: The request's TrainingInputMode.
        storage: Where the objects are.

    Raises:
        NotFoundError: No object has the prefix; the service refuses such a job.
        EnvironmentProblemError: This target cannot reproduce the channel's kind, or two objects have the same place.
        UnsafeError: A key would leave the channel's folder.
    """
    name, mode = channel["ChannelName"], channel.get("InputMode", default_mode)
    source = channel["DataSource"].get("S3DataSource", {})
    kind = source.get("S3DataType", "file system")
    if mode not in _MODES or kind != "S3Prefix":
        raise EnvironmentProblemError(
            f"channel {name!r}: the process target cannot rehearse {kind} data in {mode} mode",
            hint=f"rehearse it as plain files: --set CHANNELS.{name}.INPUT_MODE File, with an S3 prefix",
            code="not_rehearsable",
        )
    prefix = S3Uri.parse(source["S3Uri"])
    objects = placed_objects(prefix, storage)
    if not objects:
        raise NotFoundError(
            f"channel {name!r}: no S3 objects found under {prefix}",
            hint="check the URI; with --s3-root the objects have to be in that folder",
            code="no_input_data",
        )
    _refuse_same_place(name, objects)
    return ChannelContent(name, mode == "FastFile", objects)


def placed_objects(prefix: S3Uri, storage: Storage) -> tuple[Placed, ...]:
    """All objects under a prefix, without the markers of empty folders. Raises UnsafeError for a hostile key."""
    return tuple(_place(item, prefix) for item in storage.list(prefix) if not item.uri.key.endswith("/"))


def relative_path(key: str, prefix: str) -> str:
    """Where the service puts an object of a channel, below the channel's folder.

    A prefix that is a folder disappears; an object that is the prefix itself keeps its last part; a prefix that is the
    beginning of a name leaves that name whole.
    """
    for base in (prefix if prefix.endswith("/") else f"{prefix}/", f"{prefix.rpartition('/')[0]}/"):
        if key.startswith(base):
            return key.removeprefix(base)
    return key


def materialise(
    content: ChannelContent, folder: Path, storage: Storage, advance: Callable[[int], None]
) -> None:
    """Copies a channel's objects into its folder.

    Args:
        content: What the channel has.
        folder: The channel's folder.
        storage: Where the objects are.
        advance: Called with the number of bytes after each object.
    """

    def fetch(placed: Placed) -> None:
        path = folder / placed.relative
        storage.download(placed.source, path)
        if content.read_only:
            path.chmod(0o444)
        advance(placed.size)

    with ThreadPoolExecutor(min(_CONCURRENT, len(content.objects))) as pool:
        list(pool.map(fetch, content.objects))


def _refuse_same_place(channel: str, objects: Iterable[Placed]) -> None:
    """Nothing says which of two objects the service would keep: `data/train` has `data/train/train2/x` and `data/train2/x`."""
    taken: dict[str, S3Uri] = {}
    for placed in objects:
        other = taken.setdefault(placed.relative, placed.source)
        if other != placed.source:
            raise EnvironmentProblemError(
                f"channel {channel!r}: {other} and {placed.source} have the same place, {placed.relative}",
                hint="end the channel's URI with a slash",
                code="not_rehearsable",
            )


def _place(item: StoredObject, prefix: S3Uri) -> Placed:
    relative = relative_path(item.uri.key, prefix.key)
    parts = relative.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\0" in relative or "\\" in relative:
        raise UnsafeError(
            f"{item.uri} has a key that could leave the folder it is copied to",
            hint="rename the object",
            code="traversal",
        )
    return Placed(item.uri, item.size, relative)
