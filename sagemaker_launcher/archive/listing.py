"""Lists of experiments, shown to people, to programs (JSON) or to spreadsheets (CSV)."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sagemaker_launcher.archive.experiments import Summary
from sagemaker_launcher.archive.history import status_of
from sagemaker_launcher.console import out, safe, write

_METRICS_SHOWN, _CHANGES_SHOWN = 3, 4
_MINUTE, _HOUR = 60, 3600
# What spreadsheets take for the beginning of a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NEGATIVE = re.compile(r"-[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_COLUMNS: dict[str, Callable[[Summary], str]] = {
    "created": lambda one: one.headline.created_at[:19].replace("T", " "),
    "experiment": lambda one: one.headline.experiment_name,
    "job": lambda one: one.job_name,
    "by": lambda one: one.headline.user,
    "target": lambda one: one.headline.target,
    "status": status_of,
    "duration": lambda one: duration(one.headline.training_seconds),
    "machines": lambda one: (
        f"{one.headline.instances}, spot" if one.headline.spot else one.headline.instances
    ),
    "metrics": lambda one: "  ".join(
        _more([f"{name} {value:.6g}" for name, value in one.headline.metrics.items()], _METRICS_SHOWN)
    ),
    "changed": lambda one: "  ".join(
        _more([f"{name} {value}" for name, value in one.headline.changed.items()], _CHANGES_SHOWN)
    ),
}
# Left out on narrow terminals, in this order; a job's name has that of its experiment.
_SPARE = ("target", "by", "machines", "experiment", "changed", "duration", "metrics", "created")


def list_document(summaries: Iterable[Summary]) -> dict[str, Any]:
    """What `list --json` answers."""
    return {"experiments": [_document(summary) for summary in summaries]}


def print_list(summaries: Iterable[Summary]) -> None:
    """Experiments, one a line; tab-separated when nobody watches."""
    rows = [[column(summary) for column in _COLUMNS.values()] for summary in summaries]
    out().table(tuple(_COLUMNS), rows, _SPARE)


def print_csv(summaries: Sequence[Summary]) -> None:
    """Experiments for a spreadsheet, with a column for each metric and each changed key that any of them has.

    A text that a spreadsheet would take for a formula gets an apostrophe before it. A name that several columns would have is
    qualified: `metric LR`, `config LR`.
    """
    documents = [_document(summary) for summary in summaries]
    metrics = sorted({name for document in documents for name in document["metrics"]})
    changed = sorted({name for document in documents for name in document["changed"]})
    plain = [name for name in (documents[0] if documents else ()) if name not in {"metrics", "changed"}]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(name) for name in _header(plain, metrics, changed)])
    for document in documents:
        cells = [document[name] for name in plain]
        cells += [document["metrics"].get(name, "") for name in metrics]
        cells += [document["changed"].get(name, "") for name in changed]
        writer.writerow([_cell(cell) for cell in cells])
    write(sys.stdout, text.getvalue())


def duration(seconds: int | None) -> str:
    """Such as `45 s`, `12 min 5 s` or `3 h 20 min`; empty when unknown."""
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min {seconds % _MINUTE} s"
    return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"


def _document(summary: Summary) -> dict[str, Any]:
    headline = asdict(summary.headline)
    del headline["complete"]
    return {
        "experiment": str(summary.folder),
        "experiment_name": headline.pop("experiment_name"),
        "job_name": summary.job_name,
        "state": summary.state.value,
        **headline,
        "status": status_of(summary),
    }


def _header(plain: Sequence[str], metrics: Sequence[str], changed: Sequence[str]) -> list[str]:
    """The names of all columns. The plain ones always keep theirs."""
    times = Counter([*plain, *metrics, *changed])
    return [
        *plain,
        *(f"metric {name}" if times[name] > 1 else name for name in metrics),
        *(f"config {name}" if times[name] > 1 else name for name in changed),
    ]


def _more(texts: list[str], shown: int) -> list[str]:
    return texts if len(texts) <= shown else [*texts[:shown], f"and {len(texts) - shown} more"]


def _cell(value: object) -> str:
    if isinstance(value, str):
        text = safe(value)
        if _is_negative(text):
            return text
        return f"'{text}" if text.startswith(_FORMULA) or value.startswith(_FORMULA) else text
    return "" if value is None else str(value)


def _is_negative(text: str) -> bool:
    """Whether a text that begins as a formula is just a number, which nothing has to be done about."""
    return bool(_NEGATIVE.fullmatch(text)) and math.isfinite(float(text))
