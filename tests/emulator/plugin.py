"""Fixtures: a real S3 server, and AWS whose SageMaker trains; one of each for all tests of a worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import CommandLine, clean_environment
from tests.project import Project

if TYPE_CHECKING:
    from tests.servers.seaweed import SeaweedServer

    from .emulator import Emulator

BUCKET = "team"
_STOP_GRACE_S = 10.0  # less than the service gives, since tests wait for it


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A real S3 server with the bucket `team`; what a test leaves there stays for the next."""
    from tests.servers.seaweed import SeaweedServer  # noqa: PLC0415 - boto3 only where a server is wanted

    reason = SeaweedServer.available()
    if reason:
        if os.environ.get("REQUIRE_SERVERS"):
            pytest.fail(reason)
        pytest.skip(reason)
    with SeaweedServer(tmp_path_factory.mktemp("seaweed")) as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def running_emulator(s3: SeaweedServer) -> Iterator[Emulator]:
    from .emulator import Emulator  # noqa: PLC0415 - moto only where it is wanted

    with Emulator(s3.endpoint_url, s3.admin, stop_grace_s=_STOP_GRACE_S) as emulator:
        yield emulator


@pytest.fixture
def emulator(running_emulator: Emulator) -> Iterator[Emulator]:
    """AWS without jobs, whose new jobs run; those that still run at the end of the test are ended."""
    running_emulator.reset()
    yield running_emulator
    running_emulator.reset()


@pytest.fixture
def emulator_cli(project: Project, home: Path, s3: SeaweedServer, emulator: Emulator) -> CommandLine:
    """The command line of somebody who has an account, in the project's folder; its code runs in every image."""
    for path in project.s3.rglob("*"):
        if path.is_file():
            bucket, _, key = str(path.relative_to(project.s3)).partition("/")
            s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    emulator.runs(project.folder / "code")
    return CommandLine(project.folder, clean_environment(home, **emulator.variables))
