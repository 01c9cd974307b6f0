"""Times as every document of this tool has them, and how long something takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone


def utc(moment: datetime) -> str:
    """A time as ISO 8601, UTC, with milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def utc_now() -> str:
    """The present as `utc` writes it."""
    return utc(datetime.now(timezone.utc))


class Stopwatch:
    """Runs from its making on, also while the machine sleeps, when most monotonic clocks stand still.

    Args:
        monotonic: A clock that nobody can set, in seconds.
        wall: A clock that goes on while the machine sleeps, in seconds.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._began = monotonic(), wall()

    @property
    def seconds(self) -> float:
        """How long it has run. A wall clock that is set back does not count."""
        monotonic, wall = self._began
        return max(self._monotonic() - monotonic, self._wall() - wall)
