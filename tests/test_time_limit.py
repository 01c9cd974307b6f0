"""Limits of time for blocks of the main thread."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sagemaker_launcher.time_limit import TookTooLongError, at_most


@pytest.fixture(autouse=True)
def _no_other_timer() -> Iterator[None]:
    """The tests' own limit of time is one of these."""
    timer, handler = signal.setitimer(signal.ITIMER_REAL, 0), signal.signal(signal.SIGALRM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


def test_a_block_that_takes_too_long_ends_also_inside_of_a_search() -> None:
    with pytest.raises(TookTooLongError), at_most(0.05):
        re.search(r"(x+x+)+y", "x" * 100)


def stubborn() -> None:
    with suppress(TookTooLongError):
        time.sleep(60)
    time.sleep(60)


def test_a_block_that_takes_the_first_alarm_for_its_own_failure_is_ended_by_the_next() -> None:
    with pytest.raises(TookTooLongError), at_most(0.05):
        stubborn()


def test_no_alarm_is_left_to_ring_after_the_block() -> None:
    chance = random.Random(1)
    late = 0
    for _ in range(1500):
        limit_s = chance.uniform(0.0002, 0.0006)
        end = time.perf_counter() + limit_s  # when the alarm rings, too
        try:
            with at_most(limit_s):
                while time.perf_counter() < end:
                    pass
        except TookTooLongError:
            late += 1
    assert 0 < late < 1500
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL  # an alarm would end this process now
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
