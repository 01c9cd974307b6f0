"""Checkpoints: files that are whole or not there, so that an interrupted job can go on from the last one.

SageMaker copies the folder to S3 while the job runs, and back before it starts again:
https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_NAME = re.compile(r"epoch-(?P<epoch>\d{6,})-(?P<digest>[0-9a-f]{16})\.npz")


class CheckpointError(ValueError):
    """A checkpoint is whole, and yet this job cannot go on from it."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        epoch: The last epoch that is in it.
        facts: Anything that JSON can hold.
        arrays: Arrays by name.
    """

    epoch: int
    facts: Mapping[str, Any]
    arrays: Mapping[str, Any]


class Checkpoints:
    """The checkpoints in a folder. A file's name has the epoch and the start of the SHA-256 of its content.

    Args:
        folder: Made when it is missing.
        keep: How many are kept.
        fingerprint: Says what kind of run they belong to, see `fingerprint`.
    """

    def __init__(self, folder: Path, *, keep: int, fingerprint: str) -> None:
        self._folder = folder
        self._keep = keep
        self._fingerprint = fingerprint

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint under another name, renames it, and deletes the ones that are too many."""
        facts = np.array(json.dumps({"fingerprint": self._fingerprint, **checkpoint.facts}))
        content = io.BytesIO()
        np.savez(content, facts=facts, **checkpoint.arrays)
        name = f"epoch-{checkpoint.epoch:06d}-{_digest(content.getvalue())}.npz"
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder / name, content.getvalue())
        for path in self._newest_first()[self._keep :]:
            path.unlink(missing_ok=True)

    def newest(self) -> Checkpoint | None:
        """Reads the newest checkpoint that is not damaged, and says so when it passes over one.

        Raises:
            CheckpointError: It belongs to a run with another config.
        """
        for path in self._newest_first():
            content = path.read_bytes()
            if f"-{_digest(content)}." in path.name:
                return self._read(path, content)
            print(f"warning: checkpoint {path.name} is damaged and was not used", flush=True)
        return None

    def _read(self, path: Path, content: bytes) -> Checkpoint:
        with np.load(io.BytesIO(content), allow_pickle=False) as npz:
            arrays = dict(npz)
        facts = json.loads(arrays.pop("facts").item())
        if facts["fingerprint"] != self._fingerprint:
            raise CheckpointError(
                f"{path} belongs to a run with another config: SEED, DATA, MODEL or SOLVER differ "
                "(SOLVER.EPOCHS may); start with an empty checkpoint folder, or with that config"
            )
        return Checkpoint(_epoch(path), facts, arrays)

    def _newest_first(self) -> list[Path]:
        paths = [path for path in self._folder.glob("epoch-*.npz") if _NAME.fullmatch(path.name)]
        return sorted(paths, key=lambda path: (_epoch(path), path.name), reverse=True)


def fingerprint(cfg: Mapping[str, Any]) -> str:
    """A hash of all that makes two runs the same run; they may differ in how long they go on."""
    solver = {key: value for key, value in cfg["SOLVER"].items() if key != "EPOCHS"}
    decisive = {"SEED": cfg["SEED"], "DATA": cfg["DATA"], "MODEL": cfg["MODEL"], "SOLVER": solver}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _epoch(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match["epoch"]) if match else 0


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _write(path: Path, content: bytes) -> None:
    # Always the same name, so that one that a kill left behind is written over.
    unfinished = path.with_name("unfinished.tmp")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
