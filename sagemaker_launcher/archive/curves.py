"""The course of each metric, read from the log again, and drawn in one line. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from sagemaker_launcher.rehearsal.metrics import MetricReader
from sagemaker_launcher.request import Request

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#@"
_WIDTH = 40


def courses(request: Request, lines: Iterable[str]) -> Mapping[str, Sequence[float]]:
    """The values of each metric that the request defines, in the order of the log's lines.

    Args:
        request: A CreateTrainingJob request; one whose expressions do not compile has no metrics.
        lines: The log.
    """
    try:
        reader = MetricReader(request)
    except (re.error, KeyError, TypeError):
        return {}
    found: dict[str, list[float]] = {}
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
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(bounds)]
    low, high = min(means), max(means)
    # Halves, so that the difference of two huge numbers does not become infinite.
    span = high / 2 - low / 2
    top = len(levels) - 1
    return "".join(levels[round((mean / 2 - low / 2) / span * top) if span else 0] for mean in means)
