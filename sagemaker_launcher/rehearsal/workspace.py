"""Folders of rehearsals that run: each has a lock as long as its launcher lives, so that the next one removes what is left."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.unique import unique_name
from sagemaker_launcher.user_cache import cannot_write

_FOLDER, _LOCK = "rehearsals", ".lock"


@frozen
class Workspace:
    """The folder of one rehearsal.

    Attributes:
        identifier: A random word that is also the label of its containers.
        folder: Where everything of it lies.
        facts: What somebody else needs to know to remove what runs outside the folder.
    """

    identifier: str
    folder: Path
    facts: dict[str, str]


# Ends everything that belongs to a workspace and lives outside its folder, and takes over what others own in it.
Clear = Callable[[Workspace], None]


@contextmanager
def workspace(cache: Path, facts: dict[str, str], clear: Clear) -> Iterator[Workspace]:
    """A new workspace, which is gone when the block has ended, and every one whose launcher was killed before.

    Args:
        cache: The user's cache folder.
        facts: For whoever has to remove the workspace instead of us.
        clear: Called before a folder is removed, ours or that of a killed launcher.

    Raises:
        EnvironmentProblemError: Nothing can be written here.
    """
    root = cache / _FOLDER
    try:
        root.mkdir(exist_ok=True)
        remove_abandoned(cache, clear)
        lock, path = _lock_new(root, facts)
    except OSError as error:
        raise cannot_write(root, error) from error
    with os.fdopen(lock, "wb"):
        space = Workspace(path.stem, path.with_suffix(""), facts)
        try:
            space.folder.mkdir(mode=0o700)
            yield space
        finally:
            _remove(space, path, clear)


def remove_tree(folder: Path) -> None:
    """Deletes a folder, also what is write-protected in it; what belongs to others stays."""
    _make_accessible(folder)
    for parent, folders, _ in os.walk(folder):
        for name in folders:  # before the walk enters them
            _make_accessible(Path(parent, name))
    shutil.rmtree(folder, ignore_errors=True)


def _make_accessible(folder: Path) -> None:
    with suppress(OSError):
        if folder.lstat().st_mode & stat.S_IRWXU != stat.S_IRWXU:
            folder.chmod(stat.S_IRWXU)


def _lock_new(root: Path, facts: dict[str, str]) -> tuple[int, Path]:
    while True:
        path = root / f"{unique_name(6)}{_LOCK}"
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if _take(lock) and path.exists():
            os.write(lock, json.dumps(facts).encode())
            return lock, path
        os.close(lock)  # somebody took it for an abandoned one in this very moment


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_abandoned(cache: Path, clear: Clear) -> None:
    """Removes every workspace whose launcher was killed; see `workspace`."""
    for space in abandoned(cache):
        _remove(space, _lock_of(space), clear)


def abandoned(cache: Path) -> Iterator[Workspace]:
    """The workspaces whose launchers were killed; each is locked until the next is asked for."""
    for path in (cache / _FOLDER).glob(f"*{_LOCK}"):
        with suppress(FileNotFoundError), path.open("rb") as file:
            if _take(file.fileno()):
                yield Workspace(path.stem, path.with_suffix(""), _facts(file.read()))


def identifiers(cache: Path) -> set[str]:
    """Those of all workspaces, in use or abandoned."""
    return {path.stem for path in (cache / _FOLDER).glob(f"*{_LOCK}")}


def _lock_of(space: Workspace) -> Path:
    return space.folder.with_suffix(_LOCK)


def _facts(data: bytes) -> dict[str, str]:
    try:
        facts = json.loads(data)
    except ValueError:
        return {}  # killed before it wrote them, so before anything was started
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def _remove(space: Workspace, lock: Path, clear: Clear) -> None:
    try:
        clear(space)
    except LauncherError:
        return  # its engine does not answer now; the lock stays, so that a later rehearsal tries again
    remove_tree(space.folder)
    if not space.folder.exists():
        lock.unlink(missing_ok=True)
