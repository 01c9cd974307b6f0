"""What runs a rehearsal, and the command `shell`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sagemaker_launcher.cli.options import s3_root_option
from sagemaker_launcher.cli.overrides import override_options, overrides_of
from sagemaker_launcher.cli.rehearsal_options import (
    REHEARSAL_TARGETS,
    EndOptions,
    RehearsalOptions,
    rehearsal_options,
)
from sagemaker_launcher.config import Configs, Source
from sagemaker_launcher.errors import UsageError
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.storage import FolderStorage, Storage

if TYPE_CHECKING:
    from sagemaker_launcher.targets.docker import DockerTarget
    from sagemaker_launcher.targets.process import ProcessTarget


def rehearsal_target(
    name: str,
    configs: Configs,
    storage: Storage,
    options: RehearsalOptions,
    terms: Terms,
    image: str,
) -> ProcessTarget | DockerTarget:
    """What runs a request on this machine.

    Args:
        name: `docker` or `process`.
        configs: Both configs.
        storage: Where data comes from and goes to.
        options: How programs run.
        terms: When and how they are stopped.
        image: The request's image.
    """
    credentials = _credentials(configs) if options.with_credentials else {}
    source: Source = configs.source
    if name == "docker":
        options.engine.begin_image(options.image or image)  # while the rest is imported, which takes as long
        from sagemaker_launcher.rehearsal.rehearsal import Rehearsal  # noqa: PLC0415
        from sagemaker_launcher.targets.docker import DockerOptions, DockerTarget  # noqa: PLC0415

        how = DockerOptions(options.image, options.image_code, credentials)
        return DockerTarget(source, Rehearsal(storage, terms), how, options.engine)
    from sagemaker_launcher.rehearsal.rehearsal import Rehearsal  # noqa: PLC0415
    from sagemaker_launcher.targets.process import ProcessOptions, ProcessTarget  # noqa: PLC0415

    return ProcessTarget(source, Rehearsal(storage, terms), ProcessOptions(options.python, credentials))


def terms_of(options: EndOptions, target: str, *, spot: bool) -> Terms:
    """When and how programs are stopped. Raises UsageError for an interruption that no service would make."""
    if options.interrupt_after and target not in REHEARSAL_TARGETS:
        raise UsageError(
            "--interrupt-after: a job on AWS is interrupted by AWS", hint="add --on docker or --on process"
        )
    if options.interrupt_after and not spot:
        raise UsageError(
            "--interrupt-after: only spot jobs are interrupted",
            hint="make it one: --set ESTIMATOR.USE_SPOT_INSTANCES True --set S3.CHECKPOINTS s3://...",
        )
    return Terms(options.stop_grace, options.interrupt_after)


def open_storage(configs: Configs, s3_root: Path | None) -> Storage:
    """Where the data of a config is: in S3, or in the folder that stands in for it."""
    if s3_root is not None:
        return FolderStorage(s3_root)
    from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
    from sagemaker_launcher.s3_storage import S3Storage  # noqa: PLC0415

    settings = configs.sagemaker["AWS"]
    aws = Aws(settings["REGION"], settings["PROFILE"], settings["ACCOUNT"])
    return S3Storage(aws, configs.bucket_owners)


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
    storage = open_storage(plan.configs, s3_root)
    place = rehearsal_target(
        target, plan.configs, storage, RehearsalOptions(**options), Terms(), plan.job.image.uri
    )
    place.prepare(plan.job, plan.request, events)
    return place.shell(plan.request, plan.configs.training_yaml, events)


def _credentials(configs: Configs) -> Mapping[str, str]:
    from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant

    settings = configs.sagemaker["AWS"]
    return Aws(settings["REGION"], settings["PROFILE"]).credential_variables()


COMMANDS = {"shell": shell}
