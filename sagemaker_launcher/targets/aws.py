"""Starts a request on SageMaker through the real Estimator, and watches the job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from sagemaker_launcher import estimator
from sagemaker_launcher.archive.experiments import Sealed
from sagemaker_launcher.archive.manifest import EXPERIMENT_TAG, SEAL_TAG
from sagemaker_launcher.aws import Aws, aws_errors
from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from sagemaker_launcher.events import Events
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

_START_ATTEMPTS = 5
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
        """
        starter = _Starter(self._aws.single_attempt_client("sagemaker"), sealed)
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
        return self._send(request)


class _Starter:
    """Calls CreateTrainingJob, which has no client token, so that exactly one job comes of it."""

    def __init__(self, client: Any, sealed: Sealed) -> None:  # noqa: ANN401 - boto3 is untyped
        self._client = client
        self._sealed = sealed
        self.job_arn = ""

    def start(self, request: Request) -> dict[str, Any]:
        tags = [
            {"Key": EXPERIMENT_TAG, "Value": str(self._sealed.folder)},
            {"Key": SEAL_TAG, "Value": self._sealed.manifest_sha256},
        ]
        tagged = {**request, "Tags": [*request.get("Tags", []), *tags]}
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                with aws_errors("start the job"):
                    self.job_arn = self._client.create_training_job(**tagged)["TrainingJobArn"]
                break
            except (ConflictError, UnavailableError) as error:
                # The answer may be lost while the job exists: whoever has our seal is our job.
                if self._adopt(request["TrainingJobName"]):
                    break
                if isinstance(error, ConflictError) or attempt == _START_ATTEMPTS:
                    raise
                time.sleep(2 ** (attempt - 1) / 2)
        return {"TrainingJobArn": self.job_arn}

    def _adopt(self, job_name: str) -> bool:
        """Takes a job that has our seal for ours. Raises ConflictError when somebody else's experiment has the name."""
        try:
            arn = jobs.describe(self._client, job_name)["TrainingJobArn"]
            with aws_errors(f"look whose job {job_name} is"):
                answer = self._client.list_tags(ResourceArn=arn)
        except (NotFoundError, UnavailableError):
            return False
        tags = {tag["Key"]: tag["Value"] for tag in answer["Tags"]}
        if tags.get(SEAL_TAG) == self._sealed.manifest_sha256:
            self.job_arn = arn
            return True
        owner = tags.get(EXPERIMENT_TAG, "somebody who does not use this tool")
        raise ConflictError(
            f"a job named {job_name} exists already, of {owner}",
            hint="launch again: each launch makes a new name",
        )


def _shown(request: Request, member: str) -> str:
    return json.dumps(request[member], sort_keys=True) if member in request else "nothing"
