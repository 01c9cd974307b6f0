"""Options that several commands have, and how an experiment that a user names is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sagemaker_launcher import config
from sagemaker_launcher.archive import Archive
from sagemaker_launcher.errors import UsageError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import FolderStorage, Storage

DEFAULT_CONFIG = Path("configs/sagemaker_config.yaml")
Command = Callable[..., Any]

json_option = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document on stdout.")
s3_root_option = click.option(
    "--s3-root",
    type=click.Path(path_type=Path),
    envvar="SAGEMAKER_LAUNCHER_S3_ROOT",
    metavar="DIR",
    help="A folder that stands in for S3: s3://team/x is DIR/team/x.",
)
docker_option = click.option(
    "--docker",
    envvar="SAGEMAKER_LAUNCHER_DOCKER",
    default="docker",
    show_default=True,
    metavar="PROGRAM",
    help="The container engine's program: docker, or one that works alike, such as podman or finch.",
)
_archive_option = click.option(
    "--archive",
    envvar="SAGEMAKER_LAUNCHER_ARCHIVE",
    metavar="S3_URI",
    help="The archive, S3.CONFIGS of the SageMaker config.",
)
_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"The SageMaker config that names the archive, region and profile.  [default: {DEFAULT_CONFIG}, if it exists]",
)


def archive_options(command: Command) -> Command:
    """Adds the options that say where the archive is."""
    return s3_root_option(_archive_option(_config_option(command)))


class ArchivePlace:
    """The archive that the options name.

    Args:
        s3_root: The folder that stands in for S3, or None.
        archive: The archive's URI, or None.
        config_path: A SageMaker config, or None.
    """

    def __init__(self, s3_root: Path | None, archive: str | None, config_path: Path | None) -> None:
        path = config_path or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
        place = config.read_place(path) if path else config.Place("", "", "")
        self._uri = archive or place.archive
        self.s3_root = s3_root
        self.storage: Storage = self._open(place)

    def _open(self, place: config.Place) -> Storage:
        if self.s3_root is not None:
            return FolderStorage(self.s3_root)
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where S3 is meant
        from sagemaker_launcher.s3_storage import S3Storage  # noqa: PLC0415

        return S3Storage(Aws(place.region, place.profile))

    @property
    def archive(self) -> Archive:
        """The archive. Raises UsageError when nothing names it."""
        if not self._uri:
            raise UsageError(
                "which archive?",
                hint="--archive s3://bucket/prefix, or SAGEMAKER_LAUNCHER_ARCHIVE, or --config FILE",
            )
        return Archive(self.storage, _parse(self._uri))

    def find(self, experiment: str) -> S3Uri:
        """The folder of an experiment that is named by its S3 URI or its job name."""
        if experiment.startswith("s3:"):
            return _parse(experiment).folder
        return self.archive.find(experiment)


def _parse(uri: str) -> S3Uri:
    try:
        return S3Uri.parse(uri)
    except ValueError as error:
        raise UsageError(f"{uri}: {error}") from error
