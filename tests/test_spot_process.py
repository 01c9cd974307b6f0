"""Spot interruptions and time limits on the process target: what is lost, what goes on, and what is said of it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.result import Transition
from tests.commands import ROOT, CommandLine
from tests.container.harness import write_digits
from tests.fidelity import reproduces
from tests.project import Project
from tests.stand_in import (
    Rehearsed,
    is_running,
    launch,
    local,
    nothing_written,
    rehearsal,
    rehearse,
    snapshot,
)

PRELUDE = """\
import json, os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
model, data, checkpoints = base / "model", base / "output" / "data", base / "checkpoints"
"""
SOON_S = 2.5  # by then a program has started and written something, also on a busy machine
HANDLER = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
SPOT = {"USE_SPOT_INSTANCES": True, "MAX_RUN": 60, "MAX_WAIT": 120}


def counts(interruptions: int) -> str:
    """A program that counts steps of 0.1 s and saves each, and ends only after it was interrupted so often."""
    return f"""\
state, new = checkpoints / "step", base / "new"
step, attempt = json.loads(state.read_text()) if state.exists() else (0, 0)
print("starts after step", step, flush=True)
last = step + 3 if attempt == {interruptions} else 10**9
while step < last:
    new.write_text(json.dumps([step, attempt + 1])); new.rename(state)
    time.sleep(0.1)
    step += 1
