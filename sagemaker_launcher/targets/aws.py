"""Starts a request on SageMaker through the real Estimator, and watches the job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from sagemaker_launcher import estimator
from sagemaker_launcher.archive.experiments import Sealed
from sagemaker_launcher.archive.manifest import EXPERIMENT_TAG, SEAL_TAG
from sagemaker_launcher.aws import Aws, Refusal, asked
from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.errors import (
    ConflictError,
    IntegrityError,
    JobStillRunningError,
    LauncherError,
    NotFoundError,
    UnavailableError,
)
from sagemaker_launcher.events import Events
from sagemaker_launcher.interrupts import last_call, pause_point
from sagemaker_launcher.job import Job
from sagemaker_launcher.jobs import jobs
from sagemaker_launcher.jobs.contact import Contact
from sagemaker_launcher.jobs.job_log import JobLog
from sagemaker_launcher.jobs.watching import follow
from sagemaker_launcher.preflight.report import Report
from sagemaker_launcher.rehearsal.logs import KeepLog
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.targets import Prepared, Started

_START_PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # between attempts to start a job, or to see whether it was started
_NEW_NAME = "launch again: each launch makes a new name"
# botocore's exceptions for a request that never left this machine; by name, since only `aws` imports botocore.
_NEVER_SENT = frozenset({"ConnectTimeoutError", "EndpointConnectionError", "ProxyConnectionError"})
# AWS's codes for a request that it did not look at: it had too many.
_TOO_MANY = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"}
)
_NEW_PERMISSIONS_S = 300.0  # IAM conditions on a job's tags hold some minutes after its creation


class AwsTarget:
    """See `Target`.

    Args:
        aws: Where clients come from.
        check: Asks AWS all that the job needs.
        attended: Whether somebody is there to log in again when the credentials expire while a job runs.
    """

    def __init__(self, aws: Aws, check: Callable[[], Report], *, attended: bool = False) -> None:
        self._aws = aws
        self._check = check
        self._attended = attended

    def prepare(self, job: Job, request: Request, events: Events) -> Prepared:  # noqa: ARG002 - the checks know the job
        """See `Target`.

        Raises:
            EnvironmentProblemError: The SDK is missing or of a generation without Estimator.
            ChecksFailedError: With all that would make the job fail.
        """
        estimator.check_sdk_version()
        report = self._check()
        for finding in (*report.of("warning"), *report.of("unknown")):
            word = "not known: " if finding.verdict == "unknown" else ""
            events.note(f"{finding.name}: {word}{finding.message}{'; ' if finding.fix else ''}{finding.fix}")
        report.refuse()
        passed = dict.fromkeys(finding.name for finding in report.of("ok"))
        if passed:
            events.phase("Checked", ", ".join(passed))
        return Prepared(report.image_digest)

    def start(self, job: Job, request: Request, sealed: Sealed) -> Started:
        """See `Target`.

        Raises:
            IntegrityError: The Estimator would send another request than the archived one; nothing was sent.
            JobStillRunningError: Nobody can say whether the job was started.
        """
        starter = _Starter(self._aws.single_attempt_client("sagemaker"), sealed)
        pause_point("starting")
        estimator.start_with_estimator(job, RecordingClient(request, starter.start), self._aws.session)
        return Started(starter.job_arn, utc_now())

    def follow(self, request: Request, events: Events, keep_log: KeepLog) -> JobResult:  # noqa: ARG002 - CloudWatch keeps them
        """See `Target`. A signal leaves the job running.

        Raises:
            JobStillRunningError: Contact is lost.
        """
        name = request["TrainingJobName"]
        contact = Contact(self._aws, events, waits_for_login=self._attended, denied_s=_NEW_PERMISSIONS_S)
        return follow(contact, name, events, JobLog(contact.logs, name)).result


class RecordingClient:
    """Stands between the Estimator and AWS, and lets only the archived request through.

    Args:
        expected: The archived request.
        send: Called with the request when it is the expected one.
    """

    def __init__(self, expected: Request, send: Callable[[Request], dict[str, Any]]) -> None:
        self._expected = expected
        self._send = send

    def create_training_job(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - boto3's own signature
        """Sends the request. Raises IntegrityError, and sends nothing, when it is not the archived one."""
        different = [
            f"{member}: archived {_shown(self._expected, member)}, the SDK wants {_shown(request, member)}"
            for member in sorted({*self._expected, *request})
            if self._expected.get(member) != request.get(member)
        ]
        if different:
            raise IntegrityError(
                "nothing was sent: the SDK would send another request than the archived one: "
                + "; ".join(different),
                hint="please report this, with the versions of this tool and of the SDK",
                code="request_differs",
            )
        last_call()  # the SDK has taken a second or so, in which the user may have thought better of it
        return self._send(request)


class _Seen(Enum):
    """What a look for a job has told."""

    OURS = "it has our seal"
    ABSENT = "there is no such job"
    UNKNOWN = "nobody could say"


class _Starter:
    """Calls CreateTrainingJob, which has no client token, so that exactly one job comes of it."""

    def __init__(self, client: Any, sealed: Sealed) -> None:  # noqa: ANN401 - boto3 is untyped
        self._client = client
        self._sealed = sealed
        self._lost = False  # whether a request was sent that nobody answered
        self._trouble = ""  # why the last look told nothing
        self.job_arn = ""

    def start(self, request: Request) -> dict[str, Any]:
        """Starts the job.

        Raises:
            JobStillRunningError: It may be running: an answer was lost, and no look told what became of it.
            LauncherError: It was not started.
        """
        name, tagged, pauses = request["TrainingJobName"], self._tagged(request), iter(_START_PAUSES_S)
        refusal = self._create(tagged)
        while refusal:
            seen = self._look(name, refusal)
            if seen is _Seen.OURS:
                break
            pause_s = next(pauses, None)
            if pause_s is None:
                raise self._given_up(name, seen, refusal) from refusal
            time.sleep(pause_s)
            # While nobody knows, only looking is safe: whatever a second start is told says nothing of the first.
            if seen is _Seen.ABSENT:
                refusal = self._create(tagged)
        return {"TrainingJobArn": self.job_arn}

    def _tagged(self, request: Request) -> Request:
        tags = [
            {"Key": EXPERIMENT_TAG, "Value": str(self._sealed.folder)},
            {"Key": SEAL_TAG, "Value": self._sealed.manifest_sha256},
        ]
        return {**request, "Tags": [*request.get("Tags", []), *tags]}

    def _create(self, request: Request) -> LauncherError | None:
        """Sends the request once. Gives what went wrong if it may be mended, or if the job may be there all the same."""
        try:
            answer = asked(self._client.create_training_job, "TrainingJobArn", "start the job", **request)
        except LauncherError as error:
            self._lost = self._lost or _may_have_started(error)
            if isinstance(error, ConflictError):
                error.hint = _NEW_NAME
            elif not (self._lost or isinstance(error, UnavailableError)):
                raise
            return error
        self.job_arn = answer["TrainingJobArn"]
        return None

    def _look(self, job_name: str, refusal: LauncherError) -> _Seen:
        """Whether the job is there: whoever has our seal is our job.

        Raises:
            ConflictError: Somebody else's experiment has the name.
            LauncherError: The refusal, when there is no such job and another start would be refused, too.
        """
        if isinstance(refusal, UnavailableError) and not self._lost:
            return _Seen.ABSENT
        try:
            arn = jobs.describe(self._client, job_name)["TrainingJobArn"]
            answer = asked(self._client.list_tags, "Tags", f"look whose job {job_name} is", ResourceArn=arn)
        except NotFoundError:
            return self._missing(refusal)
        except LauncherError as error:
            self._trouble = error.message
            return _Seen.UNKNOWN
        tags = {tag["Key"]: tag["Value"] for tag in answer["Tags"]}
        if tags.get(SEAL_TAG) == self._sealed.manifest_sha256:
            self.job_arn = arn
            return _Seen.OURS
        owner = tags.get(EXPERIMENT_TAG, "somebody who does not use this tool")
        raise ConflictError(f"a job named {job_name} exists already, of {owner}", hint=_NEW_NAME)

    def _missing(self, refusal: LauncherError) -> _Seen:
        if isinstance(refusal, UnavailableError):
            return _Seen.ABSENT
        if isinstance(refusal, ConflictError) and self._lost:
            # Our own start has most likely taken the name, and shows up a little later.
            self._trouble = "its name is taken, and there is no job of that name to be seen"
            return _Seen.UNKNOWN
        raise refusal

    def _given_up(self, job_name: str, seen: _Seen, refusal: LauncherError) -> LauncherError:
        """The error after the last attempt."""
        if seen is not _Seen.UNKNOWN or not self._lost:
            return refusal
        return JobStillRunningError(
            f"the job {job_name} may be running, and be billed: {refusal.message}; what became of it cannot be seen:"
            f" {self._trouble}",
            hint="`status` tells whether it runs, and `stop` ends it; until then, another launch may make a second job",
            code="start_unknown",
        )


def _may_have_started(error: LauncherError) -> bool:
    """Whether the request may have been carried out although an error came back, or nothing."""
    if not isinstance(error, UnavailableError):
        return False
    never_sent = type(error.__cause__).__name__ in _NEVER_SENT
    return not never_sent and Refusal.behind(error).code not in _TOO_MANY


def _shown(request: Request, member: str) -> str:
    return json.dumps(request[member], sort_keys=True) if member in request else "nothing"
