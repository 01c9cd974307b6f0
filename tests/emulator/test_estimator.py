"""The stock Estimator of the SageMaker SDK, which knows nothing of this project, trains on the emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.commands import clean_environment
from tests.servers.seaweed import SeaweedServer

from .conftest import Trains
from .emulator import Emulator
from .requests import IMAGE

# It takes as long as it does because the SDK asks for the job's state every 30 seconds.
FIT = f"""
import sagemaker
from sagemaker.estimator import Estimator

session = sagemaker.Session(default_bucket="team")
estimator = Estimator(
    image_uri="{IMAGE}", role="arn:aws:iam::123456789012:role/trainer", instance_type="ml.m5.large", instance_count=1,
    output_path="s3://team/estimator", sagemaker_session=session, hyperparameters={{"lr": 0.1}},
    metric_definitions=[{{"Name": "loss", "Regex": "loss=([0-9.]+)"}}], disable_profiler=True,
)
estimator.fit({{"training": "s3://team/estimator-data/"}}, wait=True)
job = estimator.latest_training_job.describe()
print("ended:", job["TrainingJobStatus"], job["FinalMetricDataList"][0]["Value"], estimator.model_data)
"""


def test_fit_streams_the_log_of_a_job_that_trains(
    emulator: Emulator, s3: SeaweedServer, trains: Trains, home: Path, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    trains(
        "import os, pathlib, time\n"
        "print('files', os.listdir(os.environ['SM_CHANNEL_TRAINING']), os.environ['SM_HP_LR'], flush=True)\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.05)\n"
        "print('loss=0.125')\n"
        "open(os.environ['SM_MODEL_DIR'] + '/weights', 'w').write('w')\n"
    )
    s3.client().put_object(Bucket="team", Key="estimator-data/a.csv", Body=b"1,2")
    # Its telemetry and its own call of STS know no endpoints: they meet a proxy that is not there.
    variables = clean_environment(
        home,
        **emulator.variables,
        AWS_DEFAULT_REGION="eu-west-1",
        HTTPS_PROXY="http://127.0.0.1:9",
        NO_PROXY="127.0.0.1",
    )

    command = [sys.executable, "-u", "-c", FIT]
    with subprocess.Popen(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as fit:
        assert fit.stdout is not None
        seen = ""
        for line in fit.stdout:
            seen += line
            if "files ['a.csv'] 0.1" in line:
                go_on.touch()

    assert fit.returncode == 0, seen
    assert go_on.exists(), "the log did not come while the job ran"
    assert "loss=0.125" in seen
    assert "Completed - Training job completed" in seen
    assert "Billable seconds:" in seen
    assert "ended: Completed 0.125 s3://team/estimator/" in seen
