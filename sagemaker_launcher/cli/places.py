"""How an experiment that a user names is found."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sagemaker_launcher.archive.experiments import Archive
from sagemaker_launcher.archive.references import locate
from sagemaker_launcher.cli.options import default_config
from sagemaker_launcher.errors import ConfigError, UsageError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import FolderStorage, Storage

if TYPE_CHECKING:
    from sagemaker_launcher.archive.experiments import Experiment
    from sagemaker_launcher.archive.recalled import Recall


class ArchivePlace:
    """The archive that the options name.

    Args:
        s3_root: The folder that stands in for S3, or None.
        archive: The archive's URI, or None.
        config_path: A SageMaker config, or None.
    """

    def __init__(self, s3_root: Path | None, archive: str | None, config_path: Path | None) -> None:
        self.uri = archive or ""
        self.region = self.profile = self.account = ""
        self.bucket_owners: Mapping[str, str] = {}
        path = config_path or default_config()
        if path:
            from sagemaker_launcher import config  # noqa: PLC0415 - many commands need no config

            place = config.read_place(path)
            self.uri = self.uri or place.archive
            self.region, self.profile, self.account = place.region, place.profile, place.account
            self.bucket_owners = place.bucket_owners
        self.s3_root = s3_root
        self.storage: Storage = self._open()

    @property
    def user(self) -> str:
        """The user's name on this machine."""
        from sagemaker_launcher.provenance import author  # noqa: PLC0415 - only for references to one's own

        return author().user

    @property
    def recall(self) -> Recall | None:
        """Asks AWS what it remembers of a job; None where a folder stands in for S3."""
        if self.s3_root is not None:
            return None
        from sagemaker_launcher.archive.recall import AwsRecall  # noqa: PLC0415 - boto3 only where AWS is meant

        return AwsRecall(self.region, self.profile)

    def has_cloud_log(self, experiment: Experiment) -> bool:
        """Whether CloudWatch, and not the archive, has the log."""
        return experiment.manifest.target == "aws" and self.s3_root is None

    def cloud_log(self, experiment: Experiment, tail: int | None = None) -> Iterator[tuple[str, str]]:
        """The host and the text of each line that CloudWatch has; of the last ones, if there is a tail."""
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
        from sagemaker_launcher.jobs.job_log import JobLog  # noqa: PLC0415

        aws = Aws(experiment.manifest.region, self.profile, self.account)
        client = aws.client("logs") if tail is None else aws.check_client("logs")
        log = JobLog(lambda: client, experiment.manifest.job_name)
        if tail is not None:
            log.start_at_tail(tail)
        return ((line.host, line.text) for line in log.look(last=True))

    @property
    def cache_key(self) -> str:
        """The archive and where it is reached, so that what is kept of one is never taken for another."""
        where = self.s3_root.resolve() if self.s3_root else os.environ.get("AWS_ENDPOINT_URL_S3", "")
        return f"{self.uri} {where or os.environ.get('AWS_ENDPOINT_URL', '')}"

    def _open(self) -> Storage:
        if self.s3_root is not None:
            return FolderStorage(self.s3_root)
        from sagemaker_launcher.quick_s3.access import plain_access  # noqa: PLC0415 - only where S3 is meant
        from sagemaker_launcher.quick_s3.storage import QuickStorage  # noqa: PLC0415

        access = plain_access(self.region, self.profile, self.account)
        if access is None:
            return self._open_with_boto3()
        return QuickStorage(access, self._open_with_boto3, self.bucket_owners)

    def _open_with_boto3(self) -> Storage:
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where it is needed
        from sagemaker_launcher.s3_storage import S3Storage  # noqa: PLC0415

        return S3Storage(Aws(self.region, self.profile, self.account), self.bucket_owners)

    @property
    def archive(self) -> Archive:
        """The archive. Raises UsageError when nothing names it."""
        if not self.uri:
            raise UsageError(
                "which archive?",
                hint="--archive s3://bucket/prefix, or SAGEMAKER_LAUNCHER_ARCHIVE, or --config FILE",
            )
        return Archive(self.storage, _parse(self.uri))

    def find(self, experiment: str) -> S3Uri:
        """The folder of the experiment that a reference means; see `references`."""
        return locate(experiment, self)


def reached_with(profile: str, config_path: Path | None) -> tuple[str, tuple[str, ...]]:
    """What other commands have to be told to use a profile: what stands before the program, and options; no more than is needed.

    Args:
        profile: The profile that was used; empty: the usual credential chain.
        config_path: The config that it may be in, or None.
    """
    default = default_config()
    usual = _profile_in(default) if default else ""
    if usual == profile:
        return "", ()
    if config_path and _profile_in(config_path) == profile:
        return "", ("--config", str(config_path))
    # It came with --set. No option says it, and the variable counts where no config says another one.
    return (f"AWS_PROFILE={shlex.quote(profile)} " if profile else ""), ()


def _profile_in(path: Path) -> str | None:
    from sagemaker_launcher import config  # noqa: PLC0415 - as above

    try:
        return config.read_place(path).profile
    except ConfigError:
        return None  # whatever is wrong there, commands that read it end with it


def _parse(uri: str) -> S3Uri:
    try:
        return S3Uri.parse(uri)
    except ValueError as error:
        raise UsageError(f"{uri}: {error}") from error
