"""An S3 that takes requests and says nothing: one Ctrl-C ends whoever waits for it, whatever is on its way."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine, Started
from tests.fault_rows import provokes
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.faults import RecordedRequest
from tests.servers.proxy import RecordingProxy

EXPERIMENTS = [f"team-tiny-20261122-0357{second:02d}-1ac6d9" for second in range(7)]
_INDEX, _REST = (
    f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>{items}'
    "</ListBucketResult>"
    for items in (
        "".join(
            f"<Contents><Key>experiments/_index/8204680{number:03d}-{name}.json</Key><Size>10</Size>"
            '<ETag>"x"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>'
            for number, name in enumerate(EXPERIMENTS)
        ),
        "",
    )
)
XML = {"Content-Type": "application/xml"}
LONG_S = 600.0


def listing(request: RecordedRequest) -> bool:
    return "list-type" in request.path


def of_the_index(request: RecordedRequest) -> bool:
    return listing(request) and "_index" in request.path


def reading(request: RecordedRequest) -> bool:
    return request.method == "GET" and not listing(request)


def writing(request: RecordedRequest) -> bool:
    return request.method == "PUT" and request.path.partition("?")[0].endswith("/request.json")


def interrupted(process: Started, proxy: RecordingProxy, match: Callable[[RecordedRequest], bool]) -> str:
    """What a command says that gets one Ctrl-C once requests of its are on their way."""
    with process:
        deadline = time.monotonic() + 60
        while not any(map(match, proxy.requests)) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)  # S3 is waited for five times as long
    assert process.returncode == 130, err
    assert "Traceback" not in err
    return err


@pytest.fixture
def silent() -> Iterator[RecordingProxy]:
    """Lists experiments, and gives none of their files."""
    with RecordingProxy() as running:
        running.fail(reading, "hang", times=1000, seconds=LONG_S)
        running.answer_with(of_the_index, _INDEX.encode(), XML, times=1000)
        running.answer_with(listing, _REST.encode(), XML, times=1000)
        yield running


@provokes(61)
@pytest.mark.parametrize(
    "words", [("list",), ("status", *EXPERIMENTS[:3])], ids=["many-experiments", "many-jobs"]
)
def test_one_ctrl_c_ends_a_command_that_reads(
    cli: CommandLine, silent: RecordingProxy, words: tuple[str, ...]
) -> None:
    there = {
        "AWS_ENDPOINT_URL": silent.url,
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_ACCOUNT_ID": AwsServer.account,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    process = cli.start(*words, "--archive", "s3://team/experiments", env=there)
    assert "interrupted" in interrupted(process, silent, reading)


@provokes(62)
def test_one_ctrl_c_ends_a_launch_whose_upload_gets_no_answer(
    aws_cli: CommandLine, project: Project, proxy: RecordingProxy, aws: AwsServer, tmp_path: Path
) -> None:
    archive = f"s3://team/silent-{tmp_path.name}"
    project.write(S3={"CONFIGS": archive, "OUTPUTS": "s3://team/outputs"})
    proxy.fail(writing, "hang", times=9, seconds=LONG_S)
    process = aws_cli.start("launch", project.config, env={"AWS_ENDPOINT_URL_S3": proxy.url})
    assert "nothing was started" in interrupted(process, proxy, writing)
    assert not aws.calls("CreateTrainingJob")
    listed = aws_cli("list", "--archive", archive, "--json").json["experiments"]
    assert [one["state"] for one in listed] == ["interrupted"]
