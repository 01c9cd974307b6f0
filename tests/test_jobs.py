"""What is said of jobs: results of descriptions, ways back, advice, times."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.clock import Stopwatch
from sagemaker_launcher.comeback import coming_back, console_links
from sagemaker_launcher.jobs import jobs
from sagemaker_launcher.jobs.advice import advice
from sagemaker_launcher.jobs.watching import Phases, Sight
from sagemaker_launcher.result import FAILED, JobResult
from tests.events_heard import Heard


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_stopwatch_runs_while_the_machine_sleeps_and_no_set_clock_turns_it_back() -> None:
    monotonic, wall = Clock(), Clock()
    watch = Stopwatch(monotonic, wall)
    monotonic.now += 5
    wall.now += 5
    assert watch.seconds == 5
    wall.now += 3 * 3600  # asleep: only the wall clock goes on
    assert watch.seconds == 5 + 3 * 3600
    wall.now = 0  # somebody set it
    assert watch.seconds == 5


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("AlgorithmError: , exit code: 137", 137),
        ("AlgorithmError: Exit Code: 139", 139),
        ("AlgorithmError: ValueError: x, exit code: 1", 1),
        ("ClientError: Data download failed", None),
        ("", None),
    ],
)
def test_the_exit_code_is_read_from_the_failure_reason(reason: str, code: int | None) -> None:
    description = {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}
    assert jobs.result_of(description).exit_code == code


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (JobResult(FAILED, failure_reason="AlgorithmError: , exit code: 137", exit_code=137), "more memory"),
        (JobResult(FAILED, failure_reason="CapacityError: Unable to provision"), "another instance type"),
        (
            JobResult(FAILED, failure_reason="ClientError: Cannot pull algorithm container."),
            "ESTIMATOR.IMAGE_URI",
        ),
        (JobResult(FAILED, failure_reason="ClientError: Data download failed:x"), "CHANNELS"),
        (JobResult(FAILED, failure_reason="InternalServerError: We encountered"), "run it again"),
        (JobResult("Stopped", "MaxRuntimeExceeded"), "ESTIMATOR.MAX_RUN"),
        (JobResult("Stopped", "MaxWaitTimeExceeded"), "ESTIMATOR.MAX_WAIT"),
    ],
)
def test_what_to_try_names_what_to_change(result: JobResult, words: str) -> None:
    assert words in advice(result)[0]


@pytest.mark.parametrize(
    "result", [JobResult("Completed"), JobResult("Stopped", "Stopped"), JobResult("InProgress")]
)
def test_there_is_nothing_to_try_where_nothing_went_wrong(result: JobResult) -> None:
    assert advice(result) == ()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\x00"), min_size=1), min_size=1, max_size=4
    )
)
def test_the_ways_back_can_be_pasted_whatever_the_reference_is(references: list[str]) -> None:
    lines = coming_back("python run.py", references).split("\n")
    assert len(lines) == (4 if len(references) == 1 else 3)
    for line in lines:
        words = shlex.split(line.partition(": ")[2])
        assert words[:2] == ["python", "run.py"]
        assert words[-len(references) :] == references


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_the_pages_of_the_console(region: str, host: str) -> None:
    links = console_links("digits-1", region)
    assert links["job"] == f"https://{host}/sagemaker/home?region={region}#/jobs/digits-1"
    decoded = unquote(unquote(links["log"].replace("$", "%")))
    assert decoded.endswith("log-groups/log-group//aws/sagemaker/TrainingJobs?logStreamNameFilter=digits-1/")


def test_what_a_job_runs_on() -> None:
    one = {
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
        "EnableManagedSpotTraining": True,
    }
    assert jobs.instances(one) == "2 x ml.m5.large, spot"
    groups = [{"InstanceType": "ml.a", "InstanceCount": 1}, {"InstanceType": "ml.b", "InstanceCount": 3}]
    assert jobs.instances({"ResourceConfig": {"InstanceGroups": groups}}) == "1 x ml.a, 3 x ml.b"
    assert jobs.instances({}) == ""


@pytest.mark.parametrize(
    ("compression", "model"),
    [
        ({}, "model.tar.gz"),
        ({"CompressionType": "GZIP"}, "model.tar.gz"),
        ({"CompressionType": "NONE"}, "model/"),
    ],
)
def test_a_stop_names_the_model_that_there_is_going_to_be(compression: dict[str, str], model: str) -> None:
    output = {"S3OutputPath": "s3://team/outputs/", **compression}
    kept = jobs.kept_after_stop({"TrainingJobName": "digits-1", "OutputDataConfig": output})
    assert kept["model, as far as it is"] == f"s3://team/outputs/digits-1/output/{model}"


def test_each_phase_is_told_once_also_those_that_nobody_saw() -> None:
    heard = Heard()
    phases = Phases(heard)
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def sight(*steps: tuple[str, str]) -> Sight:
        transitions = [{"Status": name, "StatusMessage": text, "StartTime": at} for name, text in steps]
        description = {"TrainingJobStatus": "InProgress", "SecondaryStatus": steps[-1][0]}
        return Sight("x", jobs.result_of({**description, "SecondaryStatusTransitions": transitions}))

    phases.tell(sight(("Starting", "a")))
    phases.tell(sight(("Starting", "a")))
    phases.tell(sight(("Starting", "b")))
    phases.tell(sight(("Starting", "b"), ("Downloading", ""), ("Training", "c")))
    assert heard.phases == [("Starting", "a"), ("Starting", "b"), ("Downloading", ""), ("Training", "c")]
