"""The secondary statuses of a job, their times, and what would be billed."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from sagemaker_launcher.rehearsal.timeline import Timeline
from tests.fidelity import reproduces
from tests.stand_in import Listener


def lived(*steps: tuple[str, float]) -> Timeline:
    """A time line with at least so many seconds in each status, the last of which goes on."""
    timeline = Timeline(Listener())
    for status, seconds in steps:
        timeline.enter(status, f"message of {status}")
        time.sleep(seconds)
    return timeline


def test_every_step_ends_when_the_next_begins() -> None:
    listener = Listener()
    timeline = Timeline(listener)
    for status in ("Starting", "Downloading", "Training"):
        timeline.enter(status, f"message of {status}")
    steps = timeline.transitions
    assert [(step.status, step.message) for step in steps] == [
        ("Starting", "message of Starting"),
        ("Downloading", "message of Downloading"),
        ("Training", "message of Training"),
    ]
    assert [step.ended_at for step in steps] == [*(step.started_at for step in steps[1:]), ""]
    assert all(datetime.fromisoformat(step.started_at.replace("Z", "+00:00")).tzinfo for step in steps)
    assert listener.phases == ["Starting", "Downloading", "Training"]


@reproduces("time line")
def test_what_is_billed_begins_when_the_instances_are_ready_and_counts_data_and_artifacts() -> None:
    timeline = lived(("Starting", 0.3), ("Downloading", 0.1), ("Training", 0.1), ("Uploading", 0.1))
    assert 0.3 <= timeline.billable_seconds <= timeline.seconds - 0.3
    assert 0.3 <= timeline.training_seconds <= timeline.seconds - 0.3
    assert timeline.seconds < 30
    assert timeline.training_started_at == timeline.transitions[1].started_at


def test_nobody_pays_for_the_time_without_instances() -> None:
    timeline = lived(
        ("Starting", 0), ("Training", 0.1), ("Interrupted", 0.3), ("Starting", 0.3), ("Training", 0.1)
    )
    assert 0.2 <= timeline.billable_seconds <= timeline.training_seconds - 0.6
    assert 0.8 <= timeline.training_seconds < 30


def test_a_job_that_never_had_instances_costs_nothing() -> None:
    timeline = lived(("Starting", 0.05))
    assert timeline.billable_seconds == 0
    assert timeline.training_seconds == pytest.approx(0, abs=1)
    assert timeline.training_started_at == ""
