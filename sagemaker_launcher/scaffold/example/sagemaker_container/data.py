"""Reads labelled images from CSV and npz files."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LABEL_COLUMN = "label"


class DataError(ValueError):
    """A channel does not hold what it should."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images with the class of each.

    Attributes:
        source: The file or folder that they came from.
        columns: The names of the pixels; empty when the file had none.
        pixels: One row an image.
        labels: One class an image.
    """

    source: Path
    columns: tuple[str, ...]
    pixels: NDArray[np.float64]
    labels: NDArray[np.int64]

    def check_same_pixels(self, other: Images) -> None:
        """Refuses, with a DataError, images whose pixels are not those of these images."""
        if self.pixels.shape[1] != other.pixels.shape[1]:
            raise DataError(
                f"{other.source} has {other.pixels.shape[1]} pixels an image, "
                f"{self.source} has {self.pixels.shape[1]}"
            )
        if self.columns and other.columns and self.columns != other.columns:
            raise DataError(f"{other.source} has other columns, or in another order, than {self.source}")


def read(folder: Path) -> Images:
    """Reads every *.csv and *.npz file below a folder, in the order of their names.

    Raises:
        DataError: There is none, one cannot be read, or they do not go together.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in _READERS and path.is_file())
    if not files:
        raise DataError(f"no *.csv or *.npz file below {folder}")
    parts = [_READERS[path.suffix](path) for path in files]
    for part in parts[1:]:
        parts[0].check_same_pixels(part)
    images = Images(
        folder,
        next((part.columns for part in parts if part.columns), ()),
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
    if not len(images.labels):
        raise DataError(f"the files below {folder} hold no images")
    return images


def _read_csv(path: Path) -> Images:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            header = next(reader, [])
            label = _label_position(header, path)
            rows = [_numbers(row, header, f"{path}:{reader.line_num}") for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(header))
    columns = tuple(name for position, name in enumerate(header) if position != label)
    return _images(path, columns, np.delete(table, label, axis=1), table[:, label])


def _label_position(header: list[str], path: Path) -> int:
    if header.count(_LABEL_COLUMN) != 1 or len(set(header)) != len(header) or len(header) == 1:
        shown = ", ".join(header[:8]) or "nothing"
        raise DataError(
            f"{path}: expected a header with one {_LABEL_COLUMN!r} column and the pixels, got {shown}"
        )
    return header.index(_LABEL_COLUMN)


def _numbers(row: list[str], header: list[str], where: str) -> list[float]:
    if len(row) != len(header):
        raise DataError(f"{where}: expected {len(header)} values, got {len(row)}")
    try:
        return [float(value) for value in row]
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def _read_npz(path: Path) -> Images:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not an npz file, or an incomplete one")
    try:
        # Pickle could run anything that whoever wrote the file wanted.
        with np.load(path, allow_pickle=False) as arrays:
            pixels, labels = arrays["x"], arrays["y"]
    except KeyError as error:
        raise DataError(f"{path}: expected the arrays 'x' (pixels) and 'y' (labels): {error}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as npz: {error}") from error
    for name, array in (("x", pixels), ("y", labels)):
        if array.dtype.kind not in "buif":
            raise DataError(f"{path}: array {name!r} holds {array.dtype}, expected numbers")
    if labels.ndim != 1 or pixels.ndim < 2 or len(pixels) != len(labels):  # noqa: PLR2004 - rows and columns
        shapes = f"x {pixels.shape} and y {labels.shape}"
        raise DataError(f"{path}: expected arrays x (n, pixels) and y (n,), got {shapes}")
    return _images(path, (), pixels.reshape(len(pixels), int(np.prod(pixels.shape[1:]))), labels)


def _images(path: Path, columns: Iterable[str], pixels: NDArray[Any], labels: NDArray[Any]) -> Images:
    if not np.isfinite(pixels).all():
        raise DataError(f"{path}: a pixel is not a finite number")
    whole = np.isfinite(labels) & (np.floor(labels) == labels)
    if not whole.all():
        raise DataError(f"{path}: a label is not a whole number: {labels[~whole][0]}")
    return Images(path, tuple(columns), pixels.astype(np.float64), labels.astype(np.int64))


_READERS = {".csv": _read_csv, ".npz": _read_npz}
