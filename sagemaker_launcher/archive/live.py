"""How jobs stand on AWS that the archive does not know the end of, for lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.events import Events
from sagemaker_launcher.jobs.contact import Pace
from sagemaker_launcher.jobs.watching import Watch
from sagemaker_launcher.result import NOT_FOUND, JobResult

_REQUESTS = 40  # at most; what is not known by then is told as the archive knows it


class LiveJobs:
    """Asks AWS, and does without an answer when there is none.

    Args:
        client: Gives a client of SageMaker.
        events: Who is told why there is no answer.
    """

    def __init__(self, client: Callable[[], Any], events: Events) -> None:
        self._client = client
        self._events = events
        self._silent = False

    def __call__(self, job_names: Sequence[str]) -> Mapping[str, JobResult]:
        """The jobs that AWS knows, by name; those that have ended with all that AWS says of them."""
        if self._silent:
            return {}
        try:
            watch = Watch(self._connected(), job_names, Pace(0.0))
            for _ in range(_REQUESTS):
                watch.look()
                if watch.seen and all(sight.complete or not sight.ended for sight in watch.sights):
                    break
        except LauncherError as error:
            self._silent = True
            self._events.note(f"AWS does not say how unfinished jobs stand: {error.message}")
            return {}
        return {
            sight.job_name: sight.result
            for sight in watch.sights
            if sight.result.status != NOT_FOUND and (sight.complete or not sight.ended)
        }

    def _connected(self) -> Callable[[], Any]:
        client = self._client()
        return lambda: client
