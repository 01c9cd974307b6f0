"""A limit of time for a block of the main thread."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TookTooLongError(Exception):
    """The block of `at_most` was not done in time."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Ends a block of the main thread that takes too long, also in the middle of a regular expression.

    Args:
        seconds: How long it may take.

    Raises:
        TookTooLongError: It took longer.
    """
    over = False

    def end(_: int, __: FrameType | None) -> None:
        if not over:
            raise TookTooLongError

    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    # Two of them: whatever signal comes when, no alarm of this block is left to ring in somebody else's.
    try:
        signal.signal(signal.SIGALRM, end)
        # Again and again: the block may take the first for a failure of its own, and go on.
        signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds / 10, 0.01))
        try:
            yield
        finally:
            over = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
