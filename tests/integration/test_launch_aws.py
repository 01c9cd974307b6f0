"""`launch --on aws` as a user sees it: the real SDK, a real S3 server, an AWS on loopback."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine, newest
from tests.fault_rows import provokes
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.seaweed import SeaweedServer
from tests.terminals import on_terminal

FILES = {
    "intent.json",
    "sagemaker_config.yaml",
    "training_config.yaml",
    "request.json",
    "manifest.json",
    "launch.json",
    "result.json",
}


def read(s3: SeaweedServer, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body: bytes = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def names(s3: SeaweedServer, folder: str) -> set[str]:
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", ())}


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Reads a process's stderr until a line has the text; gives all that was read."""
    seen = ""
    assert process.stderr is not None
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    pytest.fail(f"{text!r} never came:\n{seen}")


def test_a_launch_archives_exactly_what_aws_received(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer
) -> None:
    done = aws_cli("launch", project.config, "--json")
    assert done.code == 0, done.err
    answer = done.json
    folder = answer["experiment"]
    assert names(s3, folder) == FILES
    manifest = read(s3, folder + "manifest.json")
    received = aws.created(answer["job_name"])
    tags = received.pop("Tags")
    assert received == json.loads(read(s3, folder + "request.json")) == answer["request"]
    assert tags == [
        {"Key": "launcher:experiment", "Value": folder},
        {"Key": "launcher:manifest-sha256", "Value": hashlib.sha256(manifest).hexdigest()},
    ]
    for name, seal in json.loads(manifest)["files"].items():
        data = read(s3, folder + name)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (seal["sha256"], seal["size"])
    config = next(item for item in received["InputDataConfig"] if item["ChannelName"] == "config")
    assert config["DataSource"]["S3DataSource"]["S3Uri"] == folder + "training_config.yaml"
    training = read(s3, folder + "training_config.yaml")
    assert received["Environment"]["TRAINING_CONFIG_SHA256"] == hashlib.sha256(training).hexdigest()
    assert json.loads(read(s3, folder + "result.json"))["status"] == "Completed"
    launch = json.loads(read(s3, folder + "launch.json"))
    assert launch["job_arn"].endswith(f":training-job/{answer['job_name']}")


def test_a_teammate_reruns_from_another_folder_with_nothing_but_the_uri(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer, tmp_path: Path
) -> None:
    first = aws_cli("launch", project.config, "--json").json
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    teammate = CommandLine(elsewhere, aws_cli.environment)
    again = teammate("rerun", first["experiment"], "--json")
    assert again.code == 0, again.err
    second = again.json
    assert second["rerun_of"] == first["experiment"]
    for name in ("sagemaker_config.yaml", "training_config.yaml"):
        assert read(s3, first["experiment"] + name) == read(s3, second["experiment"] + name)
    assert json.loads(read(s3, second["experiment"] + "manifest.json"))["rerun_of"] == first["experiment"]
    listed = teammate("list", "--archive", "s3://team/experiments", "--json").json["experiments"]
    jobs = [line["job_name"] for line in listed]
    assert jobs.index(second["job_name"]) < jobs.index(first["job_name"])
    shown = teammate("show", first["job_name"], "--archive", "s3://team/experiments", "--json")
    assert shown.json["result"]["status"] == "Completed"


