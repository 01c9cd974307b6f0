"""Jobs and their logs, shown to people or to programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, field
from typing import Any

from sagemaker_launcher.console import err, out
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.jobs.advice import advice
from sagemaker_launcher.report import ConsoleEvents, metrics_text, print_rows, result_rows
from sagemaker_launcher.result import JobResult


@frozen
class JobView:
    """What is shown of a job.

    Attributes:
        job_name: The job.
        target: Where it runs or ran, as users type it.
        result: Its status, and what else is known.
        region: The region; empty for rehearsals.
        experiment: The URI of its experiment; empty when no archive knows the job.
        instances: What it runs on; empty when unknown.
        links: Pages of AWS's console by what they show.
        last_lines: The end of its log, when it failed: hosts and texts.
    """

    job_name: str
    target: str
    result: JobResult
    region: str = ""
    experiment: str = ""
    instances: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    last_lines: Sequence[tuple[str, str]] = ()


def jobs_document(views: Iterable[JobView]) -> dict[str, Any]:
    """What `status --json` and `wait --json` answer."""
    return {"jobs": [{**asdict(view), "try": list(advice(view.result))} for view in views]}


def print_jobs(views: Sequence[JobView]) -> None:
    """One job in full, or several with a line each."""
    if len(views) == 1:
        print_job(views[0])
        return
    header = ("job", "status", "phase", "trained", "instances", "metrics")
    out().table(header, [_row(view) for view in views])


def print_job(view: JobView) -> None:
    """All that is known of a job; of one that did not complete, also what to look at and to try."""
    result = view.result
    rows = [("job", view.job_name), *result_rows(result)]
    if view.instances:
        rows.append(("instances", f"{view.instances} in {view.region}"))
    rows += [
        ("phase" if number == 0 else "", f"{_clock(step.started_at)}  {step.status}  {step.message}".rstrip())
        for number, step in enumerate(result.transitions)
    ]
    if view.experiment:
        rows.append(("experiment", view.experiment))
    rows += [(f"{name} page", link) for name, link in view.links.items()]
    print_rows(rows, result.status)
    print_trouble(result, view.last_lines)


def print_trouble(result: JobResult, last_lines: Sequence[tuple[str, str]] = ()) -> None:
    """The end of the log of a job that did not complete, and what to try."""
    if last_lines:
        out().line(("last lines", "bold"))
        lines = ConsoleEvents(lines=out())
        for host, text in last_lines:
            lines.log(host, text)
    for text in advice(result):
        out().line(("try: ", "cyan"), (text, ""))


def print_stop(job_name: str, said: str, kept: Mapping[str, str]) -> None:
    """What became of the wish to stop a job, and what is kept of it."""
    print_rows([("job", job_name), ("stop", said), *kept.items()], "")


def print_links(links: Mapping[str, str]) -> None:
    """Pages of AWS's console, on stderr."""
    for name, link in links.items():
        err().line((f"{name} page: ", "bold"), (link, ""))


def _row(view: JobView) -> tuple[str, ...]:
    result = view.result
    trained = "" if result.training_seconds is None else f"{result.training_seconds} s"
    phase = result.secondary_status if result.secondary_status != result.status else ""
    return view.job_name, result.status, phase, trained, view.instances, metrics_text(result)


def _clock(moment: str) -> str:
    """The date and the time of a document's time, to the second, UTC."""
    return moment[:19].replace("T", " ")
