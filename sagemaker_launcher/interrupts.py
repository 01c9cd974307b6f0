"""Ctrl-C, SIGTERM and SIGHUP as exceptions, and a shield for the few moments that must not be cut in two."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

from sagemaker_launcher.result import JobResult

if TYPE_CHECKING:
    from typing_extensions import Self

_PAUSE_VARIABLE = "SAGEMAKER_LAUNCHER_TEST_PAUSE_AT"
_PAUSE_S = 60
_IMPATIENT_S = 1.0  # a hand that keeps hitting Ctrl-C has said no more than the first time
_Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int | None"
_shields: list[list[int]] = []  # the signals that each block holds back, the outermost first
_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Interrupted(BaseException):
    """A signal asked this process to end; not an Exception, so that nothing takes it for a failure.

    Attributes:
        number: The signal.
        result: How the job ended, when the signal ended a job that ran on this machine.
    """

    def __init__(self, number: int, result: JobResult | None = None) -> None:
        super().__init__(number)
        self.number = number
        self.result = result


def raise_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise Interrupted in the main thread.

    A signal that our parent had ignored, as `nohup` does, stays ignored.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def end_on_next_signal() -> None:
    """From now on a signal ends this process at once: its user has already been heard, and is impatient."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


@contextmanager
def shielded() -> Iterator[None]:
    """Holds signals back until the block has ended: a job that has been asked for must also be recorded."""
    held: list[int] = []
    previous: dict[int, _Handler] = {
        number: signal.signal(number, lambda number, _: held.append(number))
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    _shields.append(held)
    try:
        yield
    finally:
        _shields.pop()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if held:
        # Whoever heard signals before this block hears it now: this may be a part of a longer one that holds them back.
        handler = previous[held[0]]
        if not callable(handler):
            raise Interrupted(held[0])
        handler(held[0], None)


class Reluctance:
    """A block, the parts of which between `begin` and `end` no first signal cuts short: it is told, and kept.

    One more that comes a second later raises Interrupted. For work that must not be lost to a Ctrl-C too many, and that may
    take too long for anybody's patience.

    Args:
        told: What is written to stderr when a signal is kept: what goes on, and how to end it all the same.

    Attributes:
        kept: The signal that was kept; 0 when none came.
    """

    def __init__(self, told: str) -> None:
        self._told = told
        self._previous: dict[int, _Handler] = {}
        self._kept_at = 0.0
        self.kept = 0

    def begin(self) -> None:
        """From now on."""
        for number in _SIGNALS:
            if number not in self._previous and signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._hear)

    def end(self) -> None:
        """Signals are heard as they were before."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.kept and time.monotonic() > self._kept_at + _IMPATIENT_S:
            raise Interrupted(number)
        if not self.kept:
            self.kept, self._kept_at = number, time.monotonic()
            with suppress(OSError):
                # Not through Python's own streams: this may have come in the middle of one's work.
                os.write(2, f"{self._told}\n".encode())


def last_call() -> None:
    """To be called in a shielded block before what it is for: raises Interrupted when a signal has come by then."""
    for held in _shields:
        if held:
            raise Interrupted(held.pop())


def pause_point(phase: str) -> None:
    """Lets a test stop this process at a named moment until it sends a signal; does nothing otherwise."""
    if os.environ.get(_PAUSE_VARIABLE) != phase:
        return
    signals, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    # Python writes to it when a signal comes, also one that comes before we wait.
    signal.set_wakeup_fd(wakeup)
    sys.stderr.write(f"paused at {phase}\n")
    sys.stderr.flush()
    select.select([signals], [], [], _PAUSE_S)
    signal.set_wakeup_fd(-1)
