"""A small project for tests: two configs and a training program that takes milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SCHEMA = """\
from yacs.config import CfgNode as CN

_C = CN()
_C.VERSION = 1
_C.SEED = 0
_C.NAME = "plain"
_C.SOLVER = CN()
_C.SOLVER.BASE_LR = 0.1
_C.SOLVER.EPOCHS = 2
_C.SOLVER.NESTEROV = False
_C.SOLVER.STEPS = [10, 20]
_C.DATA = CN()
_C.DATA.TRAIN_CHANNEL = "training"


def get_cfg_defaults():
    return _C.clone()
"""
PROGRAM = """\
import os, pathlib, sys
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
print("first line", flush=True)
for epoch in (1, 2):
    print(f"epoch={epoch} loss={1e-05 / epoch:.3e}", flush=True)
(base / "model" / "model.txt").write_text("weights")
(base / "output" / "data" / "curve.csv").write_text("1,2")
"""


def settings() -> dict[str, Any]:
    """A valid SageMaker config, to be changed by a test and written by `Project.write`."""
    return {
        "VERSION": 1,
        "EXPERIMENT_NAME": "team/tiny",
        "AWS": {"REGION": "us-east-1"},
        "S3": {"CONFIGS": "s3://team/experiments", "OUTPUTS": "s3://team/outputs"},
        "CHANNELS": {"training": "s3://team/data/train/"},
        "ESTIMATOR": {
            "IMAGE_URI": "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tiny:1.0",
            "ROLE": "arn:aws:iam::123456789012:role/SageMakerExecutionRole",
            "INSTANCE_TYPE": "ml.m5.large",
            "METRIC_DEFINITIONS": [{"Name": "loss", "Regex": r"loss=([0-9.e+-]+)"}],
        },
        "SOURCE": {"DIR": "code"},
    }


@dataclass(frozen=True)
class Project:
    """A project's folder: `sagemaker_config.yaml`, `training_config.yaml`, `code/` and `s3/` with one data object."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Project:
        project = cls(folder)
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "config.py").write_text(SCHEMA)
        project.program(PROGRAM)
        project.write()
        project.write_training("SOLVER:\n  BASE_LR: 0.5\n")
        project.put("s3://team/data/train/a.csv", "1,2\n")
        return project

    @property
    def config(self) -> Path:
        return self.folder / "sagemaker_config.yaml"

    @property
    def training(self) -> Path:
        return self.folder / "training_config.yaml"

    @property
    def s3(self) -> Path:
        return self.folder / "s3"

    def write(self, **sections: Any) -> Path:
        """Writes the SageMaker config, with whole sections replaced, or merged when both are mappings."""
        values = settings()
        for name, section in sections.items():
            old = values.get(name)
            values[name] = (
                {**old, **section} if isinstance(old, dict) and isinstance(section, dict) else section
            )
        self.config.write_text(yaml.safe_dump(values, sort_keys=False))
        return self.config

    def write_training(self, text: str) -> None:
        self.training.write_text(text)

    def program(self, text: str) -> None:
        """Replaces the training program."""
        (self.folder / "code" / "main.py").write_text(text)

    def put(self, uri: str, text: str) -> Path:
        """Puts an object into the folder that stands in for S3."""
        path = self.s3 / uri.removeprefix("s3://")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path
