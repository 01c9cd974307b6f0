"""Results and events, shown to people (rich, plain when nobody watches) or to programs (JSON)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from sagemaker_launcher.archive import PATCH, SAGEMAKER_CONFIG, TRAINING_CONFIG, Experiment, Summary
from sagemaker_launcher.differences import Difference
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.result import COMPLETED, FAILED, JobResult

if TYPE_CHECKING:
    from sagemaker_launcher.launch import Plan

_SCHEMA = 1
_WIDE = 10_000  # columns of an output that is not a terminal: nothing is cut or wrapped
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
# Characters that make a terminal do things: C0 without tab and newline, DEL and C1, and the bidirectional controls.
_CONTROLS = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004
    for code in (
        *range(9),
        *range(11, 32),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x200E,
        0x200F,
    )
}


def safe(text: str) -> str:
    """A text from outside, with every character escaped that could steer a terminal."""
    return text.translate(_CONTROLS)


class _LastingConsole(Console):
    """A console that falls silent when its reader has gone: what it tells of goes on."""

    def on_broken_pipe(self) -> None:
        """Instead of ending the process, as rich would."""
        self.quiet = True
        _silence(self.file)


def console(stream: TextIO) -> Console:
    """A console that is plain when its stream is no terminal."""
    plain = not stream.isatty()
    return _LastingConsole(
        file=stream,
        width=_WIDE if plain else None,
        no_color=plain or None,
        highlight=False,
        markup=False,
        emoji=False,
    )


class ConsoleEvents:
    """Tells events on stderr, one line each."""

    @cached_property
    def _console(self) -> Console:
        return console(sys.stderr)

    def phase(self, name: str, message: str = "") -> None:
        """See `Events`."""
        self._console.print(Text.assemble((safe(name), "bold"), f"  {safe(message)}" if message else ""))

    def note(self, text: str) -> None:
        """See `Events`."""
        for line in safe(text).splitlines():
            self._console.print(Text.assemble(("note: ", "yellow"), line), soft_wrap=True)

    def log(self, host: str, line: str) -> None:
        """See `Events`."""
        shown = line if len(line) <= _LINE_MAX else f"{line[:_LINE_MAX]}…"
        number = host.rpartition("-")[2]
        colour = _HOST_COLOURS[int(number) % len(_HOST_COLOURS)] if number.isdecimal() else _HOST_COLOURS[0]
        self._console.print(Text.assemble((f"{safe(host)} | ", colour), safe(shown)), soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """See `Events`."""
        if not self._console.is_terminal:
            self.phase(what[:1].upper() + what[1:], _bytes(total))
            yield lambda _: None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(safe(what), total=total)
            yield lambda done: bar.advance(task, done)


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:  # noqa: PLR2004 - what kilo means
            return f"{number:,.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def print_json(document: Mapping[str, Any]) -> None:
    """The answer for programs: one JSON document on stdout."""
    _answer(json.dumps({"schema": _SCHEMA, **document}, indent=2) + "\n")


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
    out = console(sys.stdout)
    out.print(Text(safe(json.dumps(plan.request, indent=2))), soft_wrap=True)


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
    err = console(sys.stderr)
    found = list(differences)
    for difference in found:
        change = f"{safe(difference.before)} -> {safe(difference.after)}"
        err.print(
            Text.assemble((f"{difference.area}  ", "yellow"), f"{safe(difference.name)}: {change}"),
            soft_wrap=True,
        )
    if not found:
        err.print(Text("nothing differs from the archived experiment"))


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
    manifest, out = experiment.manifest, console(sys.stdout)
    for name in (TRAINING_CONFIG, SAGEMAKER_CONFIG):
        out.print(Text(name, "bold"))
        out.print(Text(safe(_text(experiment, name))), soft_wrap=True)
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
    if not sys.stdout.isatty():
        lines = ("\t".join(safe(cell).replace("\t", " ") for cell in row) for row in (header, *rows))
        _answer("".join(f"{line}\n" for line in lines))
        return
    from rich.table import Table  # noqa: PLC0415 - most commands draw no table

    table = Table(*header, box=None, header_style="bold")
    for row in rows:
        table.add_row(*(Text(safe(cell)) for cell in row))
    console(sys.stdout).print(table)


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
    out = console(sys.stdout)
    out.print(Text(safe(subject), "bold"), soft_wrap=True)
    for finding in (finding for findings in groups.values() for finding in findings):
        head = (f"{finding.verdict:<9}", _VERDICT_COLOURS[finding.verdict])
        text = safe(finding.message).replace("\n", f"\n{' ' * 19}")
        out.print(Text.assemble(head, (f"{finding.name:<10}", "bold"), text), soft_wrap=True)
        for line in safe(finding.fix).splitlines():
            out.print(Text.assemble((f"{'fix:':>18} ", "cyan"), line), soft_wrap=True)


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
    err = console(sys.stderr)
    lines = safe(error.message).splitlines() or [type(error).__name__]
    for line in lines:
        err.print(Text.assemble(("error: ", "red bold"), line), soft_wrap=True)
    for line in safe(error.hint).splitlines():
        err.print(Text.assemble(("hint: ", "cyan"), line), soft_wrap=True)


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
    if result.metrics:
        rows.append(("metrics", _metrics(result)))
    return [*rows, *(("saved", f"{name}: {uri}") for name, uri in result.artifacts.items())]


def _metrics(result: JobResult) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in sorted(result.metrics.items()))


def _print_rows(rows: list[tuple[str, str]], status: str) -> None:
    out = console(sys.stdout)
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        style = _COLOURS.get(status, "yellow") if name == "status" else ""
        text = safe(value).replace("\n", f"\n{' ' * width}")
        out.print(Text.assemble((name.ljust(width), "bold"), (text, style)), soft_wrap=True)


def _answer(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)


def _silence(stream: IO[str]) -> None:
    """After the reader of a pipe has gone, keeps Python from trying again and complaining at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
