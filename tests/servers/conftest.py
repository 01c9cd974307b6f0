"""An AWS for the tests of the servers, shared by all of a worker and empty at the start of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .aws import AwsServer
from .clients import Client


@pytest.fixture(scope="session")
def running_server() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


@pytest.fixture
def server(running_server: AwsServer) -> AwsServer:
    running_server.reset()
    return running_server


@pytest.fixture
def sagemaker(server: AwsServer) -> Client:
    return server.client("sagemaker")
