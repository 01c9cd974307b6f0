"""A job of the emulator does what its request says, and is described as the service describes it."""

from __future__ import annotations

import io
import re
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers.clients import Client
from tests.servers.samples import refusal
from tests.servers.seaweed import SeaweedServer

from .conftest import Trains
from .emulator import Emulator
from .requests import IMAGE, channel, request

GREETING = "print('hello', flush=True)\n"
SLEEPER = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"
SAVER = """\
import os, signal, sys, time
def save(*_):
    open(os.environ["SM_MODEL_DIR"] + "/saved", "w").write("in time")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


def model_of(s3: SeaweedServer, job: dict[str, Any]) -> dict[str, bytes]:
    """The files in a job's model.tar.gz."""
    bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
    data = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in members.items() if file}


def statuses(job: dict[str, Any]) -> list[str]:
    return [transition["Status"] for transition in job["SecondaryStatusTransitions"]]


def wait_for_line(emulator: Emulator, job: str, line: str) -> None:
    deadline = time.monotonic() + 30
    while line not in emulator.log(job):
        assert time.monotonic() < deadline, emulator.log(job)
        time.sleep(0.02)


def test_a_job_reads_its_data_and_leaves_a_model_metrics_and_a_log(
    emulator: Emulator, sagemaker: Client, s3: SeaweedServer, trains: Trains
) -> None:
    trains(
        "import os, pathlib\n"
        "text = pathlib.Path(os.environ['SM_CHANNEL_TRAINING'], 'a.csv').read_text()\n"
        "print('read', text, 'level', os.environ['LEVEL'], 'lr', os.environ['SM_HP_LR'])\n"
        "print('loss=0.5')\nprint('loss=0.25')\n"
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'weights').write_text(text * 2)\n"
    )
    s3.client().put_object(Bucket="team", Key="jobs-run/a.csv", Body=b"1,2")
    asked = request(
        "reader",
        regex="loss=([0-9.]+)",
        InputDataConfig=[channel("training", "s3://team/jobs-run/")],
        Environment={"LEVEL": "debug"},
        HyperParameters={"lr": "0.1"},
    )

    sagemaker.create_training_job(**asked)

    assert emulator.wait_for("reader") == "Completed"
    job = sagemaker.describe_training_job(TrainingJobName="reader")
    assert {member: job[member] for member in asked} == asked
    assert emulator.log("reader") == [
        "algo-1 read 1,2 level debug lr 0.1",
        "algo-1 loss=0.5",
        "algo-1 loss=0.25",
    ]
    assert [(each["MetricName"], each["Value"]) for each in job["FinalMetricDataList"]] == [("loss", 0.25)]
    assert model_of(s3, job) == {"weights": b"1,21,2"}
    assert statuses(job) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [each["EndTime"] for each in job["SecondaryStatusTransitions"][:4]] == [
        each["StartTime"] for each in job["SecondaryStatusTransitions"][1:]
    ]
    assert (
        job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
    )
    assert {"TrainingTimeInSeconds", "BillableTimeInSeconds"} <= job.keys()


def test_log_lines_are_there_while_the_job_runs_with_their_times_in_milliseconds(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains(SLEEPER)
    before = int(time.time() * 1000)
    sagemaker.create_training_job(**request("live"))
    wait_for_line(emulator, "live", "algo-1 ready")

    assert emulator.status("live") == "InProgress"
    [stream] = emulator.log_streams("live")
    assert re.fullmatch(r"live/algo-1-\d{10}", stream)
    logs = emulator.client("logs")
    [event] = logs.get_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamName=stream)["events"]
    assert before <= event["timestamp"] <= int(time.time() * 1000)


def test_no_line_is_lost_or_out_of_order_however_many_come(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains("for number in range(12_000): print(number)\n")
    sagemaker.create_training_job(**request("talks"))

    assert emulator.wait_for("talks") == "Completed"
    assert emulator.log("talks") == [f"algo-1 {number}" for number in range(12_000)]


def test_every_host_has_a_stream_of_its_own(emulator: Emulator, sagemaker: Client, trains: Trains) -> None:
    trains("import os\nprint('I am', os.environ['SM_CURRENT_HOST'])\n")
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 30}
    sagemaker.create_training_job(**request("pair", ResourceConfig=resources))

    assert emulator.wait_for("pair") == "Completed"
    assert sorted(emulator.log("pair")) == ["algo-1 I am algo-1", "algo-2 I am algo-2"]
    assert len(emulator.log_streams("pair")) == 2


