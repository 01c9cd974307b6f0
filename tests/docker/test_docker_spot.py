"""Spot interruptions in containers: everything but the checkpoints is fresh, and the program goes on from there."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.commands import ROOT
from tests.container.harness import write_digits
from tests.docker.launching import Desk, Ended
from tests.fidelity import reproduces
from tests.servers.engine import Engine

COUNT = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
checkpoint = base / "checkpoints" / "n"
found, attempt = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 0)
places = [model / "old", data / "old", base / "input/data/training/old", pathlib.Path.home() / "old", pathlib.Path("/tmp/old")]
places.append(pathlib.Path("/opt/ml/code/old"))
tell(identifier=identifier, found=found, old=[str(path) for path in places if path.exists()], name=os.environ["TRAINING_JOB_NAME"])
for path in places: path.touch()
n = found
while attempt < 2 or n < found + 2:  # it ends only after it was interrupted twice
    time.sleep(0.25)
    n += 1
    checkpoint.with_name("new").write_text(json.dumps([n, attempt + 1])); checkpoint.with_name("new").replace(checkpoint)
    print("n", n, flush=True)
(model / "n").write_text(str(n))
"""
SPOT = {"USE_SPOT_INSTANCES": True, "MAX_RUN": 600, "MAX_WAIT": 600}


@reproduces("spot", "docker")
@reproduces("checkpoints", "docker")
@reproduces("time line", "docker")
def test_an_interrupted_job_goes_on_from_its_checkpoints_and_nothing_else(
    engine: Engine, tmp_path: Path
) -> None:
    desk = Desk.set_up(tmp_path, engine)
    desk.project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"}, ESTIMATOR=SPOT)
    desk.program(COUNT)
    done = desk.launch("--interrupt-after", "2.5", "--interrupt-after", "2.5")
    assert done.code == 0, done.done.err
    starts = [json.loads(line) for line in done.lines() if line.startswith("{")]
    assert len(starts) == 3
    assert [start["old"] for start in starts] == [[], [], []]
    assert len({start["name"] for start in starts}) == 1
    found = [start["found"] for start in starts]
    assert 0 == found[0] < found[1] < found[2]
    one = ("Starting", "Downloading", "Training")
    assert done.statuses == [*(*one, "Interrupted", *one, "Interrupted", *one, "Uploading", "Completed")]
    interruptions = done.result["interruptions"]
    assert len(interruptions) == 2
    for interruption in interruptions:
        # A program that heard SIGTERM has its last checkpoint saved: lost is what it did since it wrote that.
        assert 0 <= interruption["lost_seconds"] < 2.5 <= interruption["training_seconds"] < 60
    assert done.result["metrics"] == {}
    with tarfile.open(desk.path(done.result["artifacts"]["model"])) as packed:
        assert sorted(packed.getnames()) == ["n", "old"]
    logs = list((desk.path(done.answer["experiment"]) / "logs").iterdir())
    assert len(logs) == 3
    assert desk.left(starts[0]["identifier"]) == []


@pytest.fixture(scope="module")
def example(engine: Engine, training_image: str, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The example, in its own image, with its own data, and slow enough to be interrupted."""
    desk = Desk.set_up(tmp_path_factory.mktemp("desk"), engine, training_image)
    write_digits(desk.project.s3 / "team/data/digits", "csv")
    desk.project.write(
        SOURCE={"DIR": str(ROOT / "sagemaker_container")},
        S3={"CHECKPOINTS": "s3://team/checkpoints"},
        CHANNELS={part: f"s3://team/data/digits/{name}/" for part, name in
                  (("training", "train"), ("validation", "validation"))},
        ESTIMATOR={**SPOT, "METRIC_DEFINITIONS": [{"Name": "accuracy", "Regex": "accuracy=([0-9.]+)"}]},
    )  # fmt: skip
    desk.project.write_training(
        yaml.safe_dump(
            {"SOLVER": {"EPOCHS": 6, "BATCH_SIZE": 8}, "MODEL": {"FEATURES": 100}, "CHECKPOINT": {"EVERY": 1}}
        )
    )
    return desk


@reproduces("spot", "docker")
def test_the_example_comes_to_the_same_end_with_and_without_an_interruption(example: Desk) -> None:
    whole = example.launch()
    assert whole.code == 0, whole.done.err
    cut = interrupted(example, max(1.0, whole.result["training_seconds"] / 2))
    assert cut.code == 0, cut.done.err
    assert len(cut.result["interruptions"]) == 1, cut.done.err
    assert "Interrupted" in cut.statuses
    assert cut.result["metrics"] == whole.result["metrics"]
    assert model(example, cut) == model(example, whole)


def interrupted(example: Desk, after_s: float) -> Ended:
    """Trains with an interruption; once more, with less time, where the machine has become so fast that it came too late."""
    cut = example.launch("--interrupt-after", str(after_s))
    if cut.result["interruptions"] or after_s < 0.1:
        return cut
    return interrupted(example, after_s / 3)


def model(desk: Desk, done: Ended) -> bytes:
    with tarfile.open(desk.path(done.result["artifacts"]["model"])) as packed:
        file = packed.extractfile("model.npz")
        assert file
        return file.read()
