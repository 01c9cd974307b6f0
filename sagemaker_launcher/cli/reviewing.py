"""Who is asked about a plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sagemaker_launcher import credentials
from sagemaker_launcher import launch as story
from sagemaker_launcher.errors import CredentialsError, NotFoundError
from sagemaker_launcher.planning.inquiry import Sources
from sagemaker_launcher.storage import FolderStorage, Storage

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Aws

_NO_CREDENTIALS = "there are no AWS credentials on this machine"


def sources_of_dry_run(plan: story.Plan, s3_root: Path | None, *, offline: bool) -> Sources:
    """Whom a dry run asks: AWS only about a job on AWS, and only where there are credentials.

    Args:
        plan: The launch.
        s3_root: The folder that stands in for S3, or None.
        offline: Ask AWS nothing.
    """
    stand_in = FolderStorage(s3_root) if s3_root and os.path.isdir(s3_root) else None  # noqa: PTH112 - Path's raises where one may not look
    if plan.target != "aws":
        return Sources(storage=stand_in)
    if offline:
        return Sources(storage=stand_in, offline="--offline")
    if not credentials.may_exist():
        return Sources(storage=stand_in, offline=_NO_CREDENTIALS)
    aws = aws_of(plan)
    try:
        if not aws.has_credentials():
            return Sources(storage=stand_in, offline=_NO_CREDENTIALS)
    except CredentialsError as error:
        return Sources(storage=stand_in, offline=error.message)
    return Sources(aws, stand_in or storage_of(plan, aws), lambda: _image_digest(plan, aws))


def aws_of(plan: story.Plan) -> Aws:
    """AWS, as a plan's config says."""
    from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant

    settings = plan.configs.sagemaker["AWS"]
    return Aws(settings["REGION"], settings["PROFILE"], settings["ACCOUNT"])


def storage_of(plan: story.Plan, aws: Aws) -> Storage:
    """Where the archive and the data are."""
    from sagemaker_launcher.s3_storage import S3Storage  # noqa: PLC0415 - boto3 only where AWS is meant

    return S3Storage(aws, plan.configs.bucket_owners)


def _image_digest(plan: story.Plan, aws: Aws) -> str:
    """What the image's tag means now. Raises NotFoundError when ECR does not say, and the errors of `aws.aws_errors`."""
    from sagemaker_launcher.preflight.image import ImageCheck  # noqa: PLC0415 - boto3 only where AWS is meant
    from sagemaker_launcher.preflight.world import World  # noqa: PLC0415

    image = ImageCheck(plan.subject, World(aws, plan.configs.bucket_owners))
    findings = [finding for ask in image.check.questions for finding in ask()]
    if not image.digest:
        raise NotFoundError("; ".join(finding.message for finding in findings))
    return image.digest
