"""Commands on a terminal, as people see them."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_S = 60.0


@dataclass
class Terminal:
    """A terminal with a command on it.

    Attributes:
        process: The command.
    """

    process: subprocess.Popen[bytes]
    _leader: int

    def type(self, text: str) -> None:
        """Types a text."""
        os.write(self._leader, text.encode())

    def until(self, text: str) -> str:
        """What is shown from here up to a text, which has to come."""
        shown, deadline = "", time.monotonic() + _PATIENCE_S
        while text not in shown and time.monotonic() < deadline:
            if select.select([self._leader], [], [], 1)[0]:
                part = self._read()
                assert part, f"{text!r} never came:\n{shown}"
                shown += part.decode(errors="replace")
        assert text in shown, f"{text!r} never came:\n{shown}"
        return shown

    def rest(self) -> str:
        """What is shown from here to the end of the command."""
        return b"".join(iter(self._read, b"")).decode(errors="replace")

    def _read(self) -> bytes:
        try:
            return os.read(self._leader, 4096)
        except OSError:  # what Linux gives instead of an end of file
            return b""


@contextmanager
def on_terminal(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Starts a command on a terminal of its own, and kills what still runs after the block."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command,
        cwd=folder,
        env={"TERM": "xterm-256color", **environment},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    ) as process:
        os.close(follower)
        try:
            yield Terminal(process, leader)
            process.wait(20)
        finally:
            process.kill()
            os.close(leader)