(model / "steps").write_text(str(step))
"""


@pytest.fixture
def spot(project: Project) -> Project:
    project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"}, ESTIMATOR=SPOT)
    return project


def interrupted(project: Project, *after_s: float, grace_s: float = 5, **limits: str) -> Rehearsed:
    settings = ((f"ESTIMATOR.{name}", value) for name, value in limits.items())
    return rehearse(project, *settings, terms=Terms(grace_s, after_s))


def statuses(done: Rehearsed) -> list[str]:
    return [step.status for step in done.result.transitions]


def seconds(step: Transition) -> float:
    started, ended = (
        datetime.fromisoformat(at.replace("Z", "+00:00")) for at in (step.started_at, step.ended_at)
    )
    return (ended - started).total_seconds()


ATTEMPT = ["Starting", "Downloading", "Training"]


# --- what the user learns ---


@reproduces("spot", "process")
@reproduces("checkpoints", "process")
def test_an_interrupted_job_goes_on_from_its_checkpoint(spot: Project) -> None:
    spot.program(PRELUDE + HANDLER + counts(1))
    done = interrupted(spot, SOON_S)
    assert (done.result.status, done.result.exit_code) == ("Completed", 0)
    first, second = done.events.lines
    assert first == "starts after step 0"
    assert int(second.rpartition(" ")[2]) > 0
    assert statuses(done) == [*ATTEMPT, "Interrupted", *ATTEMPT, "Uploading", "Completed"]
    assert "restored 1 checkpoint files" in done.events.notes
    (interruption,) = done.result.interruptions
    assert SOON_S <= interruption.training_seconds < 30
    assert 0 <= interruption.lost_seconds <= interruption.training_seconds
    assert any(note.startswith("interrupted after ") for note in done.events.notes)


def test_a_job_can_be_interrupted_again_and_again(spot: Project) -> None:
    spot.program(PRELUDE + HANDLER + counts(2))
    done = interrupted(spot, SOON_S, SOON_S)
    assert done.result.status == "Completed"
    starts = [int(line.rpartition(" ")[2]) for line in done.events.lines]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert len(done.result.interruptions) == len(starts) - 1 == 2


@reproduces("spot", "process")
def test_everything_but_the_checkpoints_is_fresh(spot: Project) -> None:
    spot.program(
        PRELUDE
        + "seen = [str(p.relative_to(base)) for p in sorted(base.rglob('*')) if p.is_file() and 'code' not in p.parts]\n"
        "print(json.dumps(seen), flush=True)\n"
        "for folder in (model, data, base / 'input/data/training', base / 'output', checkpoints):\n"
        "    (folder / 'left').write_text('x')\n"
        "if len(seen) == len([one for one in seen if not one.startswith('checkpoints/')]): time.sleep(60)"
    )
    done = interrupted(spot, SOON_S)
    first, second = (json.loads(line) for line in done.events.lines)
    assert second == ["checkpoints/left", *first]


@reproduces("spot", "process")
def test_what_a_program_wrote_beside_its_code_is_lost_as_well(spot: Project) -> None:
    spot.program(
        PRELUDE + "here = pathlib.Path(__file__).parent\n"
        "print(pathlib.Path('state').exists(), (here / 'state').exists(), flush=True)\n"
        "if (checkpoints / 'once').exists(): sys.exit(0)\n"
        "pathlib.Path('state').write_text('all work'); (checkpoints / 'once').touch(); time.sleep(60)"
    )
    with nothing_written(spot.folder / "code"):
        done = interrupted(spot, SOON_S, INSTANCE_COUNT="2")
    assert done.result.status == "Completed"
    assert done.events.lines == 4 * ["False False"]


def test_what_left_the_session_of_its_program_ends_with_its_host(spot: Project) -> None:
    # As launchers of workers do; a container takes them along when its first process ends.
    spot.program(
        PRELUDE + "worker = 'import time\\nwhile True: time.sleep(0.05); print(\"works\", flush=True)'\n"
        "host, mark = os.environ['SM_CURRENT_HOST'], checkpoints / 'worker'\n"
        "if mark.exists():\n"
        "    print('again', pathlib.Path(f'/proc/{mark.read_text()}/cwd').exists(), flush=True); time.sleep(0.3); sys.exit()\n"
        "worker = subprocess.Popen([sys.executable, '-c', worker], start_new_session=True)\n"
        "if host == 'algo-1': mark.write_text(str(worker.pid))\n"
        "time.sleep(60)"
    )
    done = interrupted(spot, SOON_S, INSTANCE_COUNT="2")
    assert done.result.status == "Completed"
    for host in ("algo-1", "algo-2"):
        lines = done.events.lines_of(host)
        assert "works" in lines
        assert lines[lines.index("again False") :] == ["again False"]


def test_without_a_checkpoint_all_work_is_lost_and_that_is_said(spot: Project) -> None:
    mark = spot.folder / "started"
    spot.program(
        PRELUDE + f"mark = pathlib.Path({str(mark)!r})\nprint('starts', flush=True)\n"
        "if mark.exists(): (model / 'm').write_text('x'); sys.exit(0)\n"
        "mark.touch(); time.sleep(60)"
    )
    done = interrupted(spot, SOON_S)
    assert done.events.lines == ["starts", "starts"]
    (interruption,) = done.result.interruptions
    assert interruption.lost_seconds == pytest.approx(interruption.training_seconds, abs=1)


def test_what_was_lost_is_the_time_since_the_last_checkpoint(spot: Project) -> None:
    spot.program(
        PRELUDE + "if (checkpoints / 'a').exists(): sys.exit(0)\n"
        "time.sleep(1); (checkpoints / 'a').write_text('x'); time.sleep(60)"
    )
    done = interrupted(spot, 2.6)
    (interruption,) = done.result.interruptions
    assert 2.6 <= interruption.training_seconds < 30
    assert 0 < interruption.lost_seconds <= interruption.training_seconds - 0.9


def test_what_was_not_yet_copied_is_lost_when_nobody_has_time_to_save_it(spot: Project) -> None:
    spot.program(
        PRELUDE + "state = checkpoints / 'step'\n"
        "if state.exists(): print('restored', state.read_text()); sys.exit(0)\n"
        "for step in range(3000):\n"
        "    (base / 'new').write_text(str(step)); (base / 'new').rename(state)\n"
        "    print(step, flush=True); time.sleep(0.01)"
    )
    # Copies are made every second: this is half-way between two of them.
    done = interrupted(spot, 1.5, grace_s=0)
    assert done.result.status == "Completed"
    *steps, restored = done.events.lines
    assert 0 < int(restored.removeprefix("restored ")) < int(steps[-1])
    (interruption,) = done.result.interruptions
    assert 0 < interruption.lost_seconds < 10


def test_a_program_that_listens_saves_its_last_state_in_the_grace_period(spot: Project) -> None:
    spot.program(
        PRELUDE + "print(*sorted(p.name for p in checkpoints.iterdir()), flush=True)\n"
        "if (checkpoints / 'last').exists(): sys.exit(0)\n"
        "def stop(*_): (checkpoints / 'last').write_text('x'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop); time.sleep(60)"
    )
    assert interrupted(spot, SOON_S).events.lines == ["", "last"]


def test_the_program_is_asked_and_killed_after_the_grace_period(spot: Project) -> None:
    spot.program(
        PRELUDE + "print(os.getpid(), flush=True)\nif list(checkpoints.iterdir()): sys.exit(0)\n"
        "(checkpoints / 'a').write_text('x'); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    )
    done = interrupted(spot, 1.3, grace_s=0.5)
    (interruption,) = done.result.interruptions
    assert 1.8 <= interruption.training_seconds < 30
    assert not is_running(int(done.events.lines[0]))
    assert done.result.status == "Completed"


def test_a_job_that_ends_before_its_interruption_is_not_interrupted(spot: Project) -> None:
    spot.program(PRELUDE + "(model / 'm').write_text('x')")
    done = interrupted(spot, 30)
    assert (done.result.status, done.result.interruptions) == ("Completed", ())
    assert "the job ended before it could be interrupted after 30 s" in done.events.notes


def test_the_time_without_instances_is_not_billed_but_counts_as_training_time(spot: Project) -> None:
    spot.program(PRELUDE + HANDLER + counts(1))
    result = interrupted(spot, SOON_S).result
    assert result.training_seconds is not None
    assert result.billable_seconds is not None
    assert 0 <= result.billable_seconds <= result.training_seconds


def test_all_hosts_are_interrupted_and_started_again(spot: Project) -> None:
    spot.program(
        PRELUDE + "host = os.environ['SM_CURRENT_HOST']\nprint('starts', flush=True)\n"
        "if list(checkpoints.iterdir()): sys.exit(0)\n"
        "if host == 'algo-1': (checkpoints / 'a').write_text('x')\n" + HANDLER + "time.sleep(60)"
    )
    done = interrupted(spot, SOON_S, INSTANCE_COUNT="2")
    assert done.result.status == "Completed"
    assert sorted(done.events.hosts) == ["algo-1", "algo-1", "algo-2", "algo-2"]


def test_each_attempt_has_a_log_of_its_own(cli: CommandLine, spot: Project) -> None:
    spot.program(PRELUDE + HANDLER + counts(1))
    done = launch(cli, spot, "--interrupt-after", str(SOON_S))
    assert done.code == 0, done.err
    assert len(done.json["result"]["interruptions"]) == 1
    logs = list((local(spot, done.json["experiment"]) / "logs").iterdir())
    assert len(logs) == 2
    assert sorted(log.read_text().startswith("starts after step 0\n") for log in logs) == [False, True]
    assert "interrupted" in done.err


# --- limits ---


@reproduces("time limit", "process")
def test_the_time_limit_counts_all_attempts_together(spot: Project) -> None:
    spot.program(PRELUDE + HANDLER + "print('starts', flush=True); time.sleep(60)")
    done = interrupted(spot, 3.5, MAX_RUN="4")
    first, second = (step for step in done.result.transitions if step.status == "Training")
    assert seconds(first) >= 3.5
    assert seconds(second) < 3
    assert (done.result.status, done.result.secondary_status) == ("Stopped", "MaxRuntimeExceeded")
    assert statuses(done) == [
        *[*ATTEMPT, "Interrupted", *ATTEMPT],
        *["Stopping", "Uploading", "MaxRuntimeExceeded"],
    ]


@reproduces("waiting limit", "process")
def test_waiting_and_running_longer_than_allowed_stops_the_job(cli: CommandLine, spot: Project) -> None:
    # The grace period of the interruption counts for MaxWait, and MaxRuntime is over at about the same time.
    spot.program(
        PRELUDE + HANDLER + "(model / 'm').write_text('x'); print('starts', flush=True); time.sleep(60)"
    )
    words = ("ESTIMATOR.MAX_RUN", "2"), ("ESTIMATOR.MAX_WAIT", "2")
    done = launch(cli, spot, *(word for pair in words for word in ("--set", *pair)), "--interrupt-after", "1")
    assert done.code == 11, done.err
    result = done.json["result"]
    assert (result["status"], result["secondary_status"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert list(result["artifacts"]) == ["model"]


@pytest.mark.parametrize(
    ("target", "words"),
    [("process", "only spot jobs are interrupted"), ("aws", "a job on AWS is interrupted by AWS")],
)
def test_an_interruption_that_no_service_would_make_is_refused(
    cli: CommandLine, project: Project, target: str, words: str
) -> None:
    place = ("--s3-root", project.s3) if target == "process" else ()
    with nothing_written(project.s3):
        done = cli("launch", project.config, "--on", target, *place, "--interrupt-after", "1", "--json")
    assert (done.code, done.json["error"]["exit"], done.has_traceback) == (2, 2, False)
    assert words in done.json["error"]["message"]


def test_a_signal_during_the_second_attempt_stops_the_job(cli: CommandLine, spot: Project) -> None:
    spot.program(PRELUDE + HANDLER + "print('starts', flush=True); time.sleep(60)")
    with cli.start(*rehearsal(spot, "--interrupt-after", str(SOON_S))) as process:
        assert process.stderr
        for _ in range(2):
            assert "algo-1 | starts\n" in iter(process.stderr.readline, "")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the job was stopped, and nothing that it left is saved" in err
    assert snapshot(Path(cli.environment["HOME"]) / ".cache/sagemaker-launcher/rehearsals") == {}


# --- the example ---


@pytest.fixture
def example(tmp_path: Path, project: Project) -> CommandLine:
    """The command line with the example's data in the stand-in folder, and the current folder at the project's root."""
    digits = write_digits(project.s3 / "team/data/digits", "csv")
    assert (digits / "train").is_dir()
    environment = {**os.environ, "SAGEMAKER_LAUNCHER_CACHE": str(tmp_path / "cache")}
    return CommandLine(ROOT, environment)


@dataclass
class Trained:
    """The example, trained on small steps.

    Attributes:
        result: How it ended.
        model: The bytes of its model.
        epochs: When each epoch was told, in seconds from the start of the program; the first time of each.
        resumed: The epochs that it went on from.
    """

    result: dict[str, Any]
    model: bytes
    epochs: dict[int, float]
    resumed: list[int]


def train(example: CommandLine, project: Project, *words: str, pauses: tuple[int, ...] = ()) -> Trained:
    """Trains.

    Args:
        example: The command line.
        project: Has the data.
        words: Further options.
        pauses: After these epochs the program is held up until its interruption comes, however fast the machine is;
            one that came earlier, on a slow machine, is not waited for a second time.
    """
    settings = (
        ("--train", "SOLVER.EPOCHS", "8"),
        ("--train", "SOLVER.BATCH_SIZE", "8"),
        ("--train", "MODEL.FEATURES", "100"),
        ("--set", "ESTIMATOR.USE_SPOT_INSTANCES", "true"),
        ("--set", "ESTIMATOR.MAX_WAIT", "7200"),
    )
    options = [word for setting in settings for word in setting]
    place = ("--on", "process", "--s3-root", str(project.s3), "--json")
    config = ROOT / "configs/sagemaker_config.yaml"
    epochs: dict[int, float] = {}
    resumed: list[int] = []
    start = 0.0
    to_come = words.count("--interrupt-after")
    with example.start("launch", config, *place, *options, *words) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stderr:
            if line.startswith("Training") and not start:
                start = time.monotonic()
            if found := re.search(r" epoch=(\d+) ", line):
                epochs.setdefault(int(found[1]), time.monotonic() - start)
                if int(found[1]) in pauses and to_come:
                    signal_programs(process.pid, signal.SIGSTOP)
            if found := re.search(r"resuming from checkpoint of epoch (\d+)", line):
                resumed.append(int(found[1]))
            if "stopping the job (the spot instance is reclaimed)" in line:
                to_come -= 1
                signal_programs(process.pid, signal.SIGCONT)
        result: dict[str, Any] = json.load(process.stdout)["result"]
    packed = local(project, result["artifacts"]["model"]).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        model = tar.extractfile("model.npz")
        assert model
        return Trained(result, model.read(), epochs, resumed)


def signal_programs(launcher: int, number: signal.Signals) -> None:
    for program in psutil.Process(launcher).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            program.send_signal(number)


def interrupted_twice(example: CommandLine, project: Project, after_s: float) -> Trained:
    """Trains with two interruptions; once more, with more time, where the machine was too slow to save anything before them."""
    after = ("--interrupt-after", f"{after_s:.2f}")
    again = train(example, project, *after, *after, pauses=(3, 5))
    if again.resumed or after_s > 60:
        return again
    return interrupted_twice(example, project, 3 * after_s)


@reproduces("spot", "process")
def test_the_example_interrupted_twice_ends_as_if_it_had_not_been(
    example: CommandLine, project: Project
) -> None:
    whole = train(example, project)
    assert (whole.result["status"], whole.result["interruptions"]) == ("Completed", [])
    again = interrupted_twice(example, project, whole.epochs[2] + 0.5)
    assert again.model == whole.model
    assert again.result["metrics"] == whole.result["metrics"]
    assert len(again.result["interruptions"]) == 2
    assert list(again.epochs) == list(whole.epochs) == list(range(1, 9))
    assert again.resumed
