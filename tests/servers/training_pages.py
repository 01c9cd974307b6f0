"""ListTrainingJobs: filters, orders and pages as the API's model describes them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeTrainingJob

_DEFAULT_SIZE = 10
_SORT_ATTRIBUTES = {
    "CreationTime": "creation_time",
    "Name": "training_job_name",
    "Status": "training_job_status",
}
_TIMES = {"CreationTime": "creation_time", "LastModifiedTime": "last_modified_time"}


def page(query: dict[str, Any], jobs: Iterable[FakeTrainingJob]) -> dict[str, Any]:
    """One page. A page is cut before the jobs of other statuses leave it, so it may be empty though more follow.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTrainingJobs.html
    """
    attribute = _SORT_ATTRIBUTES[query.get("SortBy", "CreationTime")]

    def place(job: FakeTrainingJob) -> list[str]:
        value = getattr(job, attribute)
        return [value.isoformat() if isinstance(value, datetime) else value, job.training_job_name]

    backwards = query.get("SortOrder", "Ascending") == "Descending"
    found = sorted((job for job in jobs if _matches(query, job)), key=place, reverse=backwards)
    after = _decode(query.get("NextToken", ""))
    if after:
        found = [job for job in found if (place(job) < after if backwards else place(job) > after)]
    size = query.get("MaxResults", _DEFAULT_SIZE)
    status = query.get("StatusEquals")
    answer: dict[str, Any] = {
        "TrainingJobSummaries": [
            _summary(job) for job in found[:size] if not status or job.training_job_status == status
        ]
    }
    return answer if len(found) <= size else {**answer, "NextToken": _encode(place(found[size - 1]))}


def _matches(query: dict[str, Any], job: FakeTrainingJob) -> bool:
    if query.get("NameContains", "") not in job.training_job_name:
        return False
    for member, attribute in _TIMES.items():
        # Milliseconds, as clients see it.
        at = math.floor(getattr(job, attribute).replace(tzinfo=timezone.utc).timestamp() * 1000) / 1000
        if at <= float(query.get(f"{member}After", "-inf")) or at >= float(
            query.get(f"{member}Before", "inf")
        ):
            return False
    return True


def _summary(job: FakeTrainingJob) -> dict[str, Any]:
    return {
        "TrainingJobName": job.training_job_name,
        "TrainingJobArn": job.arn,
        "CreationTime": job.creation_time,
        "TrainingEndTime": job.training_end_time,
        "LastModifiedTime": job.last_modified_time,
        "TrainingJobStatus": job.training_job_status,
        "SecondaryStatus": job.secondary_status,
    }


def _encode(place: list[str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _decode(token: str) -> list[str]:
    try:
        place: list[str] = json.loads(base64.urlsafe_b64decode(token)) if token else []
    except ValueError:
        raise ValidationError(message="Invalid NextToken") from None
    return place
