"""What runs a rehearsal, as the options say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sagemaker_launcher.cli.rehearsal_options import (
    REHEARSAL_TARGETS,
    EndOptions,
    RehearsalOptions,
)
from sagemaker_launcher.config import Configs, Source
from sagemaker_launcher.errors import UsageError
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.storage import Storage

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


def _credentials(configs: Configs) -> Mapping[str, str]:
    from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant

    settings = configs.sagemaker["AWS"]
    return Aws(settings["REGION"], settings["PROFILE"]).credential_variables()
