"""Whether the metrics' patterns find numbers in the lines that the training code says it prints. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sagemaker_launcher.findings import Finding
from sagemaker_launcher.job import Metric
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.rehearsal.metrics import number_in
from sagemaker_launcher.time_limit import TookTooLongError, at_most

_NAME = "metrics"
_PATIENCE_S = 2.0  # for all lines; there are patterns that need years for one


def metric_findings(subject: Subject) -> Iterator[Finding]:
    """What each pattern finds in the sample lines; only the main thread, which can end a search, may ask."""
    metrics, samples = subject.job.metrics, subject.samples
    if not metrics:
        yield Finding(_NAME, "ok", "the config defines none")
    elif samples is None:
        what = "the patterns compile; the training code gives no lines to try them on"
        yield Finding(_NAME, "unknown", what, "list some in its config.py: LOG_SAMPLES = ['loss=0.5']")
    else:
        for metric in metrics:
            try:
                with at_most(_PATIENCE_S):
                    finding = _finding(metric, samples)
            except TookTooLongError:
                what = f"{metric.name}: {metric.regex!r} takes too long to search for in the lines of LOG_SAMPLES"
                finding = Finding(
                    _NAME, "warning", what, "make it simpler: (x+)+ tries each way to divide a text"
                )
            yield finding


def _finding(metric: Metric, samples: tuple[str, ...]) -> Finding:
    """The service takes the first group of the first match: as `rehearsal.metrics` does."""
    fix = (
        "correct the pattern in ESTIMATOR.METRIC_DEFINITIONS, or LOG_SAMPLES in the training code's config.py"
    )
    for line in samples:
        match = re.search(metric.regex, line)
        if match is None:
            continue
        text = match[1]
        number = number_in(text)
        if number is None:
            return Finding(_NAME, "warning", f"{metric.name}: {text!r} in {line!r} is no number", fix)
        return Finding(_NAME, "ok", f"{metric.name}: {number:g} in {line!r}")
    return Finding(_NAME, "warning", f"{metric.name}: {metric.regex!r} matches no line of LOG_SAMPLES", fix)
