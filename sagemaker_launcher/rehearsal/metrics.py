"""Metrics read from the log, as the service reads them.

https://docs.aws.amazon.com/sagemaker/latest/dg/training-metrics.html
"""

from __future__ import annotations

import math
import re
import time
import warnings

from sagemaker_launcher.request import Request

# In characters. Each part of a line overlaps the next by half, so that what is cut in one is whole in the other.
_PART = 4096
_STEP = _PART // 2
_SLOW_S = 0.05  # an expression whose time grows with the square of the text's length needs a tenth of it for one part
_PATIENCE_S = 2.0


class MetricReader:
    """Keeps the last value of each metric that the request defines.

    While `re` searches, no other thread runs, and Python hears no signal; and the time of expressions as plain as
    `.*loss=([0-9.]+).*` grows with the square of the text's length: 27 s for a line of 256 KiB, where CloudWatch Logs cut
    one. So only 4 KiB are searched at a time, and others run in between. All of a line is searched, since progress bars write
    long ones whose last numbers are at their end; but in a line of more than 4 KiB no match of more than 2 KiB is sure to be
    found, and `$` may also match where a part ends.

    An expression whose searches are slow, and take more than two seconds in all, is given up. One single search that never ends,
    as that of `(x+x+)+y` in a line of a hundred x, cannot be ended from this thread.

    Args:
        request: A CreateTrainingJob request whose expressions compile and have a group.
    """

    def __init__(self, request: Request) -> None:
        definitions = request["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._searches = {definition["Name"]: _Search(definition["Regex"]) for definition in definitions}
        self.values: dict[str, float] = {}

    def read(self, line: str) -> None:
        """Looks for every metric in a line of the log."""
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
        value = _number(match[1])
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
        match = self._pattern.search(line, start, end)
        took_s = self._clock() - began_at
        if took_s > _SLOW_S:
            self._take_note(took_s)
        return match

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


def _number(text: str | None) -> float | None:
    """None for a word, and for infinity and NaN, which CloudWatch takes no more than a word.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
    """
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
