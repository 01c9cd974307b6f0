"""Checkpoints: whole or not there, and of this run or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.container.harness import load_module

checkpoint = load_module("checkpoint")
config = load_module("config")


def checkpoints(folder: Path, *, keep: int = 2, fingerprint: str = "same") -> Any:
    return checkpoint.Checkpoints(folder, keep=keep, fingerprint=fingerprint)


def save(folder: Path, *epochs: int, keep: int = 2) -> None:
    for epoch in epochs:
        content = checkpoint.Checkpoint(epoch, {"note": f"of {epoch}"}, {"weights": np.full(3, epoch / 3)})
        checkpoints(folder, keep=keep).save(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name[: len("epoch-000000")] for path in folder.iterdir())


def test_the_newest_checkpoint_comes_back_exactly(tmp_path: Path) -> None:
    save(tmp_path / "new" / "folder", 1, 2)
    found = checkpoints(tmp_path / "new" / "folder").newest()
    assert (found.epoch, found.facts["note"]) == (2, "of 2")
    np.testing.assert_array_equal(found.arrays["weights"], np.full(3, 2 / 3))


def test_there_is_none_in_a_folder_that_is_missing_or_holds_other_files(tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "missing").newest() is None
    (tmp_path / "epoch-1.npz").write_bytes(b"by somebody else")
    assert checkpoints(tmp_path).newest() is None


def test_only_the_newest_are_kept_and_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    save(tmp_path, 8, 9, 10, 11, keep=3)
    assert names(tmp_path) == ["epoch-000009", "epoch-000010", "epoch-000011", "notes.txt"]


def test_the_order_is_that_of_the_epochs_even_with_seven_digits(tmp_path: Path) -> None:
    save(tmp_path, 999_999, 1_000_000)
    assert checkpoints(tmp_path).newest().epoch == 1_000_000


def test_what_a_killed_writer_left_behind_is_not_read_and_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "unfinished.tmp").write_bytes(b"half a checkpoint")
    assert checkpoints(tmp_path).newest() is None
    save(tmp_path, 1)
    assert names(tmp_path) == ["epoch-000001"]


@given(position=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(deadline=None, max_examples=40)
def test_one_changed_byte_anywhere_makes_the_one_before_count(
    position: float, change: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    save(folder, 1, 2)
    newest = max(folder.iterdir())
    content = bytearray(newest.read_bytes())
    content[int(position * len(content))] ^= change
    newest.write_bytes(content)
    assert checkpoints(folder).newest().epoch == 1


def test_a_truncated_checkpoint_is_named_in_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 1)
    (only,) = tmp_path.iterdir()
    only.write_bytes(only.read_bytes()[:-1])
    assert checkpoints(tmp_path).newest() is None
    assert capsys.readouterr().out == f"warning: checkpoint {only.name} is damaged and was not used\n"


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(checkpoint.CheckpointError, match="belongs to a run with another config"):
        checkpoints(tmp_path, fingerprint="another").newest()


def changed(key: str, value: str) -> Any:
    cfg = config.get_cfg_defaults()
    section, _, name = key.rpartition(".")
    setattr(cfg[section] if section else cfg, name, type((cfg[section] if section else cfg)[name])(value))
    return cfg


@pytest.mark.parametrize(
    "key",
    [
        "SEED",
        "DATA.PIXEL_MAX",
        "DATA.TRAINING_CHANNEL",
        "MODEL.FEATURES",
        "SOLVER.BASE_LR",
        "SOLVER.BATCH_SIZE",
    ],
)
def test_what_changes_the_result_changes_the_fingerprint(key: str) -> None:
    assert checkpoint.fingerprint(changed(key, "77")) != checkpoint.fingerprint(config.get_cfg_defaults())


@pytest.mark.parametrize("key", ["SOLVER.EPOCHS", "CHECKPOINT.EVERY", "CHECKPOINT.KEEP"])
def test_how_long_and_how_often_does_not_change_the_fingerprint(key: str) -> None:
    assert checkpoint.fingerprint(changed(key, "77")) == checkpoint.fingerprint(config.get_cfg_defaults())
