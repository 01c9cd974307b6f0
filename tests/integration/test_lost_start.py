"""The answer to CreateTrainingJob is lost, and whoever looks for the job gets no answer either: never two jobs, never silence."""

from __future__ import annotations

import pytest

from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.proxy import RecordingProxy

THROTTLED = ("ThrottlingException", "Rate exceeded")
DENIED = ("AccessDeniedException", "User: x is not authorized to perform this")
ABSENT = ("ValidationException", "Requested resource not found.")
LOOKS = 5  # as many as there are attempts


def jobs_on(aws: AwsServer) -> list[str]:
    listed = aws.client("sagemaker", region="us-east-1").list_training_jobs()
    return [summary["TrainingJobName"] for summary in listed["TrainingJobSummaries"]]


@provokes(122)
@pytest.mark.parametrize(
    ("operation", "code", "message"),
    [
        pytest.param("DescribeTrainingJob", *THROTTLED, id="throttled"),
        pytest.param("ListTags", *DENIED, id="tags-denied"),
        pytest.param("DescribeTrainingJob", "", "", id="no-answer"),
    ],
)
def test_a_start_that_nobody_can_look_after_may_be_running_and_is_not_started_again(
    aws_cli: CommandLine, project: Project, aws: AwsServer, operation: str, code: str, message: str
) -> None:
    aws.auto_complete = None
    aws.drop_next("CreateTrainingJob", after=True)
    aws.fail_next(operation, code, message, times=LOOKS)
    done = aws_cli("launch", project.config)
    (name,) = jobs_on(aws)
    assert done.code == 12, done.err
    assert f"{name} may be running, and be billed" in done.err
    assert message in done.err
    assert "another launch" in done.err
    reference = f"s3://team/experiments/team/tiny/{name}/"
    for verb in ("status", "stop"):
        assert f" {verb} {reference}\n" in done.err
    for wrong in ("run the same again", "administrator", "Traceback"):
        assert wrong not in done.err
    assert "InProgress" in aws_cli("status", reference).out


def test_a_taken_name_that_nobody_sees_is_most_likely_our_own_job(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.drop_next("CreateTrainingJob", after=True)
    aws.fail_next("DescribeTrainingJob", *ABSENT, times=LOOKS)
    done = aws_cli("launch", project.config, "--json")
    assert done.code == 12, done.err
    assert done.json["error"]["code"] == "start_unknown"
    assert "its name is taken" in done.json["error"]["message"]
    assert len(aws.calls("CreateTrainingJob")) == 2
    assert len(jobs_on(aws)) == 1


@provokes(68)
@pytest.mark.parametrize("answer", [DENIED])
def test_a_look_is_repeated_until_it_tells_whose_the_job_is(
    aws_cli: CommandLine, project: Project, aws: AwsServer, answer: tuple[str, str]
) -> None:
    aws.drop_next("CreateTrainingJob", after=True)
    aws.fail_next("DescribeTrainingJob", *answer, times=LOOKS - 1)
    done = aws_cli("launch", project.config, "--detach", "--json")
    assert done.code == 0, done.err
    assert jobs_on(aws) == [done.json["job_name"]]
    assert len(aws.calls("CreateTrainingJob")) == 1


def test_a_job_that_a_later_look_does_not_find_is_started_after_all(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.drop_next("CreateTrainingJob", after=False)
    aws.fail_next("DescribeTrainingJob", *THROTTLED, times=2)
    done = aws_cli("launch", project.config, "--detach", "--json")
    assert done.code == 0, done.err
    assert jobs_on(aws) == [done.json["job_name"]]


@provokes(68)
@pytest.mark.parametrize(
    "refusal",
    [
        ("ResourceInUse", "Training job names must be unique"),
        ("ResourceLimitExceeded", "The account-level service limit is 1 Instances"),
    ],
)
def test_a_job_that_shows_up_late_is_ours_whatever_the_second_start_is_told(
    aws_cli: CommandLine, project: Project, aws: AwsServer, refusal: tuple[str, str]
) -> None:
    aws.drop_next("CreateTrainingJob", after=True)
    aws.fail_next("CreateTrainingJob", *refusal)
    aws.fail_next("DescribeTrainingJob", *ABSENT)
    done = aws_cli("launch", project.config, "--detach", "--json")
    assert done.code == 0, done.err
    assert jobs_on(aws) == [done.json["job_name"]]


def test_a_refused_second_start_of_a_job_that_is_not_there_is_told(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.drop_next("CreateTrainingJob", after=False)
    aws.fail_next("CreateTrainingJob", "ResourceLimitExceeded", "The account-level service limit is 0")
    done = aws_cli("launch", project.config, "--json")
    assert done.code == 8
    assert not jobs_on(aws)


@provokes(69)
@pytest.mark.parametrize("answer", [ABSENT, DENIED])
def test_a_name_that_was_taken_from_the_beginning_is_a_conflict_whatever_a_look_says(
    aws_cli: CommandLine, project: Project, aws: AwsServer, answer: tuple[str, str]
) -> None:
    aws.fail_next("CreateTrainingJob", "ResourceInUse", "Training job names must be unique")
    aws.fail_next("DescribeTrainingJob", *answer, times=LOOKS)
    done = aws_cli("launch", project.config, "--json")
    assert done.code == 7
    assert done.json["error"]["code"] == "name_taken"
    assert "launch again" in done.json["error"]["hint"]
    assert len(aws.calls("CreateTrainingJob")) == 1


def test_a_throttled_start_has_lost_nothing_and_needs_no_look(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.fail_next("CreateTrainingJob", *THROTTLED, times=2)
    done = aws_cli("launch", project.config, "--detach")
    assert done.code == 0, done.err
    assert not aws.calls("DescribeTrainingJob")


@provokes(50)
def test_a_start_that_never_left_this_machine_may_be_repeated(aws_cli: CommandLine, project: Project) -> None:
    nobody = {"AWS_ENDPOINT_URL_SAGEMAKER": "http://127.0.0.1:9"}
    done = aws_cli("launch", project.config, env=nobody)
    assert done.code == 9, done.err
    assert "run the same again" in done.err
    assert "may be running" not in done.err


def test_the_page_of_a_network_that_wants_a_login_is_no_answer(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        proxy.fail(lambda request: request.operation == "CreateTrainingJob", "html", times=1)
        done = aws_cli("launch", project.config, "--detach", env={"AWS_ENDPOINT_URL_SAGEMAKER": proxy.url})
    assert done.code == 0, done.err
    assert len(jobs_on(aws)) == 1
