"""Questions that a plan can do without the answer to: each in a thread of its own, and waited for a few seconds at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.frozen import frozen

_Answer_co = TypeVar("_Answer_co", covariant=True)


@frozen
class Unknown:
    """What could not be found out, and why; the reason is empty when nobody wanted to know."""

    reason: str


class Question(Generic[_Answer_co]):
    """A question that is being asked from the moment this is made.

    Args:
        ask: Gives the answer, or raises a LauncherError that says why there is none.
    """

    def __init__(self, ask: Callable[[], _Answer_co]) -> None:
        self._ask = ask
        self._answer: _Answer_co | Unknown | BaseException
        # A daemon, since nobody waits for an answer that comes too late, the end of the program included.
        self._thread = Thread(target=self._find_out, daemon=True)
        self._thread.start()

    def answer(self, deadline: float) -> _Answer_co | Unknown:
        """The answer, as soon as it is there.

        Args:
            deadline: The latest moment that is waited for, on the monotonic clock.
        """
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            return Unknown("no answer in time")
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def _find_out(self) -> None:
        try:
            self._answer = self._ask()
        except LauncherError as error:
            self._answer = Unknown(error.message)
        except BaseException as bug:  # noqa: BLE001 - for the thread that wants the answer
            self._answer = bug
