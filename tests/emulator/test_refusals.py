"""CreateTrainingJob is refused as the service refuses it, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers.clients import Client
from tests.servers.samples import refusal

from .requests import IMAGE, SPOT, channel, request

ONE_HOUR = {"MaxRuntimeInSeconds": 3600}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"TrainingJobName": "not_a_name"}, "Member must satisfy regular expression pattern"),
        ({"StoppingCondition": {**ONE_HOUR, "MaxWaitTimeInSeconds": 7200}}, "Invalid MaxWaitTimeInSeconds"),
        ({**SPOT, "StoppingCondition": ONE_HOUR}, "MaxWaitTimeInSeconds is required"),
        (
            {**SPOT, "StoppingCondition": {**ONE_HOUR, "MaxWaitTimeInSeconds": 60}},
            "equal to or greater than MaxRuntimeInSeconds",
        ),
        (
            {
                **SPOT,
                "ResourceConfig": {
                    "InstanceType": "ml.m5.large",
                    "InstanceCount": 1,
                    "VolumeSizeInGB": 30,
                    "KeepAlivePeriodInSeconds": 60,
                },
            },
            "KeepAlivePeriodInSeconds",
        ),
        (
            {"AlgorithmSpecification": {"TrainingImage": "ubuntu", "TrainingInputMode": "File"}},
            "Invalid training image.",
        ),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": IMAGE,
                    "AlgorithmName": "mine",
                    "TrainingInputMode": "File",
                }
            },
            "either AlgorithmName or TrainingImage",
        ),
        (
            {"InputDataConfig": [channel("training", "s3://team/nothing/is/here/")]},
            'No S3 objects found under S3 URL "s3://team/nothing/is/here/"',
        ),
        ({"InputDataConfig": [channel("training", "s3://no-such-bucket-here/x")]}, "No S3 objects found"),
    ],
)
def test_a_bad_request_is_refused(sagemaker: Client, changed: dict[str, Any], text: str) -> None:
    asked = {**request("bad"), **changed}

    code, status, message = refusal(sagemaker.create_training_job, **asked)

    assert (code, status) == ("ValidationException", 400)
    assert text in message
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
