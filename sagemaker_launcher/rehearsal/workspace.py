"""Folders of rehearsals that run: each has a lock as long as its launcher lives, so that the next one removes what is left."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.interrupts import shielded
from sagemaker_launcher.unique import unique_name
from sagemaker_launcher.user_cache import cannot_write

_FOLDER, _LOCK = "rehearsals", ".lock"
_LOOK_INSIDE = os.R_OK | os.X_OK


@frozen
class Workspace:
    """The folder of one rehearsal.

    Attributes:
        identifier: A random word that is also the label of its containers.
        folder: Where everything of it lies.
        facts: What somebody else needs to know to remove what runs outside the folder.
        notes: Why those of killed launchers are still there.
    """

    identifier: str
    folder: Path
    facts: dict[str, str]
    notes: tuple[str, ...] = ()


class ForeignFilesError(EnvironmentProblemError):
    """Nothing of a workspace runs any more, but some of its files are still somebody else's."""

    code = "foreign_files"


# Ends everything that belongs to a workspace and lives outside its folder, and takes over what others own in it.
Clear = Callable[[Workspace], None]


def planned_workspace(cache: Path, facts: dict[str, str]) -> Workspace:
    """A workspace as it is going to be, unless somebody takes its name before."""
    identifier = unique_name(6)
    return Workspace(identifier, cache / _FOLDER / identifier, facts)


@contextmanager
def workspace(plan: Workspace, clear: Clear, tell: Callable[[str], None]) -> Iterator[Workspace]:
    """A new workspace, which is gone when the block has ended, and every one whose launcher was killed before.

    A signal that comes while it is removed waits.

    Args:
        plan: A planned workspace.
        clear: Called before a folder is removed, ours or that of a killed launcher.
        tell: Called with what is left all the same, and why.

    Raises:
        EnvironmentProblemError: Nothing can be written here.
    """
    root = plan.folder.parent
    try:
        root.mkdir(exist_ok=True)
        problems = remove_abandoned(root.parent, clear)
        lock, path = _lock_new(plan)
    except OSError as error:
        raise cannot_write(root, error) from error
    with os.fdopen(lock, "wb"):
        notes = tuple(f"an earlier rehearsal has left {_told(*problem)}" for problem in problems.items())
        space = Workspace(path.stem, path.with_suffix(""), plan.facts, notes)
        try:
            space.folder.mkdir(mode=0o700)
            yield space
        finally:
            with shielded():
                problem = _remove(space, path, clear)
                if problem:
                    tell(f"this rehearsal leaves {_told(space.folder, problem)}")


def entries(folder: Path, *, skip_closed: bool = False) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder however deep that is, parents first; a folder is looked into when its entry has been given.

    Args:
        folder: The folder.
        skip_closed: Go on when a folder cannot be looked into.

    Raises:
        OSError: A folder cannot be looked into, or its path is too long for this machine.
    """
    folders = [os.fspath(folder)]
    while folders:
        try:
            found = os.scandir(folders.pop())
        except OSError:
            if not skip_closed:
                raise
            continue
        with found:
            for entry in found:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def may_read(entry: os.DirEntry[str]) -> bool:
    """Whether the user may read a file, or look into a folder; everybody may read links."""
    if entry.is_symlink():
        return True
    return os.access(entry.path, _LOOK_INSIDE if entry.is_dir(follow_symlinks=False) else os.R_OK)


def closed_part(folder: Path) -> str:
    """Something in a folder, or the folder itself, that the user cannot read; empty when they can read all of it."""
    try:
        if not os.access(folder, _LOOK_INSIDE):
            return str(folder) if folder.exists() else ""
        return next((entry.path for entry in entries(folder) if not may_read(entry)), "")
    except OSError:
        return str(folder)  # too deep for a path


def make_readable(folder: Path) -> None:
    """Lets the user read all of a folder, which is theirs: programs leave what they have closed to everybody.

    What can be read keeps its mode, which is packed too. A link in the place of the folder leads to what is not ours.
    """
    if not folder.is_symlink() and closed_part(folder):
        _run("chmod", "-R", "u+rX", folder)


def remove_tree(folder: Path) -> None:
    """Deletes a folder, also what is write-protected in it; what belongs to others stays."""
    with suppress(RecursionError):  # of shutil, in what is very deep: before Python 3.13 it calls itself
        _make_accessible(folder)
        for entry in entries(folder, skip_closed=True):
            if entry.is_dir(follow_symlinks=False):
                _make_accessible(Path(entry.path))  # before the loop looks into it
        shutil.rmtree(folder, ignore_errors=True)
    # Files may be links into the cache of data: no mode is changed before these have gone.
    for words in (("rm", "-rf"), ("chmod", "-R", "u+rwX"), ("rm", "-rf")):
        if os.path.lexists(folder):
            _run(*words, folder)


def _make_accessible(folder: Path) -> None:
    with suppress(OSError):
        if folder.lstat().st_mode & stat.S_IRWXU != stat.S_IRWXU:
            folder.chmod(stat.S_IRWXU)


def _run(*words: str | Path) -> None:
    """Runs one of the system's programs, which know no limit of depth; whoever calls looks what has become of it."""
    with suppress(OSError):
        subprocess.run(words, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - words of ours


def _lock_new(plan: Workspace) -> tuple[int, Path]:
    path = _lock_of(plan)
    while True:
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if _take(lock) and path.exists():
            os.write(lock, json.dumps(plan.facts).encode())
            return lock, path
        os.close(lock)  # somebody took it for an abandoned one in this very moment
        path = path.with_name(f"{unique_name(6)}{_LOCK}")


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_abandoned(cache: Path, clear: Clear) -> dict[Path, LauncherError]:
    """Removes every workspace whose launcher was killed; see `workspace`. Gives why folders are still there."""
    problems = {space.folder: _remove(space, _lock_of(space), clear) for space in abandoned(cache)}
    return {folder: problem for folder, problem in problems.items() if problem}


def abandoned(cache: Path) -> Iterator[Workspace]:
    """The workspaces whose launchers were killed; each is locked until the next is asked for."""
    for path in (cache / _FOLDER).glob(f"*{_LOCK}"):
        # Gone meanwhile, or of root, as who only can say whether it is in use.
        with suppress(FileNotFoundError, PermissionError), path.open("rb") as file:
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


def _remove(space: Workspace, lock: Path, clear: Clear) -> LauncherError | None:
    """Removes a workspace; gives why it is still there, with its lock, so that a later rehearsal tries again."""
    why = ""
    try:
        clear(space)
    except ForeignFilesError as error:
        why = f": {error.message}"  # they may lie in a folder of ours
    except LauncherError as error:
        return error
    try:
        remove_tree(space.folder)
        if not os.path.lexists(space.folder):
            lock.unlink(missing_ok=True)
            return None
    except OSError as error:
        why = why or f": {error}"
    return EnvironmentProblemError(
        f"{space.folder} cannot be removed{why}", hint=f"sudo rm -rf {shlex.quote(str(space.folder))}"
    )


def _told(folder: Path, problem: LauncherError) -> str:
    """A folder that is still there and why, in one line."""
    said = problem.message if str(folder) in problem.message else f"{folder}: {problem.message}"
    return f"{said}; {problem.hint}".rstrip("; ").replace("\n", " ")
