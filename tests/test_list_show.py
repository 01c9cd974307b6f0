"""`list`, `show` and `--dry-run`: what they print, for people and for programs, and that they change nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.digest import sha256
from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import ARCHIVE, document, launch, local, nothing_written, rehearsal, rehearse

HOSTILE = "[bold]x[/bold] [link=http://a]y[/link] [/x] \x1b[2J\x1b]0;t\x07 \u202e \r \x9b2J"
CONTROLS = {"\x1b", "\x07", "\u202e", "\r", "\x9b"}
PLACE = ("--archive", ARCHIVE)


def unread(cli: CommandLine, *words: str | Path) -> int:
    """The exit code of a command whose reader has gone before it says anything."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        cli.command(*words),
        cwd=cli.folder,
        env=dict(cli.environment),
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert "Error" not in done.stderr.decode()
    return done.returncode


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def three(project: Project) -> list[str]:
    """The job names of three experiments."""
    return [
        rehearse(project, ("EXPERIMENT_NAME", f"team/number-{n}")).request["TrainingJobName"]
        for n in (1, 2, 3)
    ]


# --- list ---


def test_a_list_for_programs_is_separated_by_tabs(cli: CommandLine, project: Project) -> None:
    done = launch(cli, project)
    name = done.json["job_name"]
    listed = cli("list", "--s3-root", project.s3, *PLACE)
    assert listed.code == 0, listed.err
    header, row = (line.split("\t") for line in listed.out.splitlines())
    assert header == [
        *("created", "experiment", "job", "by", "target"),
        *("status", "duration", "machines", "metrics", "changed"),
    ]
    manifest = document(local(project, done.json["experiment"]), "manifest.json")
    created = manifest["created_at"][:19].replace("T", " ")
    assert row == [
        created,
        "team/tiny",
        name,
        manifest["author"]["user"],
        "process",
        "Completed",
        "0 s",
        "1 x ml.m5.large",
        "loss 5e-06",
        "SOLVER.BASE_LR 0.5",
    ]
    assert listed.err == ""


def test_a_list_in_json_has_everything(cli: CommandLine, project: Project) -> None:
    done = launch(cli, project)
    folder = local(project, done.json["experiment"])
    listed = cli("list", "--s3-root", project.s3, *PLACE, "--json")
    intent = document(folder, "intent.json")
    assert listed.json == {
        "schema": 1,
        "experiments": [
            {
                "experiment": done.json["experiment"],
                "experiment_name": "team/tiny",
                "job_name": done.json["job_name"],
                "created_at": intent["created_at"],
                "user": intent["author"]["user"],
                "target": "process",
                "state": "finished",
                "status": "Completed",
                "training_seconds": done.json["result"]["training_seconds"],
                "billable_seconds": done.json["result"]["billable_seconds"],
                "instances": "1 x ml.m5.large",
                "spot": False,
                "metrics": {"loss": 5e-06},
                "changed": {"SOLVER.BASE_LR": "0.5"},
            }
        ],
    }


def test_an_empty_archive_has_an_empty_list(cli: CommandLine, project: Project) -> None:
    with nothing_written(project.s3):
        done = cli("list", "--s3-root", project.s3, *PLACE)
        assert (done.code, len(done.out.splitlines())) == (0, 1)
        assert cli("list", "--s3-root", project.s3, *PLACE, "--json").json["experiments"] == []


def test_no_more_are_listed_than_asked_for(cli: CommandLine, project: Project, three: list[str]) -> None:
    def names(*words: str) -> set[str]:
        listed = cli("list", "--s3-root", project.s3, *PLACE, "--json", *words)
        return {experiment["job_name"] for experiment in listed.json["experiments"]}

    assert len(names("--limit", "2")) == len(names("-n", "2")) == 2
    assert names("--limit", "1") < names("--limit", "2") < names() == set(three)
    for limit in ("0", "-1", "1001", "many"):
        assert cli("list", "--s3-root", project.s3, *PLACE, "--limit", limit).code == 2


@pytest.mark.parametrize("how", ["option", "variable", "config", "default config"])
def test_the_archive_can_be_named_in_each_way(cli: CommandLine, project: Project, how: str) -> None:
    name = rehearse(project).request["TrainingJobName"]
    words: list[str | Path] = []
    variables = {"SAGEMAKER_LAUNCHER_S3_ROOT": str(project.s3)}
    if how == "option":
        words = [*PLACE]
    elif how == "variable":
        variables["SAGEMAKER_LAUNCHER_ARCHIVE"] = ARCHIVE
    elif how == "config":
        words = ["--config", project.config]
    else:
        (project.folder / "configs").mkdir()
        (project.folder / "configs" / "sagemaker_config.yaml").write_text(project.config.read_text())
    done = cli("list", *words, env=variables)
    assert done.code == 0, done.err
    assert name in done.out
    shown = cli("show", name, *words, env=variables)
    assert shown.code == 0, shown.err


