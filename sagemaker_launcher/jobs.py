"""Jobs on AWS, watched with boto3 alone: status, log lines, result.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sagemaker_launcher.aws import Aws, aws_errors
from sagemaker_launcher.clock import utc
from sagemaker_launcher.errors import (
    CredentialsError,
    JobStillRunningError,
    LauncherError,
    NotFoundError,
    UnavailableError,
)
from sagemaker_launcher.events import Events
from sagemaker_launcher.result import COMPLETED, FAILED, STOPPED, JobResult, Transition

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_TERMINAL = {COMPLETED, FAILED, STOPPED}
_POLL_S = 3.0
_LONGEST_POLL_S = 60.0
_GIVE_UP_AFTER_S = 1800.0
# Log lines go on arriving for some seconds after the end, and those of a failure are the ones that matter.
_DRAIN_S = {COMPLETED: 2.0, FAILED: 6.0}


def follow(aws: Aws, job_name: str, events: Events) -> JobResult:
    """Waits until a job has ended, and tells each new phase and log line.

    Args:
        aws: Where clients come from.
        job_name: The job.
        events: Who is told.

    Raises:
        JobStillRunningError: Contact was lost, by credentials that ran out or a network that is gone; the job goes on.
        NotFoundError: There is no such job (any more).
    """
    client, log = aws.client("sagemaker"), JobLog(aws, job_name)
    phase, pause_s, silent_since = "", _POLL_S, None
    while True:
        try:
            description = describe(client, job_name)
            status, secondary = description["TrainingJobStatus"], description["SecondaryStatus"]
            if secondary != phase:
                phase = secondary
                events.phase(phase, _message(description))
            log.tell(events)
            pause_s, silent_since = _POLL_S, None
        except CredentialsError as error:
            raise _lost(job_name, client.meta.region_name, error) from error
        except UnavailableError as error:
            now = time.monotonic()
            silent_since = silent_since or now
            if now - silent_since > _GIVE_UP_AFTER_S:
                raise _lost(job_name, client.meta.region_name, error) from error
            if pause_s == _POLL_S:
                events.note(f"no contact with AWS, trying again (the job goes on): {error.message}")
            pause_s = min(2 * pause_s, _LONGEST_POLL_S)
        else:
            if status in _TERMINAL:
                log.drain(events, _DRAIN_S.get(status, 2.0))
                return result_of(description)
        time.sleep(pause_s)


def describe(client: Any, job_name: str) -> dict[str, Any]:  # noqa: ANN401 - boto3 is untyped
    """DescribeTrainingJob. Raises NotFoundError when there is no such job."""
    try:
        with aws_errors(f"describe the job {job_name}"):
            description: dict[str, Any] = client.describe_training_job(TrainingJobName=job_name)
    except LauncherError as error:
        # The service answers ValidationException, "Requested resource not found", for a job that does not exist.
        if "not found" in error.message.lower() and not isinstance(error, NotFoundError):
            raise NotFoundError(
                f"there is no job {job_name} in this account and region", code="job_not_found"
            ) from error
        raise
    return description


def result_of(description: Mapping[str, Any]) -> JobResult:
    """What a description says of how the job ended, or how far it is."""
    artifacts = {"model": description.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")}
    return JobResult(
        status=description["TrainingJobStatus"],
        secondary_status=description["SecondaryStatus"],
        failure_reason=description.get("FailureReason", ""),
        training_seconds=description.get("TrainingTimeInSeconds"),
        billable_seconds=description.get("BillableTimeInSeconds"),
        artifacts={name: uri for name, uri in artifacts.items() if uri},
        metrics={item["MetricName"]: item["Value"] for item in description.get("FinalMetricDataList", ())},
        started_at=_time(description.get("TrainingStartTime")),
        ended_at=_time(description.get("TrainingEndTime")),
        transitions=tuple(
            Transition(
                item["Status"],
                _time(item["StartTime"]),
                _time(item.get("EndTime")),
                item.get("StatusMessage", ""),
            )
            for item in description.get("SecondaryStatusTransitions", ())
        ),
    )


class JobLog:
    """The job's log streams in CloudWatch, one per host and start; each line is told once.

    Args:
        aws: Where clients come from.
        job_name: The job.
    """

    def __init__(self, aws: Aws, job_name: str) -> None:
        self._client = aws.client("logs")
        self._prefix = f"{job_name}/"
        self._tokens: dict[str, str] = {}

    def tell(self, events: Events) -> int:
        """Tells every line that has come since the last call, in the order of their times. Returns how many."""
        try:
            with aws_errors("read the job's log"):
                lines = [line for stream in self._streams() for line in self._new_lines(stream)]
        except NotFoundError:
            return 0  # the log group and the streams appear with the first line
        for _, host, text in sorted(lines, key=lambda line: line[0]):
            events.log(host, text)
        return len(lines)

    def drain(self, events: Events, quiet_s: float) -> None:
        """Tells lines until none has come for some seconds."""
        last = time.monotonic()
        while time.monotonic() - last < quiet_s:
            time.sleep(0.5)
            if self.tell(events):
                last = time.monotonic()

    def _streams(self) -> list[str]:
        pages = self._client.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=self._prefix
        )
        return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]

    def _new_lines(self, stream: str) -> list[tuple[int, str, str]]:
        host = stream.removeprefix(self._prefix).rpartition("-")[0]
        lines = []
        while True:
            position = (
                {"nextToken": self._tokens[stream]} if stream in self._tokens else {"startFromHead": True}
            )
            page = self._client.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, **position)
            lines += [(event["timestamp"], host, event["message"]) for event in page["events"]]
            token, previous = page["nextForwardToken"], self._tokens.get(stream)
            self._tokens[stream] = token
            # The end of a stream is reached when the token stays the same (API_GetLogEvents).
            if token == previous or not page["events"]:
                return lines


def _lost(job_name: str, region: str, error: LauncherError) -> JobStillRunningError:
    return JobStillRunningError(
        f"contact with the job {job_name} is lost, and the job goes on: {error.message}",
        hint=f"log in, then: {watch_command(job_name, region)}",
    )


def watch_command(job_name: str, region: str) -> str:
    """The command that tells how a job is."""
    return f"aws sagemaker describe-training-job --region {region} --training-job-name {job_name}"


def stop_command(job_name: str, region: str) -> str:
    """The command that stops a job."""
    return f"aws sagemaker stop-training-job --region {region} --training-job-name {job_name}"


def _message(description: Mapping[str, Any]) -> str:
    transitions = description.get("SecondaryStatusTransitions") or [{}]
    message: str = transitions[-1].get("StatusMessage", "")
    return message


def _time(moment: datetime | None) -> str:
    return utc(moment) if moment else ""
