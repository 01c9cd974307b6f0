"""Signals, crashes and launches at the same moment: what is left is always readable, and the next launch works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.commands import CommandLine, Finished
from tests.fault_rows import provokes
from tests.killing import MOMENTS
from tests.project import Project
from tests.stand_in import ARCHIVE, document, is_running, launch, local, nothing_written, rehearsal, snapshot

UNFINISHED = "the upload was interrupted and nothing was started; `list` shows the experiment as interrupted"
SENTENCES = {
    "planned": "nothing was written and nothing was started",
    "prepared": "nothing was written and nothing was started",
    "indexed": UNFINISHED,
    "reserved": UNFINISHED,
    "uploaded": UNFINISHED,
    "sealed": "the experiment is archived and the job was not started",
    "started": "the job was archived and not carried out",
    "recorded": "the job was archived and not carried out",
}
PRELUDE = """\
import os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def start(cli: CommandLine, project: Project, temporary: Path) -> Iterator[Start]:
    """Starts a launch; whatever happens in the test, none outlives it."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **variables: str) -> subprocess.Popen[str]:
        process = cli.start(*rehearsal(project, *words), env={"TMPDIR": str(temporary), **variables})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def paused(start: Start, moment: str, *words: str) -> subprocess.Popen[str]:
    """A launch that waits at a moment."""
    process = start(*words, SAGEMAKER_LAUNCHER_TEST_PAUSE_AT=moment)
    wait_for_line(process, f"paused at {moment}")
    return process


def wait_for_line(process: subprocess.Popen[str], line: str) -> list[str]:
    """Reads the log up to a line; gives what came before."""
    assert process.stderr
    before: list[str] = []
    for text in process.stderr:
        if text.rstrip("\n") == line:
            return before
        before.append(text.rstrip("\n"))
    raise AssertionError(before)


def ended(process: subprocess.Popen[str]) -> Finished:
    out, err = process.communicate(timeout=30)
    return Finished(process.returncode, out, err)


def listed(cli: CommandLine, project: Project) -> list[dict[str, Any]]:
    done = cli("list", "--s3-root", project.s3, "--archive", ARCHIVE, "--json")
    assert done.code == 0, done.err
    experiments: list[dict[str, Any]] = done.json["experiments"]
    return experiments


# --- a crash at each moment ---


@provokes(67)
@pytest.mark.parametrize(("moment", "state"), MOMENTS.items())
def test_what_a_crash_leaves_is_told_by_the_list_and_the_next_launch_works(
    start: Start, cli: CommandLine, project: Project, moment: str, state: str | None
) -> None:
    before = snapshot(project.s3)
    process = paused(start, moment)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    if state is None:
        assert snapshot(project.s3) == before
    assert [experiment["state"] for experiment in listed(cli, project)] == ([state] if state else [])
    # The program never ran, so there is nothing of a job.
    assert not (project.s3 / "team/outputs").exists()

    again = launch(cli, project)
    assert again.code == 0, again.err
    states = [experiment["state"] for experiment in listed(cli, project)]
    assert sorted(states) == sorted(["finished", *([state] if state else [])])
    assert len(list((project.s3 / "team/outputs").iterdir())) == 1


@pytest.mark.parametrize("moment", ["indexed", "reserved", "uploaded"])
def test_an_experiment_whose_upload_was_interrupted_can_be_neither_shown_nor_rerun(
    start: Start, cli: CommandLine, project: Project, moment: str
) -> None:
    process = paused(start, moment)
    process.kill()
    ended(process)
    (experiment,) = listed(cli, project)
    for command in ("show", "rerun"):
        with nothing_written(project.s3):
            done = cli(command, experiment["experiment"], "--s3-root", project.s3, "--json")
        assert done.code == 6
        assert done.json["error"]["code"] in {"experiment_interrupted", "experiment_not_found"}


@pytest.mark.parametrize("moment", ["sealed", "started", "recorded"])
def test_a_sealed_experiment_can_be_rerun_although_its_launch_crashed(
    start: Start, cli: CommandLine, project: Project, moment: str
) -> None:
    process = paused(start, moment)
    process.kill()
    ended(process)
    (experiment,) = listed(cli, project)
    done = cli("rerun", experiment["job_name"], "--s3-root", project.s3, "--archive", ARCHIVE, "--json")
    assert done.code == 0, done.err
    assert done.json["rerun_of"] == experiment["experiment"]
    assert done.json["result"]["status"] == "Completed"


# --- a signal at each moment ---


@provokes(61, 62, 63)
@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_says_what_was_left_and_what_goes_on(
    start: Start, cli: CommandLine, project: Project, temporary: Path, moment: str
) -> None:
    before = snapshot(project.s3)
    process = paused(start, moment)
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert (done.code, done.has_traceback) == (130, False)
    assert f"error: interrupted: {SENTENCES[moment]}" in done.err
    if moment == "sealed":
        (experiment,) = listed(cli, project)
        again = f"run_sagemaker_job.py rerun {experiment['experiment']} --s3-root {project.s3}"
        assert "hint: start it with: " in done.err
        assert again in done.err
    if MOMENTS[moment] is None:
        assert snapshot(project.s3) == before
    # A job that was asked for is also recorded before the signal counts.
    state = "started" if moment == "started" else MOMENTS[moment]
    assert [experiment["state"] for experiment in listed(cli, project)] == ([state] if state else [])
    assert snapshot(temporary) == {}


@provokes(66)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("moment", ["planned", "reserved", "sealed", "started"])
def test_other_signals_are_told_by_their_exit_code(
    start: Start, moment: str, number: signal.Signals, code: int
) -> None:
    process = paused(start, moment, "--json")
    process.send_signal(number)
    done = ended(process)
    assert done.code == code
    error = done.json["error"]
    assert (error["code"], error["exit"]) == ("interrupted", code)
    assert SENTENCES[moment] in error["message"]


def test_ctrl_c_while_the_configs_are_read_is_told_in_json_too(start: Start, project: Project) -> None:
    marker = project.folder / "reading"
    schema = project.folder / "code" / "config.py"
    schema.write_text(f"import pathlib, time\npathlib.Path({str(marker)!r}).touch()\ntime.sleep(60)\n")
    with nothing_written(project.s3):
        process = start("--json")
        while not marker.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        done = ended(process)
    assert (done.code, done.has_traceback) == (130, False)
    assert done.json["error"]["message"] == "interrupted: nothing was started"


# --- a signal while the program runs ---

SAVES = """
def stop(number, frame):
    time.sleep(0.2)
    (base / "model" / "m").write_text("last state")
    print("saved", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""


def stopped(start: Start, number: signal.Signals, *words: str) -> Finished:
    process = start(*words)
    wait_for_line(process, "algo-1 | ready")
    process.send_signal(number)
    return ended(process)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_job_as_the_service_stops_it(
    start: Start, cli: CommandLine, project: Project, temporary: Path, number: signal.Signals, code: int
) -> None:
    project.program(PRELUDE + SAVES)
    done = stopped(start, number)
    assert (done.code, done.has_traceback) == (code, False)
    (experiment,) = listed(cli, project)
    assert (
        f"error: interrupted: the job was stopped, and what it left is saved; archived at {experiment['experiment']}"
        in (done.err)
    )
    assert "algo-1 | saved\n" in done.err
    result = document(local(project, experiment["experiment"]), "result.json")
    assert (result["status"], result["secondary_status"], result["exit_code"]) == ("Stopped", "Stopped", 5)
    assert list(result["artifacts"]) == ["model"]
    assert local(project, result["artifacts"]["model"]).is_file()
    names = [transition["status"] for transition in result["transitions"]]
    assert names == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]
    assert snapshot(temporary) == {}


