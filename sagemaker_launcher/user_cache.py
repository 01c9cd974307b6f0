"""The user's folder for what may be lost: data of rehearsals, and answers that take long to work out."""

from __future__ import annotations

import os
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError

VARIABLE = "SAGEMAKER_LAUNCHER_CACHE"


def place() -> Path:
    """Where the folder is, or would be: `SAGEMAKER_LAUNCHER_CACHE`, or the system's usual place."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        from platformdirs import user_cache_dir  # noqa: PLC0415 - not when the variable says it

        folder = user_cache_dir("sagemaker-launcher")
    return Path(folder).absolute()


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
