"""The life of training jobs as the service shows it, told to moto, whose jobs are Completed at once."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from threading import RLock
from typing import Any

from moto.core.utils import utcnow
from moto.sagemaker.models import FakeTrainingJob

FINAL_STATUSES = {"Completed", "Failed", "Stopped"}
# SecondaryStatus and StatusMessage:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_SecondaryStatusTransition.html
_MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Interrupted": "Training job interrupted",
    "Stopping": "Stopping the training job",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}


class TrainingJobs:
    """The jobs of one server, and what will happen to them by itself.

    Attributes:
        validate: Whether requests that break the API's model (names, limits, enums) are refused.
        auto_complete: New jobs run by themselves and are Completed after that many seconds; None: they stay
            in Starting until a test moves them.
        stopping_seconds: How long a job is Stopping before it is Stopped.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.forget()

    def forget(self) -> None:
        """Drops every job, everything that was due, and what a test has set."""
        with self.lock:
            self.validate = True
            self.auto_complete: float | None = None
            self.stopping_seconds = 0.2
            self._jobs: dict[str, FakeTrainingJob] = {}
            self._requests: dict[str, dict[str, Any]] = {}
            self._due: dict[str, list[tuple[datetime, Callable[[datetime], None]]]] = {}

    def job(self, name: str) -> FakeTrainingJob:
        """moto's own record of a job. Raises KeyError when nobody created it."""
        return self._jobs[name]

    def request(self, name: str) -> dict[str, Any]:
        """The CreateTrainingJob parameters of a job as they were received."""
        return copy.deepcopy(self._requests[name])

    def admit(self, request: dict[str, Any], region: str) -> None:
        """Called with every request that fits the model; an heir may refuse it with one of moto's exceptions."""

    def adopt(self, job: FakeTrainingJob, request: dict[str, Any]) -> None:
        """Gives a job that moto has just created the state that the service would give it."""
        name = job.training_job_name
        self._jobs[name], self._requests[name] = job, copy.deepcopy(request)
        job.algorithm_specification = copy.deepcopy(request["AlgorithmSpecification"])
        for member in request.keys() - {"TrainingJobName", "Tags"}:
            attribute = re.sub(r"(?<!^)(?=[A-Z])", "_", member).lower()
            if not hasattr(job, attribute):
                setattr(job, attribute, copy.deepcopy(request[member]))
        _set(job, training_start_time=None, training_end_time=None, final_metric_data_list=None)
        _set(job, training_job_status="InProgress", secondary_status_transitions=[])
        _enter(job, "Starting", "", job.creation_time)
        if self.auto_complete is not None:
            self._schedule_run(name, job.creation_time, self.auto_complete)

    def delete(self, name: str) -> None:
        """Forgets a job that has ended, whose name is free again."""
        with self.lock:
            del self._jobs[name], self._requests[name]

    def _schedule_run(self, name: str, start: datetime, seconds: float) -> None:
        quarter = timedelta(seconds=seconds / 4)
        self._due[name] = [
            (start + quarter, lambda at: self.advance(name, "Downloading", at=at)),
            (start + 2 * quarter, lambda at: self.advance(name, "Training", at=at)),
            (start + 3 * quarter, lambda at: self.advance(name, "Uploading", at=at)),
            (start + 4 * quarter, lambda at: self.finish(name, "Completed", at=at)),
        ]

    def settle(self) -> None:
        """Lets everything happen whose time has come."""
        with self.lock:
            now = utcnow()
            for steps in list(self._due.values()):
                while steps and steps[0][0] <= now:
                    at, step = steps.pop(0)
                    step(at)

    def advance(self, name: str, secondary: str, message: str = "", *, at: datetime | None = None) -> None:
        """Moves an unfinished job to another secondary status."""
        with self.lock:
            job = self._unfinished(name)
            at = at or utcnow()
            if secondary in {"Downloading", "Training"} and job.training_start_time is None:
                _set(job, training_start_time=at)
            _enter(job, secondary, message, at)

    def stop(self, name: str) -> None:
        """Stopping now, Stopped after `stopping_seconds`."""
        with self.lock:
            at = utcnow()
            self.begin_stopping(name, at)
            due = at + timedelta(seconds=self.stopping_seconds)
            self._due[name] = [(due, lambda at: self.finish(name, "Stopped", at=at))]

    def begin_stopping(self, name: str, at: datetime) -> None:
        """Stopping now, whatever comes of it; not twice."""
        with self.lock:
            job = self._unfinished(name)
            if job.training_job_status != "Stopping":
                _set(job, training_job_status="Stopping")
                _enter(job, "Stopping", "", at)

    def finish(
        self,
        name: str,
        status: str,
        *,
        secondary: str | None = None,
        failure_reason: str = "",
        metrics: Mapping[str, float] | None = None,
        billable_seconds: int | None = None,
        model: str = "",
        at: datetime | None = None,
    ) -> None:
        """Ends a job; without `billable_seconds` every second since training began is billed."""
        if status not in FINAL_STATUSES:
            raise ValueError(f"{status} does not end a job")
        with self.lock:
            job = self._unfinished(name)
            at = at or utcnow()
            self._due.pop(name, None)
            if status == "Completed" and job.training_start_time is None:
                _set(job, training_start_time=job.creation_time)
            if job.training_start_time is not None:
                seconds = round((at - job.training_start_time).total_seconds())
                billed = seconds if billable_seconds is None else billable_seconds
                _set(
                    job,
                    training_end_time=at,
                    training_time_in_seconds=seconds,
                    billable_time_in_seconds=billed,
                )
            data = [
                {"MetricName": key, "Value": value, "Timestamp": at} for key, value in (metrics or {}).items()
            ]
            if model:
                _set(job, model_artifacts={"S3ModelArtifacts": model})
            _set(job, final_metric_data_list=data or None, failure_reason=failure_reason or None)
            _enter(job, secondary or status, "", at)
            job.secondary_status_transitions[-1]["EndTime"] = at
            _set(job, training_job_status=status)

    def _unfinished(self, name: str) -> FakeTrainingJob:
        job = self._jobs[name]
        if job.training_job_status in FINAL_STATUSES:
            raise ValueError(f"{name} is {job.training_job_status}")
        return job


def _set(job: FakeTrainingJob, **attributes: object) -> None:
    """DescribeTrainingJob shows every attribute of moto's record, under its name in CamelCase."""
    for name, value in attributes.items():
        setattr(job, name, value)


def _enter(job: FakeTrainingJob, secondary: str, message: str, at: datetime) -> None:
    if job.secondary_status_transitions:
        job.secondary_status_transitions[-1]["EndTime"] = at
    message = message or _MESSAGES.get(secondary, "")
    transition = {"Status": secondary, "StartTime": at, "StatusMessage": message}
    _set(job, secondary_status=secondary, last_modified_time=at)
    job.secondary_status_transitions.append(transition)
