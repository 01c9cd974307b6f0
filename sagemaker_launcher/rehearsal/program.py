"""Runs the training program in a process group of its own: its log line by line, its time limit, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_LINE_MAX = 256 * 1024  # bytes; CloudWatch Logs splits longer events
_SHELL_SIGNAL_BASE = 128


class Program:
    """A training program that runs.

    Args:
        command: The program and its arguments.
        folder: Its working directory.
        environment: All its variables.
        on_line: Called with each line of its output, stdout and stderr in one, in a thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> None:
        self._on_line = on_line
        self._process = subprocess.Popen(  # noqa: S603 - running the user's program is the point
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal is for the launcher, which then decides what the program gets.
            start_new_session=True,
        )
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="log", daemon=True
        )
        self._reader.start()

    def wait(self, time_limit_s: float) -> int | None:
        """Waits for the end, but no longer than a number of seconds.

        Returns:
            The exit code as a shell would show it (128 + signal for a program that a signal killed); None when the
            time is up and the program runs.
        """
        try:
            self._process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            return None
        return self._end()

    def stop(self, grace_s: float) -> int:
        """Ends the program: SIGTERM, so that it may save its state, and SIGKILL to all it started after a grace period.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopTrainingJob.html: SIGTERM, then 120 seconds. An
        exception that a signal to us raises cuts the grace period short.

        Returns:
            The exit code, as `wait` gives it.
        """
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
        return self._end()

    def kill(self) -> None:
        """SIGKILL to the program and everything that it started in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self) -> int:
        code = self._process.wait()
        # A container takes everything in it along when its first process ends.
        self.kill()
        self._reader.join(timeout=5)
        return code if code >= 0 else _SHELL_SIGNAL_BASE - code

    def _read(self, output: IO[bytes]) -> None:
        with output:
            while line := output.readline(_LINE_MAX):
                # The service's log shows a tab as #011, so an expression with \t would never match there.
                text = line.decode("utf-8", "replace").rstrip("\r\n").replace("\t", "#011")
                self._on_line(text)
