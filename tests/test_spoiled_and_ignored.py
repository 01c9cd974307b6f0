"""One spoiled entry hides no other experiment, and a signal that our parent ignores stays ignored."""

from __future__ import annotations

import json
import signal
import subprocess

from tests.commands import CommandLine
from tests.project import Project


def test_a_spoiled_entry_of_the_index_hides_no_other_experiment(cli: CommandLine, project: Project) -> None:
    good = cli("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json").json[
        "job_name"
    ]
    index = project.s3 / "team" / "experiments" / "_index"
    [entry] = index.iterdir()
    leaving = {**json.loads(entry.read_text()), "experiment_name": "../../../elsewhere"}
    (index / f"0000000001-{good}.json").write_text(json.dumps(leaving))
    (index / "0000000002-nonsense.json").write_text("[")
    listed = cli("list", "--archive", "s3://team/experiments", "--s3-root", project.s3, "--json")
    assert listed.code == 0, listed.err
    states = [(line["job_name"], line["state"]) for line in listed.json["experiments"]]
    assert states == [(good, "unreadable"), ("nonsense", "unreadable"), (good, "finished")]


def test_a_hangup_that_nohup_ignores_does_not_stop_a_launch(cli: CommandLine, project: Project) -> None:
    project.program("import time\nprint('running', flush=True)\ntime.sleep(1)\n")
    words = cli.command("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json")
    process = subprocess.Popen(
        ["nohup", *words],
        cwd=cli.folder,
        env=dict(cli.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    next(line for line in process.stderr if "running" in line)
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["result"]["status"] == "Completed"
