"""Results and events, shown to people or to programs (JSON)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sagemaker_launcher.console import Console, err, one_line, out, write
from sagemaker_launcher.differences import Difference
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.result import COMPLETED, FAILED, STOPPED, JobResult

if TYPE_CHECKING:
    from sagemaker_launcher.launch import Plan
    from sagemaker_launcher.planning.overview import Overview

_SCHEMA = 1
_NAME_WIDTH, _NAME_WIDTH_MAX = 9, 16  # of the names of checks; names of jobs are longer
_LINE_MAX = 8 * 1024  # characters of a log line that are shown
_HOST_COLOURS = ("magenta", "cyan", "green", "blue", "yellow")
_COLOURS = {COMPLETED: "green", FAILED: "red"}
_VERDICT_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "unknown": "yellow"}
# https://tldp.org/LDP/abs/html/exitcodes.html: 128 + n is death by signal n.
_KILLED = 137  # 128 + SIGKILL
_EXIT_CODES = {
    126: "the program cannot be executed",
    127: "the program was not found",
    132: "illegal instruction: built for another processor",
    134: "aborted",
    _KILLED: "killed, most often for want of memory: try a larger instance",
    139: "segmentation fault",
    143: "ended by SIGTERM",
}


class ConsoleEvents:
    """Tells events on stderr, one line each.

    Args:
        lines: Where the lines of a job's log go instead, when these are the answer.
    """

    def __init__(self, lines: Console | None = None) -> None:
        self._lines = lines

    @cached_property
    def _console(self) -> Console:
        return err()

    def phase(self, name: str, message: str = "") -> None:
        """See `Events`."""
        self._console.line((name, "bold"), (f"  {one_line(message)}" if message else "", ""))

    def note(self, text: str) -> None:
        """See `Events`."""
        for line in _lines(text):
            self._console.line(("note: ", "yellow"), (line, ""))

    def log(self, host: str, line: str) -> None:
        """See `Events`."""
        shown = line if len(line) <= _LINE_MAX else f"{line[:_LINE_MAX]}…"
        number = host.rpartition("-")[2]
        colour = _HOST_COLOURS[int(number) % len(_HOST_COLOURS)] if number.isdecimal() else _HOST_COLOURS[0]
        (self._lines or self._console).line((f"{host} | ", colour), (one_line(shown), ""))

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """See `Events`."""
        return self._console.progress(what, total)


def print_json(document: Mapping[str, Any]) -> None:
    """The answer for programs: one JSON document on stdout."""
    write(sys.stdout, json.dumps({"schema": _SCHEMA, **document}, indent=2) + "\n")


def launch_document(
    plan: Plan, overview: Overview, result: JobResult | None, differences: Iterable[Difference] = ()
) -> dict[str, Any]:
    """What `launch --json` and `rerun --json` answer; without a result, that of a dry run."""
    document: dict[str, Any] = {
        "job_name": plan.job.name,
        "target": plan.target,
        "experiment": str(plan.experiment),
        "request": plan.request,
        "plan": overview.document(),
    }
    if plan.original:
        document["rerun_of"] = str(plan.original.folder)
        document["differences"] = [asdict(difference) for difference in differences]
    if result is None:
        return document
    return {**document, "result": result.to_json(), "cost_usd": overview.cost_usd(result.billable_seconds)}


def print_request(plan: Plan) -> None:
    """The request of a dry run."""
    out().line((json.dumps(plan.request, indent=2), ""))


def print_overview(overview: Overview) -> None:
    """What is going to happen, on stderr."""
    rows, told = list(overview.rows()), err()
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        told.line((name.ljust(width), "bold"), (value.replace("\n", f"\n{' ' * width}"), ""))


def print_result(overview: Overview, result: JobResult, *, model: str, folder: str, again: str) -> None:
    """How a job ended, where its model and its experiment lie on this machine (if they do), how to repeat it."""
    plan = overview.plan
    rows = [("job", plan.job.name), *result_rows(result), *overview.cost_rows(result.billable_seconds)]
    if model:
        rows.append(("model", model))
    rows.append(("experiment", str(plan.experiment)))
    if folder:
        rows.append(("archived in", folder))
    print_rows([*rows, ("run again", again)], result.status)


def print_differences(differences: Iterable[Difference]) -> None:
    """What a rerun changes, on stderr."""
    found, told = list(differences), err()
    for difference in found:
        change = f"{difference.name}: {difference.before} -> {difference.after}"
        told.line((f"{difference.area}  ", "yellow"), (one_line(change), ""))
    if not found:
        told.line(("nothing differs from the archived experiment", ""))


def findings_document(subject: str, groups: Mapping[str, Iterable[Finding]]) -> dict[str, Any]:
    """What `check --json`, `doctor --json` and `verify --json` answer: the findings of every group of checks."""
    return {
        "subject": subject,
        "checks": [
            {"group": group, **_finding_document(finding)}
            for group, findings in groups.items()
            for finding in findings
        ],
    }


def _finding_document(finding: Finding) -> dict[str, Any]:
    """A finding; how a command ends because of it matters only when it failed."""
    document = asdict(finding)
    exit_code, code = document.pop("exit_code"), document.pop("code")
    return document | ({"exit": int(exit_code), "code": code} if finding.verdict == "failed" else {})


def print_findings(subject: str, groups: Mapping[str, Iterable[Finding]]) -> None:
    """What was looked at, then a line for each finding, and its fix below it."""
    answer = out()
    answer.line((subject, "bold"))
    found = [finding for findings in groups.values() for finding in findings]
    width = max(_NAME_WIDTH, *(len(one.name) for one in found if len(one.name) <= _NAME_WIDTH_MAX), 0)
    for finding in found:
        head = (f"{finding.verdict:<9}", _VERDICT_COLOURS[finding.verdict])
        text = finding.message.replace("\n", f"\n{' ' * (width + 10)}")
        answer.line(head, (f"{finding.name:<{width}} ", "bold"), (text, ""))
        for line in _lines(finding.fix):
            answer.line((f"{'fix:':>{width + 9}} ", "cyan"), (line, ""))


def error_document(error: LauncherError, exit_code: int | None = None) -> dict[str, Any]:
    """What any command answers under `--json` when it fails.

    Args:
        error: What went wrong.
        exit_code: The command's exit code, when it is not the error's own.
    """
    document: dict[str, Any] = {
        "code": error.code,
        "exit": int(error.exit_code if exit_code is None else exit_code),
        "message": error.message,
        "hint": error.hint,
    }
    if error.problems:
        document["problems"] = [asdict(problem) for problem in error.problems]
    return {"error": document}


def print_error(error: LauncherError) -> None:
    """What failed and what to do now, on stderr."""
    told = err()
    lines = _lines(error.message) or [type(error).__name__]
    for line in lines:
        told.line(("error: ", "red bold"), (line, ""))
    for line in _lines(error.hint):
        told.line(("hint: ", "cyan"), (line, ""))


def result_rows(result: JobResult) -> list[tuple[str, str]]:
    """What a result says, for `print_rows`."""
    status = result.status
    if result.secondary_status not in ("", status):
        status += f" ({result.secondary_status})"
    rows = [("status", status)]
    if result.failure_reason:
        rows.append(("reason", result.failure_reason))
    if result.exit_code:
        unheard = result.status == STOPPED and result.exit_code == _KILLED
        explained = "killed, since SIGTERM had not ended it" if unheard else _EXIT_CODES.get(result.exit_code)
        rows.append(("exit code", f"{result.exit_code}: {explained}" if explained else str(result.exit_code)))
    if result.training_seconds is not None:
        billable = f", {result.billable_seconds} s billable" if result.billable_seconds is not None else ""
        rows.append(("training", f"{result.training_seconds} s{billable}"))
    rows += [
        ("interrupted", f"after {one.training_seconds:g} s; {one.lost_seconds:g} s of work were lost")
        for one in result.interruptions
    ]
    if result.metrics:
        rows.append(("metrics", metrics_text(result)))
    return [*rows, *(("saved", f"{name}: {uri}") for name, uri in result.artifacts.items())]


def metrics_text(result: JobResult) -> str:
    """The metrics in one line."""
    return "  ".join(f"{name} {value:.6g}" for name, value in sorted(result.metrics.items()))


def print_rows(rows: list[tuple[str, str]], status: str) -> None:
    """Names and values, one a line; `status` colours the row of that name."""
    answer = out()
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        style = _COLOURS.get(status, "yellow") if name == "status" else ""
        text = value.replace("\n", f"\n{' ' * width}")
        answer.line((name.ljust(width), "bold"), (text, style))


def _lines(text: str) -> list[str]:
    """The lines of a text; other characters that Python takes for the end of a line belong to it."""
    return text.rstrip("\n").split("\n") if text else []
