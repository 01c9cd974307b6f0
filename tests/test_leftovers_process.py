"""What outlives a program or a launcher, and what of it the next rehearsal finds: nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine
from tests.fidelity import reproduces
from tests.project import Project
from tests.stand_in import is_running, launch, local, rehearsal, snapshot

PRELUDE = """\
import os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
"""
# A child in a session of its own, deaf to SIGTERM, with a child in yet another one.
ESCAPES = """\
grandchild = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(300)"
child = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True).pid, flush=True); time.sleep(300)"
escaped = subprocess.Popen([sys.executable, "-c", child], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
print("escaped", escaped.pid, escaped.stdout.readline().strip(), os.getpid(), flush=True)
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(cli: CommandLine, project: Project) -> Iterator[Start]:
    """Starts a launch; whatever happens in the test, none outlives it."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **variables: str) -> subprocess.Popen[str]:
        process = cli.start(*rehearsal(project, *words), env=variables)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def rehearsals(home: Path) -> Path:
    return home / ".cache" / "sagemaker-launcher" / "rehearsals"


def pids_of(process: subprocess.Popen[str]) -> list[int]:
    """Reads the log up to the line that names processes."""
    assert process.stderr
    for line in process.stderr:
        if " | escaped " in line:
            return [int(word) for word in line.partition(" | escaped ")[2].split()]
    raise AssertionError(process.stderr)


def gone(pids: list[int]) -> bool:
    limit = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def test_a_child_that_left_its_programs_group_is_gone_after_a_normal_end(
    cli: CommandLine, project: Project, rehearsals: Path
) -> None:
    project.program(f"{PRELUDE}{ESCAPES}(base / 'model' / 'm').write_text('x')")
    done = launch(cli, project)
    assert done.code == 0, done.err
    found = re.search(r"escaped (\d+) (\d+) (\d+)", done.err)
    assert found
    assert gone([int(pid) for pid in found.groups()])
    assert snapshot(rehearsals) == {}


def test_the_rehearsal_after_a_killed_one_ends_its_processes_and_removes_its_folder(
    start: Start, cli: CommandLine, project: Project, rehearsals: Path
) -> None:
    project.program(f"{PRELUDE}{ESCAPES}time.sleep(300)")
    process = start()
    pids = pids_of(process)
    process.kill()
    process.wait()
    assert all(is_running(pid) for pid in pids)
    assert len(list(rehearsals.glob("*.lock"))) == 1
    project.program("print('the next')")
    done = launch(cli, project)
    assert done.code == 0, done.err
    assert gone(pids)
    assert snapshot(rehearsals) == {}


def test_a_launcher_that_is_killed_while_it_fetches_leaves_nothing_for_long(
    start: Start, cli: CommandLine, project: Project, rehearsals: Path, home: Path
) -> None:
    # Much data that is not there yet; a second copy makes sure that a fetch has begun and has not ended.
    big = project.s3 / "team/data/train/big"
    with big.open("wb") as file:
        file.truncate(4 * 2**30)
    incoming = home / ".cache" / "sagemaker-launcher" / "data" / "incoming"
    process = start()
    limit = time.monotonic() + 30
    while not (incoming.is_dir() and any(incoming.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert any(incoming.iterdir())
    big.unlink()
    done = launch(cli, project)
    assert done.code == 0, done.err
    assert snapshot(rehearsals) == {}
    # What was fetched in part is nobody's data, whatever becomes of it.
    assert b"1,2\n" in [path.read_bytes() for path in incoming.parent.iterdir() if path.is_file()]


def test_two_rehearsals_at_once_leave_each_other_alone(
    start: Start, cli: CommandLine, project: Project, rehearsals: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    project.program(
        f"{PRELUDE}{ESCAPES}while not os.path.exists({str(go)!r}): time.sleep(0.02)\n"
        "(base / 'model' / 'm').write_text('x')"
    )
    first = start()
    pids = pids_of(first)
    project.program("print('the other')")
    other = launch(cli, project)
    assert other.code == 0, other.err
    assert all(is_running(pid) for pid in pids)
    assert len(list(rehearsals.glob("*.lock"))) == 1
    go.touch()
    out, err = first.communicate(timeout=30)
    assert first.returncode == 0, err
    assert "model " in out
    assert gone(pids)
    assert snapshot(rehearsals) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_nothing_either(
    start: Start, project: Project, rehearsals: Path, number: int
) -> None:
    project.program(f"{PRELUDE}{ESCAPES}time.sleep(300)")
    process = start()
    pids = pids_of(process)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert gone(pids)
    assert snapshot(rehearsals) == {}


# --- what is kept ---


@reproduces("time line", "process")
@reproduces("metrics", "process")
def test_the_result_in_the_archive_tells_the_whole_story(cli: CommandLine, project: Project) -> None:
    project.program("print('loss=0.5\\t\\x1b[31mred'); import time; time.sleep(0.2); print('loss=0.25')")
    done = launch(cli, project)
    assert done.code == 0, done.err
    folder = local(project, done.json["experiment"])
    kept: dict[str, Any] = done.json["result"]
    stored = (folder / "result.json").read_text()
    for key in ("status", "secondary_status", "transitions", "metrics", "billable_seconds", "interruptions"):
        assert f'"{key}"' in stored
    assert kept["metrics"] == {"loss": 0.25}
    times = [(step["started_at"], step["ended_at"]) for step in kept["transitions"]]
    assert all(start <= end for start, end in times[:-1])
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", start) for start, _ in times
    )
    assert 0 <= kept["billable_seconds"] <= kept["training_seconds"] <= 60
    (log,) = (folder / "logs").iterdir()
    shown = [line.removeprefix("algo-1 | ") for line in done.err.splitlines() if line.startswith("algo-1 | ")]
    assert log.read_text().splitlines() == shown == ["loss=0.5#011#033[31mred", "loss=0.25"]


def test_the_logs_of_a_failed_job_are_kept_too(cli: CommandLine, project: Project) -> None:
    project.program("print('before'); raise SystemExit('no such data')")
    done = launch(cli, project)
    assert done.code == 10
    (log,) = (local(project, done.json["experiment"]) / "logs").iterdir()
    assert log.read_text() == "before\nno such data\n"


def test_many_killed_rehearsals_are_no_harder_than_one(
    start: Start, cli: CommandLine, project: Project, rehearsals: Path
) -> None:
    project.program(f"{PRELUDE}{ESCAPES}time.sleep(300)")
    processes = [start() for _ in range(3)]
    pids = [pid for process in processes for pid in pids_of(process)]
    for process in processes:
        process.kill()
        process.wait()
    assert len(list(rehearsals.glob("*.lock"))) == 3
    project.program("print('the next')")
    assert launch(cli, project).code == 0
    assert gone(pids)
    assert snapshot(rehearsals) == {}
