"""What leaves the machine, and what a bad network does to a launch: everything goes through a recording, failing proxy."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagemaker_launcher.preflight import CHECKS
from tests.commands import CommandLine, newest
from tests.fault_rows import provokes
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.faults import Kind, RecordedRequest
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer
from tests.servers.sockets import spy_environment

UNCHECKED = [
    word for name in CHECKS for word in ("--skip-check", name)
]  # each would take as long as the rest


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with RecordingProxy() as running:
        yield running


@pytest.fixture
def proxied(aws_cli: CommandLine, proxy: RecordingProxy) -> CommandLine:
    """The command line of somebody whose every request goes through the proxy."""
    return CommandLine(aws_cli.folder, {**aws_cli.environment, **proxy.environment()})


def puts(name: str) -> Callable[[RecordedRequest], bool]:
    """Matches the upload of one file of an experiment."""

    def matches(request: RecordedRequest) -> bool:
        return request.method == "PUT" and request.path.partition("?")[0].endswith(name)

    return matches


@provokes(43, 90)
def test_only_our_own_calls_and_create_training_job_leave_the_machine(
    proxied: CommandLine,
    project: Project,
    proxy: RecordingProxy,
    aws: AwsServer,
    s3: SeaweedServer,
    tmp_path: Path,
) -> None:
    spy, contacts = spy_environment(tmp_path)
    done = proxied("launch", project.config, "--detach", env=spy)
    assert done.code == 0, done.err
    assert proxy.hosts() == {url.removeprefix("http://") for url in (aws.endpoint_url, s3.endpoint_url)}
    to_aws = [request for request in proxy.requests if request.host in aws.endpoint_url]
    # STS and IAM have one path for all; what ECR says is at an address of its own.
    questions = {"POST /", "BatchGetImage", "GetDownloadUrlForLayer", "ListServiceQuotas", "GetProducts"}
    asked = {request.operation for request in to_aws if not request.operation.startswith("GET /blobs/")}
    assert asked == {"CreateTrainingJob", *questions}
    actions = re.findall(rb"Action=(\w+)", b"\n".join(request.body for request in to_aws))
    assert set(actions) == {b"GetCallerIdentity", b"GetRole", b"SimulatePrincipalPolicy"}
    to_s3 = [request for request in proxy.requests if request.host in s3.endpoint_url]
    assert {request.method for request in to_s3} == {"PUT", "GET", "HEAD"}
    assert sum(request.method == "PUT" for request in to_s3) <= 8
    assert not [contact for contact in contacts() if contact.leaves_the_machine]


@provokes(64)
def test_ctrl_c_during_create_training_job_waits_for_the_answer_and_records_it(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer
) -> None:
    aws.auto_complete = None
    with RecordingProxy(upstream=aws.endpoint_url) as slow:
        process = aws_cli.start("launch", project.config, *UNCHECKED, env={"AWS_ENDPOINT_URL": slow.url})
        deadline = time.monotonic() + 60
        while not slow.calls("CreateTrainingJob") and time.monotonic() < deadline:
            slow.latency = 2.0
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on, and is billed" in err
    (call,) = aws.calls("CreateTrainingJob")
    job = call.params["TrainingJobName"]
    listed = s3.client().list_objects_v2(Bucket="team", Prefix=f"experiments/team/tiny/{job}/")["Contents"]
    assert f"experiments/team/tiny/{job}/launch.json" in {item["Key"] for item in listed}


@provokes(69)
def test_a_name_that_somebody_else_takes_meanwhile_is_a_conflict_that_says_whose(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    with RecordingProxy(upstream=aws.endpoint_url) as slow:
        process = aws_cli.start("launch", project.config, *UNCHECKED, env={"AWS_ENDPOINT_URL": slow.url})
        deadline = time.monotonic() + 60
        while not slow.calls("CreateTrainingJob") and time.monotonic() < deadline:
            slow.latency = 3.0
            time.sleep(0.02)
        (call,) = slow.calls("CreateTrainingJob")
        theirs = json.loads(call.body)
        theirs["Tags"] = [{"Key": "launcher:experiment", "Value": "s3://other/experiment/"}]
        aws.client("sagemaker", region="us-east-1").create_training_job(**theirs)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert "s3://other/experiment/" in err
    assert len(aws.client("sagemaker", region="us-east-1").list_training_jobs()["TrainingJobSummaries"]) == 1


@provokes(70)
def test_a_job_whose_start_cannot_be_recorded_is_still_followed(
    proxied: CommandLine, project: Project, proxy: RecordingProxy
) -> None:
    proxy.fail(puts("/launch.json"), "slow_down", times=20)
    done = proxied("launch", project.config, "--json")
    assert done.code == 0, done.err
    assert done.json["result"]["status"] == "Completed"
    assert "has started, but the archive does not say so" in done.err


@provokes(46, 48)
@pytest.mark.parametrize("kind", ["reset", "drop", "internal_error", "slow_down"])
@pytest.mark.parametrize("name", ["/intent.json", "/manifest.json"])
def test_a_passing_fault_of_the_network_changes_nothing(
    proxied: CommandLine, project: Project, proxy: RecordingProxy, name: str, kind: Kind
) -> None:
    # After `drop` the object exists: the repeated request meets its own first try and must not call it a conflict.
    proxy.fail(puts(name), kind, times=1)
    done = proxied("launch", project.config, "--detach")
    assert done.code == 0, done.err
    assert not done.has_traceback


@provokes(47)
def test_s3_that_stays_busy_ends_the_launch_before_anything_is_started(
    proxied: CommandLine, project: Project, proxy: RecordingProxy, aws: AwsServer
) -> None:
    proxy.fail(puts("/manifest.json"), "slow_down", times=50)
    done = proxied("launch", project.config)
    assert done.code == 9
    assert not aws.calls("CreateTrainingJob")
    assert newest(proxied)["state"] == "interrupted"


@provokes(51)
def test_the_login_page_of_a_network_is_not_taken_for_s3(
    proxied: CommandLine, project: Project, proxy: RecordingProxy, aws: AwsServer
) -> None:
    proxy.fail(lambda request: request.method == "PUT", "html", times=50)
    done = proxied("launch", project.config)
    assert done.code == 9
    assert "not S3" in done.err
    assert not aws.calls("CreateTrainingJob")


@provokes(31)
def test_a_token_that_expires_during_the_upload_leaves_no_job(
    proxied: CommandLine, project: Project, proxy: RecordingProxy, aws: AwsServer
) -> None:
    proxy.fail(puts("/manifest.json"), "expired_token", times=50)
    done = proxied("launch", project.config, "--json")
    assert done.code == 4
    assert done.json["error"]["hint"].startswith("log in")
    assert not aws.calls("CreateTrainingJob")
    assert newest(proxied)["state"] == "interrupted"


@provokes(52)
def test_a_broken_download_is_read_again(
    proxied: CommandLine, project: Project, proxy: RecordingProxy
) -> None:
    folder = proxied("launch", project.config, "--json").json["experiment"]
    proxy.fail(
        lambda request: request.method == "GET" and "manifest.json" in request.path, "truncate", times=1
    )
    shown = proxied("show", folder, "--json")
    assert shown.code == 0, shown.err
    assert shown.json["state"] == "finished"


@provokes(108)
def test_throttling_while_waiting_is_survived(
    proxied: CommandLine, project: Project, proxy: RecordingProxy
) -> None:
    proxy.fail(lambda request: request.operation == "DescribeTrainingJob", "throttled", times=3)
    done = proxied("launch", project.config)
    assert done.code == 0, done.err
    assert "the jobs go on; trying again" in done.err
    assert "AWS answers again" in done.err
