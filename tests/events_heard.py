"""A listener that remembers what it is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext


class Heard:
    """See `Events`.

    Attributes:
        phases: Names and messages.
        notes: Texts.
        lines: Hosts and texts of log lines.
    """

    def __init__(self) -> None:
        self.phases: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.lines: list[tuple[str, str]] = []

    def phase(self, name: str, message: str = "") -> None:
        self.phases.append((name, message))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def log(self, host: str, line: str) -> None:
        self.lines.append((host, line))

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        self.notes.append(f"{what}: {total}")
        return nullcontext(lambda _: None)
