"""Files that are not complete yet: each is locked by whoever writes it, so that what a killed one left is known and removed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sagemaker_launcher.unique import unique_name


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A new file in a folder, which is made when it is missing; what the block has not moved away is gone after it.

    What others left in that folder who were killed is removed first: nothing else may be kept there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    while True:
        path = folder / unique_name(8)
        with path.open("xb") as file:
            if hold(file):
                try:
                    yield path
                finally:
                    path.unlink(missing_ok=True)
                return


def hold(file: IO[bytes]) -> bool:
    """Locks a new file as long as it is open. False when somebody took it for an abandoned one in this very moment."""
    fcntl.flock(file, fcntl.LOCK_EX)
    return os.fstat(file.fileno()).st_nlink > 0


def remove_abandoned(folder: Path) -> None:
    """Removes the files of a folder that nobody holds."""
    for path in abandoned(folder):
        path.unlink(missing_ok=True)


def abandoned(folder: Path) -> Iterator[Path]:
    """The files of a folder that nobody holds; each is locked until the next is asked for."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError), path.open("rb") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
