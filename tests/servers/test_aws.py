"""The AWS of the tests remembers what it was asked, and fails when a test tells it to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from botocore.exceptions import ConnectionClosedError
from moto.sagemaker import urls
from moto.sagemaker.responses import SageMakerResponse

from .aws import AwsServer
from .clients import Client
from .samples import refusal, training_request


def test_every_request_is_remembered(server: AwsServer, sagemaker: Client) -> None:
    server.client("sts").get_caller_identity()
    sagemaker.create_training_job(**training_request())
    server.client("s3", region="us-east-1").create_bucket(Bucket="team")

    seen = [(each.service, each.region, each.operation) for each in server.requests]

    assert seen == [
        ("sts", "eu-west-1", "GetCallerIdentity"),
        ("sagemaker", "eu-west-1", "CreateTrainingJob"),
        ("s3", "us-east-1", "PUT /team"),
    ]
    assert server.calls("CreateTrainingJob")[0].params == training_request()
    assert "Boto3" in server.requests[0].headers["user-agent"]


@pytest.mark.parametrize(
    ("service", "call"), [("sagemaker", "list_training_jobs"), ("sts", "get_caller_identity")]
)
def test_a_canned_error_comes_as_often_as_ordered(server: AwsServer, service: str, call: str) -> None:
    client = server.client(service)
    operation = client.meta.method_to_api_mapping[call]
    server.fail_next(operation, "ThrottlingException", "Rate exceeded <slowly>", status=429, times=2)

    for _ in range(2):
        assert refusal(getattr(client, call)) == ("ThrottlingException", 429, "Rate exceeded <slowly>")
    getattr(client, call)()


def test_a_canned_error_can_hide_that_the_call_was_executed(server: AwsServer, sagemaker: Client) -> None:
    server.fail_next("CreateTrainingJob", "InternalFailure", status=500, after=True)

    assert refusal(sagemaker.create_training_job, **training_request())[:2] == ("InternalFailure", 500)
    assert sagemaker.describe_training_job(TrainingJobName="digits-1")["TrainingJobStatus"] == "InProgress"


@pytest.mark.parametrize(("after", "jobs"), [(True, 1), (False, 0)])
def test_a_lost_response_is_a_closed_connection(
    server: AwsServer, sagemaker: Client, after: bool, jobs: int
) -> None:
    server.drop_next("CreateTrainingJob", after=after)

    with pytest.raises(ConnectionClosedError):
        sagemaker.create_training_job(**training_request())

    assert len(sagemaker.list_training_jobs()["TrainingJobSummaries"]) == jobs


def test_a_reset_server_has_forgotten_everything(server: AwsServer, sagemaker: Client) -> None:
    server.auto_complete = 0.01
    sagemaker.create_training_job(**training_request())
    server.fail_next("DescribeTrainingJob", "InternalFailure", status=500)

    server.reset()

    assert server.requests == []
    assert server.auto_complete is None
    assert refusal(sagemaker.describe_training_job, TrainingJobName="digits-1")[0] == "ValidationException"
    sagemaker.create_training_job(**training_request())


def test_another_process_can_use_the_server(server: AwsServer) -> None:
    script = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": server.credentials[0],
        "AWS_SECRET_ACCESS_KEY": server.credentials[1],
        "AWS_DEFAULT_REGION": "eu-west-1",
    }

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == server.account
    assert len(server.calls("GetCallerIdentity")) == 1


def test_moto_itself_is_left_as_it_was() -> None:
    with AwsServer():
        assert urls.url_paths["{0}/$"] == SageMakerResponse.dispatch


def test_a_server_is_not_disturbed_by_another_that_comes_and_goes(server: AwsServer) -> None:
    with AwsServer() as other:
        other.validate = False
        other.client("sagemaker").create_training_job(**training_request("not_a_valid_name"))
        assert other.created("not_a_valid_name")

    sagemaker = server.client("sagemaker")
    assert (
        refusal(sagemaker.create_training_job, **training_request("not_a_valid_name"))[0]
        == "ValidationException"
    )
    sagemaker.create_training_job(**training_request())
    server.advance("digits-1", "Training")
    assert len(server.requests) == 2
