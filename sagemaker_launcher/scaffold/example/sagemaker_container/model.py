"""The classifier: random Fourier features and logistic regression, kept as plain arrays, never as pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from config import Config

_ARRAYS = ("classes", "frequencies", "phases", "coefficients", "intercepts")
_FACTS = ("pixel_max", "samples_seen", "epoch")
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Model:
    """Everything that predicting, and going on with training, need.

    Attributes:
        pixel_max: Pixels are divided by it.
        samples_seen: How many samples it learnt from, repetitions included.
        epoch: How many epochs it learnt.
        classes: The labels, ascending.
        frequencies: Of the random features; one row a pixel, one column a feature.
        phases: Of the random features.
        coefficients: One row a class (one row in all for two classes), one column a feature.
        intercepts: One for each row of the coefficients.
    """

    pixel_max: float
    samples_seen: int
    epoch: int
    classes: NDArray[np.int64]
    frequencies: NDArray[np.float64]
    phases: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]

    @classmethod
    def untrained(cls, cfg: Config, *, pixels: int, classes: NDArray[np.int64]) -> Model:
        """Draws features whose inner products imitate exp(-gamma * distance^2) (Rahimi and Recht, 2007)."""
        generator = np.random.default_rng(cfg.SEED)
        shape = (pixels, cfg.MODEL.FEATURES)
        rows = 1 if len(classes) == 2 else len(classes)  # noqa: PLR2004 - what scikit-learn does with two classes
        return cls(
            pixel_max=cfg.DATA.PIXEL_MAX,
            samples_seen=0,
            epoch=0,
            classes=classes,
            frequencies=generator.normal(scale=np.sqrt(2 * cfg.MODEL.GAMMA), size=shape),
            phases=generator.uniform(0, 2 * np.pi, size=cfg.MODEL.FEATURES),
            coefficients=np.zeros((rows, cfg.MODEL.FEATURES)),
            intercepts=np.zeros(rows),
        )

    def features(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the regression sees of images; one row an image."""
        # Not `@`: its last digits depend on the processor and its cores, and a resumed job may get others.
        angles = np.einsum("ij,jk->ik", pixels / self.pixel_max, self.frequencies) + self.phases
        return np.cos(angles) * np.sqrt(2 / len(self.phases))  # type: ignore[no-any-return]

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """How likely each class is; one row an image, one column a class."""
        scores = np.einsum("ij,kj->ik", features, self.coefficients) + self.intercepts
        if scores.shape[1] == 1:
            scores = np.hstack([-scores, scores])
        each = np.exp(-np.logaddexp(0, -scores))  # the logistic function, without overflow
        return each / each.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def predict(self, pixels: NDArray[np.float64]) -> NDArray[np.int64]:
        """The most likely class of each image; pixels as they are in the data, not scaled."""
        likeliest = self.probabilities(self.features(pixels)).argmax(axis=1)
        return self.classes[likeliest]  # type: ignore[no-any-return]

    def facts(self) -> dict[str, Any]:
        """The part of the model that is not arrays."""
        return {name: getattr(self, name) for name in _FACTS}

    def arrays(self) -> dict[str, Any]:
        """The arrays of the model by name."""
        return {name: getattr(self, name) for name in _ARRAYS}

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Model:
        """The model that has these facts and arrays; it ignores all others."""
        return cls(**{name: facts[name] for name in _FACTS}, **{name: arrays[name] for name in _ARRAYS})

    def save(self, folder: Path) -> None:
        """Writes model.npz and model.json."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "model.npz", **self.arrays())
        description = {"format": _FORMAT, **self.facts(), "classes": self.classes.tolist()}
        (folder / "model.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Reads what `save` wrote.

        Raises:
            ValueError: The files are of another format.
        """
        description = json.loads((folder / "model.json").read_text("utf-8"))
        if description["format"] != _FORMAT:
            raise ValueError(f"{folder}: expected a model of format {_FORMAT}, got {description['format']}")
        with np.load(folder / "model.npz", allow_pickle=False) as arrays:
            return cls.from_parts(description, arrays)