def test_without_any_archive_the_user_is_asked_for_one(cli: CommandLine, project: Project) -> None:
    done = cli("list", "--s3-root", project.s3)
    assert (done.code, done.has_traceback) == (2, False)
    assert "--archive s3://bucket/prefix" in done.err


@pytest.mark.parametrize(
    ("archive", "code"),
    [("s3://nobody/experiments", 6), ("team/experiments", 2), ("s3://TEAM/x", 2), ("s3://team/../x", 2)],
)
def test_an_archive_that_is_none_is_refused(
    cli: CommandLine, project: Project, archive: str, code: int
) -> None:
    done = cli("list", "--s3-root", project.s3, "--archive", archive)
    assert (done.code, done.has_traceback) == (code, False)
    assert archive.partition("/experiments")[0] in done.err


# --- show ---


def test_an_experiment_is_shown_with_both_configs_provenance_and_result(
    cli: CommandLine, project: Project
) -> None:
    done = launch(cli, project, "--train", "NAME", "shown")
    experiment = done.json["experiment"]
    folder = local(project, experiment)
    shown = cli("show", experiment, "--s3-root", project.s3, "--all")
    assert shown.code == 0, shown.err
    for name in ("training_config.yaml", "sagemaker_config.yaml"):
        assert f"{name}\n{(folder / name).read_text()}" in shown.out
    manifest = document(folder, "manifest.json")
    answer = " ".join(shown.out.split())
    for text in (
        f"experiment {experiment}",
        f"job {done.json['job_name']}",
        f"launched {manifest['created_at']} by {manifest['author']['user']}@{manifest['author']['host']} on process",
        "command ",
        f"image {manifest['image_uri']}",
        "versions boto3 ",
        f"source code (sha256 {manifest['source']['sha256']})",
        "status Completed",
        "metrics loss 5e-06",
        f"saved model: s3://team/outputs/{done.json['job_name']}/output/model.tar.gz",
    ):
        assert text in answer
    assert shown.err == ""


def test_an_experiment_in_json_has_everything(cli: CommandLine, project: Project) -> None:
    done = launch(cli, project)
    folder = local(project, done.json["experiment"])
    shown = cli("show", done.json["experiment"], "--s3-root", project.s3, "--json").json
    assert shown.pop("rerun_command")
    assert shown == {
        "schema": 1,
        "experiment": done.json["experiment"],
        "state": "finished",
        "manifest": document(folder, "manifest.json"),
        "sagemaker_config": (folder / "sagemaker_config.yaml").read_text(),
        "training_config": (folder / "training_config.yaml").read_text(),
        "request": document(folder, "request.json"),
        "courses": {"loss": [1e-05, 5e-06]},
        "reruns": [],
        "launch": document(folder, "launch.json"),
        "result": document(folder, "result.json"),
    }


