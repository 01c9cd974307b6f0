"""Words that shells complete: the same as the commands have, offline, and never anything but words."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.commands import CommandLine
from tests.project import Project
from tests.stand_in import ARCHIVE, launch
from tests.terminals import on_terminal

ASK = """\
. ./completion.bash
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_run_sagemaker_job
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def shell(cli: CommandLine, project: Project) -> CommandLine:
    """The command line, whose folder has the script for bash."""
    script = cli("completion", "bash")
    assert script.code == 0, script.err
    (project.folder / "completion.bash").write_text(script.out)
    return cli


def completed(cli: CommandLine, *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", "run-sagemaker-job", *words],
        cwd=cli.folder,
        env=dict(cli.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_options_are_completed(shell: CommandLine) -> None:
    assert completed(shell, "li") == ["list"]
    assert completed(shell, "list", "--s") == ["--status", "--since", "--sort", "--s3-root"]
    assert completed(shell, "rerun", "x", "--res") == ["--resume"]
    assert completed(shell, "init", "--w") == ["--write-policies"]
    assert completed(shell, "list", "zzz") == []


def test_keys_of_both_configs_are_completed(shell: CommandLine, project: Project) -> None:
    words = ("launch", project.config.name, "--set", "ESTIMATOR.INSTANCE_T")
    assert completed(shell, *words) == ["ESTIMATOR.INSTANCE_TYPE"]
    words = ("launch", project.config.name, "--train", "SOLVER.")
    assert completed(shell, *words) == ["SOLVER.BASE_LR", "SOLVER.EPOCHS", "SOLVER.NESTEROV", "SOLVER.STEPS"]
    assert completed(shell, "launch", "nothing.yaml", "--train", "SOLVER.") == []


def test_experiments_that_were_listed_are_completed_without_their_archive(
    shell: CommandLine, project: Project
) -> None:
    name = launch(shell, project).json["job_name"]
    assert completed(shell, "show", "team-") == []
    assert shell("list", "--s3-root", project.s3, "--archive", ARCHIVE).code == 0
    project.s3.rename(project.folder / "gone")
    for command in ("show", "rerun", "download", "diff", "status"):
        assert completed(shell, command, "team-") == [name]
    assert completed(shell, "show", "@") == ["@latest", "@me"]


def test_hostile_keys_reach_no_shell(shell: CommandLine, project: Project) -> None:
    path = project.folder / "code" / "config.py"
    path.write_text(path.read_text() + "_C.A$(touch${IFS}hacked) = 1\n_C.GOOD = 1\n_C.`touch hacked` = 1\n")
    assert completed(shell, "launch", project.config.name, "--train", "G") == ["GOOD"]
    assert not (project.folder / "hacked").exists()


def test_hostile_names_of_an_archive_reach_no_shell(shell: CommandLine, project: Project) -> None:
    name = launch(shell, project).json["job_name"]
    index = project.s3 / "team/experiments/_index"
    (index / "0000000001-$(touch hacked).json").write_text("{")
    (index / "0000000002-`touch hacked`.json").write_text("{")
    assert "touch" in shell("list", "--s3-root", project.s3, "--archive", ARCHIVE).out
    assert completed(shell, "show", "") == ["@latest", "@me", name]
    assert not (project.folder / "hacked").exists()


def test_the_schema_is_read_without_running_it(shell: CommandLine, project: Project) -> None:
    (project.folder / "code" / "config.py").write_text("_C.SEED = 1\nopen('ran', 'w')\n")
    assert completed(shell, "launch", project.config.name, "--train", "S") == ["SEED"]
    assert not (project.folder / "ran").exists()


def installed(name: str) -> str:
    """A shell's path; the test is skipped without one."""
    path = shutil.which(name)
    if path is None and os.environ.get("REQUIRE_SHELLS"):
        pytest.fail(f"there is no {name}")
    return path or pytest.skip(f"there is no {name}")


def test_fish_completes_commands_keys_and_experiments(shell: CommandLine, project: Project) -> None:
    fish = installed("fish")
    name = launch(shell, project).json["job_name"]
    assert shell("list", "--s3-root", project.s3, "--archive", ARCHIVE).code == 0
    (project.folder / "completion.fish").write_text(shell("completion", "fish").out)

    def words(typed: str) -> list[str]:
        command = f"source completion.fish; complete -C 'run_sagemaker_job.py {typed}'"
        done = subprocess.run(
            [fish, "--no-config", "-c", command],
            cwd=shell.folder,
            env=dict(shell.environment),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert words("li") == ["list"]
    assert words("rerun x --res") == ["--resume"]
    assert words("launch --set ESTIMATOR.INSTANCE_T") == ["ESTIMATOR.INSTANCE_TYPE"]
    assert words(f"launch {project.config.name} --train SOLVER.B") == ["SOLVER.BASE_LR"]
    assert words("show team-") == [name]
    assert words("show @") == ["@latest", "@me"]


def test_zsh_completes_commands_keys_and_experiments(shell: CommandLine, project: Project) -> None:
    zsh = installed("zsh")
    name = launch(shell, project).json["job_name"]
    assert shell("list", "--s3-root", project.s3, "--archive", ARCHIVE).code == 0
    (project.folder / "completion.zsh").write_text(shell("completion", "zsh").out)
    forget = "\x15"  # Ctrl-U
    environment = {**shell.environment, "TERM": "dumb", "PS1": "> ", "COLUMNS": "1000"}
    with on_terminal([zsh, "-f", "-i"], shell.folder, environment) as terminal:
        terminal.type("autoload -U compinit; compinit -u -D; source ./completion.zsh; echo re''ady\n")
        terminal.until("ready\r\n")
        terminal.type("run_sagemaker_job.py li\t")
        terminal.until("run_sagemaker_job.py list")
        terminal.type(f"{forget}run_sagemaker_job.py launch --set ESTIMATOR.INSTANCE_T\t")
        terminal.until("INSTANCE_TYPE")
        terminal.type(f"{forget}run_sagemaker_job.py launch {project.config.name} --train SOLVER.B\t")
        terminal.until("BASE_LR")
        terminal.type(f"{forget}run_sagemaker_job.py show team-\t")
        terminal.until(name)
        terminal.type(f"{forget}exit\n")
        terminal.rest()


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_every_shell_gets_every_command(cli: CommandLine, name: str) -> None:
    script = cli("completion", name)
    assert script.code == 0
    for word in ("launch", "rerun", "download", "verify", "completion"):
        assert word in script.out
    assert cli("completion", "tcsh").code == 2


@pytest.mark.parametrize("words", [("show", ""), ("launch", "sagemaker_config.yaml", "--train", "")])
def test_completion_imports_nothing_heavy(
    shell: CommandLine, project: Project, words: tuple[str, ...]
) -> None:
    launch(shell, project)
    assert shell("list", "--s3-root", project.s3, "--archive", ARCHIVE).code == 0
    script = project.folder / "completion.bash"
    script.write_text(
        script.read_text().replace("main(sys.argv[1:])", "main(sys.argv[1:]); print(*sys.modules)")
    )
    modules = completed(shell, *words)
    assert "sagemaker_launcher.completion" in modules
    assert not {name.partition(".")[0] for name in modules} & {
        "boto3",
        "botocore",
        "click",
        "rich",
        "sagemaker",
        "yacs",
        "yaml",
    }
