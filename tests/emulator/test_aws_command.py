"""The AWS CLI, where this machine has it: it is too closely tied to versions of botocore to be installed beside the SDK."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.commands import clean_environment

from .conftest import Trains
from .emulator import Emulator
from .requests import request


def answers() -> bool:
    """Whether there is a program `aws` that is more than a name."""
    program = shutil.which("aws")
    return (
        bool(program)
        and subprocess.run([str(program), "--version"], capture_output=True, check=False).returncode == 0
    )


def test_the_aws_command_line_starts_follows_and_stops_jobs(
    emulator: Emulator, trains: Trains, home: Path
) -> None:
    if not answers():
        pytest.skip("there is no AWS CLI here")
    variables = clean_environment(home, **emulator.variables, AWS_DEFAULT_REGION="eu-west-1")

    def aws(*words: str) -> Any:
        done = subprocess.run(
            ["aws", *words], env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    trains("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    aws("sagemaker", "create-training-job", "--cli-input-json", json.dumps(request("by-hand")))
    emulator.wait_for("by-hand", "Training")
    [job] = aws("sagemaker", "list-training-jobs", "--status-equals", "InProgress")["TrainingJobSummaries"]
    assert job["TrainingJobName"] == "by-hand"

    aws("sagemaker", "stop-training-job", "--training-job-name", "by-hand")
    aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", "by-hand")

    job = aws("sagemaker", "describe-training-job", "--training-job-name", "by-hand")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    group, stream = "/aws/sagemaker/TrainingJobs", emulator.log_streams("by-hand")[0]
    page = aws("logs", "get-log-events", "--log-group-name", group, "--log-stream-name", stream)
    assert [event["message"] for event in page["events"]] == ["ready"]
