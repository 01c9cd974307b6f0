"""An AWS that behaves, beside the S3 server of all tests, shared by all tests of a worker; each test looks at its own job only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import CommandLine, clean_environment
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer


@pytest.fixture(scope="session")
def running_aws() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


@pytest.fixture
def aws(running_aws: AwsServer) -> AwsServer:
    """AWS without jobs, whose new jobs complete after a second."""
    running_aws.reset()
    running_aws.auto_complete = 1.0
    return running_aws


@pytest.fixture
def aws_environment(s3: SeaweedServer, aws: AwsServer, home: Path) -> dict[str, str]:
    """Variables of somebody who has an account."""
    key, secret = s3.admin
    return clean_environment(
        home,
        AWS_ENDPOINT_URL=aws.endpoint_url,
        AWS_ENDPOINT_URL_S3=s3.endpoint_url,
        AWS_ACCESS_KEY_ID=key,
        AWS_SECRET_ACCESS_KEY=secret,
    )


@pytest.fixture
def aws_cli(project: Project, s3: SeaweedServer, aws_environment: dict[str, str]) -> CommandLine:
    """The command line of somebody who has an account, in the project's folder; its data is in S3."""
    for path in project.s3.rglob("*"):
        if path.is_file():
            bucket, _, key = path.relative_to(project.s3).as_posix().partition("/")
            s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    return CommandLine(project.folder, aws_environment)


@pytest.fixture
def proxy(s3: SeaweedServer) -> Iterator[RecordingProxy]:
    """A bad network before the S3 server."""
    with RecordingProxy(upstream=s3.endpoint_url) as running:
        yield running
