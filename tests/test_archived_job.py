"""What the archive alone says of a rehearsal: its log, in the order in which it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagemaker_launcher.archive.archived_job import log_lines
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import FolderStorage

EXPERIMENT = S3Uri.parse("s3://team/experiment/")
# The attempts of two hosts, as older versions named them: each ended within a second, or soon after.
STREAMS = (
    "algo-1-1700000000.log",
    "algo-2-1700000000.log",
    "algo-1-1700000000-again.log",
    "algo-2-1700000000-again.log",
    "algo-1-1700000000-again-again.log",
    "algo-2-1700000001.log",
    "algo-1-1700000002.log",
    "algo-1-1700000002-again.log",
)


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    logs = tmp_path / "team/experiment/logs"
    logs.mkdir(parents=True)
    for name in STREAMS:
        (logs / name).write_text(f"of {name}\n")
    return FolderStorage(tmp_path)


def test_attempts_within_the_same_second_are_read_in_their_order(storage: FolderStorage) -> None:
    lines = list(log_lines(storage, EXPERIMENT))
    assert lines == [(name[:6], f"of {name}") for name in STREAMS]


def test_the_order_of_one_host_is_its_own(storage: FolderStorage) -> None:
    lines = [text for _, text in log_lines(storage, EXPERIMENT, ["algo-1"])]
    assert lines == [f"of {name}" for name in STREAMS if name.startswith("algo-1")]


def test_the_end_of_the_log_is_of_the_last_attempt(storage: FolderStorage) -> None:
    lines = [text for _, text in log_lines(storage, EXPERIMENT, tail=2)]
    assert lines == [f"of {name}" for name in STREAMS[-2:]]
