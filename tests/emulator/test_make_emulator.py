"""`make emulator` as somebody without an account uses it: in one terminal the emulator, in another the launcher."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from sagemaker_launcher.rehearsal.leftovers import BASE_VARIABLE
from tests.commands import ROOT, CommandLine, clean_environment
from tests.servers.clients import Client, sealed_client

from .requests import request

START = [sys.executable, "-m", "tests.emulator", "--port", "0"]


@contextmanager
def running(home: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The emulator, and the variables that it says to export."""
    environment = clean_environment(home)
    with subprocess.Popen(
        [*START, *words],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, {**environment, **exported(process)}
        finally:
            process.kill()


def exported(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("Ctrl-C"):
            return found
        match = re.fullmatch(r"export (\w+)=(.*)\n", line)
        if match:
            found[match[1]] = shlex.split(match[2])[0]
    pytest.fail("the emulator ended")


def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Sends a signal, and gives the rest of the output."""
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    return out


def programs_of(home: Path) -> list[psutil.Process]:
    """The training programs that run below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(BASE_VARIABLE, "").startswith(str(home)):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_the_example_trains_with_the_variables_that_are_printed(home: Path) -> None:
    with running(home) as (process, variables):
        example = ("launch", "configs/sagemaker_config.yaml", "--on", "aws", "--train", "SOLVER.EPOCHS", "1")
        done = CommandLine(ROOT, variables)(*example, "--json")
        assert done.code == 0, done.out + done.err
        result = done.json["result"]
        assert (result["status"], set(result["metrics"])) == (
            "Completed",
            {"train:loss", "validation:loss", "validation:accuracy"},
        )
        out = end(process, signal.SIGINT)

    assert process.returncode == 0
    assert f"{done.json['job_name']}  Completed" in out


def start_job(home: Path, variables: dict[str, str], status: str = "InProgress") -> None:
    """Starts a job, and waits until its program runs and the job has a status."""
    key, secret = variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
    client = sealed_client("sagemaker", variables["AWS_ENDPOINT_URL"], (key, secret))
    client.create_training_job(**request("sleeper"))
    deadline = time.monotonic() + 30
    while not programs_of(home) or status != described(client)["TrainingJobStatus"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def described(client: Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.describe_training_job(TrainingJobName="sleeper")
    return answer


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """A folder with two programs that never end; the second takes the process of its job away."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.py").write_text("import time\ntime.sleep(60)\n")
    (folder / "orphan.py").write_text(
        "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)\n"
    )
    return folder


@pytest.mark.parametrize(
    ("number", "program", "status"),
    [
        (signal.SIGINT, "main.py", "InProgress"),
        (signal.SIGTERM, "main.py", "InProgress"),
        (signal.SIGINT, "orphan.py", "Failed"),
    ],
)
def test_a_signal_ends_the_jobs_and_leaves_nothing(
    home: Path, sleeper: Path, number: signal.Signals, program: str, status: str
) -> None:
    with running(home, "--code", f"*={sleeper}:{program}") as (process, variables):
        start_job(home, variables, status)
        end(process, number)

    assert process.returncode == 0
    assert programs_of(home) == []
    assert list(home.glob("sagemaker-emulator-*")) == []


def test_jobs_end_when_the_emulator_is_killed(home: Path, sleeper: Path) -> None:
    with running(home, "--code", f"*={sleeper}") as (process, variables):
        start_job(home, variables)
        end(process, signal.SIGKILL)

    deadline = time.monotonic() + 30
    while programs_of(home):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_port_that_is_taken_is_an_error_without_a_traceback(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [*START[:-1], str(port)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=clean_environment(home),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["nothing", "=folder", "pattern="])
def test_code_that_makes_no_sense_is_refused(home: Path, words: str) -> None:
    done = subprocess.run(
        [*START, "--code", words],
        cwd=ROOT,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "--code" in done.stderr


def test_without_an_engine_docker_is_refused_at_the_start(home: Path) -> None:
    done = subprocess.run(
        [*START, "--on", "docker"],
        cwd=ROOT,
        env=clean_environment(home, DOCKER_HOST=f"unix://{home}/nobody"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
