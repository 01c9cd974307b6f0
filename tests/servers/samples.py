"""A training job request that the service would accept, and a look at how it refuses others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError


def training_request(name: str = "digits-1", **members: object) -> dict[str, Any]:
    """The parameters of CreateTrainingJob, with some members added or replaced."""
    return {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/trainer",
        "AlgorithmSpecification": {"TrainingImage": "image:1", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://team/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **members,
    }


def refusal(call: Callable[..., object], **arguments: object) -> tuple[str, int, str]:
    """The code, the HTTP status and the text with which AWS refuses a call. Raises AssertionError if it does not."""
    try:
        call(**arguments)
    except ClientError as error:
        details, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        return details["Code"], status, details["Message"]
    raise AssertionError("AWS did not refuse")
