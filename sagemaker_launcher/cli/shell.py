"""The command `shell`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sagemaker_launcher.cli.options import s3_root_option
from sagemaker_launcher.cli.overrides import override_options, overrides_of
from sagemaker_launcher.cli.rehearsal_options import REHEARSAL_TARGETS, RehearsalOptions, rehearsal_options
from sagemaker_launcher.cli.rehearsing import rehearsal_target
from sagemaker_launcher.config import Configs
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.storage import FolderStorage, Storage


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--on",
    "target",
    type=click.Choice(REHEARSAL_TARGETS),
    default="docker",
    show_default=True,
    help="In the container, or in the tree of a process.",
)
@override_options
@s3_root_option
@rehearsal_options
def shell(
    config: Path,
    target: str,
    settings: tuple[tuple[str, str], ...],
    train: tuple[tuple[str, str], ...],
    force_instance_type: bool,
    s3_root: Path | None,
    **options: Any,  # noqa: ANN401 - click's values, typed by RehearsalOptions
) -> int:
    """Open a shell where the job of a SageMaker CONFIG would run, with its data, files and variables.

    Archives nothing. The exit code is the shell's.
    """
    from sagemaker_launcher import launch as story  # noqa: PLC0415 - as the next one: not for the other commands' start
    from sagemaker_launcher import report  # noqa: PLC0415

    plan = story.plan(
        config,
        overrides_of(settings, train),
        target=target,
        command=(),
        allow_unknown_instance_type=force_instance_type,
    )
    events = report.ConsoleEvents()
    storage = _open_storage(plan.configs, s3_root)
    place = rehearsal_target(
        target, plan.configs, storage, RehearsalOptions(**options), Terms(), plan.job.image.uri
    )
    return place.shell(plan.job, plan.request, plan.configs.training_yaml, events)


def _open_storage(configs: Configs, s3_root: Path | None) -> Storage:
    """Where the data of a config is: in S3, or in the folder that stands in for it."""
    if s3_root is not None:
        return FolderStorage(s3_root)
    from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
    from sagemaker_launcher.s3_storage import S3Storage  # noqa: PLC0415

    settings = configs.sagemaker["AWS"]
    aws = Aws(settings["REGION"], settings["PROFILE"], settings["ACCOUNT"])
    return S3Storage(aws, configs.bucket_owners)


COMMANDS = {"shell": shell}
