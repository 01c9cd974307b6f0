"""The training config: defaults, merging, and everything wrong with it at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.container.harness import CODE, TRAINING_CONFIG, load_module

config = load_module("config")

Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str | bytes, overrides: Mapping[str, str] | None = None) -> Any:
        path = tmp_path / "training_config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return config.load(path, overrides or {})

    return load


def leaves(node: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for value in node.values():
        found += leaves(value) if isinstance(value, dict) else [value]
    return found


def test_the_sample_of_the_log_is_a_line_as_training_prints_it() -> None:
    # As the last epoch does, whatever its numbers.
    printed = (CODE / "train.py").read_text("utf-8").partition("def __str__")[2].partition("\n\n")[0]
    [sample] = config.LOG_SAMPLES
    words = [word.partition("=")[0] for word in sample.split()]
    assert words == re.findall(r"([a-z:]+)=\{", printed)


def test_every_default_has_a_type_that_a_value_can_be_checked_against() -> None:
    values = leaves(config.get_cfg_defaults())
    assert {type(value) for value in values} <= {str, int, float, bool, list}


def test_the_defaults_cannot_be_changed_by_whoever_asks_for_them() -> None:
    config.get_cfg_defaults().SOLVER.EPOCHS = 99
    assert config.get_cfg_defaults().SOLVER.EPOCHS == 15


def test_the_example_config_is_valid() -> None:
    assert config.load(TRAINING_CONFIG, {}).VERSION == 1


def test_an_empty_file_means_the_defaults(load: Load) -> None:
    assert load("") == config.get_cfg_defaults()


def test_a_complete_config_written_as_yaml_reads_back_equal(load: Load) -> None:
    merged = load("SOLVER: {EPOCHS: 3, WEIGHT_DECAY: 1.0e-7}")
    assert load(merged.dump()) == merged


def test_a_loaded_config_cannot_be_changed(load: Load) -> None:
    with pytest.raises(AttributeError):
        load("").SOLVER.EPOCHS = 2


@pytest.mark.parametrize("text", ["1", "1.0", "1e0", "1.0e+0"])
def test_a_number_may_be_written_in_any_way(load: Load, text: str) -> None:
    value = load(f"SOLVER: {{BASE_LR: {text}}}").SOLVER.BASE_LR
    assert value == 1.0
    assert type(value) is float


@pytest.mark.parametrize("text", ["1.10", "1234e56", "0123", "true", "null", "20260101", "[a]"])
def test_an_override_of_a_text_is_taken_as_it_is(load: Load, text: str) -> None:
    assert text == load("", {"DATA.TRAINING_CHANNEL": text}).DATA.TRAINING_CHANNEL


@pytest.mark.parametrize("text", ["1.10", "1234e56", "20260101"])
def test_a_quoted_text_in_the_file_stays_a_text(load: Load, text: str) -> None:
    assert text == load(f"DATA: {{TRAINING_CHANNEL: '{text}'}}").DATA.TRAINING_CHANNEL


def test_overrides_win_over_the_file_and_take_the_type_of_the_default(load: Load) -> None:
    cfg = load("SOLVER: {EPOCHS: 3, BASE_LR: 0.5}", {"SOLVER.BASE_LR": "1e-2", "MODEL.FEATURES": "20"})
    assert (cfg.SOLVER.EPOCHS, cfg.SOLVER.BASE_LR, cfg.MODEL.FEATURES) == (3, 0.01, 20)


def test_all_problems_of_file_and_overrides_are_reported_at_once(load: Load) -> None:
    text = """
        SOLVER: {EPOCS: 3, BASE_LR: fast, BATCH_SIZE: 1.5}
        MODEL: 7
        CHECKPOINT: {EVERY: -1}
    """
    with pytest.raises(config.ConfigError) as caught:
        load(text, {"SOLVER.BASE_LR": "0,1", "NOISE": "1", "SEED": "yes"})
    problems = str(caught.value).splitlines()
    assert problems == [
        "8 problem(s) in the training config",
        "training_config.yaml: SOLVER.EPOCS: unknown key (did you mean SOLVER.EPOCHS?)",
        "training_config.yaml: SOLVER.BASE_LR: expected a number, got 'fast'",
        "training_config.yaml: SOLVER.BATCH_SIZE: expected a whole number, got 1.5",
        "training_config.yaml: MODEL: is a section, and needs keys of its own",
        "hyperparameter: SOLVER.BASE_LR: expected a number, got '0,1'",
        "hyperparameter: NOISE: unknown key",
        "hyperparameter: SEED: expected a whole number, got True",
        "CHECKPOINT.EVERY: expected at least 0, got -1",
    ]
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("VERSION", "2"),
        ("SEED", "-1"),
        ("DATA.PIXEL_MAX", "0"),
        ("MODEL.FEATURES", "0"),
        ("MODEL.GAMMA", "-0.1"),
        ("MODEL.GAMMA", ".nan"),
        ("SOLVER.EPOCHS", "0"),
        ("SOLVER.BATCH_SIZE", "0"),
        ("SOLVER.BASE_LR", ".inf"),
        ("SOLVER.LR_DECAY", "-1"),
        ("SOLVER.WEIGHT_DECAY", "-1"),
        ("SOLVER.WEIGHT_DECAY", "1" + "0" * 400),
        ("CHECKPOINT.KEEP", "0"),
        ("SOLVER.EPOCHS", "2026-99-99"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(load: Load, key: str, value: str) -> None:
    with pytest.raises(config.ConfigError, match=key):
        load("", {key: value})


@pytest.mark.parametrize(
    "text", ["- a\n- b", "just text", "3", "a: [", "a: \x00", "a: 2026-99-99", b"\xff\xfe\xfd"]
)
def test_what_is_no_mapping_or_no_yaml_is_refused(load: Load, text: str | bytes) -> None:
    with pytest.raises(config.ConfigError, match=r"training_config\.yaml"):
        load(text)


def test_no_tag_in_the_file_is_executed(load: Load, tmp_path: Path) -> None:
    evidence = tmp_path / "executed"
    with pytest.raises(config.ConfigError):
        load(
            f"SEED: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{evidence}]]"
        )
    assert not evidence.exists()


values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()))
keys = st.sampled_from(["SEED", "SOLVER", "EPOCHS", "BASE_LR", "DATA", "TRAINING_CHANNEL", "x"])
trees = st.recursive(st.dictionaries(keys, values), lambda inner: st.dictionaries(keys, inner | values))


@given(tree=trees)
@example(tree={"SOLVER": {}})
@example(tree={"SOLVER": {"EPOCHS": {}}})
@settings(deadline=None, max_examples=150)
def test_any_tree_gives_a_valid_config_or_a_config_error(tree: dict[str, Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    try:
        cfg = config.load(path, {})
    except config.ConfigError:
        return
    defaults = config.get_cfg_defaults()
    assert [type(value) for value in leaves(cfg)] == [type(value) for value in leaves(defaults)]
