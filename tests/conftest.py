"""What every test has: a machine without settings, the command line, a small project."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.commands import CommandLine, clean_environment
from tests.project import Project

pytest_plugins = ["tests.emulator.plugin"]
_SETTINGS = ("AWS_", "SAGEMAKER_", "SM_", "XDG_", "NO_COLOR", "FORCE_COLOR")


def pytest_configure() -> None:
    """Makes signals work in the commands under test, even if whoever started the tests had them ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hides the developer's AWS settings and home from every test."""
    for name in os.environ:
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "project")


@pytest.fixture
def cli(project: Project, home: Path) -> CommandLine:
    """The command line, in the project's folder, on a machine without settings."""
    return CommandLine(project.folder, clean_environment(home))
