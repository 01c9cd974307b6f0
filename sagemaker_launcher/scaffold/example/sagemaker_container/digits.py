"""Writes the UCI handwritten digits, which scikit-learn carries, as the two input channels of the example."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

_VALIDATION_SHARE = 0.2
_SEED = 0


def main() -> None:
    """Reads the command line and writes both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="gets train/digits.csv and validation/digits.csv")
    parser.add_argument("--format", choices=["csv", "npz"], default="csv")
    options = parser.parse_args()
    digits = load_digits()
    parts = train_test_split(
        digits.data, digits.target, test_size=_VALIDATION_SHARE, stratify=digits.target, random_state=_SEED
    )
    train_x, validation_x, train_y, validation_y = (part.astype(np.int64) for part in parts)
    write = _write_npz if options.format == "npz" else _write_csv
    write(options.folder / "train", train_x, train_y)
    write(options.folder / "validation", validation_x, validation_y)


def _write_csv(folder: Path, pixels: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    header = ",".join(["label", *(f"pixel_{number}" for number in range(pixels.shape[1]))])
    table = np.column_stack([labels, pixels])
    np.savetxt(folder / "digits.csv", table, fmt="%d", delimiter=",", header=header, comments="")


def _write_npz(folder: Path, pixels: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "digits.npz", x=pixels, y=labels)


if __name__ == "__main__":
    main()
