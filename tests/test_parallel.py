"""Several calls at a time: results in order, the first error, and nobody who waits for what is not wanted any more."""

from __future__ import annotations

import subprocess
import sys
from threading import Barrier, Event

import pytest

from sagemaker_launcher.parallel import in_parallel


@pytest.mark.parametrize("threads", [1, 3, 50])
def test_results_come_in_the_order_of_the_values(threads: int) -> None:
    assert in_parallel(lambda value: value * 2, range(20), threads) == [value * 2 for value in range(20)]
    assert in_parallel(str, [], threads) == []


def test_as_many_calls_as_there_are_threads_are_made_at_once() -> None:
    together = Barrier(4)
    in_parallel(lambda _: together.wait(60), range(8), 4)


def test_the_first_error_ends_it_without_the_calls_that_still_run() -> None:
    called, go_on = [], Event()

    def call(value: int) -> int:
        called.append(value)
        if value == 1:
            raise ValueError(value)
        return value if value == 0 or go_on.wait(60) else -1

    with pytest.raises(ValueError, match="1"):
        in_parallel(call, range(100), 2)
    go_on.set()
    assert len(called) <= 4


def test_the_end_of_the_program_waits_for_no_call() -> None:
    program = (
        "import threading\n"
        "from sagemaker_launcher.parallel import in_parallel\n"
        "def call(value):\n"
        "    if value:\n"
        "        threading.Event().wait()\n"
        "    raise SystemExit(7)\n"
        "in_parallel(call, range(3), 3)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 7
