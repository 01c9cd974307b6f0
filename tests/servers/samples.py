"""A training job request that the service would accept, for tests that need just any."""

from __future__ import annotations

from typing import Any


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
