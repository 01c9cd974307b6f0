"""Images and programs in the style of public examples, unmodified: with `train` alone, and with AWS's training toolkit."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.docker.launching import CODE, Desk, Ended
from tests.fidelity import reproduces
from tests.servers.engine import Engine

# As in the "bring your own container" examples: a folder on PATH with an executable `train`, and nothing of AWS in it.
OWN_IMAGE = """\
COPY train /opt/program/train
ENV PATH="/opt/program:${PATH}" PYTHONUNBUFFERED=TRUE
WORKDIR /opt/program
"""
OWN_TRAIN = """\
#!/usr/bin/env python3
import json, os, sys, traceback

prefix = '/opt/ml/'
input_path = prefix + 'input/data'
output_path = os.path.join(prefix, 'output')
model_path = os.path.join(prefix, 'model')
param_path = os.path.join(prefix, 'input/config/hyperparameters.json')
training_path = os.path.join(input_path, 'training')

def train():
    print('Starting the training.')
    try:
        with open(param_path, 'r') as tc:
            trainingParams = json.load(tc)
        input_files = [os.path.join(training_path, file) for file in os.listdir(training_path)]
        rows = [line.strip().split(',') for name in input_files for line in open(name)]
        max_leaf_nodes = trainingParams.get('max_leaf_nodes', None)
        if max_leaf_nodes is not None:
            max_leaf_nodes = int(max_leaf_nodes)
        with open(os.path.join(model_path, 'decision-tree-model.json'), 'w') as out:
            json.dump({'leaves': max_leaf_nodes, 'rows': rows}, out)
        print('Training complete.')
    except Exception as e:
        trc = traceback.format_exc()
        with open(os.path.join(output_path, 'failure'), 'w') as s:
            s.write('Exception during training: ' + str(e) + '\\n' + trc)
        print('Exception during training: ' + str(e) + '\\n' + trc, file=sys.stderr)
        sys.exit(255)

if __name__ == '__main__':
    assert not [name for name in os.environ if name.startswith('SM_')]
    train()
    sys.exit(0)
