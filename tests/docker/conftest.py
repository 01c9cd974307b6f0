"""A real engine for every test here; without one they are skipped, or fail when REQUIRE_DOCKER says that there is one."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.commands import CommandLine, clean_environment
from tests.docker.example_image import build_example
from tests.docker.launching import Desk, OrdinaryUser, open_folder
from tests.project import Project
from tests.servers import pip_settings
from tests.servers.aws import AwsServer
from tests.servers.engine import Engine
from tests.servers.registry import RegistryServer

_TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder, so that `-m docker` finds them all; the first ones wait for images to be built."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine that answers and has the base image."""
    try:
        engine = Engine.found()
        engine.make_base_image()
    except LookupError as reason:
        _cannot_run(str(reason))
    return engine


@pytest.fixture
def docker_cli(project: Project, home: Path, engine: Engine) -> CommandLine:
    """The command line of somebody who has Docker, in the project's folder."""
    return CommandLine(project.folder, clean_environment(home, **engine.variables))


@pytest.fixture(scope="session")
def pip_image(engine: Engine) -> str:
    """A base image whose pip installs packages as this machine does."""
    return engine.build("pip", pip_settings.INSTRUCTIONS, pip_settings.files())


@pytest.fixture(scope="session")
def training_image(engine: Engine, pip_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of the example in sagemaker_container/."""
    return build_example(engine, tmp_path_factory.mktemp("home"), base=pip_image, tag="tests")


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


@pytest.fixture(scope="session")
def registry(aws: AwsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry with the login that ECR gives to whoever has credentials."""
    reason = RegistryServer.available()
    if reason:
        _cannot_run(reason)
    with RegistryServer(tmp_path_factory.mktemp("registry"), *_login(aws)) as server:
        yield server


def _login(aws: AwsServer) -> tuple[str, str]:
    """User and password that ECR gives out (GetAuthorizationToken: Base64 of both with a colon between)."""
    [data] = aws.client("ecr").get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    return user, password


def _cannot_run(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def users_folder() -> Iterator[Path]:
    """A new folder that other users can reach."""
    with open_folder() as path:
        yield path


@pytest.fixture
def users_desk(engine: Engine, users_folder: Path) -> Desk:
    """The desk of an ordinary user, to whom everything on it belongs."""
    try:
        user = OrdinaryUser.of(engine)
    except LookupError as reason:
        pytest.skip(str(reason))
    temporary = users_folder / "temporary"
    temporary.mkdir()
    desk = Desk.set_up(users_folder, engine, command_line=user, TMPDIR=str(temporary))
    for path in (users_folder, *users_folder.rglob("*")):
        os.chown(path, OrdinaryUser.UID, OrdinaryUser.UID)
    return desk
