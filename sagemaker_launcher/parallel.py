"""Calls that wait for a network, several at a time, and none of them waited for once nobody wants its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


def in_parallel(
    function: Callable[[_Value], _Result], values: Sequence[_Value], threads: int
) -> list[_Result]:
    """Applies a function to each value.

    When this ends early, by an error or by Ctrl-C, no further call begins, and those that have begun are left alone: a
    server that says nothing would hold up the end of the command for minutes. ThreadPoolExecutor waits for its threads
    twice, when its block ends and when the interpreter does; for daemons nobody waits.

    Args:
        function: What is called. It may be at work after an early end, so what it writes must not count by itself.
        values: What it is called with.
        threads: How many calls are made at the same time; with fewer than two, they are made here.

    Returns:
        The results in the order of the values.

    Raises:
        BaseException: What the function has raised, for the first such value.
    """
    threads = min(threads, len(values))
    if threads <= 1:
        return [function(value) for value in values]
    calls = [_Call(function, value) for value in values]
    waiting: SimpleQueue[_Call[_Value, _Result]] = SimpleQueue()
    for call in calls:
        waiting.put(call)
    for _ in range(threads):
        Thread(target=_work, args=(waiting,), name="in parallel", daemon=True).start()
    try:
        return [call.result for call in calls]
    finally:
        while _next(waiting):
            pass


class _Call(Generic[_Value, _Result]):
    """A call that somebody else makes."""

    def __init__(self, function: Callable[[_Value], _Result], value: _Value) -> None:
        self._function = function
        self._value = value
        self._answer: SimpleQueue[tuple[_Result] | BaseException] = SimpleQueue()

    def make(self) -> None:
        try:
            self._answer.put((self._function(self._value),))
        except BaseException as error:  # noqa: BLE001 - for the thread that wants the result
            self._answer.put(error)

    @property
    def result(self) -> _Result:
        """What came of it, as soon as it has come; a signal interrupts the waiting."""
        answer = self._answer.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer[0]


def _next(waiting: SimpleQueue[_Call[_Value, _Result]]) -> _Call[_Value, _Result] | None:
    try:
        return waiting.get_nowait()
    except Empty:
        return None


def _work(waiting: SimpleQueue[_Call[_Value, _Result]]) -> None:
    while call := _next(waiting):
        call.make()
