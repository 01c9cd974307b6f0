"""The user's folder for what may be lost: data of rehearsals, and answers that take long to work out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError

VARIABLE = "SAGEMAKER_LAUNCHER_CACHE"
_NAME = "sagemaker-launcher"


def place() -> Path:
    """Where the folder is, or would be: `SAGEMAKER_LAUNCHER_CACHE`, or the system's usual place."""
    return Path(os.environ.get(VARIABLE) or _usual_place()).absolute()


def _usual_place() -> str:
    if sys.platform == "linux":
        # What platformdirs would say: to import it takes a twentieth of a start.
        # https://specifications.freedesktop.org/basedir-spec/latest/
        base = os.environ.get("XDG_CACHE_HOME", "")
        folder = base if os.path.isabs(base) else os.path.expanduser("~/.cache")  # noqa: PTH111, PTH117 - without a HOME, too
        return f"{folder}/{_NAME}"
    from platformdirs import user_cache_dir  # noqa: PLC0415 - not where it is not needed

    return user_cache_dir(_NAME)


def cache_folder() -> Path:
    """The folder, made when it is missing.

    Raises:
        EnvironmentProblemError: It cannot be made.
    """
    path = place()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def cannot_write(path: Path, error: OSError) -> EnvironmentProblemError:
    """The error for a place in the cache that cannot be written to."""
    return EnvironmentProblemError(
        f"cannot write to {path}: {error.strerror}",
        hint=f"name a folder that can be written to: {VARIABLE}=DIR",
        code="no_cache",
    )