IGNORES = """
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), child.pid, flush=True)
print("ready", flush=True)
time.sleep(300)
"""


def test_a_second_ctrl_c_ends_a_job_that_does_not_stop(
    start: Start, cli: CommandLine, project: Project, temporary: Path
) -> None:
    project.program(PRELUDE + IGNORES)
    process = start()
    pids = [
        int(pid) for pid in wait_for_line(process, "algo-1 | ready")[-1].removeprefix("algo-1 | ").split()
    ]
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while "SIGKILL after 120 s" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.3)
    assert all(is_running(pid) for pid in pids)
    second = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    assert time.monotonic() - second < 60
    assert not any(is_running(pid) for pid in pids)
    (experiment,) = listed(cli, project)
    assert (experiment["state"], experiment["status"]) == ("finished", "Stopped")
    assert document(local(project, experiment["experiment"]), "result.json")["exit_code"] == 137
    assert snapshot(temporary) == {}


def test_a_job_that_does_not_stop_is_killed_after_the_grace_period(start: Start, project: Project) -> None:
    project.program(PRELUDE + IGNORES)
    before = time.monotonic()
    assert stopped(start, signal.SIGINT, "--stop-grace", "0.5").code == 130
    assert time.monotonic() - before < 60


def test_a_hang_up_that_the_user_has_ignored_does_not_end_the_job(
    cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    wait = f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    project.program(f"{PRELUDE}print('ready', flush=True)\n{wait}")
    with subprocess.Popen(
        ["nohup", *cli.command(*rehearsal(project))],
        cwd=cli.folder,
        env=dict(cli.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_line(process, "algo-1 | ready")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        go.touch()
        assert ended(process).code == 0


def test_ctrl_c_in_a_terminal_reaches_the_launcher_and_not_the_program(
    cli: CommandLine, project: Project
) -> None:
    project.program(
        PRELUDE + "signal.signal(signal.SIGINT, lambda *_: print('got SIGINT', flush=True))" + SAVES
    )
    process = subprocess.Popen(
        cli.command(*rehearsal(project)),
        cwd=cli.folder,
        env=dict(cli.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for_line(process, "algo-1 | ready")
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        done = ended(process)
    finally:
        process.kill()
    assert done.code == 130
    assert "got SIGINT" not in done.err
    assert "algo-1 | saved" in done.err


def test_a_crash_of_the_launcher_while_the_program_runs_leaves_a_started_experiment(
    start: Start, cli: CommandLine, project: Project
) -> None:
    project.program(PRELUDE + "print(os.getpid(), flush=True); print('ready', flush=True); time.sleep(60)")
    process = start()
    pid = int(wait_for_line(process, "algo-1 | ready")[-1].removeprefix("algo-1 | "))
    process.kill()
    os.kill(pid, signal.SIGKILL)
    ended(process)
    assert [experiment["state"] for experiment in listed(cli, project)] == ["started"]


# --- at the same moment ---


@provokes(56)
def test_32_launches_at_the_same_moment_never_mix(cli: CommandLine, project: Project) -> None:
    project.program("import os\nprint('seed', os.environ['SAGEMAKER_BASE_DIR'])\n")
    gate = project.folder / "gate"
    # Each process imports the schema while it plans, and waits there for all the others.
    schema = project.folder / "code" / "config.py"
    waiting = "import pathlib, time\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)\n"
    schema.write_text(waiting.format(str(gate)) + schema.read_text())
    processes = [cli.start(*rehearsal(project, "--json", "--train", "SEED", str(seed))) for seed in range(32)]
    time.sleep(1)
    gate.touch()
    with ThreadPoolExecutor(32) as pool:
        done = list(pool.map(ended, processes))
    assert [finished.code for finished in done] == [0] * 32, [
        finished.err for finished in done if finished.code
    ]
    folders = [local(project, finished.json["experiment"]) for finished in done]
    assert len(set(folders)) == 32
    for seed, (finished, folder) in enumerate(zip(done, folders, strict=True)):
        assert f"SEED: {seed}\n" in (folder / "training_config.yaml").read_text()
        assert document(folder, "manifest.json")["job_name"] == finished.json["job_name"] == folder.name
        assert document(folder, "request.json") == finished.json["request"]
        assert document(folder, "launch.json")["job_arn"].endswith(f"/{folder.name}")
    experiments = listed(cli, project) + listed_beyond(cli, project)
    assert {experiment["job_name"] for experiment in experiments} == {folder.name for folder in folders}
    assert {experiment["state"] for experiment in experiments} == {"finished"}
    for finished in (done[0], done[31]):
        shown = cli("show", finished.json["experiment"], "--s3-root", project.s3, "--json")
        assert shown.code == 0, shown.err
        assert json.loads(shown.out)["manifest"]["job_name"] == finished.json["job_name"]
    assert snapshot(project.s3 / ".incomplete") == {}


def listed_beyond(cli: CommandLine, project: Project) -> list[dict[str, Any]]:
    done = cli("list", "--s3-root", project.s3, "--archive", ARCHIVE, "--json", "--limit", "100")
    experiments: list[dict[str, Any]] = done.json["experiments"]
    assert len(experiments) == 32
    return experiments


# --- a signal when the job has ended ---


@provokes(126)
@pytest.mark.parametrize("moment", ["ended", "followed"])
def test_the_result_of_a_job_that_had_ended_survives_a_signal(
    start: Start, cli: CommandLine, project: Project, temporary: Path, moment: str
) -> None:
    process = paused(start, moment)
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert (done.code, done.has_traceback) == (130, False)
    assert "error: interrupted: the job had ended before: Completed; archived at s3://" in done.err
    (experiment,) = listed(cli, project)
    assert (experiment["state"], experiment["status"]) == ("finished", "Completed")
    result = document(local(project, experiment["experiment"]), "result.json")
    assert "model" in result["artifacts"]
    assert snapshot(temporary) == {}


@provokes(126)
def test_impatience_loses_nothing_that_the_program_had_left(
    start: Start, cli: CommandLine, project: Project, temporary: Path
) -> None:
    project.program(f"{PRELUDE}(base / 'model' / 'm').write_text('x')\n{IGNORES}")
    process = start()
    wait_for_line(process, "algo-1 | ready")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    done = ended(process)
    assert (done.code, done.has_traceback) == (130, False)
    assert "error: interrupted: the job was stopped, and " in done.err
    (experiment,) = listed(cli, project)
    assert (experiment["state"], experiment["status"]) == ("finished", "Stopped")
    assert snapshot(temporary) == {}


def test_a_ctrl_c_before_the_program_has_been_imported_is_no_bug(
    cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = cli(*rehearsal(project), env={"PYTHONPATH": str(tmp_path)})
    assert (done.code, done.out, done.err) == (130, "", "")


# --- nobody reads any more ---


@provokes(124)
def test_a_log_without_room_does_not_end_the_job(cli: CommandLine, project: Project) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            cli.command(*rehearsal(project), "--json"),
            cwd=cli.folder, env=dict(cli.environment), stdout=subprocess.PIPE, stderr=full, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["result"]["status"]) == (0, "Completed")


@provokes(125)
def test_an_answer_without_room_is_an_error_after_the_job_has_been_recorded(
    cli: CommandLine, project: Project
) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            cli.command(*rehearsal(project), "--json"),
            cwd=cli.folder, env=dict(cli.environment), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 15
    assert "error: the answer on stdout cannot be written: No space left on device\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert [experiment["status"] for experiment in listed(cli, project)] == ["Completed"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_done_without(cli: CommandLine, project: Project, closed: str) -> None:
    command = ["sh", "-c", f'"$@" {closed}', "sh", *cli.command(*rehearsal(project))]
    done = subprocess.run(command, cwd=cli.folder, env=dict(cli.environment), capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [experiment["status"] for experiment in listed(cli, project)] == ["Completed"]


@provokes(123)
def test_a_terminal_that_is_closed_stops_the_job_as_the_service_would(
    cli: CommandLine, project: Project
) -> None:
    project.program(PRELUDE + SAVES)
    process = pexpect.spawn(
        cli.command(*rehearsal(project))[0], cli.command(*rehearsal(project))[1:],
        cwd=str(cli.folder), env=dict(cli.environment), encoding="utf-8", timeout=60, echo=False,
    )  # fmt: skip
    process.expect_exact("ready")
    pid = process.pid
    process.ptyproc.fileobj.close()  # as when a window is closed: the launcher gets SIGHUP, and cannot write any more
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    (experiment,) = listed(cli, project)
    result = document(local(project, experiment["experiment"]), "result.json")
    assert (result["status"], result["exit_code"], list(result["artifacts"])) == ("Stopped", 5, ["model"])


# --- what a program leaves in the place of its word ---


@provokes(127)
@pytest.mark.parametrize(
    "leaves",
    ["os.mkfifo(base / 'output' / 'failure')", "os.symlink(SECRET, base / 'output' / 'failure')", "(base / 'output' / 'failure').mkdir()"],
    ids=["pipe", "link", "folder"],
)  # fmt: skip
def test_only_a_file_of_its_own_tells_why_a_program_failed(
    cli: CommandLine, project: Project, tmp_path: Path, leaves: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    project.program(f"{PRELUDE}{leaves.replace('SECRET', repr(str(secret)))}\nsys.exit(3)")
    done = launch(cli, project)
    assert done.code == 10
    assert "hunter2" not in done.out + done.err
    reason = done.json["result"]["failure_reason"]
    assert reason.startswith("AlgorithmError: ")
    assert reason.endswith(", exit code: 3")
