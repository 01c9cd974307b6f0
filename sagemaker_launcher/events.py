"""What a launch tells while it goes on. Pure."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Events(Protocol):
    """Listens to a launch; the command line shows what it hears on stderr."""

    def phase(self, name: str, message: str = "") -> None:
        """The launch or the job has entered a phase, such as `Training`."""

    def note(self, text: str) -> None:
        """Something that the user should know; the launch goes on."""

    def log(self, host: str, line: str) -> None:
        """A line of the job's log."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Something long begins, of so many bytes; the block calls what it gets with the bytes of each step."""
