"""The image that Dockerfile.sagemaker makes, run as SageMaker runs it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.container.harness import Container, Outcome, write_digits
from tests.docker.example_image import build_example
from tests.servers.engine import Engine

SLOW = "SOLVER: {EPOCHS: 4, BATCH_SIZE: 8}\nMODEL: {FEATURES: 100}\nCHECKPOINT: {EVERY: 3, KEEP: 9}"
QUICK = "SOLVER: {EPOCHS: 2}\nMODEL: {FEATURES: 40}"


@dataclass(frozen=True)
class Instance:
    """A container of the training image with the folders of a job, as on a training instance."""

    engine: Engine
    image: str
    name: str
    job: Container

    def start(self, *words: str) -> None:
        """Starts `docker run [OPTIONS] IMAGE [ARGUMENTS]`; the words are both, with `IMAGE` between them."""
        at = words.index("IMAGE")
        mounts = [
            f"--volume={self.job.base / part}:/opt/ml/{part}"
            for part in ("input", "model", "output", "checkpoints")
        ]
        self.engine(
            *("run", "--detach", "--name", self.name, "--hostname", "algo-1", *mounts),
            # So that the files belong to whoever runs the tests.
            *("--user", f"{os.getuid()}:{os.getgid()}", "--env", "HOME=/tmp"),
            *(*words[:at], self.image, *words[at + 1 :]),
        )

    def end(self) -> Outcome:
        """Waits for the end of the program, and removes the container."""
        code = int(self.engine("wait", self.name).stdout)
        log = self.engine("logs", self.name)
        self.engine("rm", self.name)
        return Outcome(code, log.stdout, log.stderr)

    def run(self, *words: str) -> Outcome:
        self.start(*words)
        return self.end()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("csv"), "csv")


@pytest.fixture
def instance(engine: Engine, training_image: str, digits: Path, tmp_path: Path) -> Iterator[Instance]:
    """With the digits in both channels."""
    job = Container(tmp_path / "ml")
    for name in ("model", "output", "checkpoints"):
        (job.base / name).mkdir(parents=True)
    # Not links, which would lead nowhere inside.
    shutil.copytree(digits / "train", job.base / "input" / "data" / "training")
    shutil.copytree(digits / "validation", job.base / "input" / "data" / "validation")
    job.write_service_file("hyperparameters.json", {})
    job.write_service_file("inputdataconfig.json", {})
    job.write_service_file("resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1"]})
    name = f"{tmp_path.name}-{os.getpid()}"
    yield Instance(engine, training_image, name, job)
    engine("rm", "--force", name, check=False)


def test_the_image_says_how_it_is_started(engine: Engine, training_image: str) -> None:
    image = engine.inspect(training_image)
    assert (image["Os"], image["Architecture"]) == ("linux", "amd64")
    assert image["Config"]["Entrypoint"] == ["python3", "/opt/ml/code/main.py"]
    assert {"SAGEMAKER_PROGRAM=main.py", "PYTHONUNBUFFERED=1"} <= set(image["Config"]["Env"])
    train = engine("run", "--rm", "--entrypoint", "sh", training_image, "-c", "command -v train").stdout
    assert train == "/usr/local/bin/train\n"


def test_nothing_enters_the_image_but_the_training_code(engine: Engine, training_image: str) -> None:
    code = Path(__file__).parents[2] / "sagemaker_container"
    words = ("run", "--rm", "--entrypoint", "find", training_image, "/opt/ml", "/tmp", "-type", "f")
    found = engine(*words).stdout.splitlines()
    assert sorted(found) == sorted(f"/opt/ml/code/{path.name}" for path in code.iterdir() if path.is_file())


def test_it_trains_when_started_as_the_service_starts_it(instance: Instance) -> None:
    instance.job.write_config(QUICK)
    outcome = instance.run("IMAGE", "train")
    assert (outcome.exit_code, outcome.epochs, outcome.stderr) == (0, [1, 2], "")
    assert " host=algo-1 " in outcome.lines[0]
    assert instance.job.model_bytes
    assert instance.job.curves.count("\n") == 3
    assert {path.stat().st_uid for path in instance.job.base.rglob("*")} == {os.getuid()}


def test_it_trains_the_same_model_under_the_toolkit(instance: Instance) -> None:
    instance.job.write_config(QUICK)
    assert instance.run("IMAGE", "train").exit_code == 0
    ours = instance.job.model_bytes
    for path in (instance.job.base / "model").iterdir():
        path.unlink()
    outcome = instance.run("--entrypoint", "train", "IMAGE")
    assert outcome.exit_code == 0, outcome.stdout + outcome.stderr
    assert instance.job.model_bytes == ours


def test_a_stop_reaches_the_program_and_the_next_start_goes_on(instance: Instance) -> None:
    instance.job.write_config(SLOW)
    instance.start("IMAGE", "train")
    deadline = time.monotonic() + 60
    while "epoch=1 " not in instance.engine("logs", instance.name).stdout:
        assert time.monotonic() < deadline
    sent = time.monotonic()
    # SageMaker waits 120 seconds before it kills.
    instance.engine("stop", "--time", "120", instance.name)
    assert time.monotonic() - sent < 60
    stopped = instance.end()
    assert stopped.exit_code == 143
    assert instance.job.checkpoints
    resumed = instance.run("IMAGE", "train")
    assert resumed.exit_code == 0
    assert sorted({*stopped.epochs, *resumed.epochs}) == [1, 2, 3, 4]
    assert len(stopped.epochs) + len(resumed.epochs) == 4


def test_a_failure_is_reported_as_the_service_reads_it(instance: Instance) -> None:
    instance.job.write_config("SOLVER: {EPOCHS: many}")
    outcome = instance.run("IMAGE", "train")
    assert outcome.exit_code == 1
    assert instance.job.failure.startswith("ConfigError: 1 problem(s) in the training config")


def test_a_base_without_a_compiler_gets_none_for_good(
    engine: Engine, pip_image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    leave = "RUN apt-get purge --yes --auto-remove gcc libc6-dev python3-dev && apt-get clean"
    slim = engine.build("slim", leave, base=pip_image)
    image = build_example(engine, tmp_path_factory.mktemp("home"), base=slim, tag="slim")

    def inside(command: str) -> str:
        return engine("run", "--rm", "--entrypoint", "sh", image, "-c", command).stdout.strip()

    assert inside("python3 -c 'import sklearn, yaml; print(sklearn.__name__)'; command -v train") == (
        "sklearn\n/usr/local/bin/train"
    )
    assert inside("command -v gcc || ls /usr/include/python3*/Python.h 2> /dev/null || echo none") == "none"
    packages = "find /var/cache/apt /var/lib/apt/lists -type f -size +1k"
    assert inside(packages) == ""
