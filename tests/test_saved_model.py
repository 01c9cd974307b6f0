"""When a job on AWS is said to have saved its model: the service tells the path whether or not anything lies there."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from sagemaker_launcher.jobs.jobs import result_of

MODEL = "s3://team/outputs/digits-1/output/model.tar.gz"
STARTED = ("Starting", "Downloading", "Training")
AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def artifacts_of(status: str, *phases: str, reason: str = "") -> dict[str, str]:
    description = {
        "TrainingJobStatus": status,
        "SecondaryStatus": phases[-1],
        "FailureReason": reason,
        "ModelArtifacts": {"S3ModelArtifacts": MODEL},
        "SecondaryStatusTransitions": [{"Status": phase, "StartTime": AT} for phase in phases],
    }
    return dict(result_of(description).artifacts)


@pytest.mark.parametrize(
    ("status", "phases"),
    [
        ("Completed", (*STARTED, "Uploading", "Completed")),
        ("Completed", ("Completed",)),
        ("Stopped", (*STARTED, "Stopping", "Uploading", "Stopped")),
        ("Stopped", (*STARTED, "Stopping", "Uploading", "MaxRuntimeExceeded")),
        ("Failed", (*STARTED, "Uploading", "Failed")),
    ],
)
def test_a_job_that_came_as_far_as_uploading_has_saved_its_model(
    status: str, phases: tuple[str, ...]
) -> None:
    assert artifacts_of(status, *phases) == {"model": MODEL}


@pytest.mark.parametrize(
    ("status", "phases"),
    [
        ("InProgress", ("Starting",)),
        ("InProgress", STARTED),
        ("InProgress", (*STARTED, "Uploading")),
        ("Stopping", (*STARTED, "Stopping")),
        ("Stopping", (*STARTED, "Stopping", "Uploading")),
        ("Stopped", ("Starting", "Stopping", "Stopped")),
        ("Stopped", ("Starting", "Stopping", "MaxWaitTimeExceeded")),
        ("Failed", ("Starting", "Failed")),
        ("Failed", (*STARTED, "Failed")),
    ],
)
def test_no_other_job_is_said_to_have_saved_anything(status: str, phases: tuple[str, ...]) -> None:
    assert artifacts_of(status, *phases) == {}


def test_a_job_that_failed_to_upload_has_saved_nothing() -> None:
    reason = "ClientError: Artifact upload failed:Please ensure that the role may write to the bucket"
    assert artifacts_of("Failed", *STARTED, "Uploading", "Failed", reason=reason) == {}