@provokes(42, 43)
def test_a_launch_costs_few_requests_and_each_to_s3_names_the_owner(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    # moto takes the part of S3 here, since it tells what it received.
    s3 = aws.client("s3", region="us-east-1")
    s3.create_bucket(Bucket="team")
    s3.put_object(Bucket="team", Key="data/train/a.csv", Body=b"1,2\n")
    before = len(aws.requests)
    done = aws_cli("launch", project.config, "--detach", env={"AWS_ENDPOINT_URL_S3": aws.endpoint_url})
    assert done.code == 0, done.err
    made = aws.requests[before:]
    to_s3 = [request for request in made if request.service == "s3"]
    assert [request.service for request in made].count("sagemaker") == 1
    assert len(to_s3) <= 16
    assert all(request.headers["x-amz-expected-bucket-owner"] == aws.account for request in to_s3)
    writes = [request for request in to_s3 if request.method == "PUT"]
    assert len(writes) <= 8
    assert {request.method for request in to_s3} == {"GET", "HEAD", "PUT"}
    assert all(request.headers["if-none-match"] == "*" for request in writes)
    written = [request.path.rpartition("/")[2] for request in writes]
    assert written[1] == "intent.json"
    assert written[-2:] == ["manifest.json", "launch.json"]


@provokes(99)
def test_phases_and_log_lines_are_told_as_they_come(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.auto_complete = None
    process = aws_cli.start("launch", project.config, "--json")
    wait_for(process, "Started")
    job = job_of(aws)
    aws.advance(job, "Downloading", "Downloading input data")
    wait_for(process, "Downloading input data")
    aws.advance(job, "Training", "Training image download completed. Training in progress.")
    aws.put_log(job, "algo-1", ["epoch=1 loss=1e-05", "epoch=2 loss=5e-06"])
    seen = wait_for(process, "epoch=2")
    assert seen.index("algo-1 | epoch=1") < seen.index("algo-1 | epoch=2")
    aws.put_log(job, "algo-1", ["the last words"])
    aws.finish(job, metrics={"loss": 5e-06}, billable_seconds=7)
    out, err = process.communicate(timeout=60)
    assert err.count("the last words") == 1
    result = json.loads(out)["result"]
    assert (result["status"], result["billable_seconds"]) == ("Completed", 7)
    assert result["metrics"]["loss"] == pytest.approx(5e-06)
    assert [step["status"] for step in result["transitions"]][:3] == ["Starting", "Downloading", "Training"]


@provokes(105, 106)
@pytest.mark.parametrize(
    ("status", "secondary", "reason", "code"),
    [
        ("Failed", "Failed", "AlgorithmError: ValueError: no data, exit code: 1", 10),
        ("Stopped", "MaxRuntimeExceeded", "", 11),
        pytest.param("Stopped", "MaxWaitTimeExceeded", "", 11, marks=provokes(102)),
        ("Stopped", "Stopped", "", 11),
    ],
)
def test_a_job_that_did_not_complete_is_never_a_success(
    aws_cli: CommandLine,
    project: Project,
    aws: AwsServer,
    status: str,
    secondary: str,
    reason: str,
    code: int,
) -> None:
    aws.auto_complete = None
    process = aws_cli.start("launch", project.config)
    wait_for(process, "Started")
    aws.finish(job_of(aws), status, secondary=secondary, failure_reason=reason)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert secondary in out
    assert reason in out


@provokes(65)
def test_ctrl_c_while_waiting_detaches_and_says_how_to_come_back(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer
) -> None:
    aws.auto_complete = None
    process = aws_cli.start("launch", project.config)
    wait_for(process, "Starting")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    job = job_of(aws)
    assert process.returncode == 130
    assert "goes on, and is billed" in err
    folder = f"s3://team/experiments/team/tiny/{job}/"
    for verb in ("status", "logs -f", "wait", "stop"):
        assert f"run_sagemaker_job.py {verb} {folder}\n" in err
    assert "Traceback" not in err
    description = aws.client("sagemaker", region="us-east-1").describe_training_job(TrainingJobName=job)
    assert description["TrainingJobStatus"] == "InProgress"
    assert names(s3, f"s3://team/experiments/team/tiny/{job}/") == FILES - {"result.json"}


def test_detaching_comes_back_at_once_and_says_that_the_job_goes_on(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.auto_complete = None
    done = aws_cli("launch", project.config, "--detach", "--json")
    assert done.code == 0
    assert done.json["result"]["status"] == "InProgress"
    assert f"run_sagemaker_job.py stop {done.json['experiment']}\n" in done.err


@provokes(68)
def test_an_answer_that_is_lost_makes_no_second_job(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer
) -> None:
    aws.drop_next("CreateTrainingJob", after=True)
    done = aws_cli("launch", project.config, "--json")
    assert done.code == 0, done.err
    assert len(aws.calls("CreateTrainingJob")) == 1
    assert names(s3, done.json["experiment"]) == FILES


def test_a_request_that_never_arrived_is_sent_again(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.drop_next("CreateTrainingJob", after=False)
    aws.fail_next("CreateTrainingJob", "ThrottlingException", "Rate exceeded")
    done = aws_cli("launch", project.config, "--json")
    assert done.code == 0, done.err
    assert len(aws.client("sagemaker", region="us-east-1").list_training_jobs()["TrainingJobSummaries"]) == 1


@provokes(69)
def test_a_job_name_that_somebody_else_has_is_a_conflict(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.fail_next("CreateTrainingJob", "ResourceInUse", "Training job names must be unique")
    done = aws_cli("launch", project.config, "--json")
    assert done.code == 7
    assert done.json["error"]["code"] == "name_taken"


@provokes(29, 100)
@pytest.mark.parametrize(
    ("code", "message", "exit_code"),
    [
        (
            "ResourceLimitExceeded",
            "The account-level service limit 'ml.m5.large for training job usage' is 0 Instances",
            8,
        ),
        ("AccessDeniedException", "User: x is not authorized to perform: sagemaker:CreateTrainingJob", 5),
        ("ValidationException", 'No S3 objects found under S3 URL "s3://team/data/train/"', 3),
        ("ExpiredTokenException", "The security token included in the request is expired", 4),
    ],
)
def test_a_refusal_by_the_service_leaves_a_sealed_experiment_and_no_traceback(
    aws_cli: CommandLine, project: Project, aws: AwsServer, code: str, message: str, exit_code: int
) -> None:
    aws.fail_next("CreateTrainingJob", code, message)
    done = aws_cli("launch", project.config)
    assert done.code == exit_code
    assert message in done.err
    assert not done.has_traceback
    assert newest(aws_cli)["state"] == "not confirmed"


@provokes(32)
def test_expired_credentials_while_waiting_leave_the_job_running(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    aws.auto_complete = None
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=9)
    done = aws_cli("launch", project.config)
    assert done.code == 12
    assert "the job goes on" in done.err
    assert "export new ones" in done.err
    assert "run_sagemaker_job.py wait s3://team/experiments/team/tiny/" in done.err


@provokes(27)
def test_without_credentials_nothing_is_written_and_the_answer_comes_soon(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer
) -> None:
    before = names(s3, "s3://team/")
    nobody = {**aws_cli.environment}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        nobody.pop(name)
    start = time.monotonic()
    done = CommandLine(project.folder, nobody)("launch", project.config)
    assert done.code == 4
    assert "aws sso login" in done.err
    assert time.monotonic() - start < 60
    assert names(s3, "s3://team/") == before


@provokes(28)
def test_an_unknown_profile_is_a_matter_of_credentials(aws_cli: CommandLine, project: Project) -> None:
    done = aws_cli("launch", project.config, "--set", "AWS.PROFILE", "nobody")
    assert done.code == 4
    assert "nobody" in done.err


@provokes(33, 41)
def test_wrong_keys_and_denied_writes_are_told_apart(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer
) -> None:
    wrong = aws_cli("launch", project.config, env={"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert wrong.code == 4
    key, secret = s3.reader
    denied = aws_cli(
        "launch", project.config, env={"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    )
    assert denied.code == 5
    assert not aws.calls("CreateTrainingJob")


@provokes(39)
def test_a_missing_bucket_is_named_and_nothing_is_launched(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    done = aws_cli(
        "launch", project.config, "--set", "S3.CONFIGS", "s3://no-such-bucket/experiments", "--json"
    )
    assert done.code == 6
    assert done.json["error"]["code"] == "bucket_not_found"
    assert "no-such-bucket" in done.json["error"]["message"]
    assert not aws.calls("CreateTrainingJob")


@provokes(50)
def test_no_answer_from_aws_is_reported_within_seconds(aws_cli: CommandLine, project: Project) -> None:
    start = time.monotonic()
    done = aws_cli("launch", project.config, env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert done.code == 9
    assert "check the network" in done.err
    assert time.monotonic() - start < 60


def test_a_folder_cannot_stand_in_for_s3_on_aws(aws_cli: CommandLine, project: Project) -> None:
    done = aws_cli("launch", project.config, "--s3-root", project.s3)
    assert done.code == 2


def test_a_rehearsal_reads_and_writes_real_s3(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer
) -> None:
    client = s3.client()
    for number in range(30):
        client.put_object(Bucket="team", Key=f"data/parts/{number}.csv", Body=b"1,2\n")
    project.write(CHANNELS={"training": "s3://team/data/parts/"})  # of no other test
    project.program(
        "import os, pathlib\n"
        "base = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'])\n"
        "print('files', len(list((base / 'input/data/training').rglob('*.csv'))))\n"
        "(base / 'model' / 'm').write_text('x')\n"
    )
    done = aws_cli("launch", project.config, "--on", "process", "--json")
    assert done.code == 0, done.err
    assert "files 30" in done.err
    assert names(s3, f"s3://team/outputs/{done.json['job_name']}/") == {"output/model.tar.gz"}


@provokes(67)
@pytest.mark.parametrize("phase", ["reserved", "sealed", "started"])
def test_a_launcher_that_is_killed_is_classified_and_makes_no_second_job(
    aws_cli: CommandLine, project: Project, aws: AwsServer, phase: str
) -> None:
    process = aws_cli.start("launch", project.config, env={"SAGEMAKER_LAUNCHER_TEST_PAUSE_AT": phase})
    wait_for(process, f"paused at {phase}")
    process.kill()
    process.communicate()
    expected = {"reserved": "interrupted", "sealed": "not confirmed", "started": "not confirmed"}
    assert newest(aws_cli)["state"] == expected[phase]
    assert len(aws.calls("CreateTrainingJob")) == (phase == "started")
    assert aws_cli("launch", project.config, "--detach").code == 0
    assert len(aws.calls("CreateTrainingJob")) == 1 + (phase == "started")


@provokes(63)
def test_a_ctrl_c_while_the_sdk_makes_the_request_starts_nothing(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    process = aws_cli.start("launch", project.config, env={"SAGEMAKER_LAUNCHER_TEST_PAUSE_AT": "starting"})
    wait_for(process, "paused at starting")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "error: interrupted: the experiment is archived and the job was not started" in err
    assert aws.calls("CreateTrainingJob") == []
    assert newest(aws_cli)["state"] == "not confirmed"


@provokes(56)
def test_32_launches_at_once_leave_32_experiments_and_none_is_mixed(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer
) -> None:
    s3.client().put_object(Bucket="team", Key="data/train/a.csv", Body=b"1,2\n")
    words = (
        "launch",
        project.config,
        "--on",
        "process",
        "--json",
        "--set",
        "EXPERIMENT_NAME",
        "crowd",
        "--train",
        "SEED",
    )
    crowd = [aws_cli.start(*words, str(seed)) for seed in range(32)]
    answers: list[dict[str, Any]] = []
    for process in crowd:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        answers.append(json.loads(out))
    assert len({answer["experiment"] for answer in answers}) == 32
    for seed, answer in enumerate(answers):
        folder = answer["experiment"]
        found = names(s3, folder)
        assert {name for name in found if not name.startswith("logs/")} == FILES
        assert len(found - FILES) == 1
        assert f"SEED: {seed}\n" in read(s3, folder + "training_config.yaml").decode()
        shown = json.loads(read(s3, folder + "manifest.json"))
        assert (
            shown["job_name"]
            == answer["job_name"]
            == json.loads(read(s3, folder + "request.json"))["TrainingJobName"]
        )


def job_of(aws: AwsServer) -> str:
    """The only job that AWS has."""
    (call,) = aws.calls("CreateTrainingJob")
    name: str = call.params["TrainingJobName"]
    return name


@provokes(32)
def test_who_logs_in_again_while_the_job_runs_archives_its_result_with_the_new_credentials(
    aws_cli: CommandLine, project: Project, aws: AwsServer, tmp_path: Path
) -> None:
    # moto takes the part of S3 here, since it tells who asked.
    s3 = aws.client("s3", region="us-east-1")
    s3.create_bucket(Bucket="team")
    s3.put_object(Bucket="team", Key="data/train/a.csv", Body=b"1")
    aws.auto_complete = None
    credentials = tmp_path / "credentials"

    def log_in(key: str) -> None:
        credentials.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")

    log_in("OLDKEY")
    environment = {key: value for key, value in aws_cli.environment.items() if "ACCESS_KEY" not in key}
    environment |= {"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_ENDPOINT_URL_S3": aws.endpoint_url}
    with on_terminal(aws_cli.command("launch", project.config), aws_cli.folder, environment) as terminal:
        terminal.until("Starting")
        aws.fail_next(
            "DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=1
        )
        terminal.until("aws sso login")
        log_in("NEWKEY")
        terminal.until("AWS answers again")
        (call,) = aws.calls("CreateTrainingJob")
        aws.finish(call.params["TrainingJobName"])
        seen = terminal.rest()
    assert terminal.process.returncode == 0, seen
    written = {
        request.path.rpartition("/")[2]: request.headers["authorization"].split("=")[1].split("/")[0]
        for request in aws.requests
        if request.method == "PUT"
    }
    assert (written["launch.json"], written["result.json"]) == ("OLDKEY", "NEWKEY")
