"""The AWS of the tests is as unforgiving as SageMaker, and does what a test tells it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from .aws import AwsServer


@pytest.fixture(scope="module")
def running_server() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


@pytest.fixture
def server(running_server: AwsServer) -> AwsServer:
    running_server.reset()
    return running_server


@pytest.fixture
def sagemaker(server: AwsServer) -> Any:  # noqa: ANN401 - boto3 is untyped
    return server.client("sagemaker")


def request(name: str = "digits-1", **members: object) -> dict[str, Any]:
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
    with pytest.raises(ClientError) as error:
        call(**arguments)
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def statuses(job: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


def wait_for(sagemaker: Any, status: str) -> dict[str, Any]:  # noqa: ANN401 - boto3 is untyped
    deadline = time.monotonic() + 5
    job: dict[str, Any] = {}
    while job.get("TrainingJobStatus") != status:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
        job = sagemaker.describe_training_job(TrainingJobName="digits-1")
    return job


def test_a_new_job_is_in_progress_and_keeps_everything_that_was_asked(server: AwsServer, sagemaker: Any) -> None:  # noqa: ANN401
    asked = request(
        Environment={"LEVEL": "debug"},
        RetryStrategy={"MaximumRetryAttempts": 2},
        HyperParameters={"lr": "0.1"},
        CheckpointConfig={"S3Uri": "s3://team/checkpoints"},
        RemoteDebugConfig={"EnableRemoteDebug": True},
    )

    arn = sagemaker.create_training_job(**asked)["TrainingJobArn"]

    assert arn == "arn:aws:sagemaker:eu-west-1:123456789012:training-job/digits-1"
    job = sagemaker.describe_training_job(TrainingJobName="digits-1")
    assert {member: job[member] for member in asked} == asked
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("InProgress", "Starting")
    assert not {"TrainingStartTime", "TrainingEndTime", "FinalMetricDataList", "FailureReason"} & job.keys()
    assert server.created("digits-1") == asked


def test_a_name_can_be_used_once(server: AwsServer, sagemaker: Any) -> None:  # noqa: ANN401
    sagemaker.create_training_job(**request(HyperParameters={"lr": "0.1"}))
    server.finish("digits-1")

    code, status, _ = refusal(sagemaker.create_training_job, **request(HyperParameters={"lr": "0.2"}))

    assert (code, status) == ("ResourceInUse", 400)
    assert server.created("digits-1")["HyperParameters"] == {"lr": "0.1"}


@pytest.mark.parametrize(
    ("broken", "constraint"),
    [
        ({"TrainingJobName": "digits_1"}, "'trainingJobName' failed to satisfy constraint: .* pattern"),
        ({"TrainingJobName": "d" * 64}, "'trainingJobName' .* length less than or equal to 63"),
        ({"ResourceConfig": {"InstanceType": "ml.none", "InstanceCount": 1}}, "'resourceConfig.instanceType' .* enum"),
        ({"HyperParameters": {"key": "v" * 2501}}, "'hyperParameters.key.member' .* length less than or equal to 2500"),
        ({"Tags": [{"Key": "what?", "Value": "x"}]}, "'tags.1.member.key' .* pattern"),
        ({"StoppingCondition": None}, "StoppingCondition must not be null"),
    ],
)
def test_a_request_that_breaks_the_model_is_refused(
    server: AwsServer,
    sagemaker: Any,  # noqa: ANN401
    broken: dict[str, object],
    constraint: str,
) -> None:
    asked = {member: value for member, value in request(**broken).items() if value is not None}

    code, status, message = refusal(sagemaker.create_training_job, **asked)

    assert (code, status) == ("ValidationException", 400)
    pytest.raises(AssertionError, match=constraint).__class__  # noqa: B018
    assert message.startswith("1 validation error detected: ") or "2 validation errors" in message
    with pytest.raises(KeyError):
        server.created(str(asked["TrainingJobName"]))


def test_tags_with_letters_of_any_language_are_accepted(sagemaker: Any) -> None:  # noqa: ANN401
    tags = [{"Key": "équipe", "Value": "研究 / 2+2=4"}]
    arn = sagemaker.create_training_job(**request(Tags=tags))["TrainingJobArn"]

    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
