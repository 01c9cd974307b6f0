"""The section of README.md on AWS, step by step, and its list of what a launch does there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests import aws_command
from tests.commands import CommandLine
from tests.project import Project
from tests.sandbox import Sandbox, blocks
from tests.servers.aws import AwsServer
from tests.servers.seaweed import SeaweedServer
from tests.test_docs import JOB_NAME, README, rows

ACCOUNT = "123456789012"
BUCKET = "readers-bucket"
REPOSITORY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/sagemaker-digits"
# docker as far as build_and_push.sh needs it here; tests/test_build_and_push.py looks at that script closely.
DOCKER = """#!/bin/sh
case "$*" in *login*) cat > /dev/null ;; image\\ inspect*) echo {image} ;; esac
"""
NAMES, ROLE, DATA, IMAGES, LAUNCH, WATCH, AGAIN = range(7)


@pytest.fixture
def steps() -> list[str]:
    """The commands of each step that has some."""
    found = [
        block.code
        for block in blocks(README)
        if block.heading == "If you have an AWS account" and block.language == "sh"
    ]
    assert len(found) == AGAIN + 1
    return [step.replace("BUCKET=team", f"BUCKET={BUCKET}") for step in found]


@pytest.fixture
def image(aws: AwsServer) -> str:
    """The image, which is in ECR, since nothing is built or pushed here."""
    aws.client("iam").delete_role(RoleName="SageMakerExecutionRole")  # a step makes it
    return f"{REPOSITORY}@{aws.state.push('sagemaker-digits', word='as the reader built it')}"


@pytest.fixture
def reader(tmp_path: Path, image: str) -> Sandbox:
    """Somebody with the AWS CLI and Docker, who has edited the config as step 2 says."""
    sandbox = Sandbox.create(tmp_path / "reader")
    programs = sandbox.folder / "programs"
    programs.mkdir()
    aws_command.install(programs)
    (programs / "docker").write_text(DOCKER.format(image=image))
    (programs / "docker").chmod(0o755)
    config = sandbox.folder / "configs" / "sagemaker_config.yaml"
    text = config.read_text().replace("s3://team/", f"s3://{BUCKET}/")
    config.write_text(re.sub(r"IMAGE_URI: .*", f"IMAGE_URI: {image}", text))
    return sandbox


def run(reader: Sandbox, environment: dict[str, str], *steps: str) -> str:
    """Runs steps in one shell; gives what was printed."""
    variables = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    script = "\n".join(["source .venv/bin/activate", *steps])
    done = reader.run(script, programs=reader.folder / "programs", **variables)
    assert done.code == 0, done.err
    return done.out


def test_the_steps_lead_to_a_job_that_a_teammate_runs_again(
    reader: Sandbox,
    image: str,
    steps: list[str],
    aws_environment: dict[str, str],
    aws: AwsServer,
    s3: SeaweedServer,
) -> None:
    out = run(reader, aws_environment, *steps[: LAUNCH + 1])
    assert f"{image}\n" in out
    iam = aws.client("iam")
    policy = iam.get_role_policy(RoleName="SageMakerExecutionRole", PolicyName="training")["PolicyDocument"]
    assert f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/sagemaker-digits" in json.dumps(policy)
    assert s3.client().get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    data = s3.client().list_objects_v2(Bucket=BUCKET, Prefix="data/digits/")["Contents"]
    assert [item["Key"] for item in data] == [
        "data/digits/train/digits.csv",
        "data/digits/validation/digits.csv",
    ]
    [first] = set(re.findall(rf"^job +({JOB_NAME.pattern})$", out, re.MULTILINE))

    [looking] = [block.code for block in blocks(README) if block.heading == "Jobs that were launched"]
    looked = run(reader, aws_environment, looking)
    assert looked.count(f"job         {first}\n") == 2
    assert looked.count("status      Completed\n") == 2

    # Whoever does not wait has jobs that run.
    aws.auto_complete = None
    detaching = re.sub(r"^(.* rerun .*)$", r"\1 --detach", steps[AGAIN], flags=re.MULTILINE)
    (reader.folder / "configs").rename(reader.folder / "not the teammate's")
    again = run(reader, aws_environment, steps[NAMES], f"JOB={first}", detaching)
    shown, rerun, changed = re.findall(rf"^job +({JOB_NAME.pattern})$", again, re.MULTILINE)
    assert shown == first != rerun
    assert aws.created(rerun)["ResourceConfig"] == aws.created(first)["ResourceConfig"]
    assert aws.created(changed)["ResourceConfig"]["InstanceType"] == "ml.m5.xlarge"

    (reader.folder / "not the teammate's").rename(reader.folder / "configs")
    watched = run(reader, aws_environment, steps[NAMES], f"JOB={changed}", steps[WATCH])
    assert "status      InProgress (Starting)\n" in watched
    assert "exit code 11: it did not complete\n" in watched
    stopped = aws.client("sagemaker", region="us-east-1").describe_training_job(TrainingJobName=changed)
    assert stopped["TrainingJobStatus"] in {"Stopping", "Stopped"}


def test_a_launch_makes_the_calls_that_are_listed_and_no_others(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    # moto takes the part of S3 here, since it tells what it received.
    s3 = aws.client("s3", region="us-east-1")
    s3.create_bucket(Bucket="team")
    s3.put_object(Bucket="team", Key="data/train/a.csv", Body=b"1")
    before = len(aws.requests)
    done = aws_cli("launch", project.config, env={"AWS_ENDPOINT_URL_S3": aws.endpoint_url})
    assert done.code == 0, done.err
    listed = [(row[0], re.findall(r"`([^`]+)`", row[1])) for row in rows("calls")]
    made: list[str] = []
    asked: set[str] = set()
    for request in aws.requests[before:]:
        if request.method in {"GET", "HEAD"}:
            assert request.path.startswith(("/team", "/blobs/"))
            assert not made[1:], "what is asked is asked before anything is written"
        elif request.service != "s3":
            call = f"{request.service}:{request.operation}"
            (asked.add if call in listed[1][1] else made.append)(call)
        else:
            assert request.method == "PUT"
            key = re.sub(r"/team/experiments/team/tiny/[^/]+/", "<experiment>/", request.path)
            key = re.sub(
                r"/team/experiments/_index/\d{10}-.+\.json",
                "<S3.CONFIGS>/_index/<number>-<job name>.json",
                key,
            )
            key = re.sub(
                r"/team/experiments/_headlines/\d{10}-[^.]+\..+",
                "<S3.CONFIGS>/_headlines/<number>-<job name>.<words>",
                key,
            )
            made.append(f"s3:PutObject {key}")
    watching = [call for call in made if call.startswith(("logs:", "sagemaker:Describe"))]
    made = [call for call in made if call not in watching]
    assert {"iam:SimulatePrincipalPolicy", "ecr:BatchGetImage", "servicequotas:ListServiceQuotas"} <= asked
    assert set(watching) <= set(next(calls for number, calls in listed if number == "9"))
    together = [f"s3:PutObject {calls[1]}" for number, calls in listed if number == "5"]
    expected = [" ".join(calls) for number, calls in listed if number not in {"2", "5", "9"}]
    assert sorted(made[3 : 3 + len(together)]) == sorted(together)
    assert [*made[:3], *made[3 + len(together) :]] == expected


def test_the_policy_for_people_allows_every_call_that_is_listed(cli: CommandLine, project: Project) -> None:
    project.write(
        ESTIMATOR={
            "SUBNETS": ["subnet-0123456789abcdef0"],
            "SECURITY_GROUP_IDS": ["sg-0123456789abcdef0"],
            "OUTPUT_KMS_KEY": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555",
        }
    )
    policy = cli("init", "--policies", project.config, "--json").json["policies"]["launcher"]["document"]
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    called = {call for row in rows("calls") for call in re.findall(r"`(\w+:\w+)`", row[1])}
    # Anybody may ask who they are.
    assert called - {"sts:GetCallerIdentity"} <= allowed
