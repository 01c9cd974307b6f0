"""Commands that look and change nothing: list, show, diff, verify."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sagemaker_launcher.archive.references import MINE
from sagemaker_launcher.cli import program_name
from sagemaker_launcher.cli.options import archive_options, given, json_option
from sagemaker_launcher.cli.places import ArchivePlace
from sagemaker_launcher.comeback import running_again
from sagemaker_launcher.errors import ExitCode, LauncherError, UsageError

if TYPE_CHECKING:
    from sagemaker_launcher.archive.experiments import Experiment, Summary
    from sagemaker_launcher.archive.history import Live
    from sagemaker_launcher.naming import S3Uri
    from sagemaker_launcher.result import JobResult

_RERUNS_SHOWN = 5
_LINES_READ = 10_000  # of a log on AWS: one page of each host


@click.command("list")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most."
)
@click.option("--experiment", default="", metavar="NAME", help="Only experiments of this name, or below it.")
@click.option("--user", default="", metavar="NAME", help="Only what this user has launched; @me is you.")
@click.option("--status", default="", metavar="WORD", help="Only this status, such as Completed or started.")
@click.option("--since", default="", metavar="TIME", help="Only since then: 90m, 12h, 7d, 2w or 2026-01-31.")
@click.option(
    "--sort", "metric", default="", metavar="METRIC", help="Those that have most of a metric first."
)
@click.option("--ascending", is_flag=True, help="With --sort: those that have least of it first.")
@click.option("--csv", "as_csv", is_flag=True, help="Answer with CSV on stdout, for spreadsheets.")
@archive_options
@json_option
def list_(
    limit: int,
    experiment: str,
    user: str,
    status: str,
    since: str,
    metric: str,
    ascending: bool,
    as_csv: bool,
    s3_root: Path | None,
    archive: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """List archived experiments, newest first."""
    from sagemaker_launcher.archive import history  # noqa: PLC0415 - see the package's docstring
    from sagemaker_launcher.archive.history_cache import HistoryCache  # noqa: PLC0415

    if as_csv and as_json:
        raise UsageError("--csv and --json: only one of both")
    if ascending and not metric:
        raise UsageError("--ascending needs --sort METRIC")
    place = ArchivePlace(s3_root, archive, config_path)
    wanted = history.Filter(
        experiment,
        place.user if user == MINE else user,
        status,
        history.since(since, datetime.now(timezone.utc)) if since else None,
    )
    found = history.History(place.archive, HistoryCache(place.cache_key), live_jobs(place), _note)
    summaries = (
        found.best(metric, limit, wanted, ascending=ascending) if metric else found.newest(limit, wanted)
    )
    from sagemaker_launcher import report  # noqa: PLC0415
    from sagemaker_launcher.archive import listing  # noqa: PLC0415

    if as_json:
        report.print_json(listing.list_document(summaries))
    elif as_csv:
        listing.print_csv(summaries)
    else:
        listing.print_list(summaries)
    _collect(place, [summary for summary in summaries if history.ended_unobserved(summary)])


def _note(text: str) -> None:
    from sagemaker_launcher.report import ConsoleEvents  # noqa: PLC0415 - rarely needed

    ConsoleEvents().note(text)


def _collect(place: ArchivePlace, summaries: Sequence[Summary]) -> None:
    """Archives the results of jobs that have ended on AWS and that nobody watched."""
    if not summaries:
        return
    from sagemaker_launcher.archive.repair import Repair  # noqa: PLC0415 - rarely needed
    from sagemaker_launcher.report import ConsoleEvents  # noqa: PLC0415

    repair = Repair(place.storage, place.archive, place.recall)
    for summary in summaries:
        finding = repair.settle(place.archive.entry(summary.stem), change=True)
        if finding.verdict != "ok":
            ConsoleEvents().note(f"the result of {summary.job_name} is not archived: {finding.message}")


_unverified_option = click.option(
    "--unverified", is_flag=True, help="Go on, with a warning, when the archive was tampered with."
)


@click.command()
@click.argument("experiment")
@click.option("--all", "everything", is_flag=True, help="Also both configs as they are.")
@_unverified_option
@archive_options
@json_option
def show(
    experiment: str,
    everything: bool,
    unverified: bool,
    s3_root: Path | None,
    archive: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show an archived EXPERIMENT: how it went, what it was, where it came from, how to repeat it.

    EXPERIMENT is an S3 URI, a job name, the beginning of one, @latest or @me.
    """
    from sagemaker_launcher.archive.curves import courses  # noqa: PLC0415
    from sagemaker_launcher.archive.experiments import Archive, experiment_root  # noqa: PLC0415 - see the package's docstring

    place = ArchivePlace(s3_root, archive, config_path)
    found = _read(place, experiment, unverified=unverified)
    root = experiment_root(found.folder, found.manifest.experiment_name)
    reruns = Archive(place.storage, root).reruns(found.folder.name, _RERUNS_SHOWN)
    course = courses(found.request, _log(place, found))
    from sagemaker_launcher import report  # noqa: PLC0415
    from sagemaker_launcher.archive import portrait  # noqa: PLC0415

    shown = portrait.Portrait(
        found, rerun_command(str(found.folder), s3_root, given("config_path")), reruns, course
    )
    if as_json:
        report.print_json(shown.document())
    else:
        shown.show(everything=everything)


