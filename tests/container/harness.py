"""Runs the training code as SageMaker does: a process, a folder like /opt/ml, and a clean environment."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

CODE = Path(__file__).parents[2] / "sagemaker_container"
TRAINING_CONFIG = Path(__file__).parents[2] / "configs" / "training_config.yaml"
_TIMEOUT_S = 180


@dataclass(frozen=True)
class Outcome:
    """How a run of main.py ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()

    @property
    def epochs(self) -> list[int]:
        """The epochs that were trained, in order."""
        return [
            int(line.split()[0].removeprefix("epoch=")) for line in self.lines if line.startswith("epoch=")
        ]


@dataclass
class Container:
    """A folder like /opt/ml and what it takes to run main.py on it."""

    base: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def failure(self) -> str:
        return (self.base / "output" / "failure").read_text("utf-8")

    @property
    def model_bytes(self) -> bytes:
        return (self.base / "model" / "model.npz").read_bytes()

    @property
    def curves(self) -> str:
        return (self.base / "output" / "data" / "curves.csv").read_text("utf-8")

    @property
    def checkpoints(self) -> list[Path]:
        return sorted((self.base / "checkpoints").glob("*"))

    def write_config(self, text: str) -> Path:
        path = self.base / "input" / "data" / "config" / "training_config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def write_service_file(self, name: str, content: object) -> None:
        path = self.base / "input" / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), "utf-8")

    def write_hyperparameters(self, values: Mapping[str, str]) -> None:
        self.write_service_file("hyperparameters.json", values)

    def add_channel(self, name: str, folder: Path) -> None:
        path = self.base / "input" / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(folder)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(CODE / "main.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONDONTWRITEBYTECODE": "1",
                "SAGEMAKER_BASE_DIR": str(self.base),
                **self.environment,
            },
        )

    def run(self, *arguments: str) -> Outcome:
        return finish(self.start(*arguments))


def finish(process: subprocess.Popen[str]) -> Outcome:
    stdout, stderr = process.communicate(timeout=_TIMEOUT_S)
    return Outcome(process.returncode, stdout, stderr)


def write_digits(folder: Path, form: str) -> Path:
    """The example's data, written by its own script."""
    script = [sys.executable, str(CODE / "digits.py"), str(folder), "--format", form]
    subprocess.run(script, check=True, timeout=_TIMEOUT_S)
    return folder


def container_with_digits(base: Path, digits: Path, config: str) -> Container:
    container = Container(base)
    container.write_config(config)
    container.add_channel("training", digits / "train")
    container.add_channel("validation", digits / "validation")
    return container


def load_module(name: str) -> ModuleType:
    """A module of the training code under another name, for `config` and `data` are names that others may have too."""
    unique = f"_training_code_{name}"
    if unique not in sys.modules:
        spec = importlib.util.spec_from_file_location(unique, CODE / f"{name}.py")
        if spec is None or spec.loader is None:
            raise ImportError(name)
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module
        spec.loader.exec_module(module)
    return sys.modules[unique]
