"""The training program of one host: a process group of its own, whose output becomes the host's log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

OnLine = Callable[[str], None]
_LINE_MAX = 256 * 1024  # bytes; CloudWatch Logs splits longer events
_SHELL_SIGNAL_BASE = 128
_DRAIN_S = 5.0
# The service's log shows a tab as #011, so an expression with \t would never match there.
_ESCAPES = {code: f"#{code:03o}" for code in (*range(32), 127)}


class Program(Protocol):
    """A program that runs."""

    def wait(self) -> int:
        """Waits for the end and for the last line of the log.

        Returns:
            The exit code as a shell would show it: 128 + signal for a program that a signal killed.
        """

    def terminate(self) -> None:
        """SIGTERM to the program itself, so that it may save its state. An ended program is no error."""

    def kill(self) -> None:
        """SIGKILL to the program and everything that it started. An ended program is no error."""


def shell_code(code: int) -> int:
    """An exit code as a shell would show it, from that of `subprocess`."""
    return code if code >= 0 else _SHELL_SIGNAL_BASE - code


def start(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a program whose output, stdout and stderr in one, is going to be a log.

    Args:
        command: The program and its arguments.
        folder: The working directory.
        environment: All variables.
        inherited: Open files that it has as well.
    """
    return subprocess.Popen(  # noqa: S603 - running the user's program is the point
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=inherited,
        # Ctrl-C in the terminal is for the launcher, which then decides what the program gets.
        start_new_session=True,
    )


class Output:
    """The output of a program, read in a thread, line by line as the service's log would have it.

    Args:
        process: The program, from `start`.
        on_line: Called with each line, in a thread.
    """

    def __init__(self, process: subprocess.Popen[bytes], on_line: OnLine) -> None:
        self.process = process
        self._on_line = on_line
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), name="log", daemon=True)
        self._reader.start()

    def drain(self) -> None:
        """Waits until the last line has been read, but not for ever: what the program started may hold its output."""
        self._reader.join(_DRAIN_S)

    def _read(self, output: IO[bytes]) -> None:
        with output:
            try:
                while line := output.readline(_LINE_MAX):
                    self._on_line(line.decode("utf-8", "replace").rstrip("\r\n").translate(_ESCAPES))
            finally:
                while output.read(_LINE_MAX):  # the program must not break because we did
                    pass


class ProcessProgram:
    """A program in a plain process; see `Program`.

    Args:
        command: The program and its arguments.
        folder: Its working directory.
        environment: All its variables.
        on_line: Called with each line of its output.
        on_end: Called when it has ended, before its log is complete, with its exit code as `subprocess` has it: -N when signal N
            killed it.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        on_line: OnLine,
        on_end: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._output = Output(start(command, folder=folder, environment=environment), on_line)
        self._on_end = on_end

    def wait(self) -> int:
        """See `Program`."""
        code = self._output.process.wait()
        # A container takes everything in it along when its first process ends.
        self.kill()
        self._on_end(code)
        self._output.drain()
        return shell_code(code)

    def terminate(self) -> None:
        """See `Program`."""
        self._output.process.terminate()

    def kill(self) -> None:
        """See `Program`."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._output.process.pid, signal.SIGKILL)
