"""`shell --on process`: what the program would find, for somebody who looks for himself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine, Finished
from tests.project import Project
from tests.stand_in import nothing_written, snapshot


def shell(cli: CommandLine, project: Project, commands: str, *words: str) -> Finished:
    """Gives commands to a shell; nothing may be written but to the cache."""
    with nothing_written(project.folder):
        done = subprocess.run(
            cli.command("shell", project.config, "--on", "process", "--s3-root", project.s3, *words),
            cwd=cli.folder,
            env={**cli.environment},
            input=commands,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    return Finished(done.returncode, done.stdout, done.stderr)


def left(cli: CommandLine) -> dict[str, Any]:
    return snapshot(Path(cli.environment["HOME"]) / ".cache/sagemaker-launcher/rehearsals")


def test_a_shell_finds_the_data_the_configs_and_the_variables(cli: CommandLine, project: Project) -> None:
    commands = (
        "cat $SM_CHANNEL_TRAINING/a.csv; cat $SM_CHANNEL_CONFIG/training_config.yaml | head -2\n"
        "cat $SAGEMAKER_BASE_DIR/input/config/hyperparameters.json; echo\n"
        "echo $SM_CURRENT_HOST $TRAINING_JOB_NAME $MY_OWN; ls\n"
        "test -d $SM_MODEL_DIR -a -d $SM_OUTPUT_DATA_DIR && echo writable\n"
    )
    settings = (
        "--set",
        "ESTIMATOR.ENVIRONMENT.MY_OWN",
        "yes",
        "--set",
        "ESTIMATOR.HYPERPARAMETERS.epochs",
        "3",
    )
    done = shell(cli, project, commands, *settings)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "1,2"
    assert '{"epochs":"3"}' in lines
    assert [line for line in lines if line.startswith("algo-1 team-tiny-") and line.endswith(" yes")]
    assert {"config.py", "main.py", "writable"} <= set(lines)
    assert left(cli) == {}


def test_the_program_can_be_run_by_hand(cli: CommandLine, project: Project) -> None:
    done = shell(cli, project, f"{sys.executable} main.py && cat $SM_MODEL_DIR/model.txt\n")
    assert done.code == 0, done.err
    assert "first line" in done.out
    assert done.out.endswith("weights")


@pytest.mark.parametrize("code", [0, 3, 42])
def test_the_exit_code_is_the_shells(cli: CommandLine, project: Project, code: int) -> None:
    assert shell(cli, project, f"exit {code}\n").code == code


def test_changed_settings_count_and_the_host_knows_of_the_others(cli: CommandLine, project: Project) -> None:
    words = ("--train", "SEED", "7", "--set", "ESTIMATOR.INSTANCE_COUNT", "2")
    done = shell(cli, project, "grep SEED $SM_CHANNEL_CONFIG/training_config.yaml; echo $SM_HOSTS\n", *words)
    assert done.out.splitlines()[0] == "SEED: 7"
    assert json.loads(done.out.splitlines()[1]) == ["algo-1", "algo-2"]


def test_pipe_channels_can_be_read(cli: CommandLine, project: Project) -> None:
    done = shell(
        cli,
        project,
        "cat $SAGEMAKER_BASE_DIR/input/data/training_0\n",
        "--set",
        "ESTIMATOR.INPUT_MODE",
        "Pipe",
    )
    assert (done.code, done.out) == (0, "1,2\n"), done.err


def test_what_the_shell_left_behind_is_ended(cli: CommandLine, project: Project) -> None:
    done = shell(cli, project, "setsid sleep 300 >/dev/null 2>&1 & sleep 0.2; pgrep -f 'sleep 300' -n\n")
    assert done.code == 0, done.err
    assert left(cli) == {}
    assert not Path(f"/proc/{done.out.split()[-1]}/cwd").exists()


def test_mistakes_are_told_as_a_launch_tells_them(cli: CommandLine, project: Project) -> None:
    project.write(CHANNELS={"training": "s3://team/data/nothing/"})
    done = shell(cli, project, "echo never\n")
    assert (done.code, done.out, done.has_traceback) == (6, "", False)
    assert "no S3 objects found" in done.err


def test_what_is_edited_in_the_shell_is_the_users_code(cli: CommandLine, project: Project) -> None:
    command = cli.command("shell", project.config, "--on", "process", "--s3-root", project.s3)
    commands = "echo 'VALUE = 2' > $SM_MODULE_DIR/edited.py; pwd\n"
    done = subprocess.run(
        command,
        cwd=cli.folder,
        env=dict(cli.environment),
        input=commands,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{project.folder / 'code'}\n"), done.stderr
    assert (project.folder / "code" / "edited.py").read_text() == "VALUE = 2\n"
