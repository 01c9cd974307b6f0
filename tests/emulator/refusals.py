"""What the service refuses although it fits the model: rules between fields, missing data, a quota.

Sources: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html with the pages that it
names, and the texts that people quote in public issues.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError
from moto.sagemaker.exceptions import SagemakerClientError, ValidationError

from tests.servers.clients import Client

from .running_jobs import RunningJobs, instances

_ECR = re.compile(r"\d{12}\.dkr\.ecr[.-][a-z0-9.-]+\.amazonaws\.com(\.cn)?/.+|.*/.*@sha256:.*")


class ResourceLimitExceeded(SagemakerClientError):  # noqa: N818 - the service's own word
    code = "ResourceLimitExceeded"


def refuse(request: dict[str, Any], region: str, jobs: RunningJobs, s3: Client) -> None:
    """Raises what the service answers to a request that it refuses."""
    try:
        fate = jobs.fate_of(request)
    except ValueError as error:
        raise ValidationError(message=str(error)) from error
    for problem in _broken_rules(request):
        raise ValidationError(message=problem)
    _refuse_missing_data(request, region, s3)
    _refuse_over_quota(request, jobs, always=fate.quota)


def _broken_rules(request: dict[str, Any]) -> Iterator[str]:
    """Rules between fields."""
    condition, resources = request["StoppingCondition"], request["ResourceConfig"]
    spot, max_wait = request.get("EnableManagedSpotTraining", False), condition.get("MaxWaitTimeInSeconds")
    if spot and max_wait is None:
        yield "MaxWaitTimeInSeconds is required when EnableManagedSpotTraining is set to true"
    if spot and max_wait is not None and max_wait < condition.get("MaxRuntimeInSeconds", 0):
        yield "Invalid MaxWaitTimeInSeconds. It must be equal to or greater than MaxRuntimeInSeconds"
    if max_wait is not None and not spot:
        yield (
            "Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set to true"
        )
    if spot and resources.get("KeepAlivePeriodInSeconds"):
        yield "KeepAlivePeriodInSeconds is not supported with EnableManagedSpotTraining"
    algorithm = request["AlgorithmSpecification"]
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        yield "You must specify either AlgorithmName or TrainingImage, and not both"
    private = "TrainingImageConfig" in algorithm
    if "TrainingImage" in algorithm and not private and not _ECR.fullmatch(algorithm["TrainingImage"]):
        yield (
            "Invalid training image. Please provide a valid Amazon Elastic Container Registry path of the "
            "Docker image to run."
        )


def _refuse_missing_data(request: dict[str, Any], region: str, s3: Client) -> None:
    for channel in request.get("InputDataConfig", ()):
        source = channel["DataSource"].get("S3DataSource")
        if source and not _has_objects(s3, source["S3Uri"]):
            raise ValidationError(
                message=f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. Please '
                f"ensure that the bucket exists in the selected region ({region}), that objects exist under that S3 "
                f'prefix, and that the role "{request["RoleArn"]}" has "s3:ListBucket" permissions on bucket '
                f'"{_place(source["S3Uri"])[0]}".'
            )


def _has_objects(s3: Client, uri: str) -> bool:
    bucket, prefix = _place(uri)
    try:
        return bool(s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)["KeyCount"])
    except ClientError:
        return False


def _place(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _refuse_over_quota(request: dict[str, Any], jobs: RunningJobs, *, always: bool) -> None:
    spot = "spot training job" if request.get("EnableManagedSpotTraining") else "training job"
    for kind, asked in instances(request).items():
        used = jobs.in_use(kind)
        limit = 0 if always else jobs.settings.quotas.get(kind)
        if limit is not None and used + asked > limit:
            raise ResourceLimitExceeded(
                f"The account-level service limit '{kind} for {spot} usage' is {limit} Instances, with current "
                f"utilization of {used} Instances and a request delta of {asked} Instances. Please use AWS Service "
                "Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS "
                "support to request an increase for this quota."
            )