def _log(place: ArchivePlace, experiment: Experiment) -> Iterable[str]:
    """The lines that may have metrics; the end of a long log on AWS, and nothing when that cannot be read."""
    from sagemaker_launcher.archive.experiments import read_log  # noqa: PLC0415

    if not place.has_cloud_log(experiment):
        return read_log(place.storage, experiment.folder)
    algorithm = experiment.request.get("AlgorithmSpecification")
    if not (isinstance(algorithm, dict) and algorithm.get("MetricDefinitions")):
        return ()
    try:
        return [text for _, text in place.cloud_log(experiment, _LINES_READ)]
    except LauncherError:
        return ()


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--all", "everything", is_flag=True, help="Also names, times, authors, commands and versions.")
@click.option("--exit-code", "tell", is_flag=True, help="Exit with 1 when they differ, as `git diff` does.")
@_unverified_option
@archive_options
@json_option
def diff(
    before: str,
    after: str,
    everything: bool,
    tell: bool,
    unverified: bool,
    s3_root: Path | None,
    archive: str | None,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Show what differs between two archived experiments, A and B."""
    from sagemaker_launcher.archive.comparison import experiment_differences  # noqa: PLC0415 - see the package's docstring

    place = ArchivePlace(s3_root, archive, config_path)
    pair = [_read(place, name, unverified=unverified) for name in (before, after)]
    found = experiment_differences(*pair, everything=everything)
    from sagemaker_launcher import report  # noqa: PLC0415
    from sagemaker_launcher.archive import portrait  # noqa: PLC0415

    if as_json:
        folders = [str(one.folder) for one in pair]
        report.print_json(portrait.differences_document(folders, found))
    else:
        portrait.print_differences(found)
    return int(tell and bool(found))


@click.command()
@click.argument("experiment")
@click.option(
    "--deep", is_flag=True, help="Also look for its outputs, and ask AWS what the job was started with."
)
@archive_options
@json_option
def verify(
    experiment: str,
    deep: bool,
    s3_root: Path | None,
    archive: str | None,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Check that an archived EXPERIMENT is what was launched."""
    from sagemaker_launcher.archive.verification import Verification  # noqa: PLC0415 - see the package's docstring

    place = ArchivePlace(s3_root, archive, config_path)
    folder = place.find(experiment)
    verification = Verification(place.storage, folder)
    groups = {"archive": tuple(verification.findings())}
    if deep:
        groups["elsewhere"] = tuple(verification.deep_findings(place.recall))
    from sagemaker_launcher import report  # noqa: PLC0415

    if as_json:
        report.print_json(report.findings_document(str(folder), groups))
    else:
        report.print_findings(str(folder), groups)
    failed = any(finding.verdict == "failed" for findings in groups.values() for finding in findings)
    return ExitCode.INTEGRITY if failed else ExitCode.DONE


def _read(place: ArchivePlace, name: str, *, unverified: bool) -> Experiment:
    """Reads the experiment that a user means; one that was tampered with only when that is wanted."""
    from sagemaker_launcher.archive.experiments import read_experiment  # noqa: PLC0415
    from sagemaker_launcher.report import ConsoleEvents  # noqa: PLC0415

    folder = place.find(name)
    if not unverified:
        return read_experiment(place.storage, folder)

    def warn(folder: S3Uri, problems: Sequence[str]) -> None:
        ConsoleEvents().note("\n".join([f"{folder} is not what was sealed", *problems]))

    return read_experiment(place.storage, folder, warn)


def live_jobs(place: ArchivePlace) -> Live | None:
    """Asks AWS how unfinished jobs stand; None where a folder stands in for S3."""
    if place.s3_root is not None:
        return None

    @cache
    def jobs() -> Live:
        from sagemaker_launcher.archive.live import LiveJobs  # noqa: PLC0415 - most lists have no unfinished job
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415
        from sagemaker_launcher.report import ConsoleEvents  # noqa: PLC0415

        return LiveJobs(lambda: Aws(place.region, place.profile).client("sagemaker"), ConsoleEvents())

    def ask(names: Sequence[str]) -> Mapping[str, JobResult]:
        return jobs()(names)

    return ask


def rerun_command(
    experiment: str, s3_root: Path | None, options: Sequence[str] = (), program: str = ""
) -> str:
    """The command that runs an experiment again, from where the user stands.

    Args:
        experiment: Its URI.
        s3_root: The folder that stands in for S3, or None.
        options: Further options, word by word.
        program: How this program is called; empty: as it was.
    """
    root = ("--s3-root", str(s3_root)) if s3_root else ()
    return running_again(program or program_name(), experiment, (*root, *options))


COMMANDS = {"diff": diff, "list": list_, "show": show, "verify": verify}
