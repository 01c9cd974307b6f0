"""Results of jobs that ended while nobody watched, written into the archive by whoever looks next."""

from __future__ import annotations

from sagemaker_launcher.archive.experiments import Archive, headline_of, read_experiment
from sagemaker_launcher.errors import ConflictError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.result import ENDED, JobResult
from sagemaker_launcher.storage import Storage


def collect(storage: Storage, folder: S3Uri, job_arn: str, result: JobResult) -> bool:
    """Writes how a job ended, unless it has not, or the archive knows already.

    Args:
        storage: Where the archive is.
        folder: The experiment's folder, ending in a slash.
        job_arn: The job whose result it is: another account or region may have one of the same name.
        result: Its result.

    Returns:
        Whether it was written.

    Raises:
        IntegrityError: The experiment is not what was sealed.
        LauncherError: The archive cannot be read or written.
    """
    if result.status not in ENDED:
        return False
    experiment = read_experiment(storage, folder)
    manifest = experiment.manifest
    ours = f":{manifest.region}:{manifest.account}:training-job/{manifest.job_name}"
    if experiment.result or manifest.target != "aws" or not job_arn.endswith(ours):
        return False
    root = S3Uri(folder.bucket, folder.key.removesuffix(f"{manifest.experiment_name}/{manifest.job_name}/"))
    try:
        headline = headline_of(manifest, experiment.request, result)
        Archive(storage, root).record_result(folder, result, headline)
    except ConflictError:
        return False  # another one who looked was faster
    return True
