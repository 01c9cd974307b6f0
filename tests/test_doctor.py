"""`doctor` before any engine has answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.project import Project


def test_a_program_that_is_not_there_is_a_finding_with_its_fix(cli: CommandLine) -> None:
    done = cli("doctor", "--image", "x:1", "--docker", "no-such-podman")
    assert done.code == 15
    failed, *fixes = done.out.splitlines()[1:]
    assert failed == "failed   engine    the program no-such-podman is not installed, or not on PATH"
    assert fixes
    assert all(line.startswith(" " * 14 + "fix: ") for line in fixes)


def test_the_engines_program_may_come_from_a_variable(cli: CommandLine) -> None:
    done = cli("doctor", "--image", "x:1", "--json", env={"SAGEMAKER_LAUNCHER_DOCKER": "no-such-finch"})
    assert done.code == 15
    [check] = done.json["checks"]
    assert (check["group"], check["name"], check["verdict"]) == ("engine", "engine", "failed")
    assert "no-such-finch" in check["message"]
    assert check["fix"]


def test_an_engines_program_that_fails_without_a_word_is_a_finding(cli: CommandLine, tmp_path: Path) -> None:
    program = tmp_path / "silent"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    done = cli("doctor", "--image", "x:1", "--docker", program)
    assert done.code == 15
    assert "failed without a word" in done.out
    assert f"fix: see what this says: {program} version" in done.out


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_without_a_config_the_image_has_to_be_named(cli: CommandLine, words: tuple[str, ...]) -> None:
    done = cli("doctor", *words)
    assert done.code == 2
    assert "which image?" in done.out + done.err


def test_the_config_in_its_usual_place_names_the_image(project: Project, cli: CommandLine) -> None:
    (project.folder / "configs").mkdir()
    for path in (project.config, project.training, project.folder / "code"):
        path.rename(project.folder / "configs" / path.name)
    done = cli("doctor", "--docker", "no-such-docker", "--json")
    assert done.json["subject"] == "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tiny:1.0"


def test_an_invalid_config_is_reported_as_such(project: Project, cli: CommandLine) -> None:
    project.write(ESTIMATOR={"INSTANCE_TYPE": "ml.m5.lrge"})
    done = cli("doctor", project.config)
    assert done.code == 3
    assert "INSTANCE_TYPE" in done.err
