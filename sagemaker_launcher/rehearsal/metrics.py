"""Metrics read from the log, as the service reads them.

https://docs.aws.amazon.com/sagemaker/latest/dg/training-metrics.html
"""

from __future__ import annotations

import math
import re
import warnings

from sagemaker_launcher.request import Request


class MetricReader:
    """Keeps the last value of each metric that the request defines.

    Args:
        request: A CreateTrainingJob request whose expressions compile and have a group.
    """

    def __init__(self, request: Request) -> None:
        definitions = request["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._patterns = {definition["Name"]: compiled(definition["Regex"]) for definition in definitions}
        self.values: dict[str, float] = {}

    def read(self, line: str) -> None:
        """Looks for every metric in a line of the log."""
        for name, pattern in self._patterns.items():
            match = pattern.search(line)
            value = _number(match[1]) if match and pattern.groups else None
            if value is not None:
                self.values[name] = value

    @property
    def never_seen(self) -> tuple[str, ...]:
        """The metrics that no line has had."""
        return tuple(name for name in self._patterns if name not in self.values)


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
