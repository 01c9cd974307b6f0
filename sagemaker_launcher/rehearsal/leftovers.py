"""Ends what a rehearsal may have left running: containers and networks by their label, processes by their /opt/ml."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sagemaker_launcher.engine import Engine, mount
from sagemaker_launcher.rehearsal.workspace import Workspace

BASE_VARIABLE = "SAGEMAKER_BASE_DIR"
ENGINE, IMAGE = "engine", "image"  # facts of a workspace that has containers
LABEL = "sagemaker-launcher.rehearsal"
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
        _end_processes(space.folder)


def take_over(engine: Engine, image: str, folder: Path) -> None:
    """Makes the user the owner of everything in a folder in which containers wrote as root.

    Args:
        engine: The engine that ran them.
        image: An image that has `chown`.
        folder: The folder.

    Raises:
        LauncherError: The engine does not answer, or the image has no `chown`.
    """
    user, group = os.getuid(), os.getgid()
    if not all(_belongs_to(user, path) for path in _walk(folder)):
        words = ("--rm", "--network", "none", "--user", "0:0", "--entrypoint", "chown")
        owner = f"{user}:{group}"
        engine.call(
            "run", *words, *mount(folder, "/results"), image, "-R", "-h", owner, "/results", timeout_s=600
        )


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


def _end_processes(folder: Path) -> None:
    """Kills what outlived its program, or its launcher: each process of a rehearsal has the tree in its variables.

    Looks again until none is left: one that was just about to start another is dead only then.
    """
    for _ in range(_ROUNDS):
        if not _kill_all(folder):
            return
        time.sleep(_PAUSE_S)


def _kill_all(folder: Path) -> bool:
    import psutil  # noqa: PLC0415 - not before the program has run

    found = False
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(BASE_VARIABLE, "").startswith(f"{folder}{os.sep}"):
                process.kill()
                found = True
    return found


def _belongs_to(user: int, path: Path) -> bool:
    try:
        return path.lstat().st_uid == user
    except PermissionError:
        return False


def _walk(folder: Path) -> Iterable[Path]:
    yield folder
    yield from folder.rglob("*")
