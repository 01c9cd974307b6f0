"""The newest launch of an experiment that the archive has, mostly found with one listing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from sagemaker_launcher.archive.experiments import Archive, Experiment, read_experiment
from sagemaker_launcher.errors import LauncherError, NotFoundError
from sagemaker_launcher.naming import S3Uri, can_be_of, launch_second, newest_first
from sagemaker_launcher.storage import Storage

_PAGE = 1000  # what one listing gives


def last_run(storage: Storage, root: S3Uri, experiment_name: str) -> Experiment | None:
    """The newest sealed launch of an experiment; None when there is none.

    Args:
        storage: Where objects are.
        root: The archive.
        experiment_name: The experiment's name.

    Raises:
        IntegrityError: It is not what was sealed.
        LauncherError: The archive cannot be read; or the experiment has more launches than a listing shows, and none of them
            is among the newest of the archive.
    """
    archive = Archive(storage, root)
    folders = [found.name for found in islice(storage.folders((root / experiment_name).folder), _PAGE + 1)]
    if len(folders) <= _PAGE:
        return _newest_sealed(storage, archive, experiment_name, _newest_first(folders))
    # Folders come oldest first, the index newest first. Names of jobs are cut, and may be those of another experiment.
    names = (entry.job_name for entry in archive.entries(_PAGE))
    possible = (name for name in names if can_be_of(name, experiment_name))
    found = _newest_sealed(storage, archive, experiment_name, possible)
    if found is None:
        raise LauncherError(
            f"{experiment_name} has too many launches, and none is among the newest {_PAGE:,}"
        )
    return found


def _newest_first(names: Iterable[str]) -> list[str]:
    """Those that are names of jobs; the others are experiments below this one."""
    seconds = ((launch_second(name), name) for name in names)
    return [name for _, name in sorted((newest_first(second), name) for second, name in seconds if second)]


def _newest_sealed(
    storage: Storage, archive: Archive, experiment_name: str, names: Iterable[str]
) -> Experiment | None:
    for name in names:
        try:
            return read_experiment(storage, archive.folder(experiment_name, name))
        except NotFoundError:  # an upload that was interrupted
            continue
    return None
