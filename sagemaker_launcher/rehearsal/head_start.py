"""The engine's `run`, started before its turn, so that nobody waits for the start of the engine's program.

It is as far as it can be without having done anything: it reads an option's file that does not end before we say so.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

from sagemaker_launcher.rehearsal.program import start

# A comment in a file of variables. Its first part alone is no UTF-8, which the program refuses: so nothing starts when we
# are killed, which ends the file, too. https://docs.docker.com/reference/cli/docker/container/run/#env
_COMMENT = "# …\n".encode()
_FIRST, _REST = _COMMENT[:-2], _COMMENT[-2:]
_COMES_WITHIN_S = 5.0  # or never: a second start would not be faster
_POLL_S = 0.0005
# A program of another name may read its options' files elsewhere, or late.
_PROGRAM = "docker"


class HeadStart:
    """A `run` that waits.

    Args:
        command: The program, `run`, its options, the image and its arguments.
        environment: All variables of the program.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        gate, self._latch = os.pipe()
        try:
            os.write(self._latch, _FIRST)
            words = [*command[:2], "--env-file", f"/dev/fd/{gate}", *command[2:]]
            self._process = start(words, environment=environment, inherited=(gate,))
        except BaseException:
            os.close(self._latch)
            raise
        finally:
            os.close(gate)
        self._is_held = True
        atexit.register(self.give_up)

    @staticmethod
    def possible(program: str) -> bool:
        """Whether an engine's program, by its path, is known to wait."""
        return sys.platform == "linux" and Path(program).name == _PROGRAM

    def go(self, command: Sequence[str]) -> subprocess.Popen[bytes] | None:
        """Lets it run.

        Args:
            command: What is to run.

        Returns:
            The program; None when it would run something else, has not come to where it waits, or does not wait any more.
        """
        if not self._is_held:
            return None
        if list(command) == self._command and self._waits():
            with suppress(BrokenPipeError):  # it has just ended
                os.write(self._latch, _REST)
                self._release()
                return self._process
        self.give_up()
        return None

    def give_up(self) -> None:
        """Ends it, if it still waits: it has done nothing."""
        if not self._is_held:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._release()
        if self._process.stdout:
            self._process.stdout.close()
        self._process.poll()

    def _release(self) -> None:
        self._is_held = False
        atexit.unregister(self.give_up)
        os.close(self._latch)

    def _waits(self) -> bool:
        """Whether it has begun to read, once that can be said. A program in between may have closed the file."""
        until = time.monotonic() + _COMES_WITHIN_S
        look = select.poll()
        look.register(self._latch, 0)
        while self._process.poll() is None and not look.poll(0) and time.monotonic() < until:
            if not int.from_bytes(ioctl(self._latch, termios.FIONREAD, bytes(4)), sys.byteorder):
                return True
            time.sleep(_POLL_S)
        return False
