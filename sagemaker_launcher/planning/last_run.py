"""The newest launch of an experiment that the archive has, found with one listing."""

from __future__ import annotations

from itertools import islice

from sagemaker_launcher.archive.experiments import Archive, Experiment, read_experiment
from sagemaker_launcher.errors import NotFoundError
from sagemaker_launcher.naming import S3Uri, can_be_of
from sagemaker_launcher.storage import Storage

_AMONG = 1000  # newest experiments of the archive: one page of a listing
_TRIED = (
    3  # folders that are looked into: an upload may have been interrupted, a name may be another experiment's
)


def last_run(storage: Storage, root: S3Uri, experiment_name: str) -> Experiment | None:
    """The newest sealed launch of an experiment; None when it is not among the newest 1,000 of the archive.

    Args:
        storage: Where objects are.
        root: The archive.
        experiment_name: The experiment's name.

    Raises:
        IntegrityError: It is not what was sealed.
        LauncherError: The archive cannot be read.
    """
    archive = Archive(storage, root)
    names = (entry.job_name for entry in archive.entries(_AMONG))
    for name in islice((name for name in names if can_be_of(name, experiment_name)), _TRIED):
        try:
            return read_experiment(storage, archive.folder(experiment_name, name))
        except NotFoundError:
            continue
    return None
