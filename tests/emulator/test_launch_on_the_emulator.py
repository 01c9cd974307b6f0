"""`launch --on aws` against an AWS that trains: what a user gets after the job has really run."""

from __future__ import annotations

import io
import tarfile

from tests.commands import CommandLine
from tests.servers.seaweed import SeaweedServer

from .emulator import Emulator


def test_a_launched_job_trains_and_leaves_its_log_metrics_and_model(
    emulator_cli: CommandLine, emulator: Emulator, s3: SeaweedServer
) -> None:
    done = emulator_cli("launch", "sagemaker_config.yaml", "--json")

    assert done.code == 0, done.out + done.err
    assert "algo-1 | epoch=2 loss=5.000e-06" in done.err
    result, job = done.json["result"], done.json["job_name"]
    assert (result["status"], result["metrics"]) == ("Completed", {"loss": 5e-06})
    bucket, _, key = result["artifacts"]["model"].removeprefix("s3://").partition("/")
    assert (bucket, key) == ("team", f"outputs/{job}/output/model.tar.gz")
    model = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(model)) as archive:
        assert archive.getnames() == ["model.txt"]
    assert emulator.log(job) == [
        "algo-1 first line",
        "algo-1 epoch=1 loss=1.000e-05",
        "algo-1 epoch=2 loss=5.000e-06",
    ]
