"""Whether the metrics' patterns find numbers in the lines that the training code says it prints. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sagemaker_launcher.findings import Finding
from sagemaker_launcher.job import Metric
from sagemaker_launcher.preflight.subject import Subject

_NAME = "metrics"


def metric_findings(subject: Subject) -> Iterator[Finding]:
    """What each pattern finds in the sample lines."""
    metrics, samples = subject.job.metrics, subject.samples
    if not metrics:
        yield Finding(_NAME, "ok", "the config defines none")
    elif samples is None:
        what = "the patterns compile; the training code gives no lines to try them on"
        yield Finding(_NAME, "unknown", what, "list some in its config.py: LOG_SAMPLES = ['loss=0.5']")
    else:
        for metric in metrics:
            yield _finding(metric, samples)


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
        try:
            number = float(text)
        except (TypeError, ValueError):
            return Finding(_NAME, "warning", f"{metric.name}: {text!r} in {line!r} is no number", fix)
        return Finding(_NAME, "ok", f"{metric.name}: {number:g} in {line!r}")
    return Finding(_NAME, "warning", f"{metric.name}: {metric.regex!r} matches no line of LOG_SAMPLES", fix)
