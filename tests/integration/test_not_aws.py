"""What answers in the place of AWS - a gateway, a network's login, the program of a profile - tells nothing of jobs and experiments."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import UnavailableError
from sagemaker_launcher.jobs import jobs
from sagemaker_launcher.naming import S3Uri
from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.integration.storages import storage_at
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.faults import RecordedRequest
from tests.servers.proxy import RecordingProxy
from tests.servers.samples import training_request
from tests.servers.seaweed import SeaweedServer

REGION = "us-east-1"
NOT_FOUND = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not Found<br></body></html>"
HTML = {"Content-Type": "text/html"}
# A profile whose role is assumed with the keys of another.
ASSUMES = """\
[profile team]
role_arn = arn:aws:iam::123456789012:role/Engineer
source_profile = keys
[profile keys]
aws_access_key_id = KEY
aws_secret_access_key = SECRET
"""
# Gives credentials that botocore renews before they are used, and fails from then on.
PROGRAM = """\
import datetime as dt, json, pathlib, sys
been_here = pathlib.Path(__file__).with_suffix(".once")
if been_here.exists():
    sys.exit("okta: session not found, log in again")
been_here.touch()
end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=5)
keys = {"AccessKeyId": "KEY", "SecretAccessKey": "SECRET", "SessionToken": "TOKEN"}
print(json.dumps({"Version": 1, "Expiration": end.isoformat(), **keys}))
"""


def every(_: RecordedRequest) -> bool:
    return True


@pytest.fixture
def gateway(aws: AwsServer) -> Iterator[RecordingProxy]:
    """What stands before AWS."""
    with RecordingProxy(upstream=aws.endpoint_url) as running:
        yield running


@pytest.fixture
def job(aws: AwsServer) -> str:
    """A job that runs."""
    aws.auto_complete = None
    aws.client("sagemaker", region=REGION).create_training_job(**training_request("by-hand"))
    return "by-hand"


@provokes(32)
def test_a_program_for_credentials_that_finds_no_session_tells_nothing_of_the_job(
    aws_cli: CommandLine, job: str
) -> None:
    script, config = aws_cli.folder / "log in", aws_cli.folder / "aws-config"
    script.write_text(PROGRAM)
    config.write_text(f'[default]\ncredential_process = {sys.executable} "{script}"\n')
    kept = {name: value for name, value in aws_cli.environment.items() if "ACCESS_KEY" not in name}
    cli = CommandLine(aws_cli.folder, {**kept, "AWS_CONFIG_FILE": str(config)})
    done = cli("wait", job, "--region", REGION, "--json")
    assert (done.code, done.json["error"]["code"]) == (12, "contact_lost"), done.err
    assert "session not found" in done.json["error"]["message"]


@provokes(51)
@pytest.mark.parametrize("status", [403, 404])
def test_a_page_of_a_gateway_is_no_answer_on_a_job(
    job: str, gateway: RecordingProxy, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    client = Aws(REGION).single_attempt_client("sagemaker")
    for act in (jobs.describe, jobs.stop):
        gateway.answer_with(every, NOT_FOUND, HTML, status=status)
        with pytest.raises(UnavailableError, match=f"{status}: what answered is not AWS") as caught:
            act(client, job)
        assert "HTTPS_PROXY" in caught.value.hint
    gateway.answer_with(every, NOT_FOUND, HTML)
    with pytest.raises(UnavailableError, match="what answered is not AWS"):
        jobs.stop(client, job)
    assert jobs.describe(client, job)["TrainingJobStatus"] == "InProgress"


@provokes(51)
def test_the_doctor_settles_nothing_that_a_gateway_says(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer, gateway: RecordingProxy
) -> None:
    aws.auto_complete = None
    archive = "s3://team/behind-a-gateway"
    project.write(S3={"CONFIGS": archive, "OUTPUTS": "s3://team/outputs"})
    uri = aws_cli("launch", project.config, "--detach", "--json").json["experiment"]
    s3.client().delete_object(Bucket="team", Key=f"{uri.removeprefix('s3://team/')}launch.json")
    gateway.answer_with(every, NOT_FOUND, HTML, status=404, times=99)
    words = ("doctor", "--repair", "--archive", archive, "--json")
    account = {"AWS_ACCOUNT_ID": AwsServer.account}
    done = aws_cli(*words, env={**account, "AWS_ENDPOINT_URL": gateway.url})
    checks = [check for check in done.json["checks"] if check["group"] == "experiments"]
    assert [check["verdict"] for check in checks] == ["unknown"], done.out
    assert "what answered is not AWS" in checks[0]["message"]
    [check] = (
        check for check in aws_cli(*words, env=account).json["checks"] if check["group"] == "experiments"
    )
    assert check["message"] == "settled: the job is InProgress on AWS"


@pytest.mark.parametrize(
    ("code", "exit_code"), [("ResourceNotFoundException", 4), ("ValidationError", 4), ("AccessDenied", 5)]
)
def test_a_role_that_cannot_be_assumed_is_told_from_a_job_that_is_not_there(
    aws_cli: CommandLine, aws: AwsServer, job: str, code: str, exit_code: int
) -> None:
    config = aws_cli.folder / "aws-config"
    config.write_text(ASSUMES)
    aws.fail_next("AssumeRole", code, "no such thing was not found", times=9)
    kept = {name: value for name, value in aws_cli.environment.items() if "ACCESS_KEY" not in name}
    cli = CommandLine(aws_cli.folder, {**kept, "AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "team"})
    done = cli("status", job, "--region", REGION, "--json")
    assert done.code == exit_code, done.err


# --- a network that wants a login ---

# Well-formed, so that botocore takes it for any document of AWS; what is not is taken for an error of a server.
LOGIN = (
    b'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Login</title></head><body>Log in</body></html>'
)


@pytest.fixture
def portal() -> Iterator[RecordingProxy]:
    """A network that answers everything with its login page."""
    with RecordingProxy() as running:
        running.answer_with(every, LOGIN, HTML, times=10_000)
        yield running


@provokes(51)
def test_the_login_page_of_a_network_is_no_empty_archive(
    cli: CommandLine, project: Project, portal: RecordingProxy
) -> None:
    there = {
        "AWS_ENDPOINT_URL": portal.url,
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_ACCOUNT_ID": AwsServer.account,
        "AWS_DEFAULT_REGION": REGION,
    }
    for words in (
        ("list",),
        ("show", "team/tiny"),
        ("verify", "latest"),
        ("doctor", "--repair", "--dry-run", "--docker", "no-such-docker"),
    ):
        done = cli(*words, "--archive", "s3://team/experiments", "--json", env=there)
        assert done.code == 9, (words, done.out, done.err)
        assert "what answered is not S3" in done.out
    checked = cli("check", project.config, "--json", env=there)
    assert checked.code == 9, checked.out
    assert not [
        check
        for check in checked.json["checks"]
        if check["verdict"] == "ok" and check["name"] in {"buckets", "public", "archive", "data"}
    ]


@provokes(51)
def test_a_page_of_any_kind_comes_with_the_network_among_its_reasons(
    portal: RecordingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    [storage] = storage_at(portal.url, ("KEY", "SECRET"), monkeypatch)
    portal.reset()
    portal.answer_with(every, NOT_FOUND, HTML, times=99)
    with pytest.raises(UnavailableError, match="Internal Server Error") as caught:
        next(storage.list(S3Uri("team", "x")))
    assert "log in to the network" in caught.value.hint
