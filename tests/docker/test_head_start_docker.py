"""`docker run` starts before its turn: it is used when it waits, done without when it cannot, and never goes on by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.commands import ROOT
from tests.docker.launching import Desk, wait_until
from tests.servers.engine import BASE_IMAGE, Engine

# What stands between us and the engine's program on some machines.
_LOGS = """\
#!{python}
import os, subprocess, sys
with open("{log}", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
"""
_PASSES_ON = _LOGS + 'os.execv("{real}", sys.argv)\n'
# As sudo does.
_CLOSES_FILES = _LOGS + 'os.closerange(3, 256)\nos.execv("{real}", sys.argv)\n'
# As programs do that speak to another machine.
_RUNS_ELSEWHERE = (
    _LOGS + 'sys.exit(subprocess.run(["{real}", *sys.argv[1:]], stdin=subprocess.DEVNULL).returncode)\n'
)


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Desk:
    return Desk.set_up(tmp_path, engine)


class Between:
    """A program called docker that stands in the way."""

    def __init__(self, folder: Path, engine: Engine, text: str) -> None:
        self._log = folder / "log"
        self._log.touch()
        self.path = folder / "bin" / "docker"
        self.path.parent.mkdir()
        real = shutil.which(engine.program)
        self.path.write_text(text.format(python=sys.executable, log=self._log, real=real))
        self.path.chmod(0o755)

    def runs(self) -> list[str]:
        """The words of each `run`."""
        return [line for line in self._log.read_text().splitlines() if line.startswith("run ")]


def waiting() -> list[psutil.Process]:
    """The programs on this machine that wait to go."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "--env-file" in words and words[words.index("--env-file") + 1].startswith("/dev/fd/"):
            found.append(process)
    return found


def test_the_program_that_was_started_early_runs_the_container(
    desk: Desk, engine: Engine, tmp_path: Path
) -> None:
    between = Between(tmp_path, engine, _PASSES_ON)
    desk.program("print('seen once')")
    done = desk.launch("--docker", between.path)
    assert done.result["status"] == "Completed"
    [run] = between.runs()
    assert run.startswith("run --env-file /dev/fd/")


@pytest.mark.parametrize("text", [_CLOSES_FILES, _RUNS_ELSEWHERE], ids=["closes files", "runs elsewhere"])
def test_where_it_cannot_wait_it_is_started_in_its_turn(
    desk: Desk, engine: Engine, tmp_path: Path, text: str
) -> None:
    between = Between(tmp_path, engine, text)
    desk.program("print('seen once')")
    done = desk.launch("--docker", between.path)
    assert done.result["status"] == "Completed"
    first, second = between.runs()
    assert first.startswith("run --env-file /dev/fd/")
    assert second.startswith("run --name ")
    assert done.lines() == ["seen once"]


@pytest.mark.parametrize("moment", ["prepared", "sealed", "recorded"])
def test_it_runs_nothing_when_the_launcher_is_killed(desk: Desk, engine: Engine, moment: str) -> None:
    before = {process.pid for process in waiting()}
    words = desk.words()
    with desk.cli.start(*words, env={"SAGEMAKER_LAUNCHER_TEST_PAUSE_AT": moment}) as process:
        assert process.stderr
        assert any(f"paused at {moment}" in line for line in process.stderr)
        ours = [one for one in waiting() if one.pid not in before and one.ppid() == process.pid]
        assert len(ours) == 1
        name = ours[0].cmdline()[ours[0].cmdline().index("--name") + 1]
        time.sleep(0.2)  # as late as it can be: it waits, and has not only just started
        process.kill()
    wait_until(lambda: not ours[0].is_running(), "the end of what waited")
    time.sleep(0.5)
    assert engine("ps", "--all", "--quiet", "--filter", f"name={name}").stdout == ""
    assert engine("events", "--since", "5m", "--until", "0s", "--filter", f"container={name}").stdout == ""


_HOLDER = """\
import os, sys, time
from sagemaker_launcher.rehearsal.head_start import HeadStart
head_start = HeadStart(sys.argv[1:], dict(os.environ))
print(head_start._waits(), head_start._process.pid, flush=True)
time.sleep(60)
"""


def test_the_engines_own_program_refuses_a_file_that_only_our_end_has_ended(engine: Engine) -> None:
    name, program = f"head-start-{os.getpid()}", str(shutil.which(engine.program))
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, program, "run", "--name", name, BASE_IMAGE, "true"],
        cwd=ROOT,
        env={**os.environ, **engine.variables},
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        waits, pid = holder.stdout.readline().split()
        ours = psutil.Process(int(pid))
        holder.kill()
    wait_until(lambda: not ours.is_running(), "the end of what waited")
    assert waits == "True"
    assert engine("ps", "--all", "--quiet", "--filter", f"name={name}").stdout == ""


def test_nothing_waits_behind_a_shell(desk: Desk) -> None:
    before = {process.pid for process in waiting()}
    desk.program("print('not of the shell')")
    words = ("shell", desk.project.config, "--s3-root", desk.project.s3, "--image", desk.image)
    with subprocess.Popen(
        desk.cli.command(*words),
        cwd=desk.cli.folder,
        env=desk.cli.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("echo open\n")
        process.stdin.flush()
        assert process.stdout.readline() == "open\n"
        assert [one for one in waiting() if one.pid not in before and one.ppid() == process.pid] == []
        process.communicate("exit 7\n", timeout=60)
    assert process.returncode == 7
