"""Time limits, Ctrl-C, signals and kill -9: what a program in a container hears of them, and what is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.docker.launching import Desk, ended, read_until, wait_until
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.servers.engine import Engine

# The first process has to be told by itself: the kernel keeps every other signal from a process 1 without a handler.
STOPPABLE = """
def stop(number, frame):
    (model / "m").write_text("last state"); print("heard", number, "as", os.getpid(), flush=True); sys.exit(9)
signal.signal(signal.SIGTERM, stop)
(model / "early").write_text("partial")
tell(identifier=identifier)
time.sleep(100)
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(model / 'm').write_text('1')\ntell(identifier=identifier)\ntime.sleep(100)"


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Desk:
    return Desk.set_up(tmp_path, engine)


@reproduces("time limit", "docker")
@reproduces("signals", "docker")
def test_time_that_is_up_stops_the_job_and_the_model_is_saved_all_the_same(desk: Desk) -> None:
    desk.project.write(ESTIMATOR={"MAX_RUN": 2})
    desk.program(STOPPABLE)
    done = desk.launch()
    assert done.code == 11, done.done.err
    assert (done.result["status"], done.result["secondary_status"]) == ("Stopped", "MaxRuntimeExceeded")
    assert (done.result["exit_code"], done.result["failure_reason"]) == (9, "")
    assert done.lines()[-1] == "heard 15 as 1"
    assert done.statuses == [
        *("Starting", "Downloading", "Training", "Stopping", "Uploading", "MaxRuntimeExceeded")
    ]
    assert desk.path(done.result["artifacts"]["model"]).is_file()
    assert desk.left(done.told()["identifier"]) == []


@reproduces("time limit", "docker")
def test_a_program_that_does_not_stop_is_killed_after_the_grace_period(desk: Desk) -> None:
    desk.project.write(ESTIMATOR={"MAX_RUN": 1})
    desk.program(DEAF)
    start = time.monotonic()
    done = desk.launch("--stop-grace", "1")
    assert 2 <= time.monotonic() - start < 60
    assert (done.code, done.result["secondary_status"], done.result["exit_code"]) == (
        *(11, "MaxRuntimeExceeded", 137),
    )
    assert "model" in done.result["artifacts"]
    assert desk.left(done.told()["identifier"]) == []


@reproduces("waiting limit", "docker")
def test_a_spot_job_has_no_longer_than_it_may_wait_and_run(desk: Desk) -> None:
    spot = {"USE_SPOT_INSTANCES": True, "MAX_RUN": 3, "MAX_WAIT": 3}
    desk.project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"}, ESTIMATOR=spot)
    desk.program(STOPPABLE)
    done = desk.launch()
    assert done.code == 11, done.done.err
    # Of the same three seconds, some went by before the program ran.
    assert (done.result["status"], done.result["secondary_status"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert done.lines()[-1] == "heard 15 as 1"
    assert "model" in done.result["artifacts"]


@provokes(117)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@reproduces("stop", "docker")
def test_a_signal_stops_the_job_and_keeps_what_it_has(desk: Desk, number: signal.Signals) -> None:
    desk.project.write(ESTIMATOR={"INSTANCE_COUNT": 2 if number == signal.SIGINT else 1})
    desk.program(STOPPABLE)
    with desk.launching() as process:
        before = read_until(process, "identifier")
        identifier = desk.identifier()
        process.send_signal(number)
        done = ended(process, before)
    assert (done.code, done.done.has_traceback) == (128 + number, False)
    assert done.lines()[-1] == "heard 15 as 1"
    assert desk.left(identifier) == []
    [result] = desk.project.s3.glob("team/experiments/team/tiny/*/result.json")
    assert json.loads(result.read_text())["status"] == "Stopped"
    [model] = desk.project.s3.glob("team/outputs/*/output/model.tar.gz")
    assert model.stat().st_size > 0


@provokes(117)
def test_a_second_ctrl_c_does_not_wait_for_the_program(desk: Desk) -> None:
    desk.program(DEAF)
    with desk.launching() as process:
        before = read_until(process, "identifier")
        identifier = desk.identifier()
        process.send_signal(signal.SIGINT)
        before += read_until(process, "Stopping")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        done = ended(process, before)
    assert time.monotonic() - start < 60
    assert done.code == 130
    assert desk.left(identifier) == []


SLOW_TO_LISTEN = "print('awake', flush=True); time.sleep(4)\n" + STOPPABLE
TAKES_SIGNALS_ONE_BY_ONE = """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("awake", flush=True)
signal.sigwait({signal.SIGTERM}); print("heard", flush=True)
"""


@pytest.mark.parametrize("program", [SLOW_TO_LISTEN, TAKES_SIGNALS_ONE_BY_ONE], ids=["late", "waiting"])
def test_the_program_is_told_as_soon_as_it_would_notice(desk: Desk, program: str) -> None:
    desk.program(program)
    with desk.launching("--stop-grace", "60") as process:
        before = read_until(process, "awake")
        process.send_signal(signal.SIGTERM)
        done = ended(process, before)
    assert done.code == 143
    assert done.lines()[-1].startswith("heard")


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3])
def test_a_signal_that_comes_while_the_container_is_made_stops_it_too(desk: Desk, delay_s: float) -> None:
    desk.program(STOPPABLE)
    with desk.launching() as process:
        before = read_until(process, "Training")
        identifier = desk.identifier()
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        done = ended(process, before)
    assert time.monotonic() - start < 60
    assert (done.code, done.done.has_traceback) == (143, False)
    assert desk.left(identifier) == []


@pytest.mark.parametrize("hosts", [1, 2])
def test_the_next_launch_removes_what_a_killed_one_left(desk: Desk, hosts: int) -> None:
    desk.project.write(ESTIMATOR={"INSTANCE_COUNT": hosts})
    desk.program(STOPPABLE)
    with desk.launching() as process:
        read_until(process, "identifier")
        identifier = desk.identifier()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(lambda: len(desk.containers(identifier)) == hosts, "the containers that go on without us")
    assert len(desk.networks(identifier)) == hosts - 1
    assert (desk.cache / "rehearsals" / identifier).is_dir()
    desk.project.write()
    desk.program("tell(identifier=identifier)")
    done = desk.launch()
    assert done.code == 0, done.done.err
    assert desk.left(identifier) == []
    assert desk.left(done.told()["identifier"]) == []


def test_a_launch_leaves_the_containers_of_one_that_still_runs_alone(
    desk: Desk, engine: Engine, tmp_path: Path
) -> None:
    desk.program("tell(identifier=identifier)\nwhile not (model / 'go').exists(): time.sleep(0.02)")
    (tmp_path / "other").mkdir()
    other = Desk.set_up(tmp_path / "other", engine, SAGEMAKER_LAUNCHER_CACHE=str(desk.cache))
    other.program("")
    with desk.launching() as process:
        before = read_until(process, "identifier")
        [path] = (desk.cache / "rehearsals").glob("*/attempt-1/algo-1/opt/ml/model")
        assert other.launch().code == 0
        (path / "go").touch()
        assert ended(process, before).code == 0
