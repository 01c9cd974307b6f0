"""What the training code reads, and what it refuses to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.container.harness import load_module

data = load_module("data")


def write(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_the_digits_are_the_same_as_csv_and_as_npz(digits: Path, digits_npz: Path) -> None:
    for part, count in (("train", 1437), ("validation", 360)):
        csv, npz = data.read(digits / part), data.read(digits_npz / part)
        assert csv.pixels.shape == (count, 64)
        np.testing.assert_array_equal(csv.pixels, npz.pixels)
        np.testing.assert_array_equal(csv.labels, npz.labels)


def test_both_parts_of_the_digits_have_every_class_in_the_same_share(digits: Path) -> None:
    train, validation = data.read(digits / "train").labels, data.read(digits / "validation").labels
    shares = np.bincount(train) / len(train) - np.bincount(validation) / len(validation)
    assert np.abs(shares).max() < 0.005


def test_files_are_read_from_all_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "b.csv", "label,p\n2,20\n")
    write(tmp_path / "a" / "z.csv", "label,p\n1,10\n\n")
    write(tmp_path / "notes.txt", "not data")
    np.savez(tmp_path / "c.npz", x=np.array([[30.0]]), y=np.array([3]))
    images = data.read(tmp_path)
    assert images.labels.tolist() == [1, 2, 3]
    assert images.pixels.tolist() == [[10], [20], [30]]


def test_the_label_may_stand_in_any_column_and_images_may_have_rows(tmp_path: Path) -> None:
    write(tmp_path / "csv" / "a.csv", "\ufeffp,label,q\r\n1,7,2\r\n")
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "a.npz", x=np.array([[[1], [2]]], dtype=np.uint8), y=np.array([7.0]))
    for folder in ("csv", "npz"):
        images = data.read(tmp_path / folder)
        assert (images.pixels.tolist(), images.labels.tolist()) == ([[1, 2]], [7])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.csv: expected a header"),
        ("p,q\n1,2\n", "expected a header with one 'label' column"),
        ("label,label,p\n1,2,3\n", "expected a header with one 'label' column"),
        ("label,p,p\n1,2,3\n", "expected a header"),
        ("label\n1\n", "expected a header"),
        ("label,p\n", "hold no images"),
        ("label,p\n1,2\n1\n", "a.csv:3: expected 2 values, got 1"),
        ("label,p\n1,2,3\n", "a.csv:2: expected 2 values, got 3"),
        ("label,p\n1,dark\n", "a.csv:2: could not convert string to float: 'dark'"),
        ("label,p\n1,\n", "a.csv:2: could not convert"),
        ("label,p\n1,nan\n", "a.csv: a pixel is not a finite number"),
        ("label,p\n1,inf\n", "a.csv: a pixel is not a finite number"),
        ("label,p\n1.5,2\n", "a.csv: a label is not a whole number: 1.5"),
        ("label,p\nnan,2\n", "a.csv: a label is not a whole number"),
        (b"label,p\n1,\xff\n", "a.csv is not a CSV file in UTF-8"),
    ],
)
def test_a_bad_csv_file_is_refused_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    write(tmp_path / "a.csv", text)
    with pytest.raises(data.DataError) as caught:
        data.read(tmp_path)
    assert message in str(caught.value)


def save_object_array(path: Path) -> None:
    np.savez(path, x=np.array([[{}]], dtype=object), y=np.array([1]))


def save_without_labels(path: Path) -> None:
    np.savez(path, x=np.array([[1]]))


def save_with_fewer_labels(path: Path) -> None:
    np.savez(path, x=np.array([[1], [2]]), y=np.array([1]))


def save_flat(path: Path) -> None:
    np.savez(path, x=np.array([1, 2]), y=np.array([1, 2]))


def save_text(path: Path) -> None:
    np.savez(path, x=np.array([["a"]]), y=np.array([1]))


def save_no_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([1]))


def save_truncated(path: Path) -> None:
    np.savez(path, x=np.zeros((9, 9)), y=np.zeros(9))
    path.write_bytes(path.read_bytes()[:-100])


def save_damaged(path: Path) -> None:
    np.savez_compressed(path, x=np.arange(900).reshape(9, 100), y=np.zeros(9))
    content = bytearray(path.read_bytes())
    content[200:210] = b"x" * 10
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (save_object_array, "allow_pickle=False"),
        (save_without_labels, "expected the arrays 'x' (pixels) and 'y' (labels)"),
        (save_with_fewer_labels, "got x (2, 1) and y (1,)"),
        (save_flat, "got x (2,) and y (2,)"),
        (save_text, "array 'x' holds <U1, expected numbers"),
        (save_no_archive, "is not an npz file, or an incomplete one"),
        (save_truncated, "is not an npz file, or an incomplete one"),
        (save_damaged, "cannot be read as npz"),
    ],
)
def test_a_bad_npz_file_is_refused_with_its_name(
    tmp_path: Path, save: Callable[[Path], None], message: str
) -> None:
    save(tmp_path / "a.npz")
    with pytest.raises(data.DataError) as caught:
        data.read(tmp_path)
    assert message in str(caught.value)
    assert "a.npz" in str(caught.value)


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "readme.txt", "nothing")
    with pytest.raises(data.DataError, match=r"no \*\.csv or \*\.npz file below"):
        data.read(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [("label,p\n1,2\n", "has 1 pixels an image"), ("label,q,p\n1,2,3\n", "has other columns")],
)
def test_files_that_do_not_go_together_are_refused(tmp_path: Path, other: str, message: str) -> None:
    write(tmp_path / "a.csv", "label,p,q\n1,2,3\n")
    write(tmp_path / "b.csv", other)
    with pytest.raises(data.DataError, match=message):
        data.read(tmp_path)


@given(content=st.text(alphabet='label,p\n\r"1.e-\x00é ', max_size=60))
@settings(deadline=None, max_examples=150)
def test_any_csv_text_gives_images_or_a_data_error(
    content: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-csv"
    write(folder / "a.csv", content)
    try:
        images = data.read(folder)
    except data.DataError:
        return
    assert len(images.pixels) == len(images.labels) > 0