def pasted(cli: CommandLine, command: str, **variables: str) -> str:
    """What a command answers that a user has copied from the output."""
    done = subprocess.run(
        shlex.split(command),
        cwd=cli.folder,
        env={**cli.environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("root", ["absolute", "relative", "variable"])
def test_the_command_that_is_shown_runs_the_experiment_again(
    cli: CommandLine, project: Project, root: str
) -> None:
    experiment = launch(cli, project).json["experiment"]
    renamed = project.folder / "a folder; with 'odd' name"
    project.s3.rename(renamed)
    given = {"absolute": str(renamed), "relative": renamed.name, "variable": ""}[root]
    variables = {} if given else {"SAGEMAKER_LAUNCHER_S3_ROOT": str(renamed)}
    words = ["--s3-root", given] if given else []
    text = cli("show", experiment, *words, env=variables).out
    json_text = cli("show", experiment, *words, "--json", env=variables).json["rerun_command"]
    line = next(line for line in text.splitlines() if line.startswith("run again"))
    command = line.removeprefix("run again").strip()
    assert command == json_text
    assert json.loads(pasted(cli, f"{command} --json", **variables))["rerun_of"] == experiment


def test_the_command_that_a_launch_ends_with_finds_the_code_outside_of_the_current_folder(
    cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "its own folder").mkdir()
    elsewhere = CommandLine(tmp_path / "its own folder", cli.environment)
    command = elsewhere(*rehearsal(project)).out.splitlines()[-1].removeprefix("run again").strip()
    assert json.loads(pasted(elsewhere, f"{command} --json"))["differences"] == []
    assert "--set SOURCE.DIR" not in cli(*rehearsal(project)).out


def test_the_command_that_a_launch_ends_with_runs_it_again(cli: CommandLine, project: Project) -> None:
    text = cli(*rehearsal(project)).out
    command = text.splitlines()[-1].removeprefix("run again").strip()
    pasted(cli, command)


@pytest.mark.parametrize(
    ("experiment", "code"),
    [
        ("s3://team/experiments/team/tiny/nothing/", 6),
        ("team-tiny-20260102-030405-abcdef", 6),
        ("nothing", 6),
        ("s3://nobody/x/", 6),
        ("s3:/team/x", 2),
        ("s3://team/a/../../x", 2),
    ],
)
def test_an_experiment_that_does_not_exist_is_told(
    cli: CommandLine, project: Project, experiment: str, code: int
) -> None:
    for command in ("show", "rerun"):
        done = cli(command, experiment, "--s3-root", project.s3, *PLACE, "--json")
        assert (done.code, done.has_traceback) == (code, False), done.err
        assert done.json["error"]["exit"] == code


# --- hostile names ---


def spoil_names(project: Project) -> None:
    """Puts markup and control characters wherever an attacker with write access could, without breaking the seal."""
    (index,) = (project.s3 / "team/experiments/_index").iterdir()
    shutil.rmtree(project.s3 / "team/experiments/_headlines")  # with a headline, lists read nothing else
    (folder,) = (project.s3 / "team/experiments/team/tiny").iterdir()
    author = {"user": HOSTILE, "host": f"{HOSTILE}\ud800", "pid": 1, "arn": HOSTILE}
    change(index, author=author, target=HOSTILE, created_at=HOSTILE)
    change(
        folder / "manifest.json",
        author=author,
        created_at=HOSTILE,
        command=[HOSTILE],
        versions={HOSTILE: HOSTILE},
        account=HOSTILE,
        image_uri=f"{HOSTILE}\ud800",
        rerun_of=HOSTILE,
        allowed_secrets=[HOSTILE],
    )
    (folder / "launch.json").unlink()
    change(
        folder / "result.json",
        status=HOSTILE,
        failure_reason=f"{HOSTILE}\nsecond line\ud800",
        metrics={HOSTILE: 0.5, "nan": float("nan")},
        artifacts={HOSTILE: HOSTILE},
    )


@provokes(92, 93)
@pytest.mark.parametrize("locale", [{"LANG": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}])
def test_markup_and_control_characters_are_shown_as_they_are(
    cli: CommandLine, project: Project, locale: Mapping[str, str]
) -> None:
    rehearse(project)
    spoil_names(project)
    (folder,) = (project.s3 / "team/experiments/team/tiny").iterdir()
    uri = f"{ARCHIVE}/team/tiny/{folder.name}/"
    for words in (("list", *PLACE), ("show", uri)):
        done = cli(*words, "--s3-root", project.s3, env=locale)
        assert (done.code, done.has_traceback) == (0, False), done.err
        assert not CONTROLS & set(done.out + done.err)
        assert "[bold]x[/bold] [link=http://a]y[/link] [/x] \\x1b[2J" in done.out
        as_json = cli(*words, "--s3-root", project.s3, "--json", env=locale)
        assert as_json.code == 0, as_json.err
        assert not CONTROLS & set(as_json.out)
        assert as_json.json


def test_archived_configs_that_are_no_text_are_shown_all_the_same(cli: CommandLine, project: Project) -> None:
    rehearse(project)
    (folder,) = (project.s3 / "team/experiments/team/tiny").iterdir()
    spoiled = b"NAME: \xff\xfe \x1b[2J\n"
    (folder / "training_config.yaml").write_bytes(spoiled)
    variables = document(folder, "request.json")["Environment"]
    change(folder / "request.json", Environment={**variables, "TRAINING_CONFIG_SHA256": sha256(spoiled)})
    files = document(folder, "manifest.json")["files"]
    for name in ("training_config.yaml", "request.json"):
        data = (folder / name).read_bytes()
        files[name] = {"sha256": sha256(data), "size": len(data)}
    change(folder / "manifest.json", files=files)
    (folder / "launch.json").unlink()
    uri = f"{ARCHIVE}/team/tiny/{folder.name}/"
    done = cli("show", uri, "--s3-root", project.s3, "--all")
    assert (done.code, done.has_traceback) == (0, False), done.err
    assert "NAME: \ufffd\ufffd \\x1b[2J" in done.out
    assert cli("show", uri, "--s3-root", project.s3, "--json").code == 0
    again = cli("rerun", uri, "--s3-root", project.s3)
    assert (again.code, again.has_traceback) == (3, False)


# --- readers that go away ---


@provokes(98)
@pytest.mark.parametrize("words", [("list", *PLACE), ("list", *PLACE, "--json")])
def test_a_list_whose_reader_goes_away_ends_in_silence(
    cli: CommandLine, project: Project, words: tuple[str, ...]
) -> None:
    rehearse(project)
    assert unread(cli, *words, "--s3-root", project.s3) == 0


@provokes(98)
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_other_commands_whose_reader_goes_away_end_in_silence_too(
    cli: CommandLine, project: Project, words: tuple[str, ...]
) -> None:
    rehearse(project)
    (folder,) = (project.s3 / "team/experiments/team/tiny").iterdir()
    experiment = f"{ARCHIVE}/team/tiny/{folder.name}/"
    assert unread(cli, "show", experiment, "--s3-root", project.s3, *words) == 0
    assert unread(cli, "check", "--offline", project.config, *words) == 0
    assert unread(cli, *rehearsal(project, "--dry-run", *words)) == 0
    assert unread(cli, "--help") == 0


@provokes(98)
def test_the_first_line_is_enough_for_head(cli: CommandLine, project: Project) -> None:
    rehearse(project)
    command = shlex.join(cli.command("list", "--s3-root", str(project.s3), *PLACE))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} | head -1"],
        cwd=cli.folder,
        env=dict(cli.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("created\t")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


# --- dry runs ---

SPY = """\
import atexit, os, sys

@atexit.register
def tell():
    with open(os.environ["IMPORTED"], "w") as file:
        file.write("\\n".join(sorted(sys.modules)))
"""


@pytest.mark.parametrize("command", ["launch", "rerun"])
@pytest.mark.parametrize("target", ["process", "aws"])
def test_a_dry_run_prints_the_request_writes_nothing_and_imports_no_sdk(
    cli: CommandLine, project: Project, tmp_path: Path, command: str, target: str
) -> None:
    first = launch(cli, project)
    name = project.config if command == "launch" else first.json["experiment"]
    words = (command, name, "--on", target, "--s3-root", project.s3, "--dry-run")
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    spy = {"PYTHONPATH": str(tmp_path / "spy"), "IMPORTED": str(tmp_path / "imported")}
    with nothing_written(project.folder):
        done = cli(*words, env=spy)
        as_json = cli(*words, "--json")
    assert done.code == 0, done.err
    request = json.loads(done.out)
    answer = as_json.json
    assert "result" not in answer
    assert answer["target"] == target
    # Every dry run makes a name of its own.
    for own in (request, answer["request"]):
        own_name = own["TrainingJobName"]
        assert own == json.loads(json.dumps(first.json["request"]).replace(first.json["job_name"], own_name))
    imported = {module.partition(".")[0] for module in (tmp_path / "imported").read_text().splitlines()}
    assert "click" in imported
    assert not {"sagemaker", "boto3", "s3transfer", "pandas", "numpy"} & imported


def test_a_dry_run_needs_neither_data_nor_a_stand_in_folder(cli: CommandLine, project: Project) -> None:
    project.write(CHANNELS={"training": "s3://team/data/nothing/"})
    with nothing_written(project.folder):
        done = cli("launch", project.config, "--on", "process", "--dry-run")
    assert done.code == 0, done.err
    assert json.loads(done.out)["InputDataConfig"][0]["ChannelName"] == "training"


def test_a_dry_run_of_a_rerun_tells_the_differences(cli: CommandLine, project: Project) -> None:
    experiment = launch(cli, project).json["experiment"]
    done = cli("rerun", experiment, "--s3-root", project.s3, "--dry-run", "--json", "--train", "SEED", "9")
    assert done.code == 0, done.err
    assert {"area": "training config", "name": "SEED", "before": "0", "after": "9"} in done.json[
        "differences"
    ]
    assert done.json["rerun_of"] == experiment
