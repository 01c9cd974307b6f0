"""What a launch tells while it goes on. Pure."""

from __future__ import annotations

from typing import Protocol


class Events(Protocol):
    """Listens to a launch; the command line shows what it hears on stderr."""

    def phase(self, name: str, message: str = "") -> None:
        """The launch or the job has entered a phase, such as `Training`."""

    def note(self, text: str) -> None:
        """Something that the user should know; the launch goes on."""

    def log(self, host: str, line: str) -> None:
        """A line of the job's log."""
