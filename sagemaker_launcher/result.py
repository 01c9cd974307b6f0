"""How a job ended, in the words of DescribeTrainingJob, wherever it ran. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from sagemaker_launcher.errors import ExitCode, LauncherError
from sagemaker_launcher.frozen import frozen

COMPLETED, FAILED, STOPPED, IN_PROGRESS = "Completed", "Failed", "Stopped", "InProgress"
ENDED = frozenset({COMPLETED, FAILED, STOPPED})
NOT_FOUND = "not found"  # of a job that is not there (any more); no word of the service's
FAILURE_REASON_MAX = 1024  # characters; botocore model, FailureReason
_EXIT_CODES = {
    COMPLETED: ExitCode.DONE,
    FAILED: ExitCode.JOB_FAILED,
    STOPPED: ExitCode.JOB_STOPPED,
}


@frozen
class Transition:
    """One stretch of the job's life: a secondary status and when it was entered and left (ISO 8601, UTC)."""

    status: str
    started_at: str
    ended_at: str = ""
    message: str = ""


@frozen
class Interruption:
    """A spot interruption of a rehearsal.

    Attributes:
        at: When the instances were gone (ISO 8601, UTC).
        training_seconds: How long the programs of that attempt had run.
        lost_seconds: How much of it was not in a checkpoint.
    """

    at: str
    training_seconds: float
    lost_seconds: float


@frozen
class JobResult:
    """What DescribeTrainingJob says of a job.

    Attributes:
        status: `Completed`, `Failed`, `Stopped` or `InProgress` (or a word that the service added since).
        secondary_status: The finer status, such as `MaxRuntimeExceeded`.
        failure_reason: Why it failed, at most 1,024 characters.
        training_seconds: From the start of the training to its end; None while unknown.
        billable_seconds: What is billed, per instance; None while unknown. Of a rehearsal: the time with instances,
            without the discount of spot.
        artifacts: S3 URIs by name: `model`, `output`.
        metrics: The last value of each metric.
        started_at: When training started (ISO 8601, UTC); empty when it never did.
        ended_at: When it ended.
        transitions: The time line.
        exit_code: The program's own exit code, where it is known; None elsewhere.
        interruptions: The spot interruptions of a rehearsal.
    """

    status: str
    secondary_status: str = ""
    failure_reason: str = ""
    training_seconds: int | None = None
    billable_seconds: int | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    started_at: str = ""
    ended_at: str = ""
    transitions: tuple[Transition, ...] = ()
    exit_code: int | None = None
    interruptions: tuple[Interruption, ...] = ()

    @property
    def command_exit_code(self) -> ExitCode:
        """The exit code of a command that waited for this job: only a completed job is a success."""
        return _EXIT_CODES.get(self.status, ExitCode.JOB_RUNNING)

    def to_json(self) -> dict[str, Any]:
        """Plain data for result.json and `--json`."""
        return asdict(self)


class JobBrokenError(LauncherError):
    """A job on this machine could not go on: not for a fault of its own, but the job has failed.

    Args:
        cause: What failed.
        result: How the job ended.
    """

    def __init__(self, cause: LauncherError, result: JobResult) -> None:
        super().__init__(cause.message, hint=cause.hint, code=cause.code)
        self.exit_code = cause.exit_code
        self.result = result
