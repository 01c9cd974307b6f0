"""Results and events, shown to people or to programs (JSON)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sagemaker_launcher.archive import PATCH, SAGEMAKER_CONFIG, TRAINING_CONFIG, Experiment, Summary
from sagemaker_launcher.console import Console, err, out, write
from sagemaker_launcher.differences import Difference
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.result import COMPLETED, FAILED, JobResult

if TYPE_CHECKING:
    from sagemaker_launcher.launch import Plan

_SCHEMA = 1
_LINE_MAX = 8 * 1024  # characters of a log line that are shown
_HOST_COLOURS = ("magenta", "cyan", "green", "blue", "yellow")
_COLOURS = {COMPLETED: "green", FAILED: "red"}
_VERDICT_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "unknown": "yellow"}
# https://tldp.org/LDP/abs/html/exitcodes.html: 128 + n is death by signal n.
_EXIT_CODES = {
    126: "the program cannot be executed",
    127: "the program was not found",
    132: "illegal instruction: built for another processor",
    134: "aborted",
    137: "killed, most often for want of memory: try a larger instance",
    139: "segmentation fault",
    143: "ended by SIGTERM",
}


class ConsoleEvents:
    """Tells events on stderr, one line each."""

    @cached_property
    def _console(self) -> Console:
        return err()

    def phase(self, name: str, message: str = "") -> None:
        """See `Events`."""
        self._console.line((name, "bold"), (f"  {message}" if message else "", ""))

    def note(self, text: str) -> None:
        """See `Events`."""
        for line in _lines(text):
            self._console.line(("note: ", "yellow"), (line, ""))

    def log(self, host: str, line: str) -> None:
        """See `Events`."""
        shown = line if len(line) <= _LINE_MAX else f"{line[:_LINE_MAX]}…"
        number = host.rpartition("-")[2]
        colour = _HOST_COLOURS[int(number) % len(_HOST_COLOURS)] if number.isdecimal() else _HOST_COLOURS[0]
        self._console.line((f"{host} | ", colour), (shown, ""))

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """See `Events`."""
        return self._console.progress(what, total)


def print_json(document: Mapping[str, Any]) -> None:
    """The answer for programs: one JSON document on stdout."""
    write(sys.stdout, json.dumps({"schema": _SCHEMA, **document}, indent=2) + "\n")


def launch_document(
    plan: Plan, result: JobResult | None, differences: Iterable[Difference] = ()
) -> dict[str, Any]:
    """What `launch --json` and `rerun --json` answer."""
    document: dict[str, Any] = {
        "job_name": plan.job.name,
        "target": plan.target,
        "experiment": str(plan.experiment),
        "request": plan.request,
    }
    if plan.original:
        document["rerun_of"] = str(plan.original.folder)
        document["differences"] = [asdict(difference) for difference in differences]
    return document | ({"result": result.to_json()} if result else {})


def print_plan(plan: Plan) -> None:
    """The request of a dry run."""
    out().line((json.dumps(plan.request, indent=2), ""))


def print_result(plan: Plan, result: JobResult, *, model: str, folder: str, again: str) -> None:
    """How a job ended, where its model and its experiment lie on this machine (if they do), how to repeat it."""
    rows = [("job", plan.job.name), *_result_rows(result)]
    if model:
        rows.append(("model", model))
    rows.append(("experiment", str(plan.experiment)))
    if folder:
        rows.append(("archived in", folder))
    _print_rows([*rows, ("run again", again)], result.status)


def print_differences(differences: Iterable[Difference]) -> None:
    """What a rerun changes, on stderr."""
    found, told = list(differences), err()
    for difference in found:
        change = f"{difference.name}: {difference.before} -> {difference.after}"
        told.line((f"{difference.area}  ", "yellow"), (change, ""))
    if not found:
        told.line(("nothing differs from the archived experiment", ""))


def experiment_document(experiment: Experiment, again: str) -> dict[str, Any]:
    """What `show --json` answers."""
    return {
        "experiment": str(experiment.folder),
        "state": experiment.state.value,
        "manifest": asdict(experiment.manifest),
        "sagemaker_config": _text(experiment, SAGEMAKER_CONFIG),
        "training_config": _text(experiment, TRAINING_CONFIG),
        "request": experiment.request,
        "launch": asdict(experiment.launch) if experiment.launch else None,
        "result": experiment.result.to_json() if experiment.result else None,
        "rerun_command": again,
    }


def print_experiment(experiment: Experiment, again: str) -> None:
    """What an experiment was, how it went and how to repeat it."""
    manifest, answer = experiment.manifest, out()
    for name in (TRAINING_CONFIG, SAGEMAKER_CONFIG):
        answer.line((name, "bold"))
        answer.line((_text(experiment, name), ""))
    rows = [
        ("experiment", str(experiment.folder)),
        ("job", manifest.job_name),
        (
            "launched",
            f"{manifest.created_at} by {manifest.author.user}@{manifest.author.host} on {manifest.target}",
        ),
        ("command", " ".join(manifest.command)),
        ("image", manifest.image_uri),
        ("versions", ", ".join(f"{name} {number}" for name, number in manifest.versions.items())),
    ]
    if manifest.account:
        rows.append(("account", f"{manifest.account} ({manifest.author.arn}), {manifest.region}"))
    if manifest.git:
        changes = (
            f", with uncommitted changes ({manifest.git.patch_omitted or PATCH})"
            if manifest.git.dirty
            else ""
        )
        rows.append(("git", f"{manifest.git.commit} {manifest.git.branch} {manifest.git.remote}{changes}"))
    if manifest.source:
        rows.append(("source", f"{manifest.source.path} (sha256 {manifest.source.sha256})"))
    if manifest.rerun_of:
        rows.append(("rerun of", manifest.rerun_of))
    rows += [("note", f"declared harmless: {place}") for place in manifest.allowed_secrets]
    rows += _result_rows(experiment.result) if experiment.result else [("status", experiment.state.value)]
    _print_rows([*rows, ("run again", again)], experiment.result.status if experiment.result else "")


def _text(experiment: Experiment, name: str) -> str:
    """A file of an experiment, which need not be what this tool writes: its seal says only that it is unchanged."""
    return experiment.files[name].decode("utf-8", "replace")


def list_document(summaries: Iterable[Summary]) -> dict[str, Any]:
    """What `list --json` answers."""
    return {
        "experiments": [
            {
                "experiment": str(summary.folder),
                "experiment_name": summary.intent.experiment_name,
                "job_name": summary.intent.job_name,
                "created_at": summary.intent.created_at,
                "author": asdict(summary.intent.author),
                "target": summary.intent.target,
                "state": summary.state.value,
                "result": summary.result.to_json() if summary.result else None,
            }
            for summary in summaries
        ]
    }


def print_list(summaries: Iterable[Summary]) -> None:
    """Experiments, one a line; tab-separated when nobody watches."""
    header = ("created", "experiment", "job", "by", "target", "status", "metrics")
    rows = [
        (
            summary.intent.created_at[:19].replace("T", " "),
            summary.intent.experiment_name,
            summary.intent.job_name,
            summary.intent.author.user,
            summary.intent.target,
            summary.result.status if summary.result else summary.state.value,
            _metrics(summary.result) if summary.result else "",
        )
        for summary in summaries
    ]
    out().table(header, rows)


def findings_document(subject: str, groups: Mapping[str, Iterable[Finding]]) -> dict[str, Any]:
    """What `doctor --json` answers: the findings of every group of checks."""
    return {
        "subject": subject,
        "checks": [
            {"group": group, **asdict(finding)} for group, findings in groups.items() for finding in findings
        ],
    }


def print_findings(subject: str, groups: Mapping[str, Iterable[Finding]]) -> None:
    """What was looked at, then a line for each finding, and its fix below it."""
    answer = out()
    answer.line((subject, "bold"))
    for finding in (finding for findings in groups.values() for finding in findings):
        head = (f"{finding.verdict:<9}", _VERDICT_COLOURS[finding.verdict])
        text = finding.message.replace("\n", f"\n{' ' * 19}")
        answer.line(head, (f"{finding.name:<10}", "bold"), (text, ""))
        for line in _lines(finding.fix):
            answer.line((f"{'fix:':>18} ", "cyan"), (line, ""))


def error_document(error: LauncherError) -> dict[str, Any]:
    """What any command answers under `--json` when it fails."""
    return {
        "error": {
            "code": error.code,
            "exit": int(error.exit_code),
            "message": error.message,
            "hint": error.hint,
        }
    }


def print_error(error: LauncherError) -> None:
    """What failed and what to do now, on stderr."""
    told = err()
    lines = _lines(error.message) or [type(error).__name__]
    for line in lines:
        told.line(("error: ", "red bold"), (line, ""))
    for line in _lines(error.hint):
        told.line(("hint: ", "cyan"), (line, ""))


def _result_rows(result: JobResult) -> list[tuple[str, str]]:
    status = result.status
    if result.secondary_status not in ("", status):
        status += f" ({result.secondary_status})"
    rows = [("status", status)]
    if result.failure_reason:
        rows.append(("reason", result.failure_reason))
    if result.exit_code:
        explained = _EXIT_CODES.get(result.exit_code)
        rows.append(("exit code", f"{result.exit_code}: {explained}" if explained else str(result.exit_code)))
    if result.training_seconds is not None:
        billable = f", {result.billable_seconds} s billable" if result.billable_seconds is not None else ""
        rows.append(("training", f"{result.training_seconds} s{billable}"))
    rows += [
        ("interrupted", f"after {one.training_seconds:g} s; {one.lost_seconds:g} s of work were lost")
        for one in result.interruptions
    ]
    if result.metrics:
        rows.append(("metrics", _metrics(result)))
    return [*rows, *(("saved", f"{name}: {uri}") for name, uri in result.artifacts.items())]


def _metrics(result: JobResult) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in sorted(result.metrics.items()))


def _print_rows(rows: list[tuple[str, str]], status: str) -> None:
    answer = out()
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        style = _COLOURS.get(status, "yellow") if name == "status" else ""
        text = value.replace("\n", f"\n{' ' * width}")
        answer.line((name.ljust(width), "bold"), (text, style))


def _lines(text: str) -> list[str]:
    """The lines of a text; other characters that Python takes for the end of a line belong to it."""
    return text.rstrip("\n").split("\n") if text else []
