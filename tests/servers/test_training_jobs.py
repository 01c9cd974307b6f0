"""Training jobs of the test server live as SageMaker's do, and are refused where SageMaker refuses."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from .aws import AwsServer
from .clients import Client
from .samples import refusal, training_request


def statuses(job: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


def wait_for(sagemaker: Client, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + 5
    job: dict[str, Any] = {}
    while job.get("TrainingJobStatus") != status:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
        job = sagemaker.describe_training_job(TrainingJobName="digits-1")
    return job


def test_a_new_job_is_in_progress_and_keeps_everything_that_was_asked(
    server: AwsServer, sagemaker: Client
) -> None:
    asked = training_request(
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


def test_a_name_can_be_used_once(server: AwsServer, sagemaker: Client) -> None:
    sagemaker.create_training_job(**training_request(HyperParameters={"lr": "0.1"}))
    server.finish("digits-1")

    code, status, _ = refusal(
        sagemaker.create_training_job, **training_request(HyperParameters={"lr": "0.2"})
    )

    assert (code, status) == ("ResourceInUse", 400)
    assert server.created("digits-1")["HyperParameters"] == {"lr": "0.1"}


@pytest.mark.parametrize(
    ("broken", "constraint"),
    [
        ({"TrainingJobName": "digits_1"}, "'trainingJobName' failed to satisfy constraint: .* pattern"),
        (
            {"HyperParameters": {str(n): "" for n in range(101)}},
            "'hyperParameters' .* length less than or equal to 100",
        ),
        (
            {"ResourceConfig": {"InstanceType": "ml.none", "InstanceCount": 1}},
            "'resourceConfig.instanceType' .* enum",
        ),
        (
            {"HyperParameters": {"key": "v" * 2501}},
            "'hyperParameters.key.member' .* length less than or equal to 2500",
        ),
        ({"Tags": [{"Key": "what?", "Value": "x"}]}, "'tags.1.member.key' .* pattern"),
        ({"StoppingCondition": None}, "StoppingCondition must not be null"),
    ],
)
def test_a_request_that_breaks_the_model_is_refused(
    server: AwsServer,
    sagemaker: Client,
    broken: dict[str, Any],
    constraint: str,
) -> None:
    asked = {member: value for member, value in training_request(**broken).items() if value is not None}

    code, status, message = refusal(sagemaker.create_training_job, **asked)

    assert (code, status) == ("ValidationException", 400)
    assert re.match(f"1 validation error detected: .*{constraint}", message)
    with pytest.raises(KeyError):
        server.created(str(asked["TrainingJobName"]))


def test_tags_with_letters_of_any_language_are_accepted(sagemaker: Client) -> None:
    tags = [{"Key": "équipe", "Value": "研究 / 2+2=4"}]
    arn = sagemaker.create_training_job(**training_request(Tags=tags))["TrainingJobArn"]

    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags


def test_a_tag_that_is_added_again_has_its_new_value(sagemaker: Client) -> None:
    tags = [{"Key": "owner", "Value": "a"}, {"Key": "goal", "Value": "b"}]
    arn = sagemaker.create_training_job(**training_request(Tags=tags))["TrainingJobArn"]

    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "goal", "Value": "c"}, {"Key": "new", "Value": "d"}])

    listed = [(tag["Key"], tag["Value"]) for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]]
    assert listed == [("owner", "a"), ("goal", "c"), ("new", "d")]
    nobody = arn.replace("digits-1", "nobody")
    assert refusal(sagemaker.add_tags, ResourceArn=nobody, Tags=tags)[0] == "ResourceNotFound"


def test_a_lax_server_takes_any_request_but_no_name_twice(server: AwsServer, sagemaker: Client) -> None:
    server.validate = False
    sagemaker.create_training_job(**training_request("digits_1"))

    assert refusal(sagemaker.create_training_job, **training_request("digits_1"))[0] == "ResourceInUse"


@pytest.mark.parametrize("operation", ["describe_training_job", "stop_training_job"])
def test_an_unknown_job_is_a_validation_error(sagemaker: Client, operation: str) -> None:
    code, status, message = refusal(getattr(sagemaker, operation), TrainingJobName="nobody")

    assert (code, status, message) == ("ValidationException", 400, "Requested resource not found.")


def test_a_stopped_job_is_stopping_first(server: AwsServer, sagemaker: Client) -> None:
    server.stopping_seconds = 0.3
    sagemaker.create_training_job(**training_request())
    server.advance("digits-1", "Training")

    sagemaker.stop_training_job(TrainingJobName="digits-1")

    assert sagemaker.describe_training_job(TrainingJobName="digits-1")["TrainingJobStatus"] == "Stopping"
    assert statuses(wait_for(sagemaker, "Stopped")) == ["Starting", "Training", "Stopping", "Stopped"]


def test_a_finished_job_cannot_be_stopped(server: AwsServer, sagemaker: Client) -> None:
    sagemaker.create_training_job(**training_request())
    server.finish("digits-1", "Stopped", secondary="MaxRuntimeExceeded")

    code, _, message = refusal(sagemaker.stop_training_job, TrainingJobName="digits-1")

    assert code == "ValidationException"
    assert message == "The request was rejected because the training job is in status Stopped."
    job = sagemaker.describe_training_job(TrainingJobName="digits-1")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_test_tells_the_whole_story_of_a_job(server: AwsServer, sagemaker: Client) -> None:
    sagemaker.create_training_job(**training_request())
    server.advance("digits-1", "Downloading", "3 files to go")
    server.advance("digits-1", "Training")
    server.finish(
        "digits-1",
        "Failed",
        failure_reason="AlgorithmError: , exit code: 1",
        metrics={"loss": 0.5},
        billable_seconds=7,
    )

    job = sagemaker.describe_training_job(TrainingJobName="digits-1")

    transitions = job["SecondaryStatusTransitions"]
    assert [(each["Status"], each["StatusMessage"]) for each in transitions] == [
        ("Starting", "Starting the training job"),
        ("Downloading", "3 files to go"),
        ("Training", "Training image download completed. Training in progress."),
        ("Failed", "Training job failed"),
    ]
    assert [each["EndTime"] for each in transitions[:3]] == [each["StartTime"] for each in transitions[1:]]
    assert job["FailureReason"] == "AlgorithmError: , exit code: 1"
    assert [(each["MetricName"], each["Value"]) for each in job["FinalMetricDataList"]] == [("loss", 0.5)]
    assert (job["TrainingTimeInSeconds"], job["BillableTimeInSeconds"]) == (0, 7)
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"]


def test_a_job_that_never_trained_has_no_billable_time(server: AwsServer, sagemaker: Client) -> None:
    sagemaker.create_training_job(**training_request())
    server.finish(
        "digits-1",
        "Failed",
        failure_reason="CapacityError: Unable to provision requested ML compute capacity.",
    )

    assert "BillableTimeInSeconds" not in sagemaker.describe_training_job(TrainingJobName="digits-1")


def test_jobs_complete_by_themselves_when_told_to(server: AwsServer, sagemaker: Client) -> None:
    server.auto_complete = 0.4
    sagemaker.create_training_job(**training_request())
    assert sagemaker.describe_training_job(TrainingJobName="digits-1")["TrainingJobStatus"] == "InProgress"

    job = wait_for(sagemaker, "Completed")

    assert statuses(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert job["TrainingEndTime"] > job["TrainingStartTime"]
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == "s3://team/out/digits-1/output/model.tar.gz"


def test_the_list_follows_the_jobs(server: AwsServer, sagemaker: Client) -> None:
    for name in ("digits-1", "digits-2"):
        sagemaker.create_training_job(**training_request(name))
    server.finish("digits-2")

    answer = sagemaker.list_training_jobs(StatusEquals="InProgress")

    assert [summary["TrainingJobName"] for summary in answer["TrainingJobSummaries"]] == ["digits-1"]


def test_log_lines_appear_in_cloudwatch_one_stream_per_host_and_attempt(
    server: AwsServer, sagemaker: Client
) -> None:
    sagemaker.create_training_job(**training_request())
    first = server.put_log("digits-1", "algo-1", ["epoch 1", "epoch 2"])
    server.put_log("digits-1", "algo-1", ["epoch 3"])
    second = server.put_log("digits-1", "algo-1", ["again"], attempt=2)
    logs = server.client("logs")

    def messages(stream: str) -> list[str]:
        answer = logs.get_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream, startFromHead=True
        )
        return [event["message"] for event in answer["events"]]

    created = sagemaker.describe_training_job(TrainingJobName="digits-1")["CreationTime"]
    assert first == f"digits-1/algo-1-{int(created.timestamp())}"
    assert messages(first) == ["epoch 1", "epoch 2", "epoch 3"]
    assert messages(second) == ["again"]
