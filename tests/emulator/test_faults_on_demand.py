"""What befalls few jobs on AWS befalls those that a test chooses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers.clients import Client
from tests.servers.samples import refusal

from .conftest import Trains
from .emulator import Emulator
from .fate import Fate, ordered
from .requests import SPOT, request

GREETING = "print('hello', flush=True)\n"
WAITING = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"
# Counts its own starts in a checkpoint.
COUNTER = """\
import os, pathlib, time
file = pathlib.Path("/".join([os.environ["SAGEMAKER_BASE_DIR"], "checkpoints", "starts"]))
starts = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(starts))
print("start", starts, flush=True)
if starts == 1:
    time.sleep(60)
"""


def described(sagemaker: Client, job: str) -> dict[str, Any]:
    answer: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=job)
    return answer


def statuses(job: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("capacity", "CapacityError: Unable to provision requested ML compute capacity."),
        ("internal", "InternalServerError: We encountered an internal error. Please try again."),
        ("image", "ClientError: Cannot pull algorithm container."),
        ("ClientError: as the test says", "ClientError: as the test says"),
    ],
)
def test_a_job_fails_after_starting(emulator: Emulator, sagemaker: Client, failure: str, reason: str) -> None:
    emulator.next_job(Fate(failure=failure))
    sagemaker.create_training_job(**request("unlucky"))

    assert emulator.wait_for("unlucky") == "Failed"
    job = described(sagemaker, "unlucky")
    assert job["FailureReason"].startswith(reason)
    assert statuses(job) == ["Starting", "Failed"]
    assert not {"TrainingStartTime", "BillableTimeInSeconds"} & job.keys()
    assert emulator.log_streams("unlucky") == []


def test_only_the_next_jobs_meet_their_fate_and_a_refused_request_does_not_use_it_up(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains(GREETING)
    emulator.next_job(Fate(failure="capacity"))
    assert refusal(sagemaker.create_training_job, **request("no_name"))[0] == "ValidationException"
    for name in ("first", "second"):
        sagemaker.create_training_job(**request(name))

    assert [emulator.wait_for(name) for name in ("first", "second")] == ["Failed", "Completed"]


def test_every_job_meets_a_fate_until_the_reset(emulator: Emulator, sagemaker: Client) -> None:
    emulator.every_job(Fate(failure="internal"))
    for name in ("first", "second"):
        sagemaker.create_training_job(**request(name))

    assert [emulator.wait_for(name) for name in ("first", "second")] == ["Failed", "Failed"]
    emulator.reset()
    assert emulator.settings.fate == Fate()


def test_a_job_starts_late(emulator: Emulator, sagemaker: Client, trains: Trains) -> None:
    trains(GREETING)
    emulator.next_job(Fate(start_delay_s=0.8))
    sagemaker.create_training_job(**request("late"))
    time.sleep(0.4)
    assert emulator.phase("late") == "Starting"

    assert emulator.wait_for("late") == "Completed"
    job = described(sagemaker, "late")
    assert (job["TrainingStartTime"] - job["CreationTime"]).total_seconds() >= 0.8


def test_a_job_that_is_stuck_can_be_stopped(emulator: Emulator, sagemaker: Client) -> None:
    emulator.next_job(Fate(stuck=True))
    sagemaker.create_training_job(**request("stuck"))
    time.sleep(0.3)
    assert (emulator.status("stuck"), emulator.phase("stuck")) == ("InProgress", "Starting")

    sagemaker.stop_training_job(TrainingJobName="stuck")

    assert emulator.wait_for("stuck") == "Stopped"
    assert statuses(described(sagemaker, "stuck")) == ["Starting", "Stopping", "Stopped"]


def test_a_spot_job_that_gets_no_instances_in_time_is_stopped(emulator: Emulator, sagemaker: Client) -> None:
    emulator.next_job(Fate(stuck=True))
    limits = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    sagemaker.create_training_job(**request("waits", **{**SPOT, "StoppingCondition": limits}))

    assert emulator.wait_for("waits") == "Stopped"
    assert statuses(described(sagemaker, "waits")) == ["Starting", "Stopping", "MaxWaitTimeExceeded"]


def test_a_spot_job_is_interrupted_and_goes_on_from_its_checkpoint_with_new_streams(
    emulator: Emulator, sagemaker: Client, trains: Trains, tmp_path: Path
) -> None:
    trains(COUNTER)
    emulator.next_job(Fate(interrupt_after_s=(0.5,)))
    checkpoints = {"S3Uri": f"s3://team/checkpoints/{tmp_path.parent.name}/"}
    sagemaker.create_training_job(**request("spot", CheckpointConfig=checkpoints, **SPOT))

    assert emulator.wait_for("spot") == "Completed"
    job = described(sagemaker, "spot")
    once = ["Starting", "Downloading", "Training"]
    assert statuses(job) == [*once, "Interrupted", *once, "Uploading", "Completed"]
    assert emulator.log("spot") == ["algo-1 start 1", "algo-1 start 2"]
    assert len(emulator.log_streams("spot")) == 2
    assert job["BillableTimeInSeconds"] <= job["TrainingTimeInSeconds"]


def test_a_job_on_demand_is_never_interrupted(emulator: Emulator, sagemaker: Client, trains: Trains) -> None:
    trains("import time\ntime.sleep(0.6)\n")
    emulator.next_job(Fate(interrupt_after_s=(0.1,)))
    sagemaker.create_training_job(**request("steady"))

    assert emulator.wait_for("steady") == "Completed"
    assert "Interrupted" not in statuses(described(sagemaker, "steady"))


def test_log_lines_come_late_in_their_order_and_with_their_own_times(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains("print('one')\nprint('two')\n")
    emulator.next_job(Fate(log_delay_s=1.0))
    sagemaker.create_training_job(**request("quiet"))
    assert emulator.wait_for("quiet") == "Completed"
    assert emulator.log("quiet") == []
    ended_at = described(sagemaker, "quiet")["TrainingEndTime"].timestamp()

    deadline = time.monotonic() + 60
    while len(emulator.log("quiet")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert emulator.log("quiet") == ["algo-1 one", "algo-1 two"]
    logs, [stream] = emulator.client("logs"), emulator.log_streams("quiet")
    events = logs.get_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream)["events"]
    assert all(event["timestamp"] / 1000 <= ended_at for event in events)


def test_a_quota_counts_the_instances_in_use(emulator: Emulator, sagemaker: Client, trains: Trains) -> None:
    trains(WAITING)
    emulator.quota("ml.m5.large", 1)
    sagemaker.create_training_job(**request("fits"))

    code, _, message = refusal(sagemaker.create_training_job, **request("too-much"))

    assert code == "ResourceLimitExceeded"
    assert (
        "'ml.m5.large for training job usage' is 1 Instances, with current utilization of 1 Instances and a request "
        "delta of 1 Instances" in message
    )
    sagemaker.stop_training_job(TrainingJobName="fits")
    emulator.wait_for("fits")
    sagemaker.create_training_job(**request("too-much"))


def test_calls_are_throttled_and_fail_inside_the_service(emulator: Emulator, sagemaker: Client) -> None:
    emulator.throttle("ListTrainingJobs", times=2)
    emulator.break_down("DescribeTrainingJob")

    throttled = [refusal(sagemaker.list_training_jobs) for _ in range(2)]
    broken = refusal(sagemaker.describe_training_job, TrainingJobName="nobody")

    assert throttled == [("ThrottlingException", 400, "Rate exceeded")] * 2
    assert broken[:2] == ("InternalFailure", 500)
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_the_log_of_a_job_can_be_deleted_and_so_can_the_job(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains(GREETING)
    sagemaker.create_training_job(**request("gone"))
    emulator.wait_for("gone")

    emulator.delete_log("gone")
    assert emulator.log("gone") == []
    emulator.delete("gone")
    assert refusal(sagemaker.describe_training_job, TrainingJobName="gone")[0] == "ValidationException"


def test_a_running_job_cannot_be_deleted(emulator: Emulator, sagemaker: Client) -> None:
    emulator.next_job(Fate(stuck=True))
    sagemaker.create_training_job(**request("alive"))

    assert refusal(sagemaker.delete_training_job, TrainingJobName="alive")[0] == "ValidationException"
    assert emulator.status("alive") == "InProgress"


def test_the_tags_of_a_job_order_its_fate(emulator: Emulator, sagemaker: Client) -> None:
    tags = [{"Key": "team", "Value": "vision"}, {"Key": "emulator", "Value": "start-delay=0.1 fail=capacity"}]
    sagemaker.create_training_job(**request("tagged", Tags=tags))
    quota = refusal(
        sagemaker.create_training_job, **request("dear", Tags=[{"Key": "emulator", "Value": "quota"}])
    )
    nonsense = refusal(
        sagemaker.create_training_job, **request("odd", Tags=[{"Key": "emulator", "Value": "explode"}])
    )

    assert emulator.wait_for("tagged") == "Failed"
    assert described(sagemaker, "tagged")["FailureReason"].startswith("CapacityError")
    assert quota[0] == "ResourceLimitExceeded"
    assert (nonsense[0], "'explode' is none of: quota," in nonsense[2]) == ("ValidationException", True)


def test_the_words_of_a_tag_together_make_one_fate() -> None:
    value = "start-delay=5 stuck fail=image interrupt=1 interrupt=2.5 log-delay=3"
    tags = [{"Key": "emulator", "Value": value}]

    assert ordered(tags, Fate(quota=True)) == Fate(
        start_delay_s=5, stuck=True, failure="image", interrupt_after_s=(1, 2.5), log_delay_s=3
    )
    assert ordered([], Fate(quota=True)) == Fate(quota=True)


@pytest.mark.parametrize("deaf", [False, True])
def test_a_reset_ends_jobs_that_run_and_leaves_nothing_of_them(
    emulator: Emulator, sagemaker: Client, trains: Trains, tmp_path: Path, *, deaf: bool
) -> None:
    alive = tmp_path / "pid"
    ignore = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else ""
    trains(f"{ignore}import os\nopen({str(alive)!r}, 'w').write(str(os.getpid()))\n{WAITING}")
    emulator.settings.stop_grace_s = 90
    sagemaker.create_training_job(**request("orphan"))
    deadline = time.monotonic() + 30
    while not emulator.log("orphan"):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    start = time.monotonic()
    emulator.reset()

    assert time.monotonic() - start < 45
    assert not Path("/proc", alive.read_text()).exists()
    assert sagemaker.list_training_jobs()["TrainingJobSummaries"] == []
    assert emulator.leftovers() == []


def test_log_lines_that_are_late_do_not_outlive_a_reset(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains(GREETING)
    emulator.next_job(Fate(log_delay_s=1.0))
    sagemaker.create_training_job(**request("quiet"))
    emulator.wait_for("quiet")

    emulator.reset()

    time.sleep(1.2)
    assert emulator.client("logs").describe_log_groups()["logGroups"] == []
