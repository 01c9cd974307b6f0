"""The programs of all hosts while they run: waits for them, and stops them."""

from __future__ import annotations

import queue
import threading
import time

from sagemaker_launcher.errors import LauncherError
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
        self._running: dict[Host, Program] = {}
        self._reports: queue.SimpleQueue[Ended | LauncherError] = queue.SimpleQueue()
        self.ended: list[Ended] = []  # in the order in which they ended

    def add(self, host: Host, program: Program) -> None:
        """Takes a program that has just been started."""
        self._running[host] = program
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
        while self._running and not self.failed:
            if not self._take(until):
                return False
        return True

    def stop(self, grace_s: float) -> None:
        """SIGTERM to every program that runs, and SIGKILL to what still runs after a grace period.

        An exception that a signal to us raises cuts the grace period short.
        """
        for program in self._running.values():
            program.terminate()
        until = time.monotonic() + grace_s
        try:
            while self._running and self._take(until):
                pass
        finally:
            self.kill()
            while self._running:
                self._take(None)

    def kill(self) -> None:
        """SIGKILL to every program that runs."""
        for program in self._running.values():
            program.kill()

    def _take(self, until: float | None) -> bool:
        """Takes note of one end. Raises LauncherError when contact with a program is lost."""
        try:
            ended = self._reports.get(timeout=None if until is None else max(0, until - time.monotonic()))
        except queue.Empty:
            return False
        if isinstance(ended, LauncherError):
            self._running.clear()  # whoever started them has to look after them
            raise ended
        del self._running[ended.host]
        self.ended.append(ended)
        return True

    def _watch(self, host: Host, program: Program) -> None:
        try:
            self._reports.put(Ended(host, program.wait()))
        except LauncherError as error:
            self._reports.put(error)
