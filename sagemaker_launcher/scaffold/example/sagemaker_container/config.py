"""Every key of the training config with its default, and how a config file is read.

The tree below is the manual and the schema. A YAML file states only what differs. The launcher loads this
file on a laptop to check a config before anything is started, so it imports nothing but YACS, YAML and the
standard library. A default is a text, a whole number, a number, true or false, a list, or a section of these:
never None, never a tuple.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode


class Config(CfgNode):  # type: ignore[misc]  # YACS has no types
    """A YACS node that leaves texts alone; YACS itself makes a number of '1.10' and the commit '1234e56'."""

    @classmethod
    def _decode_cfg_value(cls, value: Any) -> Any:  # noqa: ANN401 - a config value has any type
        return cls(value) if isinstance(value, dict) else value


_C = Config()

# The version of this file's format. It changes when a key gets another meaning.
_C.VERSION = 1

# Everything random comes from this number: the random features, and the order of the samples in each epoch.
# Two runs with the same config and the same data give the same model.
_C.SEED = 0

# --- The data
_C.DATA = Config()
# The input channels that hold the samples to learn from, and those to measure with. All *.csv and *.npz files
# below a channel are read. CSV: a header line, the class in the column `label`, one column for each pixel.
# npz: the classes in the array `y`, the pixels in the array `x`.
_C.DATA.TRAINING_CHANNEL = "training"
_C.DATA.VALIDATION_CHANNEL = "validation"
# The largest value of a pixel: pixels are divided by it. 16 for the digits, 255 for ordinary images.
_C.DATA.PIXEL_MAX = 16.0

# --- The model: random Fourier features, then logistic regression
_C.MODEL = Config()
# How many random features are made of an image. More is more accurate, slower and larger.
_C.MODEL.FEATURES = 1000
# How narrow the kernel is that the features imitate: exp(-GAMMA * distance^2), for pixels from 0 to 1.
_C.MODEL.GAMMA = 0.2

# --- How it learns: stochastic gradient descent
_C.SOLVER = Config()
# How many times the training samples are gone through, those before a checkpoint that is resumed included.
_C.SOLVER.EPOCHS = 15
# Samples per step. A stop is noticed between two steps.
_C.SOLVER.BATCH_SIZE = 64
# The learning rate is BASE_LR / t^LR_DECAY after t samples. LR_DECAY 0 keeps it constant.
_C.SOLVER.BASE_LR = 1.0
_C.SOLVER.LR_DECAY = 0.1
# The strength of L2 regularisation.
_C.SOLVER.WEIGHT_DECAY = 1e-5

# --- Checkpoints: what an interrupted job goes on from
_C.CHECKPOINT = Config()
# A checkpoint is written after every so many epochs, at the end, and on SIGTERM. 0: none is written or read.
_C.CHECKPOINT.EVERY = 1
# How many checkpoints are kept; the older ones are deleted.
_C.CHECKPOINT.KEEP = 2

_AT_LEAST = {
    "SEED": 0,
    "MODEL.FEATURES": 1,
    "SOLVER.EPOCHS": 1,
    "SOLVER.BATCH_SIZE": 1,
    "SOLVER.LR_DECAY": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "CHECKPOINT.EVERY": 0,
    "CHECKPOINT.KEEP": 1,
}
_ABOVE_ZERO = ("DATA.PIXEL_MAX", "MODEL.GAMMA", "SOLVER.BASE_LR")
_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}


# Lines as train.py prints them. The launcher tries the patterns of the SageMaker config's METRIC_DEFINITIONS on
# them, so that a pattern that finds nothing is found out before a job runs.
LOG_SAMPLES = ("epoch=1 train:loss=2.302585e+00 validation:loss=7.100000e-05 validation:accuracy=0.9722",)


class ConfigError(ValueError):
    """Everything that is wrong in a config, one problem a line."""


def get_cfg_defaults() -> Config:
    """A copy of the defaults that the caller may change."""
    return _C.clone()  # type: ignore[no-any-return]


def load(path: Path, overrides: Mapping[str, str]) -> Config:
    """Merges a config file, and then overrides, over the defaults.

    Args:
        path: A YAML file.
        overrides: Texts by dotted key, such as {"SOLVER.BASE_LR": "0.01"}; they become what the defaults are.

    Returns:
        The complete config, frozen.

    Raises:
        ConfigError: With every problem of the file and of the overrides.
    """
    cfg = get_cfg_defaults()
    defaults = dict(_leaves(cfg))
    wrong = []
    given = [(path.name, key, value) for key, value in _leaves(_document(path))]
    given += [("hyperparameter", key, _parsed(text, defaults.get(key))) for key, text in overrides.items()]
    for where, key, value in given:
        if key not in defaults:
            wrong.append(f"{where}: {key}: {_unknown(key, defaults)}")
            continue
        try:
            cfg.merge_from_list([key, _coerced(value, defaults[key])])
        except (ValueError, OverflowError):
            wrong.append(f"{where}: {key}: expected {_TYPE_NAMES[type(defaults[key])]}, got {value!r}")
    wrong += problems(cfg)
    if wrong:
        raise ConfigError("\n".join([f"{len(wrong)} problem(s) in the training config", *wrong]))
    cfg.freeze()
    return cfg


def _document(path: Path) -> dict[Any, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise ConfigError(f"{path.name} is not YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name}: expected a mapping of keys to values, got {document!r}")
    return document


def _leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parsed(text: str, default: object) -> Any:  # noqa: ANN401 - a config value has any type
    """What a text would be in a YAML file; a text stays as it is where a text is wanted."""
    if isinstance(default, str):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _coerced(value: Any, default: object) -> Any:  # noqa: ANN401 - a config value has any type
    if isinstance(default, float) and type(value) in (int, float, str):
        number = float(value)  # from text too, because YAML 1.1 takes 1e-4, without a point, for a text
        if math.isfinite(number):
            return number
        raise ValueError(value)
    if type(value) is not type(default):
        raise ValueError(value)
    return value


def _unknown(key: str, defaults: Mapping[str, object]) -> str:
    if any(known.startswith(f"{key}.") for known in defaults):
        return "is a section, and needs keys of its own"
    near = difflib.get_close_matches(key, defaults, 1)
    return f"unknown key (did you mean {near[0]}?)" if near else "unknown key"


def problems(cfg: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the values of a complete config, as texts `KEY: what`. The launcher asks this, too."""
    values = dict(_leaves(cfg))
    if values["VERSION"] != _C.VERSION:
        yield f"VERSION: expected {_C.VERSION}, got {values['VERSION']}"
    for key, least in _AT_LEAST.items():
        if values[key] < least:
            yield f"{key}: expected at least {least}, got {values[key]}"
    for key in _ABOVE_ZERO:
        if values[key] <= 0:
            yield f"{key}: expected more than 0, got {values[key]}"
