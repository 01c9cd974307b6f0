"""The programs of all hosts while they run: waits for them, and stops them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.program import Program


@frozen
class Ended:
    """One program that has ended, with the exit code of a shell."""

    host: Host
    exit_code: int


class Crew:
    """Programs that were started, one per host."""

    def __init__(self) -> None:
        self._programs: dict[Host, Program] = {}
        self._lost: list[BaseException] = []  # why the end of a program cannot be told
        self._bell: SimpleQueue[None] = SimpleQueue()  # rings after each change of the other two
        self.ended: list[Ended] = []  # in the order in which they ended

    def add(self, host: Host, program: Program) -> None:
        """Takes a program that has just been started."""
        self._programs[host] = program
        threading.Thread(
            target=self._watch, args=(host, program), name=f"wait {host.name}", daemon=True
        ).start()

    @property
    def failed(self) -> Ended | None:
        """The first program that ended with another exit code than 0."""
        return next((ended for ended in self.ended if ended.exit_code), None)

    def wait(self, until: float) -> bool:
        """Waits until all programs have ended or one has failed: that one is the end of the job.

        Args:
            until: When to give up, on the monotonic clock.

        Returns:
            False when the time is up first.
        """
        return self._wait_until(lambda: not self._running or self.failed is not None, until)

    def stop(self, grace_s: float) -> None:
        """SIGTERM to every program that runs, and SIGKILL to what still runs after a grace period.

        An exception that a signal to us raises cuts the grace period short.
        """
        for program in self._running:
            program.terminate()
        try:
            self._wait_until(lambda: not self._running, time.monotonic() + grace_s)
        finally:
            self.kill()
            self._wait_until(lambda: not self._running, None)

    def kill(self) -> None:
        """SIGKILL to every program that runs."""
        for program in self._running:
            program.kill()

    @property
    def _running(self) -> list[Program]:
        if self._lost:
            return []  # whoever started them has to look after them
        ended = {one.host for one in self.ended}
        return [program for host, program in self._programs.items() if host not in ended]

    def _wait_until(self, done: Callable[[], bool], until: float | None) -> bool:
        """Waits for something to be true, but not longer than until a time. Gives whether it is.

        What has been heard is kept and looked at, never taken: so a signal may interrupt this anywhere. (An Event would be
        simpler, and a signal inside one can leave it locked for ever.)

        Raises:
            LauncherError: Contact with a program is lost.
        """
        while True:
            if self._lost:
                raise self._lost[0]
            if done():
                return True
            left_s = None if until is None else until - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            with suppress(Empty):
                self._bell.get(timeout=left_s)

    def _watch(self, host: Host, program: Program) -> None:
        try:
            self.ended.append(Ended(host, program.wait()))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the program raises it
            self._lost.append(error)
        finally:
            self._bell.put(None)
