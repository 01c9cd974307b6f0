"""Metrics read from the log, as the service reads them.

https://docs.aws.amazon.com/sagemaker/latest/dg/training-metrics.html
"""

from __future__ import annotations

import math
import re
import time
import warnings
from collections import deque
from contextlib import suppress

from sagemaker_launcher.request import Request

# In characters. Each part of a line overlaps the next by half, so that what is cut in one is whole in the other.
_PART = 4096
_STEP = _PART // 2
_SLOW_S = 0.05  # an expression whose time grows with the square of the text's length needs a tenth of it for one part
_PATIENCE_S = 2.0
_LOOK_S = 1.0  # how often a search that does not end is looked at
_UNREAD_MAX = 100_000  # lines


class MetricReader:
    """Keeps the last value of each metric that the request defines.

    While `re` searches, no other thread runs, and only the main thread hears signals: so the threads that get the lines only
    pass them on, and the main thread searches them, which Ctrl-C and a limit of time can end. (Of more than 100,000 lines
    that nobody has searched yet, the oldest are forgotten: only the last value counts.)

    The time of expressions as plain as `.*loss=([0-9.]+).*` grows with the square of the text's length: 27 s for a line of
    256 KiB, where CloudWatch Logs cut one. So only 4 KiB are searched at a time, and others run in between. All of a line is
    searched, since progress bars write long ones whose last numbers are at their end; but in a line of more than 4 KiB no match
    of more than 2 KiB is sure to be found, and `$` may also match where a part ends.

    An expression whose searches are slow, and take more than two seconds in all, is given up: `(x+x+)+y` would need years for
    one line of a hundred x.

    Args:
        request: A CreateTrainingJob request whose expressions compile and have a group.
    """

    def __init__(self, request: Request) -> None:
        definitions = request["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._searches = {definition["Name"]: _Search(definition["Regex"]) for definition in definitions}
        self._unread: deque[str] = deque(maxlen=_UNREAD_MAX)
        self.values: dict[str, float] = {}

    @property
    def defined(self) -> bool:
        """Whether the request has any."""
        return bool(self._searches)

    def hear(self, line: str) -> None:
        """Takes a line of the log, from any thread, to be searched later."""
        if self.defined:
            self._unread.append(line)

    def read_heard(self) -> None:
        """Searches the lines that were heard; only the main thread may."""
        from sagemaker_launcher.time_limit import TookTooLongError, at_most  # noqa: PLC0415 - the program has to start soon

        while self._unread:
            with suppress(TookTooLongError), at_most(_LOOK_S):
                while self._unread:
                    self.read(self._unread[0])
                    # Only now: whatever a signal cuts short is searched again. (The first of too many may be gone by now.)
                    self._unread.popleft()

    def read(self, line: str) -> None:
        """Looks for every metric in a line of the log, at once."""
        for name, search in self._searches.items():
            value = search.value_in(line)
            if value is not None:
                self.values[name] = value

    @property
    def never_seen(self) -> tuple[str, ...]:
        """The metrics that no line has had, without those of `too_slow`, of which nobody knows."""
        return tuple(
            name
            for name, search in self._searches.items()
            if name not in self.values and not search.is_too_slow and search.no_number is None
        )

    @property
    def no_numbers(self) -> dict[str, str]:
        """What the lines had for the metrics that have no value all the same, the last of it: `nan`, `1,234`."""
        found = {name: search.no_number for name, search in self._searches.items() if name not in self.values}
        return {name: text for name, text in found.items() if text is not None}

    @property
    def too_slow(self) -> tuple[str, ...]:
        """The metrics whose expressions were given up; their values are those of the lines before."""
        return tuple(name for name, search in self._searches.items() if search.is_too_slow)


class _Search:
    """The search for one metric, until it has been slow for too long."""

    def __init__(self, expression: str) -> None:
        self._pattern = compiled(expression)
        self._has_group = self._pattern.groups > 0
        self._clock = time.perf_counter
        self._slow_s = 0.0
        self.is_too_slow = False
        self.no_number: str | None = None  # what was found in the place of a number last

    def value_in(self, line: str) -> float | None:
        if self.is_too_slow or not self._has_group:
            return None
        match = self._timed(line, 0, _PART) if len(line) <= _PART else self._in_parts(line)
        if match is None:
            return None
        value = number_in(match[1])
        if value is None:
            self.no_number = match[1]  # None: the group took no part in the match
        return value

    def _in_parts(self, line: str) -> re.Match[str] | None:
        for start in range(0, len(line) - _STEP, _STEP):
            end = start + _PART
            match = self._timed(line, start, end)
            if match and (match.end(1) < end or end >= len(line)):  # otherwise digits may be missing
                return match
            if self.is_too_slow:
                break
        return None

    def _timed(self, line: str, start: int, end: int) -> re.Match[str] | None:
        began_at = self._clock()
        try:
            return self._pattern.search(line, start, end)
        finally:  # also when its time was over
            took_s = self._clock() - began_at
            if took_s > _SLOW_S:
                self._take_note(took_s)

    def _take_note(self, took_s: float) -> None:
        if self._clock is time.perf_counter:
            # It may only have waited for a processor. The clock that knows takes longer than most searches.
            self._clock = time.thread_time
            return
        self._slow_s += took_s
        self.is_too_slow = self._slow_s > _PATIENCE_S


def compiled(expression: str) -> re.Pattern[str]:
    """A metric's expression, without Python's warnings of what its author may have meant.

    Raises:
        re.error: It is none; OverflowError and RecursionError say the same of huge ones.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(expression)


def number_in(text: str | None) -> float | None:
    """The value that a metric's group found; None for a word, and for infinity and NaN, which CloudWatch takes no more than a word.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
