"""The secondary statuses of a job with their times, and what the service would bill."""

from __future__ import annotations

import time
from dataclasses import replace

from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.events import Events
from sagemaker_launcher.result import Transition

# https://docs.aws.amazon.com/sagemaker/latest/dg/model-train-storage.html: from the moment the instances are ready, data
# download and upload of the artifacts included. No instance is there while the service waits for a new one.
_UNBILLED = frozenset({"Starting", "Interrupted"})


class Timeline:
    """Where a job is in its life.

    Args:
        events: Who is told of every step.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._steps: list[Transition] = []
        self._entered: list[float] = []

    def enter(self, status: str, message: str) -> None:
        """The job has a new secondary status."""
        now = utc_now()
        if self._steps:
            self._steps[-1] = replace(self._steps[-1], ended_at=now)
        self._steps.append(Transition(status, now, message=message))
        self._entered.append(time.monotonic())
        self._events.phase(status, message)

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """All steps so far."""
        return tuple(self._steps)

    @property
    def training_started_at(self) -> str:
        """When the instances were first ready; empty when they never were."""
        return next((step.started_at for step in self._steps if step.status not in _UNBILLED), "")

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._entered[0]

    @property
    def training_seconds(self) -> float:
        """From the moment the instances were first ready until now; 0 when they never were."""
        ready = (
            at for step, at in zip(self._steps, self._entered, strict=True) if step.status not in _UNBILLED
        )
        return time.monotonic() - next(ready, time.monotonic())

    @property
    def billable_seconds(self) -> float:
        """The time with instances until now, of one of them."""
        ends = [*self._entered[1:], time.monotonic()]
        stretches = zip(self._steps, self._entered, ends, strict=True)
        return sum(end - start for step, start, end in stretches if step.status not in _UNBILLED)
