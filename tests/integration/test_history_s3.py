"""Lists, downloads and repairs on a real S3 server and an AWS that knows the jobs."""

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer

ROLE = "arn:aws:iam::{}:role/SageMakerExecutionRole"


@pytest.fixture
def place(project: Project, s3: SeaweedServer, request: pytest.FixtureRequest) -> str:
    """An archive of this test's own, that the config names."""
    del s3
    archive = f"s3://team/{request.node.name.replace('[', '-').replace(']', '')}"
    project.write(S3={"CONFIGS": archive, "OUTPUTS": f"{archive}-outputs"})
    return archive


def launched(cli: CommandLine, project: Project, *words: str) -> str:
    done = cli("launch", project.config, "--on", "process", "--json", *words)
    assert done.code == 0, done.err
    name: str = done.json["job_name"]
    return name


def read(s3: SeaweedServer, uri: str) -> bytes:
    body: bytes = s3.client().get_object(Bucket="team", Key=uri.removeprefix("s3://team/"))["Body"].read()
    return body


@provokes(112)
def test_a_list_takes_the_same_two_requests_however_many_experiments_there_are(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer, place: str
) -> None:
    s3.client().put_object(Bucket="team", Key="data/train/a.csv", Body=b"1,2")
    counts = []
    for _ in range(2):
        time.sleep(1.0 - time.time() % 1.0)  # those of one second are listed by name
        name = launched(aws_cli, project)
        with RecordingProxy(s3.endpoint_url) as proxy:
            listed = aws_cli(
                "list", "--archive", place, "--limit", "1", "--json", env={"AWS_ENDPOINT_URL_S3": proxy.url}
            )
            counts.append(len(proxy.requests))
        assert [one["job_name"] for one in listed.json["experiments"]] == [name]
        assert listed.json["experiments"][0]["metrics"] == {"loss": 5e-06}
    assert counts == [2, 2]


def test_a_job_that_ended_unobserved_is_listed_and_its_result_collected(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer, aws: AwsServer, place: str
) -> None:
    aws.auto_complete = 0.0
    done = aws_cli("launch", project.config, "--detach", "--json")
    assert done.code == 0, done.err
    experiment = done.json["experiment"]
    for _ in range(60):
        [line] = aws_cli("list", "--archive", place, "--json", env={"AWS_DEFAULT_REGION": "us-east-1"}).json[
            "experiments"
        ]
        if line["status"] == "Completed":
            break
    assert line["status"] == "Completed"
    assert json.loads(read(s3, f"{experiment}result.json"))["status"] == "Completed"
    [line] = aws_cli("list", "--archive", place, "--json").json["experiments"]
    assert (line["state"], line["status"]) == ("finished", "Completed")
    verified = aws_cli("verify", experiment, "--json")
    assert verified.code == 0, verified.out


def test_without_an_answer_of_aws_a_list_says_so_and_shows_what_the_archive_knows(
    aws_cli: CommandLine, project: Project, place: str
) -> None:
    aws_cli("launch", project.config, "--detach")
    refused = {
        "AWS_ENDPOINT_URL_SAGEMAKER": "http://127.0.0.1:9",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    listed = aws_cli("list", "--archive", place, "--json", env=refused)
    assert listed.code == 0, listed.err
    assert [one["status"] for one in listed.json["experiments"]] == ["started"]
    assert "AWS does not say how unfinished jobs stand" in listed.err


def test_the_doctor_adopts_a_job_that_started_unseen(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer, place: str
) -> None:
    experiment = aws_cli("launch", project.config, "--json").json["experiment"]
    prefix = experiment.removeprefix("s3://team/")
    client = s3.client()
    for name in ("launch.json", "result.json"):
        client.delete_object(Bucket="team", Key=prefix + name)
    headlines = client.list_objects_v2(
        Bucket="team", Prefix=f"{place.removeprefix('s3://team/')}/_headlines/"
    )
    for item in headlines["Contents"]:
        client.delete_object(Bucket="team", Key=item["Key"])
    done = aws_cli("doctor", "--repair", "--archive", place, "--json")
    assert done.code == 0, done.err
    told = [check["message"] for check in done.json["checks"] if check["group"] == "experiments"]
    assert told == ["settled: the job is Completed on AWS"]
    verified = aws_cli("verify", experiment, "--deep", "--json")
    verdicts = {check["name"]: check["verdict"] for check in verified.json["checks"]}
    assert verdicts["job"] == verdicts["seal"] == verdicts["headline"] == "ok"


def test_a_download_from_s3_is_what_was_saved(
    aws_cli: CommandLine, project: Project, s3: SeaweedServer, place: str, tmp_path: Path
) -> None:
    s3.client().put_object(Bucket="team", Key="data/train/a.csv", Body=b"1,2")
    project.program(
        "import os, pathlib\n"
        "(pathlib.Path(os.environ['SAGEMAKER_BASE_DIR']) / 'model' / 'w.bin').write_bytes(os.urandom(5_000_000))\n"
    )
    name = launched(aws_cli, project)
    words = ("download", name, "--archive", place, "--model", "--to", tmp_path / "to")
    done = aws_cli(*words)
    assert done.code == 0, done.err
    assert not (tmp_path / "to" / ".incomplete").exists()
    key = f"{place.removeprefix('s3://team/')}-outputs/{name}/output/model.tar.gz"
    (tmp_path / "model.tar.gz").write_bytes(s3.client().get_object(Bucket="team", Key=key)["Body"].read())
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        saved = tar.extractfile("w.bin")
        assert saved is not None
        assert (tmp_path / "to/model/w.bin").read_bytes() == saved.read()


@provokes(82)
def test_a_role_of_another_account_is_only_used_on_purpose(
    aws_cli: CommandLine, project: Project, aws: AwsServer, place: str
) -> None:
    del place
    project.write(
        S3={"CONFIGS": "s3://team/foreign", "OUTPUTS": "s3://team/out"},
        ESTIMATOR={"ROLE": ROLE.format("999999999999")},
    )
    name = aws_cli("launch", project.config, "--json", "--skip-check", "role").json["job_name"]
    before = len(aws.calls("CreateTrainingJob"))
    words = ("rerun", name, "--archive", "s3://team/foreign", "--json")
    refused = aws_cli(*words)
    assert (refused.code, refused.json["error"]["code"]) == (14, "foreign_role")
    assert len(aws.calls("CreateTrainingJob")) == before
    # AWS would refuse the job: that is for the check to say.
    assert aws_cli(*words, "--yes").json["error"]["code"] == "foreign_role"
    assert aws_cli(*words, "--yes", "--skip-check", "role").code == 0
    assert aws_cli(*words, "--set", "ESTIMATOR.ROLE", ROLE.format("123456789012")).code == 0
    assert len(aws.calls("CreateTrainingJob")) == before + 2
