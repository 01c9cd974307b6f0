"""The course of each metric, read from the log again, and drawn in one line. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise

from sagemaker_launcher.rehearsal.metrics import MetricReader
from sagemaker_launcher.request import Request
from sagemaker_launcher.time_limit import TookTooLongError, at_most

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#@"
_WIDTH = 40
_PATIENCE_S = 2.0  # a log of 64 MiB takes less


def courses(request: Request, lines: Iterable[str]) -> Mapping[str, Sequence[float]]:
    """The values of each metric that the request defines, in the order of the log's lines.

    Args:
        request: A CreateTrainingJob request; what is none, or has expressions that do not compile, has no metrics.
        lines: The log; after two seconds, no more of it is read.
    """
    try:
        reader = MetricReader(request)
    except (re.error, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError):
        return {}
    found: dict[str, list[float]] = {}
    # There are expressions that need years for one line, and whoever can write to the archive may have made one.
    with suppress(TookTooLongError), at_most(_PATIENCE_S):
        for line in lines:
            reader.values.clear()
            reader.read(line)
            for name, value in reader.values.items():
                found.setdefault(name, []).append(value)
    return found


def drawn(values: Sequence[float], levels: str) -> str:
    """A line of at most 40 characters, one for each value or for the mean of some; empty for less than two values."""
    if len(values) < 2:  # noqa: PLR2004 - one value is no course
        return ""
    columns = min(len(values), _WIDTH)
    bounds = [number * len(values) // columns for number in range(columns + 1)]
    # Divided one by one, since the sum of huge numbers is infinite.
    means = [sum(value / (end - start) for value in values[start:end]) for start, end in pairwise(bounds)]
    low, high = min(means), max(means)
    # Halves, so that the difference of two huge numbers does not become infinite.
    span = high / 2 - low / 2
    top = len(levels) - 1
    return "".join(levels[round((mean / 2 - low / 2) / span * top) if span else 0] for mean in means)
