"""The data of the channels: there, not more than fits, and nothing that a prefix was not meant for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sagemaker_launcher.aws import answered, asked, aws_errors
from sagemaker_launcher.errors import ExitCode, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.job import Channel
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World
from sagemaker_launcher.rehearsal.channels import manifest_uris
from sagemaker_launcher.rules import has_local_disk

_PAGES = 3  # of 1,000 objects: what is counted of a channel
_MANIFEST_MAX = 64 * 2**20
_GIB = 2**30
_ALMOST = 0.9


@dataclass
class _Amount:
    """What has been counted of a channel; `more` says that this is not all."""

    count: int = 0
    size: int = 0
    more: bool = False

    def __str__(self) -> str:
        return f"{'at least ' if self.more else ''}{self.count:,} objects, {_size(self.size)}"


@dataclass
class DataCheck:
    """Looks at the channels.

    Args:
        subject: The job.
        world: Whom to ask.
    """

    subject: Subject
    world: World
    _amounts: dict[str, _Amount] = field(default_factory=dict)

    @property
    def check(self) -> Check:
        """The check."""
        questions = [partial(self._channel, channel) for channel in self.subject.channels]
        traps = [
            partial(self._trap, channel)
            for channel in self.subject.channels
            if channel.s3_data_type == "S3Prefix" and not channel.s3_uri.endswith("/")
        ]
        return Check("data", (*questions, *traps), self._volume)

    def _missing(self, channel: Channel, what: str) -> Finding:
        return failed(
            "data",
            f"channel {channel.name}: {what}",
            f"upload the data, or correct {self.subject.key_of(channel)}",
            ExitCode.NOT_FOUND,
            "no_input_data",
        )

    def _channel(self, channel: Channel) -> Iterator[Finding]:
        uri = S3Uri.parse(channel.s3_uri)
        try:
            if channel.s3_data_type == "S3Prefix":
                yield self._prefix(channel, uri)
            else:
                yield self._file(channel, uri)
        except NotFoundError as error:
            if error.code != "bucket_not_found":
                yield self._missing(channel, f"there is no object {uri}")
            # Of the bucket itself, the check of the buckets tells.

    def _prefix(self, channel: Channel, uri: S3Uri) -> Finding:
        amount = self._count(uri)
        if not amount.count:
            return self._missing(channel, f"no objects under {uri}")
        self._amounts[channel.name] = amount
        return Finding("data", "ok", f"channel {channel.name}: {amount} under {uri}")

    def _count(self, prefix: S3Uri) -> _Amount:
        """Markers of empty folders are no data."""
        amount, token = _Amount(), ""
        for _ in range(_PAGES):
            page = self._list(prefix, **({"ContinuationToken": token} if token else {}))
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    amount.count += 1
                    amount.size += item["Size"]
            token = page.get("NextContinuationToken", "")
            if not token:
                return amount
        amount.more = True
        return amount

    def _list(self, prefix: S3Uri, **options: str | int) -> dict[str, Any]:
        return asked(
            self.world.client("s3").list_objects_v2,
            "KeyCount",
            f"list {prefix}",
            Bucket=prefix.bucket,
            Prefix=prefix.key,
            **options,
        )

    def _file(self, channel: Channel, uri: S3Uri) -> Finding:
        """A ManifestFile, or an augmented one, whose lines only the program can judge."""
        action = f"read {uri}"
        with aws_errors(action):
            answer = self.world.client("s3").get_object(Bucket=uri.bucket, Key=uri.key)
            answered(answer, "ETag", action)
            if answer["ContentLength"] > _MANIFEST_MAX:
                return Finding(
                    "data", "unknown", f"channel {channel.name}: {uri} is too large to be looked at"
                )
            content = answer["Body"].read()
        if channel.s3_data_type != "ManifestFile":
            return Finding("data", "ok", f"channel {channel.name}: {uri} exists")
        try:
            uris = manifest_uris(content)
        except ValueError as error:
            return failed(
                "data",
                f"channel {channel.name}: {uri} is no manifest: {error}",
                f"correct the file, or use the prefix of the data itself: CHANNELS.{channel.name}.S3_DATA_TYPE: S3Prefix",
                ExitCode.CONFIG,
                "manifest_invalid",
            )
        if not self._list(uris[0], MaxKeys=1).get("Contents"):
            return self._missing(channel, f"{uri} names {uris[0]}, which does not exist")
        return Finding("data", "ok", f"channel {channel.name}: {uri} names {len(uris):,} objects")

    def _trap(self, channel: Channel) -> Iterator[Finding]:
        """S3 compares prefixes as texts: `data` is also the beginning of `data_old/`."""
        uri = S3Uri.parse(channel.s3_uri)
        try:
            page = self._list(uri, Delimiter="/")
        except LauncherError:
            return  # whoever counts the objects says so
        names = [item["Prefix"] for item in page.get("CommonPrefixes", ())]
        names += [item["Key"] for item in page.get("Contents", ())]
        meant = {uri.key, f"{uri.key}/"}
        others = [name for name in names if name not in meant]
        if others and meant & set(names):
            yield Finding(
                "data",
                "warning",
                f"channel {channel.name}: {uri} also matches {S3Uri(uri.bucket, others[0])}",
                f"end the prefix with a slash: {uri}/",
            )

    def _volume(self) -> Iterator[Finding]:
        """In File mode all of it is copied to the volume before the training starts."""
        job = self.subject.job
        machines = job.machines
        if any(map(has_local_disk, machines.instance_types)):
            return
        copied = [
            (channel, self._amounts[channel.name])
            for channel in self.subject.channels
            if channel.name in self._amounts and (channel.input_mode or job.input_mode) == "File"
        ]
        size = sum(
            amount.size // (machines.host_count if channel.distribution == "ShardedByS3Key" else 1)
            for channel, amount in copied
        )
        more = "at least " if any(amount.more for _, amount in copied) else ""
        message = f"{more}{_size(size)} of data, and VOLUME_SIZE is {machines.volume_gb} GiB"
        fix = "raise ESTIMATOR.VOLUME_SIZE, or read the data as it is needed: ESTIMATOR.INPUT_MODE: FastFile"
        if size > machines.volume_gb * _GIB:
            yield failed("data", message, fix, ExitCode.CONFIG, "volume_too_small")
        elif size > machines.volume_gb * _GIB * _ALMOST:
            yield Finding("data", "warning", f"{message}: little room for anything else", fix)


def _size(size: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