"""
SHELL_TRAIN = """\
#!/bin/bash
set -e
echo "arguments: $@"
echo "program: $0 in $(pwd) on $SM_CURRENT_HOST of $SM_HOSTS"
wc -l "$SM_CHANNEL_TRAINING"/*.csv | sed 's/^ *//'
echo "epochs $SM_HP_EPOCHS"
cp "$SM_CHANNEL_TRAINING"/*.csv "$SM_MODEL_DIR"/
"""
# As in the toolkit's README: what a user may pass on, with the variables as defaults.
ARGPARSE_TRAIN = """\
import argparse, json, os

if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    # hyperparameters sent by the client are passed as command-line arguments to the script
    parser.add_argument('--epochs', type=int, default=50)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--learning-rate', type=float, default=0.05)
    parser.add_argument('--use-cuda', type=bool, default=False)
    # an alternative way to load hyperparameters via SM_HPS environment variable
    parser.add_argument('--sm-hps', type=json.loads, default=os.environ['SM_HPS'])
    # input data and model directories
    parser.add_argument('--model-dir', type=str, default=os.environ['SM_MODEL_DIR'])
    parser.add_argument('--training', type=str, default=os.environ['SM_CHANNEL_TRAINING'])
    parser.add_argument('--output-data-dir', type=str, default=os.environ['SM_OUTPUT_DATA_DIR'])
    parser.add_argument('--hosts', type=json.loads, default=os.environ['SM_HOSTS'])
    parser.add_argument('--current-host', type=str, default=os.environ['SM_CURRENT_HOST'])
    parser.add_argument('--num-gpus', type=int, default=os.environ['SM_NUM_GPUS'])
    parser.add_argument('--num-cpus', type=int, default=os.environ['SM_NUM_CPUS'])
    parser.add_argument('--user-entry-point', type=str, default=os.environ['SM_USER_ENTRY_POINT'])
    args, _ = parser.parse_known_args()
    print(json.dumps(vars(args), sort_keys=True))
    print('loss=%.3f' % (args.learning_rate / args.epochs))
    print(sorted(os.listdir(args.training)))
    with open(os.path.join(args.model_dir, 'model.json'), 'w') as file:
        json.dump({'epochs': args.epochs}, file)
"""


@pytest.fixture
def own(engine: Engine, tmp_path: Path) -> Desk:
    """Somebody with an image that has its code inside, and none on this machine."""
    desk = Desk.set_up(tmp_path, engine, engine.build("own-train", OWN_IMAGE, {"train": OWN_TRAIN}))
    hyperparameters = {"max_leaf_nodes": 5, "C": 0.5}
    desk.project.write(SOURCE={"DIR": ""}, ESTIMATOR={"HYPERPARAMETERS": hyperparameters})
    return desk


@reproduces("start command", "docker")
@reproduces("artifacts", "docker")
def test_an_executable_train_runs_without_any_toolkit(own: Desk) -> None:
    done = own.launch()
    assert done.code == 0, done.done.err
    assert done.lines() == ["Starting the training.", "Training complete."]
    with tarfile.open(own.path(done.result["artifacts"]["model"])) as packed:
        model = packed.extractfile("decision-tree-model.json")
        assert model
        assert model.read() == b'{"leaves": 5, "rows": [["1", "2"]]}'


@reproduces("failure", "docker")
def test_its_failure_file_is_the_reason(own: Desk) -> None:
    done = own.launch("--set", "ESTIMATOR.HYPERPARAMETERS.max_leaf_nodes", "many")
    assert (done.code, done.result["exit_code"]) == (10, 255)
    reason = done.result["failure_reason"]
    assert reason.startswith("AlgorithmError: Exception during training: invalid literal for int()")
    assert reason.endswith(", exit code: 255")


def both(engine: Engine, image: str, folder: Path, name: str, program: str, **estimator: Any) -> list[Ended]:
    """Runs a program under the toolkit, in its image and as a process.

    Args:
        engine: The engine.
        image: An image with the toolkit.
        folder: For the projects.
        name: The program's file.
        program: Its text.
        estimator: Settings of ESTIMATOR.
    """
    desk = Desk.set_up(folder, engine, image)
    path = desk.project.folder / "code" / name
    path.write_text(program)
    path.chmod(0o755)
    desk.project.write(
        SOURCE={"DIR": "code", "ENTRY_POINT": name},
        ESTIMATOR={
            "CONTAINER_ENTRY_POINT": ["train"],
            "ENVIRONMENT": {"SAGEMAKER_PROGRAM": name},
            **estimator,
        },
    )
    in_container = desk.launch()
    as_process = Ended(
        desk.cli("launch", desk.project.config, "--on", "process", "--s3-root", desk.project.s3, "--json")
    )
    for done in (in_container, as_process):
        assert done.code == 0, done.done.err
        assert "model" in done.result["artifacts"]
    return [in_container, as_process]


def printed(done: Ended, first: str) -> list[str]:
    """What the program printed, from a line on, without what the toolkit says around it and with /opt/ml where it lies."""
    # A process runs in the user's own folder.
    lines = [re.sub(r"/[^\s\"']+/project/code\b", CODE, line) for line in done.lines()]
    lines = [re.sub(r"/[^\s\"']+(?=/opt/ml)", "", line) for line in lines]
    start = next(number for number, line in enumerate(lines) if line.startswith(first))
    return [line for line in lines[start:] if line and "sagemaker-training-toolkit" not in line]


@reproduces("toolkit")
def test_a_shell_script_under_the_toolkit_does_the_same_in_a_container_and_as_a_process(
    engine: Engine, training_image: str, tmp_path: Path
) -> None:
    settings = {"HYPERPARAMETERS": {"epochs": 4, "name": "two words"}}
    done = both(engine, training_image, tmp_path, "train.sh", SHELL_TRAIN, **settings)
    in_container, as_process = (printed(one, "arguments: ") for one in done)
    assert in_container == as_process
    assert in_container == [
        "arguments: --epochs 4 --name two words",
        'program: ./train.sh in /opt/ml/code on algo-1 of ["algo-1"]',
        "1 /opt/ml/input/data/training/a.csv",
        "epochs 4",
    ]


@reproduces("toolkit")
def test_a_script_with_argparse_under_the_toolkit_does_the_same_in_a_container_and_as_a_process(
    engine: Engine, training_image: str, tmp_path: Path
) -> None:
    settings = {"HYPERPARAMETERS": {"epochs": 4, "batch-size": 8, "learning-rate": 0.1}}
    done = both(engine, training_image, tmp_path, "train.py", ARGPARSE_TRAIN, **settings)
    in_container, as_process = (printed(one, '{"batch_size"') for one in done)
    assert in_container == as_process
    assert '"epochs": 4' in in_container[0]
    assert '"model_dir": "/opt/ml/model"' in in_container[0]
    assert in_container[1:] == ["loss=0.025", "['a.csv']"]
    assert [one.result["metrics"] for one in done] == [{"loss": 0.025}] * 2


@reproduces("requirements", "docker")
def test_the_toolkit_installs_the_requirements_of_the_users_folder(
    engine: Engine, training_image: str, tmp_path: Path
) -> None:
    desk = Desk.set_up(tmp_path, engine, training_image)
    code = desk.project.folder / "code"
    # A wheel beside the code: no index has to be reached.
    write_wheel(code / "tiny_package-1.0-py3-none-any.whl", "tiny_package", "VALUE = 42")
    (code / "requirements.txt").write_text("./tiny_package-1.0-py3-none-any.whl\n")
    desk.project.program("import tiny_package\nprint('installed', tiny_package.VALUE)")
    desk.project.write(ESTIMATOR={"CONTAINER_ENTRY_POINT": ["train"]})
    done = desk.launch()
    assert done.code == 0, done.done.err
    assert "installed 42" in done.lines()


def write_wheel(path: Path, name: str, text: str) -> None:
    """Writes a package that pip installs without building it."""
    facts = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", text)
        wheel.writestr(f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{facts}/RECORD", "")
