"""The example's data, and containers that have it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.container.harness import Container, container_with_digits, write_digits


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("csv"), "csv")


@pytest.fixture(scope="session")
def digits_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("npz"), "npz")


@pytest.fixture
def empty_container(tmp_path: Path) -> Container:
    return Container(tmp_path / "ml")


@pytest.fixture
def new_container(tmp_path: Path, digits: Path) -> Callable[[str], Container]:
    """Makes containers with the digits in both channels and a config with the given text."""
    numbers = itertools.count()

    def make(config: str) -> Container:
        return container_with_digits(tmp_path / f"ml-{next(numbers)}", digits, config)

    return make
