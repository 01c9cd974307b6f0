"""Whether there is room on a disk, and whether one may write there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sagemaker_launcher.findings import Finding
from sagemaker_launcher.user_cache import VARIABLE, place

_GIB = 2**30
_LITTLE = {"temporary": _GIB, "cache": 5 * _GIB, "engine-disk": 10 * _GIB}  # bytes


def disk_findings() -> Iterator[Finding]:
    """The folder for temporary files, and the user's cache, where rehearsals keep their data."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        yield Finding("temporary", "failed", str(error), "name a folder that can be written to: TMPDIR=DIR")
    else:
        yield room("temporary", temporary, "free some space, or name another folder: TMPDIR=DIR")
    yield room("cache", place(), f"free some space, or name another folder: {VARIABLE}=DIR")


def room(name: str, folder: Path, fix: str, *, written: bool = True) -> Finding:
    """The finding on a folder.

    Args:
        name: The finding's name, one of those that are known here.
        folder: The folder, which need not exist yet.
        fix: What to do when there is little room.
        written: We are going to write there ourselves.
    """
    # Not Path's `exists` and `is_dir`, which raise what they may not look at.
    existing = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)  # noqa: PTH110
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(name, "unknown", f"{folder}: {error.strerror}", fix)
    shown = f"{free / _GIB:,.1f} GiB free for {folder}"
    if written and not (os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)):  # noqa: PTH112
        return Finding(name, "warning", f"nothing can be written to {folder}", fix)
    if free < _LITTLE[name]:
        return Finding(name, "warning", f"only {shown}", fix)
    return Finding(name, "ok", shown)
