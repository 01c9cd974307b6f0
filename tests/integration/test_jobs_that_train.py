"""The commands for jobs on a SageMaker that really trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine
from tests.emulator.emulator import Emulator
from tests.emulator.fate import Fate
from tests.fault_rows import provokes
from tests.integration.test_launch_aws import read, wait_for
from tests.project import Project
from tests.servers.seaweed import SeaweedServer

COUNTS = """\
import time
for number in range({lines}):
    print(f"line {{number}}", flush=True)
    time.sleep({pause})
{end}
"""
FAILING = """\
import os, pathlib
pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "output", "failure").write_text("CUDA out of memory")
raise SystemExit(1)
"""


def program(project: Project, lines: int, pause: float = 0.0, end: str = "") -> None:
    project.program(COUNTS.format(lines=lines, pause=pause, end=end))


@pytest.fixture
def launch(emulator_cli: CommandLine, project: Project) -> Any:
    def start(*words: str) -> dict[str, Any]:
        done = emulator_cli("launch", project.config, "--detach", "--json", *words)
        assert done.code == 0, done.err
        answer: dict[str, Any] = done.json
        return answer

    return start


def test_a_log_is_followed_from_the_first_line_to_the_last(
    emulator_cli: CommandLine, project: Project, launch: Any
) -> None:
    program(project, 20, 0.1)
    job = launch()
    followed = emulator_cli("logs", "-f", job["experiment"])
    assert followed.code == 0, followed.err
    assert followed.out.splitlines() == [f"algo-1 | line {number}" for number in range(20)]
    assert emulator_cli("logs", job["experiment"]).out == followed.out


def test_the_lines_of_two_hosts_are_told_apart(
    emulator_cli: CommandLine, project: Project, launch: Any
) -> None:
    program(project, 8, 0.2)
    job = launch("--set", "ESTIMATOR.INSTANCE_COUNT", "2")
    download = ("download", job["experiment"], "--logs", "--to", "here")
    early = emulator_cli(*download)
    assert (early.code, early.err.count("the log is not whole")) == (6, 1)
    lines = emulator_cli("logs", "-f", job["experiment"]).out.splitlines()
    for host in ("algo-1", "algo-2"):
        own = [line for line in lines if line.startswith(f"{host} | ")]
        assert own == [f"{host} | line {number}" for number in range(8)]
    assert len(lines) == 16
    done = emulator_cli(*download)
    assert done.code == 0, done.err
    kept = {path.name: path.read_text() for path in (emulator_cli.folder / "here" / "logs").iterdir()}
    own_lines = "".join(f"line {number}\n" for number in range(8))
    assert kept == {"algo-1.log": own_lines, "algo-2.log": own_lines}


@provokes(105)
def test_lines_that_arrive_after_the_end_are_shown(
    emulator_cli: CommandLine, project: Project, emulator: Emulator, launch: Any
) -> None:
    program(project, 3, end="raise SystemExit(1)")
    emulator.next_job(Fate(log_delay_s=4))
    job = launch()
    followed = emulator_cli("logs", "-f", job["experiment"])
    assert followed.code == 10
    assert [line for line in followed.out.splitlines() if "| line" in line] == [
        f"algo-1 | line {number}" for number in range(3)
    ]


@provokes(105)
def test_a_failed_launch_says_what_to_look_at_and_what_to_try(
    emulator_cli: CommandLine, project: Project
) -> None:
    program(project, 1, end=FAILING)
    done = emulator_cli("launch", project.config)
    assert done.code == 10
    assert "CUDA out of memory" in done.out
    assert "try: choose an instance type with more memory, or smaller batches" in done.out
    assert "#logsV2:log-groups/log-group/" in done.err


@provokes(101)
def test_no_capacity_is_explained(
    emulator_cli: CommandLine, project: Project, emulator: Emulator, launch: Any
) -> None:
    program(project, 1)
    emulator.next_job(Fate(failure="capacity"))
    done = emulator_cli("wait", launch()["experiment"])
    assert done.code == 10
    assert "try: choose another instance type, another region, or try again later" in done.out


@pytest.mark.parametrize("failure", ["image", "capacity", "internal"])
def test_a_job_that_failed_before_it_trained_has_saved_nothing(
    emulator_cli: CommandLine,
    project: Project,
    emulator: Emulator,
    s3: SeaweedServer,
    launch: Any,
    failure: str,
) -> None:
    program(project, 1)
    emulator.next_job(Fate(failure=failure))
    job = launch()
    done = emulator_cli("wait", job["experiment"])
    assert (done.code, "saved" in done.out, "model.tar.gz" in done.out) == (10, False, False)
    told = emulator_cli("status", job["experiment"], "--json").json["jobs"][0]["result"]
    assert (told["status"], told["artifacts"]) == ("Failed", {})
    assert json.loads(read(s3, job["experiment"] + "result.json"))["artifacts"] == {}


def test_a_running_job_has_saved_nothing_yet_and_a_completed_one_its_model(
    emulator_cli: CommandLine, project: Project, emulator: Emulator, launch: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    wait = f"import pathlib\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)"
    program(project, 1, end=wait)
    job = launch()
    emulator.wait_for(job["job_name"], "Training")
    running = emulator_cli("status", job["experiment"])
    gate.touch()
    assert (running.code, "saved" in running.out) == (0, False), running.out
    done = emulator_cli("wait", job["experiment"])
    assert f"saved       model: s3://team/outputs/{job['job_name']}/output/model.tar.gz" in done.out


def test_a_stop_reaches_the_program_and_its_result_is_collected(
    emulator_cli: CommandLine, project: Project, emulator: Emulator, launch: Any, s3: SeaweedServer
) -> None:
    program(project, 1000, 0.1)
    job = launch()
    emulator.wait_for(job["job_name"], "Training")
    done = emulator_cli("stop", job["experiment"], "--wait")
    assert done.code == 0, done.err
    assert emulator.status(job["job_name"]) == "Stopped"
    assert json.loads(read(s3, job["experiment"] + "result.json"))["status"] == "Stopped"
    assert emulator_cli("wait", job["experiment"]).code == 11
    assert "nothing to do" in emulator_cli("stop", job["experiment"]).out


def test_a_spot_interruption_is_told_and_the_log_goes_on(
    emulator_cli: CommandLine, project: Project, emulator: Emulator, launch: Any
) -> None:
    program(project, 30, 0.1)
    emulator.next_job(Fate(interrupt_after_s=(1.0,)))
    spot = (
        "--set",
        "ESTIMATOR.USE_SPOT_INSTANCES",
        "true",
        "--set",
        "S3.CHECKPOINTS",
        "s3://team/checkpoints",
    )
    job = launch(*spot)
    followed = emulator_cli("logs", "-f", job["experiment"])
    assert followed.code == 0, followed.err
    assert "Interrupted" in followed.err
    lines = followed.out.splitlines()
    assert lines[-30:] == [f"algo-1 | line {number}" for number in range(30)]
    assert len(lines) > 30


def test_a_dozen_jobs_are_awaited_together(
    emulator_cli: CommandLine, project: Project, emulator: Emulator, launch: Any
) -> None:
    program(project, 1)
    first = launch()
    client = emulator.client("sagemaker", region="us-east-1")
    request = {key: value for key, value in first["request"].items() if key != "TrainingJobName"}
    names = [f"{first['job_name'][:-6]}{number:06d}" for number in range(12)]
    emulator.every_job(Fate(start_delay_s=4))
    for name in names:
        client.create_training_job(TrainingJobName=name, **request)
    process = emulator_cli.start("wait", *names, "--region", "us-east-1")
    wait_for(process, "InProgress")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.count("Completed") == 12
    asked = [
        call.at for call in emulator.requests if call.operation in {"ListTrainingJobs", "DescribeTrainingJob"}
    ]
    assert len(asked[1:]) <= asked[-1] - asked[1] + 2, "more than one a second"


def test_the_course_of_a_metric_comes_from_the_log_on_aws(
    emulator_cli: CommandLine, project: Project, launch: Any, s3: SeaweedServer
) -> None:
    del s3
    metric = {"Name": "loss", "Regex": "loss=([0-9.]+)"}
    project.write(ESTIMATOR={"METRIC_DEFINITIONS": [metric]})
    project.program("for loss in (4, 3, 2, 1):\n    print(f'loss={loss}', flush=True)\n")
    job = launch()
    assert emulator_cli("wait", job["experiment"]).code == 0
    shown = emulator_cli("show", job["experiment"], "--json").json
    assert shown["courses"] == {"loss": [4.0, 3.0, 2.0, 1.0]}
    assert "loss  4 █▆▃▁ 1" in emulator_cli("show", job["experiment"]).out
    # An archive can be looked at without CloudWatch.
    away = emulator_cli(
        "show", job["experiment"], "--json", env={"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://127.0.0.1:9"}
    )
    assert (away.code, away.json["courses"]) == (0, {})