def test_a_program_that_fails_gives_the_reason_as_the_service_does(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains(
        "import os, pathlib, sys\n"
        "pathlib.Path(os.environ['SM_OUTPUT_DIR'], 'failure').write_text('no data')\n"
        "sys.exit(3)\n"
    )
    sagemaker.create_training_job(**request("broken"))

    assert emulator.wait_for("broken") == "Failed"
    job = sagemaker.describe_training_job(TrainingJobName="broken")
    assert job["FailureReason"] == "AlgorithmError: no data, exit code: 3"
    assert statuses(job)[-2:] == ["Uploading", "Failed"]


def test_a_job_whose_process_is_lost_is_an_internal_error(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n")
    sagemaker.create_training_job(**request("lost"))

    assert emulator.wait_for("lost") == "Failed"
    reason = sagemaker.describe_training_job(TrainingJobName="lost")["FailureReason"]
    assert reason == "InternalServerError: We encountered an internal error. Please try again."


def test_a_stopped_job_gets_sigterm_and_keeps_what_it_saved(
    emulator: Emulator, sagemaker: Client, s3: SeaweedServer, trains: Trains
) -> None:
    trains(SAVER)
    sagemaker.create_training_job(**request("saver"))
    wait_for_line(emulator, "saver", "algo-1 ready")

    sagemaker.stop_training_job(TrainingJobName="saver")

    assert sagemaker.describe_training_job(TrainingJobName="saver")["TrainingJobStatus"] in {
        "Stopping",
        "Stopped",
    }
    assert emulator.wait_for("saver") == "Stopped"
    job = sagemaker.describe_training_job(TrainingJobName="saver")
    assert statuses(job) == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]
    assert model_of(s3, job) == {"saved": b"in time"}
    code, _, message = refusal(sagemaker.stop_training_job, TrainingJobName="saver")
    assert (code, message) == (
        "ValidationException",
        "The request was rejected because the training job is in status Stopped.",
    )


def test_a_job_that_ignores_sigterm_is_killed_when_the_grace_is_over(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains(f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPER}")
    emulator.settings.stop_grace_s = 1
    sagemaker.create_training_job(**request("deaf"))
    wait_for_line(emulator, "deaf", "algo-1 ready")
    start = time.monotonic()

    sagemaker.stop_training_job(TrainingJobName="deaf")
    sagemaker.stop_training_job(TrainingJobName="deaf")

    assert emulator.wait_for("deaf") == "Stopped"
    assert 1 <= time.monotonic() - start < 45


def test_a_job_that_runs_too_long_is_stopped(emulator: Emulator, sagemaker: Client, trains: Trains) -> None:
    trains(SLEEPER)
    sagemaker.create_training_job(**request("long", StoppingCondition={"MaxRuntimeInSeconds": 1}))

    assert emulator.wait_for("long") == "Stopped"
    job = sagemaker.describe_training_job(TrainingJobName="long")
    assert statuses(job)[-3:] == ["Stopping", "Uploading", "MaxRuntimeExceeded"]


def test_the_image_decides_which_code_runs(emulator: Emulator, sagemaker: Client, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(f"print('the code is {name}')\n")
        emulator.runs(folder, f"{name}.py", images=f"*/{name}:*")

    for name in ("mine", "other"):
        sagemaker.create_training_job(**request(name, image=IMAGE.replace("digits", name)))
        emulator.wait_for(name)
        assert emulator.log(name) == [f"algo-1 the code is {name}"]


def test_the_example_of_this_project_runs_for_an_image_that_nobody_named(
    emulator: Emulator, sagemaker: Client
) -> None:
    sagemaker.create_training_job(**request("example"))

    # It has neither a config nor data here, and says so.
    assert emulator.wait_for("example") == "Failed"
    assert "config" in sagemaker.describe_training_job(TrainingJobName="example")["FailureReason"]


def test_a_channel_called_config_is_a_channel_like_any_other(
    emulator: Emulator, sagemaker: Client, s3: SeaweedServer, trains: Trains
) -> None:
    trains("import os\nprint(sorted(os.listdir(os.environ['SM_CHANNEL_CONFIG'])))\n")
    for name in ("one.yaml", "two.yaml"):
        s3.client().put_object(Bucket="team", Key=f"jobs-run-config/{name}", Body=b"x")
    channels = [channel("config", "s3://team/jobs-run-config/")]

    sagemaker.create_training_job(**request("configured", InputDataConfig=channels))

    emulator.wait_for("configured")
    assert emulator.log("configured") == ["algo-1 ['one.yaml', 'two.yaml']"]


def test_a_name_stays_taken_until_the_job_is_deleted(
    emulator: Emulator, sagemaker: Client, trains: Trains
) -> None:
    trains(GREETING)
    sagemaker.create_training_job(**request("once"))
    emulator.wait_for("once")
    assert refusal(sagemaker.create_training_job, **request("once"))[0] == "ResourceInUse"

    emulator.delete("once")

    assert refusal(sagemaker.describe_training_job, TrainingJobName="once")[0] == "ValidationException"
    sagemaker.create_training_job(**request("once"))
    assert emulator.wait_for("once") == "Completed"


@pytest.mark.parametrize("jobs", [30])
def test_many_jobs_run_at_once(
    emulator: Emulator, sagemaker: Client, trains: Trains, tmp_path: Path, jobs: int
) -> None:
    # Each waits until all the others run, too.
    trains(
        "import os, pathlib, time\n"
        "meeting = pathlib.Path(os.environ['MEETING'])\n"
        "(meeting / os.environ['TRAINING_JOB_NAME']).touch()\n"
        f"while len(list(meeting.iterdir())) < {jobs}: time.sleep(0.05)\n"
        "print('all here')\n"
    )
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    for number in range(jobs):
        sagemaker.create_training_job(**request(f"many-{number}", Environment={"MEETING": str(meeting)}))

    emulator.wait_for_all()

    names = [f"many-{number}" for number in range(jobs)]
    assert {emulator.status(name) for name in names} == {"Completed"}
    assert all(emulator.log(name) == ["algo-1 all here"] for name in names)
