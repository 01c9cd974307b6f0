"""main.py as SageMaker runs it: real processes, real signals, a folder in place of /opt/ml."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

from tests.container.harness import (
    CODE,
    TRAINING_CONFIG,
    Container,
    Outcome,
    container_with_digits,
    finish,
    load_module,
)

NewContainer = Callable[[str], Container]

METRICS = ("train:loss", "validation:loss", "validation:accuracy")
NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"

# Refuses the network, and tells on stdout when a slow import starts.
WATCHER = """
import sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"tried to use the network: {arguments}")
    if event == "import" and arguments[0] in ("numpy", "sklearn", "yacs", "yaml"):
        print("importing", arguments[0])

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> tuple[Container, Outcome]:
    """The shipped config, from start to end, as an image whose ENTRYPOINT is main.py would run it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "sitecustomize.py").write_text(WATCHER)
    container = container_with_digits(folder / "ml", digits, TRAINING_CONFIG.read_text("utf-8"))
    container.write_service_file(
        "resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}
    )
    container.environment = {
        "PYTHONPATH": str(folder),
        "TRAINING_JOB_NAME": "digits-1",
        "TRAINING_CONFIG_SHA256": hashlib.sha256(TRAINING_CONFIG.read_bytes()).hexdigest(),
    }
    return container, container.run("train")


def curves(container: Container) -> list[dict[str, str]]:
    return list(csv.DictReader(container.curves.splitlines()))


def test_the_shipped_config_trains_to_97_percent(finished: tuple[Container, Outcome]) -> None:
    container, outcome = finished
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    metrics = json.loads((container.base / "output" / "data" / "metrics.json").read_text())
    assert metrics["validation:accuracy"] >= 0.97
    assert metrics["epoch"] == 15
    assert not (container.base / "output" / "failure").exists()


def test_the_first_line_names_job_and_host_before_anything_slow_is_imported(
    finished: tuple[Container, Outcome],
) -> None:
    lines = finished[1].lines
    assert re.fullmatch(r"job=digits-1 host=algo-1 python=3\.\d+\.\d+", lines[0])
    assert "importing numpy" in lines


def test_every_metric_is_found_in_the_log_once_for_each_epoch_with_its_full_value(
    finished: tuple[Container, Outcome],
) -> None:
    container, outcome = finished
    for name in METRICS:
        found = [float(match[1]) for line in outcome.lines for match in re.finditer(f"{name}={NUMBER}", line)]
        assert found == pytest.approx([float(row[name]) for row in curves(container)], rel=1e-4)
    assert re.search(r"train:loss=\d\.\d+e-\d+", outcome.stdout)


def test_the_saved_model_predicts_as_well_as_was_measured(
    finished: tuple[Container, Outcome], digits: Path
) -> None:
    container, _ = finished
    model = load_module("model").Model.load(container.base / "model")
    validation = load_module("data").read(digits / "validation")
    accuracy = np.mean(model.predict(validation.pixels) == validation.labels)
    assert accuracy == float(curves(container)[-1]["validation:accuracy"])


def test_a_model_of_another_format_is_not_read(finished: tuple[Container, Outcome], tmp_path: Path) -> None:
    description = json.loads((finished[0].base / "model" / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**description, "format": 2}))
    with pytest.raises(ValueError, match="expected a model of format 1, got 2"):
        load_module("model").Model.load(tmp_path)


def test_npz_data_sm_variables_and_fewer_cores_give_exactly_the_same_model(
    finished: tuple[Container, Outcome], digits_npz: Path, tmp_path: Path
) -> None:
    container = Container(tmp_path / "ml")
    config = container.write_config(TRAINING_CONFIG.read_text("utf-8"))
    config.parent.rename(tmp_path / "elsewhere")
    container.environment = {
        "OPENBLAS_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": "Haswell",
        "SM_CHANNEL_CONFIG": str(tmp_path / "elsewhere"),
        "SM_CHANNEL_TRAINING": str(digits_npz / "train"),
        "SM_CHANNEL_VALIDATION": str(digits_npz / "validation"),
        "SM_MODEL_DIR": str(tmp_path / "a" / "model"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "b" / "data"),
    }
    outcome = container.run()
    assert outcome.exit_code == 0
    assert "TRAINING_CONFIG_SHA256 is not set: training_config.yaml was not checked" in outcome.lines
    assert (tmp_path / "a" / "model" / "model.npz").read_bytes() == finished[0].model_bytes
    assert (tmp_path / "b" / "data" / "curves.csv").read_text() == finished[0].curves
    assert not (container.base / "model").exists()


def test_a_config_with_another_hash_is_refused_before_training(new_container: NewContainer) -> None:
    container = new_container("SEED: 1\n")
    actual, expected = hashlib.sha256(b"SEED: 1\n").hexdigest(), "0" * 64
    container.environment = {"TRAINING_CONFIG_SHA256": expected}
    outcome = container.run("train")
    assert outcome.exit_code == 1
    assert actual in container.failure
    assert expected in container.failure
    assert outcome.epochs == []


def test_hyperparameters_are_merged_over_the_config_and_the_command_line_is_then_ignored(
    new_container: NewContainer,
) -> None:
    container = new_container("SOLVER: {EPOCHS: 9}\nCHECKPOINT: {EVERY: 2, KEEP: 9}")
    container.write_hyperparameters(
        {
            "SOLVER.EPOCHS": "3",
            "MODEL.FEATURES": "40",
            "sagemaker_program": "other.py",
            "_tuning_objective_metric": "validation:accuracy",
        }
    )
    outcome = container.run("--SOLVER.EPOCHS", "5", "--nonsense")
    assert (outcome.exit_code, outcome.epochs) == (0, [1, 2, 3])
    assert json.loads((container.base / "model" / "model.json").read_text())["epoch"] == 3
    names = [path.name[:12] for path in container.checkpoints]
    assert names == ["epoch-000002", "epoch-000003"]


def test_hyperparameters_may_come_on_the_command_line(new_container: NewContainer) -> None:
    container = new_container("CHECKPOINT: {EVERY: 0}")
    outcome = container.run("--MODEL.FEATURES", "40", "--SOLVER.EPOCHS", "1")
    assert (outcome.exit_code, outcome.epochs) == (0, [1])
    assert not (container.base / "checkpoints").exists()


@pytest.mark.parametrize("arguments", [["--SOLVER.EPOCHS"], ["serve"], ["SOLVER.EPOCHS", "1"]])
def test_another_command_line_is_refused(new_container: NewContainer, arguments: list[str]) -> None:
    container = new_container("")
    assert container.run(*arguments).exit_code == 1
    assert container.failure.startswith(f"ValueError: expected pairs of --KEY VALUE, got: {arguments[0]}")


def test_bad_hyperparameters_are_all_named_in_the_failure_file(new_container: NewContainer) -> None:
    container = new_container("SOLVER: {EPOCHS: 1}")
    container.write_hyperparameters({"SOLVER.EPOCH": "3", "SOLVER.BASE_LR": "fast"})
    outcome = container.run("train")
    assert outcome.exit_code == 1
    assert container.failure.startswith("ConfigError: 2 problem(s) in the training config\n")
    assert "hyperparameter: SOLVER.EPOCH: unknown key (did you mean SOLVER.EPOCHS?)" in container.failure
    assert "hyperparameter: SOLVER.BASE_LR: expected a number, got 'fast'" in container.failure


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("hyperparameters.json", {"SEED": 1}, "SEED: expected a JSON string, got 1"),
        ("hyperparameters.json", ["SEED"], "expected a JSON object"),
        ("resourceconfig.json", "algo-1", "expected a JSON object"),
    ],
)
def test_a_malformed_file_of_the_service_is_named(
    new_container: NewContainer, name: str, content: object, message: str
) -> None:
    container = new_container("")
    container.write_service_file(name, content)
    assert container.run("train").exit_code == 1
    assert name in container.failure
    assert message in container.failure


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "FileNotFoundError: no channel 'config'"),
        ([], "FileNotFoundError: no *.yaml file in the channel 'config'"),
        (
            ["a.yaml", "b.yaml"],
            "ValueError: expected one *.yaml file in the channel 'config', found a.yaml, b.yaml",
        ),
    ],
)
def test_the_config_channel_must_hold_one_yaml_file(
    empty_container: Container, files: list[str] | None, message: str
) -> None:
    folder = empty_container.base / "input" / "data" / "config"
    folder.parent.mkdir(parents=True)
    if files is not None:
        folder.mkdir()
        for name in files:
            (folder / name).touch()
    assert empty_container.run("train").exit_code == 1
    assert empty_container.failure.startswith(message)


def test_a_missing_channel_is_a_failure_with_the_whole_traceback(
    empty_container: Container, digits: Path
) -> None:
    empty_container.write_config("")
    empty_container.add_channel("training", digits / "train")
    outcome = empty_container.run("train")
    assert outcome.exit_code == 1
    first, _, rest = empty_container.failure.partition("\n\n")
    assert first.startswith("FileNotFoundError: no channel 'validation': ")
    assert first.endswith("; channels: config, training")
    assert rest == outcome.stderr
    assert rest.startswith("Traceback (most recent call last):\n")
    assert 'main.py", line ' in rest
    assert 'job.py", line ' in rest
    assert [path.name for path in (empty_container.base / "output").iterdir()] == ["failure"]


def test_the_failure_of_an_earlier_run_does_not_outlive_a_good_one(new_container: NewContainer) -> None:
    container = new_container("SOLVER: {EPOCHS: 1}\nMODEL: {FEATURES: 40}")
    assert container.run("train", "--NOISE", "1").exit_code == 1
    assert container.failure
    assert container.run("train").exit_code == 0
    assert not (container.base / "output" / "failure").exists()


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        ("label,p\n1,0\n1,1\n", "label,p\n1,0\n", "holds only the class 1"),
        ("label,p\n1,0\n2,1\n", "label,p\n3,0\n", "holds class 3, which"),
        ("label,p\n1,0\n2,1\n", "label,p,q\n1,0,0\n", "has 2 pixels an image"),
    ],
)
def test_channels_that_do_not_go_together_are_a_failure(
    empty_container: Container, training: str, validation: str, message: str
) -> None:
    add_texts(empty_container, training, validation)
    assert empty_container.run("train").exit_code == 1
    assert empty_container.failure.startswith("DataError: ")
    assert message in empty_container.failure


def add_texts(container: Container, training: str, validation: str) -> None:
    container.write_config(
        "SOLVER: {EPOCHS: 20, BATCH_SIZE: 2}\nMODEL: {FEATURES: 20}\nDATA: {PIXEL_MAX: 1.0}"
    )
    for channel, text in (("training", training), ("validation", validation)):
        folder = container.base / "input" / "data" / channel
        folder.mkdir()
        (folder / "a.csv").write_text(text)


def test_two_classes_are_enough(empty_container: Container) -> None:
    text = "label,p,q\n" + "4,0,1\n9,1,0\n" * 10
    add_texts(empty_container, text, text)
    assert empty_container.run("train").exit_code == 0
    assert curves(empty_container)[-1]["validation:accuracy"] == "1.0"
    model = load_module("model").Model.load(empty_container.base / "model")
    assert model.predict(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist() == [4, 9]


def test_only_the_first_host_saves(new_container: NewContainer) -> None:
    container = new_container("SOLVER: {EPOCHS: 1}\nMODEL: {FEATURES: 40}")
    container.write_service_file(
        "resourceconfig.json", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
    )
    outcome = container.run("train")
    assert (outcome.exit_code, outcome.epochs) == (0, [1])
    assert " host=algo-2 " in outcome.lines[0]
    assert not list(container.base.rglob("*.npz"))
    assert not list(container.base.rglob("curves.csv"))


SLOW = "SOLVER: {EPOCHS: 4, BATCH_SIZE: 8}\nMODEL: {FEATURES: 100}\nCHECKPOINT: {EVERY: 3, KEEP: 9}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Container:
    """A run with many small steps, so that a signal comes between two of them, from start to end."""
    container = container_with_digits(tmp_path_factory.mktemp("uninterrupted") / "ml", digits, SLOW)
    assert container.run("train").epochs == [1, 2, 3, 4]
    return container


def test_the_model_is_what_scikit_learn_learns_in_one_piece(uninterrupted: Container, digits: Path) -> None:
    model = load_module("model").Model.load(uninterrupted.base / "model")
    images = load_module("data").read(digits / "train")
    features = model.features(images.pixels)
    classifier = SGDClassifier(
        loss="log_loss", alpha=1e-5, learning_rate="invscaling", eta0=1.0, power_t=0.1, shuffle=False
    )
    for epoch in range(4):
        order = np.random.default_rng([0, epoch]).permutation(len(images.labels))
        for batch in (order[start : start + 8] for start in range(0, len(order), 8)):
            classifier.partial_fit(features[batch], images.labels[batch], classes=np.arange(10))
    np.testing.assert_array_equal(model.coefficients, classifier.coef_)
    np.testing.assert_array_equal(model.intercepts, classifier.intercept_)


def test_a_stop_in_the_middle_of_an_epoch_loses_only_that_epoch_and_the_result_is_exactly_the_same(
    uninterrupted: Container, new_container: NewContainer
) -> None:
    container = new_container(SLOW)
    process = container.start("train")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch=1 "):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    stopped = finish(process)
    assert time.monotonic() - sent < 60
    assert (stopped.exit_code, stopped.stderr) == (143, "")
    message = re.fullmatch(r"stopped by a signal after (\d) of 4 epochs", stopped.lines[-1])
    assert message is not None
    done = int(message[1])
    assert 1 <= done < 4
    assert container.checkpoints[-1].name.startswith(f"epoch-00000{done}-")
    assert len(curves(container)) == done
    assert container.model_bytes != uninterrupted.model_bytes

    resumed = container.run("train")
    assert (resumed.exit_code, resumed.epochs) == (0, list(range(done + 1, 5)))
    assert f"resuming from checkpoint of epoch {done}" in resumed.lines
    assert container.model_bytes == uninterrupted.model_bytes
    assert container.curves == uninterrupted.curves


def test_a_damaged_checkpoint_costs_one_more_epoch_and_changes_nothing_else(
    uninterrupted: Container, new_container: NewContainer
) -> None:
    container = new_container(SLOW)
    assert container.run("train", "--SOLVER.EPOCHS", "2", "--CHECKPOINT.EVERY", "1").exit_code == 0
    older, newer = container.checkpoints
    newer.write_bytes(newer.read_bytes()[:1000])
    resumed = container.run("train")
    assert f"warning: checkpoint {newer.name} is damaged and was not used" in resumed.lines
    assert "resuming from checkpoint of epoch 1" in resumed.lines
    assert resumed.epochs == [2, 3, 4]
    assert older.exists()
    assert container.model_bytes == uninterrupted.model_bytes
    assert container.curves == uninterrupted.curves


def test_a_run_that_was_complete_is_complete_at_once_when_it_starts_again(uninterrupted: Container) -> None:
    model = uninterrupted.model_bytes
    again = uninterrupted.run("train")
    assert (again.exit_code, again.epochs) == (0, [])
    assert uninterrupted.model_bytes == model


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.GAMMA", "0.3", "belongs to a run with another config: SEED, DATA, MODEL or SOLVER differ"),
        ("SOLVER.EPOCHS", "3", "the checkpoint is of epoch 4, but SOLVER.EPOCHS is 3"),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_config_is_refused(
    uninterrupted: Container, new_container: NewContainer, key: str, value: str, message: str
) -> None:
    container = new_container(SLOW)
    (container.base / "checkpoints").symlink_to(uninterrupted.base / "checkpoints")
    assert container.run("train", f"--{key}", value).exit_code == 1
    assert container.failure.startswith("CheckpointError: ")
    assert message in container.failure


def test_a_stop_before_the_first_epoch_ends_at_once_and_leaves_nothing(new_container: NewContainer) -> None:
    container = new_container(SLOW)
    process = container.start("train")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    outcome = finish(process)
    assert (outcome.exit_code, outcome.stderr) == (143, "")
    assert outcome.lines[-1] == "stopped by a signal after 0 of 4 epochs"
    assert not list(container.base.rglob("*.npz"))


@pytest.mark.parametrize("path", sorted(CODE.glob("*.py")), ids=lambda path: str(path.name))
def test_the_code_is_written_in_the_python_of_older_deep_learning_containers(path: Path) -> None:
    ast.parse(path.read_text("utf-8"), feature_version=(3, 9))
    assert "from __future__ import annotations\n" in path.read_text("utf-8")
    assert "sagemaker_launcher" not in path.read_text("utf-8")
