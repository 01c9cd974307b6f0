"""Ends what a rehearsal may have left running: containers and networks by their label, processes by their /opt/ml."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sagemaker_launcher.engine import Engine, EngineError, mount
from sagemaker_launcher.rehearsal.workspace import (
    ForeignFilesError,
    Workspace,
    entries,
    make_readable,
    may_read,
)

BASE_VARIABLE = "SAGEMAKER_BASE_DIR"
ENGINE, IMAGE = "engine", "image"  # facts of a workspace that has containers
LABEL = "sagemaker-launcher.rehearsal"
_MOUNTED = "/results"
_GIVE_S = 600.0
_AT_ONCE = 1000  # paths in one command, whose length the kernel limits
# What `chown [-R] -h USER:GROUP PATH...` does.
_CHOWN = """
import os, sys
words = sys.argv[1:]
deep = words[0] == "-R"
owner, *paths = words[deep + 1:]
user, group = map(int, owner.split(":"))
while paths:
    path = paths.pop()
    os.lchown(path, user, group)
    if deep and os.path.isdir(path) and not os.path.islink(path):
        paths += [os.path.join(path, name) for name in os.listdir(path)]
"""
_ROUNDS, _PAUSE_S = 50, 0.02  # a killed process is gone long before, unless a disk holds it


def label(identifier: str) -> str:
    """The label of every container and network of a rehearsal."""
    return f"{LABEL}={identifier}"


def clear(space: Workspace) -> None:
    """Ends whatever runs for a workspace.

    Raises:
        LauncherError: The engine does not answer.
    """
    program = space.facts.get(ENGINE)
    if program:
        _end_containers(Engine(program), space)
    elif space.folder.exists():
        end_processes(space.folder)


def take_over(engine: Engine, image: str, folder: Path) -> None:
    """Makes the user the owner of everything in a folder in which containers wrote as root, and lets them read it.

    Args:
        engine: The engine that ran them.
        image: An image that has `chown`, or Python.
        folder: The folder.

    Raises:
        ForeignFilesError: The image has neither, or the engine does not run it.
        LauncherError: The engine does not answer.
    """
    if not _is_the_users(folder):
        _give(engine, image, folder, [_MOUNTED], deep=True)
        make_readable(folder)


def owners(folder: Path) -> dict[str, int]:
    """Whose everything below a folder is, by path, as far as the user may look."""
    found = {}
    for entry in entries(folder, skip_closed=True):
        with suppress(FileNotFoundError):  # removed while we looked
            found[entry.path] = entry.stat(follow_symlinks=False).st_uid
    return found


def take_over_new(
    engine: Engine, image: str, folder: Path, before: Mapping[str, int], *, of_root: bool
) -> None:
    """Makes the user the owner of what a container wrote in a folder; what was somebody else's before stays theirs.

    Args:
        engine: The engine that ran it.
        image: As for `take_over`.
        folder: The folder.
        before: Whose everything was before the container ran; see `owners`.
        of_root: The container wrote as root: what is anybody else's is not of it.

    Raises:
        LauncherError: As for `take_over`.
    """
    user, created, changed, inside = os.getuid(), [], [], set()
    for path, uid in owners(folder).items():
        if os.path.dirname(path) in inside:  # noqa: PTH120 - a text, for each of many files
            inside.add(path)  # what lies in a new folder is given with it
        elif uid != user and (uid == 0 or not of_root) and before.get(path, user) == user:
            if path in before:
                changed.append(path)
            else:
                created.append(path)
                inside.add(path)
    for paths, deep in ((created, True), (changed, False)):
        for first in range(0, len(paths), _AT_ONCE):
            part = [_MOUNTED + path.removeprefix(str(folder)) for path in paths[first : first + _AT_ONCE]]
            _give(engine, image, folder, part, deep=deep)


def _give(engine: Engine, image: str, folder: Path, paths: Sequence[str], *, deep: bool) -> None:
    """Makes the user the owner of paths in a container that has a folder, with all below them or without."""
    owner = f"{os.getuid()}:{os.getgid()}"
    options = (*(["-R"] if deep else []), "-h", owner)
    words = ("run", "--rm", "--network", "none", "--user", "0:0", *mount(folder, _MOUNTED), "--entrypoint")
    try:
        engine.call(*words, "chown", image, *options, *paths, timeout_s=_GIVE_S)
    except EngineError as problem:
        try:  # images for training without chown there are, and without Python hardly any
            engine.call(*words, "python3", image, "-c", _CHOWN, *options, *paths, timeout_s=_GIVE_S)
        except EngineError:
            raise ForeignFilesError(
                f"files that the container wrote in {folder} do not belong to you: {problem.message}",
                hint="put chown (of coreutils, or of busybox) or python3 into the image",
            ) from problem


def _end_containers(engine: Engine, space: Workspace) -> None:
    selection = ("--quiet", "--filter", f"label={label(space.identifier)}")
    containers = engine.call("ps", "--all", *selection).split()
    if containers:
        engine.call("rm", "--force", "--volumes", *containers)
    networks = engine.call("network", "ls", *selection).split()
    if networks:
        engine.call("network", "rm", *networks)
    if space.folder.exists():
        take_over(engine, space.facts.get(IMAGE, ""), space.folder)


def end_processes(folder: Path) -> None:
    """Kills what outlived its program, or its launcher: each process of a rehearsal has the tree in its variables.

    Looks again until none is left: one that was just about to start another is dead only then.

    Args:
        folder: The /opt/ml of a host, or a folder that has those of several.
    """
    for _ in range(_ROUNDS):
        if not _kill_all(folder):
            return
        time.sleep(_PAUSE_S)


def _kill_all(folder: Path) -> bool:
    import psutil  # noqa: PLC0415 - not before the program has run

    found = False
    for pid in psutil.pids():  # its process_iter is not for several threads
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if f"{process.environ().get(BASE_VARIABLE, '')}{os.sep}".startswith(f"{folder}{os.sep}"):
                process.kill()
                found = True
    return found


def _is_the_users(folder: Path) -> bool:
    """Whether everything in a folder belongs to the user, who can read all of it; whatever cannot be seen does not."""
    user = os.getuid()
    try:
        return folder.stat().st_uid == user and all(
            entry.stat(follow_symlinks=False).st_uid == user and may_read(entry) for entry in entries(folder)
        )
    except OSError:  # closed, or too deep for a path
        return False
