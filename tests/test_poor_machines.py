"""Machines without room, without a folder that can be written to, without a terminal worth the name."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from tests.commands import CommandLine, Finished
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import ARCHIVE, launch
from tests.unprivileged import Unprivileged

Machine = Callable[..., Finished]
CACHE = "SAGEMAKER_LAUNCHER_CACHE"
_ENTER = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--mount")


@pytest.fixture
def machine(cli: CommandLine) -> Machine:
    """Runs a command with mounts that nobody else sees: `machine(shell commands that mount, *words, **variables)`."""
    tried = subprocess.run([*_ENTER, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"this machine has no mount namespaces for its user: {tried.stderr.strip()}")

    def run(mounts: str, *words: str | Path, **variables: str) -> Finished:
        done = subprocess.run(
            [*_ENTER, "sh", "-ec", f'{mounts}\ncd "$PWD"\nexec "$@"', "sh", *cli.command(*words)],
            cwd=cli.folder,
            env={**cli.environment, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


def place(project: Project) -> tuple[str | Path, ...]:
    return ("--s3-root", project.s3, "--archive", ARCHIVE)


@provokes(72)
def test_a_full_disk_for_the_cache_is_done_without_and_named_by_what_needs_it(
    machine: Machine, cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    cache = tmp_path / "full"
    cache.mkdir()
    full = (
        f"mount -t tmpfs -o size=64k tmpfs '{cache}'\nhead -c 1M /dev/zero > '{cache}/x' 2> /dev/null || true"
    )
    job = launch(cli, project).json["job_name"]
    listed = machine(
        full, "list", *place(project), "--user", "@me", "--json", SAGEMAKER_LAUNCHER_CACHE=str(cache)
    )
    assert (listed.code, listed.err) == (0, "")
    assert [one["job_name"] for one in listed.json["experiments"]] == [job]
    rehearsed = machine(
        full,
        *("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json"),
        SAGEMAKER_LAUNCHER_CACHE=str(cache),
    )
    assert (rehearsed.code, rehearsed.has_traceback) == (15, False)
    assert "No space left on device" in rehearsed.json["error"]["message"]
    states = {one["status"] for one in cli("list", *place(project), "--json").json["experiments"]}
    assert states == {"Failed", "Completed"}


@pytest.mark.parametrize("files", [14, 18, 20, 24, 28])
def test_a_rehearsal_that_finds_no_room_halfway_has_failed_and_says_so(
    machine: Machine, cli: CommandLine, project: Project, tmp_path: Path, files: int
) -> None:
    cache = tmp_path / "small"
    cache.mkdir()
    done = machine(
        f"mount -t tmpfs -o nr_inodes={files} tmpfs '{cache}'",
        *("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json"),
        SAGEMAKER_LAUNCHER_CACHE=str(cache),
    )
    assert (done.code in {10, 15}, done.has_traceback) == (True, False), done.err
    assert "No space left on device" in done.out
    (experiment,) = cli("list", *place(project), "--json").json["experiments"]
    assert (experiment["state"], experiment["status"]) == ("finished", "Failed")


@provokes(73)
def test_a_home_and_a_folder_that_cannot_be_written_to_are_missed_only_by_what_writes_there(
    machine: Machine, project: Project, home: Path, tmp_path: Path
) -> None:
    s3 = project.s3.rename(tmp_path / "s3")
    read_only = "\n".join(
        f"mount --bind '{folder}' '{folder}'\nmount -o remount,bind,ro '{folder}'"
        for folder in (home, project.folder)
    )
    words = ("launch", project.config, "--on", "process", "--s3-root", s3, "--json")
    refused = machine(read_only, *words)
    assert (refused.code, refused.json["error"]["code"]) == (15, "no_cache")
    assert "Read-only file system" in refused.json["error"]["message"]
    assert "SAGEMAKER_LAUNCHER_CACHE=DIR" in refused.json["error"]["hint"]
    done = machine(read_only, *words, SAGEMAKER_LAUNCHER_CACHE=str(tmp_path / "cache"))
    assert done.code == 0, done.err
    where = ("--s3-root", s3, "--archive", ARCHIVE)
    for looking in (
        ("check", "--offline", project.config),
        ("list", *where, "--user", "@me"),
        ("show", "@latest", *where),
        ("status", "@latest", *where),
    ):
        looked = machine(read_only, *looking)
        assert (looked.code, looked.err) == (0, ""), looking
    download = machine(read_only, "download", "@latest", *where, "--json")
    assert (download.code, download.has_traceback) == (15, False)
    assert done.json["job_name"] in download.json["error"]["message"]


@provokes(97)
def test_a_dumb_and_narrow_terminal_gets_plain_text(cli: CommandLine, project: Project) -> None:
    shown, code = on_a_terminal(cli, 20, "launch", project.config, "--on", "process", "--s3-root", project.s3)
    assert code == 0
    assert "algo-1 | first line" in shown
    for words in (("list", *place(project)), ("show", "@latest", *place(project))):
        shown, code = on_a_terminal(cli, 20, *words)
        assert code == 0, shown
        assert "Completed" in shown or "Compl" in shown
        assert "\x1b" not in shown


@provokes(97)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_a_character_set_lacks_is_escaped(cli: CommandLine, project: Project, encoding: str) -> None:
    project.program("print('naïve 数字 🙂 loss=1')\n")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    project.write_training("NAME: 数字\n")
    words = ("--s3-root", project.s3)
    launched = subprocess.run(
        cli.command("launch", project.config, "--on", "process", *words),
        cwd=cli.folder,
        env={**cli.environment, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    assert rb"\u6570\u5b57" in launched.stderr
    assert ("na\u00efve".encode(encoding, "backslashreplace")) in launched.stderr
    shown = subprocess.run(
        cli.command("show", "@latest", *place(project)),
        cwd=cli.folder,
        env={**cli.environment, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert rb"\u6570\u5b57" in shown.stdout


def on_a_terminal(cli: CommandLine, columns: int, *words: str | Path) -> tuple[str, int]:
    """What a terminal that can do nothing shows, and the exit code."""
    program, *arguments = cli.command(*words)
    child = pexpect.spawn(
        program,
        list(arguments),
        cwd=str(cli.folder),
        env={**cli.environment, "TERM": "dumb"},
        encoding="utf-8",
        dimensions=(24, columns),
        timeout=60,
    )
    shown: str = child.read()
    child.close()
    return shown, child.exitstatus


def test_what_lies_behind_a_closed_door_is_told_in_a_line(cli: CommandLine, project: Project) -> None:
    closed = project.folder / "closed"
    (closed / "configs").mkdir(parents=True)
    closed.chmod(0)
    somebody = Unprivileged.of(cli)
    config, account = closed / "configs" / "sagemaker_config.yaml", ("--account", "123456789012")
    try:
        examined = somebody("doctor", "--docker", "none", "--json", env={CACHE: str(closed / "cache")})
        commands = (
            (("doctor", config, "--docker", "none"), 3, f"{config}: cannot be read: Permission denied"),
            (("check", "--offline", config), 3, f"{config}: cannot be read: Permission denied"),
            (("launch", config, "--dry-run"), 3, f"{config}: cannot be read: Permission denied"),
            (("list", "--s3-root", closed / "s3"), 15, f"no such folder: {closed / 's3'}"),
            (("init", closed / "new", "--region", "us-east-1", *account), 15, f"cannot write in {closed}"),
        )
        ends = [(somebody(*words), code, said) for words, code, said in commands]
        closed.chmod(0o755)
        config.parent.chmod(0)
        inside = CommandLine(closed, {**cli.environment, "AWS_CONFIG_FILE": str(config.parent / "aws")})
        ends.append((Unprivileged.of(inside)("list"), 2, "which archive?"))
    finally:
        closed.chmod(0o755)
        config.parent.chmod(0o755)
    assert not examined.has_traceback
    [cache] = [one for one in examined.json["checks"] if one["name"] == "cache"]
    assert (cache["verdict"], cache["message"]) == (
        "warning",
        f"nothing can be written to {closed / 'cache'}",
    )
    for done, code, said in ends:
        assert not done.has_traceback, done.err
        assert (done.code, said in done.out + done.err) == (code, True), done.err
