"""Where a request runs: on AWS, or on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sagemaker_launcher.archive.experiments import Sealed
from sagemaker_launcher.events import Events
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.job import Job
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import JobResult

if TYPE_CHECKING:
    from sagemaker_launcher.rehearsal.logs import KeepLog


@frozen
class Started:
    """A job that has been started: its ARN and when (ISO 8601, UTC)."""

    job_arn: str
    at: str


@frozen
class Prepared:
    """What a target has found out before anything is written.

    Attributes:
        image_digest: What the image is, whatever its tag will point to later: its digest in the registry, such as
            `sha256:...`, or the id of an image that only this machine has; empty when nobody could say.
    """

    image_digest: str = ""


class Target(Protocol):
    """A place that runs requests. The word that users type for it is its key in the command line's table."""

    def prepare(self, job: Job, request: Request, events: Events) -> Prepared:
        """Finds out all that can be known before anything is written. Raises a LauncherError when the job cannot run."""

    def start(self, job: Job, request: Request, sealed: Sealed) -> Started:
        """Starts the job of a sealed experiment, at most once."""

    def follow(self, request: Request, events: Events, keep_log: KeepLog) -> JobResult:
        """Waits for the end of the job that was started, and tells what happens meanwhile.

        Args:
            request: The request.
            events: Who is told.
            keep_log: Called with each log file that is to be kept with the result; the file may go afterwards.
        """
