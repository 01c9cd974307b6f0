"""The emulator trains in containers when it is asked to: the image of the request runs, as on AWS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator.emulator import Emulator
from tests.emulator.requests import channel, request
from tests.servers.engine import Engine

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/emulated:1"
PROGRAM = """\
import os, pathlib, sys, time
print("arguments", sys.argv[1:], "data", pathlib.Path("/opt/ml/input/data/training/a.csv").read_text(), flush=True)
pathlib.Path("/opt/ml/model/weights").write_text("w")
if "WAIT" in os.environ:
    time.sleep(60)
"""


@pytest.fixture
def emulator(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator with S3 of its own, data in it, and the image on this machine."""
    for name, value in engine.variables.items():
        monkeypatch.setenv(name, value)
    built = engine.build(
        "emulated", 'COPY main.py /\nENTRYPOINT ["python3", "/main.py"]', {"main.py": PROGRAM}
    )
    engine("tag", built, IMAGE)
    try:
        with Emulator(place="docker", stop_grace_s=2) as emulator:
            s3 = emulator.client("s3", region="us-east-1")
            s3.create_bucket(Bucket="team")
            s3.put_object(Bucket="team", Key="data/a.csv", Body=b"1,2")
            yield emulator
    finally:
        engine("rmi", IMAGE)


def test_the_image_of_the_request_trains(emulator: Emulator) -> None:
    data = [channel("training", "s3://team/data/")]
    emulator.client("sagemaker").create_training_job(**request("boxed", image=IMAGE, InputDataConfig=data))

    assert emulator.wait_for("boxed") == "Completed"
    assert emulator.log("boxed") == ["algo-1 arguments ['train'] data 1,2"]
    listed = emulator.client("s3").list_objects_v2(Bucket="team", Prefix="out/boxed/")
    assert [item["Key"] for item in listed["Contents"]] == ["out/boxed/output/model.tar.gz"]


def test_a_stopped_job_leaves_no_container(emulator: Emulator, engine: Engine) -> None:
    client, data = emulator.client("sagemaker"), [channel("training", "s3://team/data/")]
    asked = request("boxed", image=IMAGE, InputDataConfig=data, Environment={"WAIT": "1"})
    client.create_training_job(**asked)
    emulator.wait_for("boxed", "Training")

    client.stop_training_job(TrainingJobName="boxed")

    assert emulator.wait_for("boxed") == "Stopped"
    assert engine("ps", "--all", "--quiet", "--filter", f"ancestor={IMAGE}").stdout == ""


def test_an_image_that_cannot_be_pulled_fails_the_job(emulator: Emulator) -> None:
    emulator.client("sagemaker").create_training_job(
        **request("absent", image=IMAGE.replace("emulated", "absent"))
    )

    assert emulator.wait_for("absent") == "Failed"
    job = emulator.client("sagemaker").describe_training_job(TrainingJobName="absent")
    assert job["FailureReason"].startswith("ClientError: ")
    assert "cannot be pulled" in job["FailureReason"]
