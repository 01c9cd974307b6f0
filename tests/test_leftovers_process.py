"""What outlives a program or a launcher, and what of it the next rehearsal finds: nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine, Finished, clean_environment
from tests.docker.launching import OrdinaryUser, open_folder
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


# --- what cannot be read, looked into or removed ---


@pytest.fixture
def somebody() -> Iterator[tuple[CommandLine, Project]]:
    """The command line of an ordinary user, who may not read everything, and their project."""
    if os.getuid():
        pytest.skip("only root can become another user")
    with open_folder() as folder:
        project = Project.create(folder / "project")
        (folder / "home").mkdir()
        give(folder)
        cli = OrdinaryUser(project.folder, clean_environment(folder / "home"))
        seen = cli("--version")
        if seen.code:
            pytest.skip(f"an ordinary user cannot run the launcher here: {seen.err}")
        yield cli, project


def launch_theirs(cli: CommandLine, project: Project) -> Finished:
    """A launch with a Python that an ordinary user may execute, wherever that of the tests lies."""
    return launch(cli, project, "--python", shutil.which("python3", path="/usr/local/bin:/usr/bin") or "")


def give(folder: Path) -> None:
    """Makes a folder the ordinary user's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, OrdinaryUser.UID, OrdinaryUser.UID)


def test_folders_that_the_program_closed_are_saved(somebody: tuple[CommandLine, Project]) -> None:
    cli, project = somebody
    project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"})
    project.program(
        f"{PRELUDE}"
        "for part in ('model', 'checkpoints'):\n"
        "    (base / part / 'closed').mkdir(); (base / part / 'closed' / 'file').write_text('kept')\n"
        "    (base / part / 'closed').chmod(0)\n"
        "(base / 'output/failure').write_text('because'); (base / 'output').chmod(0); sys.exit(3)"
    )
    give(project.folder)
    done = launch_theirs(cli, project)
    assert done.json["result"]["failure_reason"] == "AlgorithmError: because, exit code: 3", done.err
    with tarfile.open(local(project, done.json["result"]["artifacts"]["model"])) as tar:
        assert tar.getnames() == ["closed", "closed/file"]
    [kept] = (project.s3 / "team" / "checkpoints").rglob("file")
    assert kept.read_text() == "kept"


def test_links_that_take_the_place_of_folders_are_not_followed(
    somebody: tuple[CommandLine, Project],
) -> None:
    cli, project = somebody
    outside = project.folder / "outside"
    (outside / "closed").mkdir(parents=True)
    project.program(f"{PRELUDE}(base / 'model').rmdir(); (base / 'model').symlink_to({str(outside)!r})")
    give(project.folder)
    (outside / "closed").chmod(0)
    assert launch_theirs(cli, project).code == 0
    assert (outside / "closed").stat().st_mode & 0o777 == 0


@pytest.mark.parametrize(("levels", "name"), [(1200, "d"), (25, "d" * 200)], ids=["deep", "long"])
def test_what_is_too_deep_for_paths_is_removed_now_and_by_the_next_rehearsal(
    start: Start, cli: CommandLine, project: Project, rehearsals: Path, levels: int, name: str
) -> None:
    dig = (
        f"{PRELUDE}(base / 'input/data/training').mkdir(exist_ok=True); os.chdir(base / 'input/data/training')\n"
        f"for _ in range({levels}):\n    os.mkdir({name!r}); os.chdir({name!r})\n"
    )
    project.program(dig)
    done = launch(cli, project)
    assert done.code == 0, done.err
    assert snapshot(rehearsals) == {}
    project.program(f"{dig}{ESCAPES}time.sleep(300)")
    process = start()
    pids = pids_of(process)
    process.kill()
    process.wait()
    assert list(rehearsals.glob("*.lock"))
    project.program("print('the next')")
    done = launch(cli, project)
    assert done.code == 0, done.err
    assert gone(pids)
    assert snapshot(rehearsals) == {}


def test_what_cannot_be_removed_stops_no_rehearsal_and_is_told(
    somebody: tuple[CommandLine, Project],
) -> None:
    cli, project = somebody
    root = Path(cli.environment["HOME"], ".cache", "sagemaker-launcher", "rehearsals")
    (root / "abandoned").mkdir(parents=True)
    (root / "abandoned.lock").write_text("{}")
    give(root.parent.parent)
    (root / "abandoned" / "of-root").mkdir()
    (root / "abandoned" / "of-root" / "file").touch()
    (root / "of-root.lock").touch(0o600)
    done = launch_theirs(cli, project)
    assert done.code == 0, done.err
    [note] = [line for line in done.err.splitlines() if line.startswith("note: ") and "abandoned" in line]
    assert f"{root / 'abandoned'} cannot be removed" in note
    assert f"sudo rm -rf {root / 'abandoned'}" in note
    told = cli("doctor", "--repair", "--docker", "no-such-docker", "--json")
    [check] = [check for check in told.json["checks"] if check["group"] == "leftovers"]
    assert check["verdict"] == "warning"
    assert f"{root / 'abandoned'} cannot be removed" in check["message"]
    assert f"sudo rm -rf {root / 'abandoned'}" in check["fix"]
    # Locks are nobody's names any more once what they guard is gone.
    shutil.rmtree(root / "abandoned" / "of-root")
    assert launch_theirs(cli, project).code == 0
    assert not (root / "abandoned").exists()
