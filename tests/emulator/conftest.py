"""A client, and a way to say what the jobs of a test do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.clients import Client

from .emulator import Emulator

Trains = Callable[[str], None]


@pytest.fixture
def sagemaker(emulator: Emulator) -> Client:
    return emulator.client("sagemaker")


@pytest.fixture
def trains(emulator: Emulator, tmp_path: Path) -> Trains:
    """Makes a text the program of every job."""

    def write(program: str) -> None:
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(program)
        emulator.runs(folder)

    return write
