"""Commands for jobs that were launched: status, wait, logs, stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from sagemaker_launcher.cli.options import Seconds
from sagemaker_launcher.cli.subjects import Session, Subject, job_options
from sagemaker_launcher.console import out
from sagemaker_launcher.errors import (
    CommandInterrupted,
    ExitCode,
    JobStillRunningError,
    LauncherError,
    NotFoundError,
    UsageError,
)
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.interrupts import Interrupted, end_on_next_signal
from sagemaker_launcher.jobs.job_report import JobView, jobs_document, print_job, print_jobs, print_stop
from sagemaker_launcher.report import ConsoleEvents, error_document, print_error, print_json
from sagemaker_launcher.result import ENDED, FAILED

if TYPE_CHECKING:
    from sagemaker_launcher.jobs.watching import Sight

_EXPLAINED = 3  # failed jobs among several that are shown in full
_jobs_argument = click.argument("texts", metavar="JOB...", nargs=-1, required=True)


@click.command()
@_jobs_argument
@job_options
def status(texts: tuple[str, ...], as_json: bool, **values: Any) -> int:  # noqa: ANN401 - typed by Session
    """Say how each JOB stands: a job's name, its unique beginning, its experiment's URI, @latest or @me."""
    session = Session(values)
    with _leaving(session, lambda: texts):
        subjects = session.subjects(texts, some_missing=True)
        sights = _see(session, subjects)
        views = []
        for subject in subjects:
            sight = sights.get(subject.name)
            if sight is None:
                views.append(session.archived_view(subject))
                continue
            if sight.gone and len(subjects) == 1:
                with session.explaining_absence(subject):
                    raise NotFoundError(sight.result.failure_reason, hint=sight.hint, code="job_not_found")
            session.collect(subject, sight)
            views.append(session.view(subject, sight, last_lines=len(subjects) == 1))
    if as_json:
        print_json(jobs_document(views))
    else:
        print_jobs(views)
    gone = any(sight.gone for sight in sights.values()) or any(subject.missing for subject in subjects)
    return ExitCode.NOT_FOUND if gone else ExitCode.DONE


def _see(session: Session, subjects: Sequence[Subject]) -> dict[str, Sight]:
    """How the jobs on AWS stand now."""
    sights: dict[str, Sight] = {}
    for region, names in _by_region(subjects).items():
        from sagemaker_launcher.jobs.watching import see  # noqa: PLC0415 - boto3 only where AWS is meant

        sights |= see(session.aws(region).client("sagemaker"), names)
    return sights


def _by_region(subjects: Sequence[Subject]) -> dict[str, list[str]]:
    regions: dict[str, list[str]] = {}
    for subject in subjects:
        if subject.target == "aws":
            regions.setdefault(subject.region, []).append(subject.name)
    return regions


@click.command()
@_jobs_argument
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Give up then, with exit code 12; the jobs go on.  [default: never]",
)
@job_options
def wait(texts: tuple[str, ...], timeout_s: float | None, as_json: bool, **values: Any) -> int:  # noqa: ANN401
    """Wait until every JOB has ended. The exit code is the worst one's: 10 failed, 11 stopped, 12 still running."""
    session = Session(values)
    with _leaving(session, lambda: texts):
        subjects = session.subjects(texts, some_missing=True)
        archived = {one.name: session.archived_view(one) for one in subjects if one.target != "aws"}
    waiting = _Waiting(session, subjects)
    with _leaving(session, waiting.running):
        error = waiting.wait(timeout_s)
        seen = waiting.views()
    views = [{**archived, **seen}[one.name] for one in subjects if one.name in archived or one.name in seen]
    ends = [
        archived[one.name].result.command_exit_code
        for one in subjects
        if one.name in archived and not one.missing
    ]
    exit_code = waiting.exit_code([*ends, *(ExitCode.NOT_FOUND for one in subjects if one.missing)])
    if as_json:
        print_json(jobs_document(views) | (error_document(error, exit_code) if error else {}))
    else:
        _print_waited(views)
        if error:
            print_error(error)
    return exit_code


def _print_waited(views: Sequence[JobView]) -> None:
    """All jobs, and in full those that failed."""
    print_jobs(views)
    failed = [view for view in views if view.result.status == FAILED] if len(views) > 1 else []
    for view in failed[:_EXPLAINED]:
        print_job(view)


class _Waiting:
    """A wait for jobs on AWS. When it ends early, what has been seen by then is still told.

    Args:
        session: What the options lead to.
        subjects: The jobs; rehearsals are left out.
    """

    def __init__(self, session: Session, subjects: Sequence[Subject]) -> None:
        self._session = session
        self._subjects = {subject.name: subject for subject in subjects if subject.target == "aws"}
        self._sights: dict[str, Sight] = {}

    def wait(self, timeout_s: float | None) -> LauncherError | None:
        """Returns when all have ended, or with an error when the time is over or contact is lost."""
        regions = _by_region(list(self._subjects.values()))
        if not regions:
            return None
        from sagemaker_launcher.jobs.contact import Pace  # noqa: PLC0415 - boto3 only where AWS is meant
        from sagemaker_launcher.jobs.watching import REQUEST_EVERY_S, Phases, Watch, wait_for_all  # noqa: PLC0415

        pace, events = Pace(REQUEST_EVERY_S), self._session.events
        phases = Phases(events) if len(self._subjects) == 1 else None
        contacts = [(self._session.contact(region, timeout_s), names) for region, names in regions.items()]
        watches = [(contact, Watch(contact.sagemaker, names, pace)) for contact, names in contacts]

        def tell(sight: Sight) -> None:
            before = self._sights.get(sight.job_name)
            self._sights[sight.job_name] = sight
            if phases:
                phases.tell(sight)
            elif before is None or before.result.status != sight.result.status:
                events.phase(sight.result.status, sight.job_name)
            if sight.complete:
                self._session.collect(self._subjects[sight.job_name], sight)
            elif sight.ended and not self.running():
                left = sum(not one.complete for one in self._sights.values())
                events.note(f"all have ended; asking for the results of {left}, one a second")

        try:
            wait_for_all(watches, tell)
        except JobStillRunningError as error:
            return _with_way_back(error, self._session.coming_back(self.running()))
        return None

    def running(self) -> list[Subject]:
        """The jobs that have not ended, as far as is known."""
        ended = {sight.job_name for sight in self._sights.values() if sight.ended}
        return [one for one in self._subjects.values() if one.name not in ended]

    def views(self) -> dict[str, JobView]:
        """The jobs that were seen, as they are shown, by their names."""
        if self._sights:
            self._session.renew()
        failed = [name for name, sight in self._sights.items() if sight.result.status == FAILED]
        return {
            name: self._session.view(self._subjects[name], sight, last_lines=name in failed[:_EXPLAINED])
            for name, sight in self._sights.items()
        }

    def exit_code(self, others: Sequence[ExitCode]) -> ExitCode:
        """What the command answers, with the exit codes of other jobs."""
        unseen = [ExitCode.JOB_RUNNING] * (len(self._subjects) - len(self._sights))
        codes = {*others, *unseen, *(sight.exit_code for sight in self._sights.values())}
        if len(codes) == 1:
            return codes.pop()
        from sagemaker_launcher.jobs.watching import worst  # noqa: PLC0415 - brings boto3, which rehearsals rarely need

        return worst(codes)


@frozen
class LogOptions:
    """Which lines of a log are wanted."""

    hosts: tuple[str, ...]
    since: str | None
    tail: int | None

    @property
    def since_ms(self) -> int:
        """The earliest time in milliseconds since 1970; 0: all. Raises UsageError when it is no time."""
        if self.since is None:
            return 0
        from sagemaker_launcher.archive.history import since  # noqa: PLC0415 - knows the archive, which no log needs

        return int(since(self.since, datetime.now(timezone.utc)).timestamp() * 1000)


@click.command()
@click.argument("text", metavar="JOB")
@click.option("--follow", "-f", is_flag=True, help="Show lines as they come, until the job has ended.")
@click.option(
    "--host", "hosts", multiple=True, metavar="HOST", help="Only this host, such as algo-2.  Repeatable."
)
@click.option(
    "--since", metavar="TIME", help="Only what is newer: 10m, 2h, 1d, or a time such as 2026-01-31T12:00."
)
@click.option(
    "--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of what there is now."
)
@job_options
def logs(
    text: str,
    follow: bool,
    hosts: tuple[str, ...],
    since: str | None,
    tail: int | None,
    as_json: bool,
    **values: Any,  # noqa: ANN401 - typed by Session
) -> int:
    """Show the log of a JOB on stdout; with -f, the exit code is the job's."""
    if follow and as_json:
        raise UsageError("--json is one document, which -f never completes", hint="leave out one of them")
    session, wanted = Session(values), LogOptions(hosts, since, tail)
    found: list[Subject] = []
    with _leaving(session, lambda: found or [text]):
        found += session.subjects([text])
        (subject,) = found
        if subject.target != "aws":
            return _archived_log(session, subject, wanted, as_json=as_json)
        with session.explaining_absence(subject):
            if follow:
                return _followed_log(session, subject, wanted)
            return _log(session, subject, wanted, as_json=as_json)


def _log(session: Session, subject: Subject, wanted: LogOptions, *, as_json: bool) -> int:
    from sagemaker_launcher.jobs import jobs  # noqa: PLC0415 - boto3 only where AWS is meant
    from sagemaker_launcher.jobs.job_log import JobLog  # noqa: PLC0415

    client = session.aws(subject.region).client("logs")
    log = JobLog(lambda: client, subject.name, hosts=wanted.hosts, since_ms=wanted.since_ms)
    if wanted.tail is not None:
        log.start_at_tail(wanted.tail)
    if not _show(((line.host, line.text) for line in log.look(last=True)), subject, as_json=as_json):
        # A job without lines and no job look alike to CloudWatch.
        description = jobs.describe(session.aws(subject.region).client("sagemaker"), subject.name)
        session.events.note(f"there is no such line; the job is {description['SecondaryStatus']}")
    return ExitCode.DONE


def _followed_log(session: Session, subject: Subject, wanted: LogOptions) -> int:
    from sagemaker_launcher.jobs.job_log import JobLog  # noqa: PLC0415 - boto3 only where AWS is meant
    from sagemaker_launcher.jobs.watching import follow  # noqa: PLC0415

    contact = session.contact(subject.region, None)
    log = JobLog(contact.logs, subject.name, hosts=wanted.hosts, since_ms=wanted.since_ms)
    tail = wanted.tail
    try:
        if tail is not None:
            contact.ask(lambda: log.start_at_tail(tail))
        sight = follow(contact, subject.name, ConsoleEvents(lines=out()), log)
    except JobStillRunningError as error:
        raise _with_way_back(error, session.coming_back([subject])) from None
    session.collect(subject, sight)
    return sight.exit_code


def _archived_log(session: Session, subject: Subject, wanted: LogOptions, *, as_json: bool) -> int:
    from sagemaker_launcher.archive import archived_job  # noqa: PLC0415 - most jobs are on AWS

    if wanted.since is not None:
        raise UsageError("--since: the log of a rehearsal has no times", hint="--tail shows its end")
    lines = archived_job.log_lines(session.place.storage, subject.archived_in, wanted.hosts, wanted.tail)
    if not _show(lines, subject, as_json=as_json):
        session.events.note(f"the archive has no such line of {subject.name}, which ran on {subject.target}")
    return ExitCode.DONE


def _show(lines: Iterator[tuple[str, str]], subject: Subject, *, as_json: bool) -> bool:
    """Prints lines; gives whether there were any."""
    if as_json:
        shown = [{"host": host, "text": text} for host, text in lines]
        print_json({"job_name": subject.name, "lines": shown})
        return bool(shown)
    answer, count = ConsoleEvents(lines=out()), 0
    for host, text in lines:
        answer.log(host, text)
        count += 1
    return count > 0


@click.command()
@_jobs_argument
@click.option("--wait", "waits", is_flag=True, help="Come back when they have ended.")
@job_options
def stop(texts: tuple[str, ...], waits: bool, as_json: bool, **values: Any) -> int:  # noqa: ANN401 - typed by Session
    """Stop each JOB; one that has ended is no error. Its program gets SIGTERM, and SIGKILL 120 seconds later.

    Nothing is stopped when one of them is not there.
    """
    session, stopping = Session(values), _Stopping()
    with stopping.explained(session):
        stopping.look_at(session, session.subjects(texts))
        errors = stopping.stop(session)
        if not as_json:
            for one in stopping.done:
                print_stop(one.subject.name, one.said, one.kept)
        if waits and (lost := stopping.wait(session)):
            errors.append(lost)
    if as_json:
        failed = error_document(_all_of(errors)) if errors else {}
        print_json({"jobs": [one.document for one in stopping.done], **failed})
    elif errors:
        print_error(_all_of(errors))
    return errors[0].exit_code if errors else ExitCode.DONE


@frozen
class _Stop:
    """What became of the wish to stop a job: its status then, what is said of it, and what is kept of the job."""

    subject: Subject
    status: str
    said: str
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """What `stop --json` answers."""
        return {"job_name": self.subject.name, "status": self.status, "message": self.said, "kept": self.kept}


class _Stopping:
    """Stops jobs, and knows at any moment which stops have been asked for.

    Attributes:
        done: The jobs that have been dealt with.
    """

    def __init__(self) -> None:
        self.done: list[_Stop] = []
        self._running: list[tuple[Subject, dict[str, Any]]] = []  # on AWS, with their descriptions
        self._asking: Subject | None = None

    def look_at(self, session: Session, subjects: Sequence[Subject]) -> None:
        """Looks at every job before any is stopped. Raises LauncherError for one that is not there or cannot be stopped."""
        try:
            for subject in subjects:
                self._look_at(session, subject)
        except LauncherError as error:
            if len(subjects) > 1:
                error.hint = "\n".join(filter(None, [error.hint, "nothing was stopped: leave it out"]))
            raise

    def _look_at(self, session: Session, subject: Subject) -> None:
        if subject.target != "aws":
            self.done.append(_rehearsal_stop(session.archived_view(subject), subject))
            return
        from sagemaker_launcher.jobs import jobs  # noqa: PLC0415 - boto3 only where AWS is meant

        client = session.aws(subject.region).client("sagemaker")
        with session.explaining_absence(subject):
            self._running.append((subject, jobs.describe(client, subject.name)))

    def stop(self, session: Session) -> list[LauncherError]:
        """Stops what was looked at. Gives what went wrong: one that cannot be stopped keeps no other from it."""
        errors = []
        for subject, description in self._running:
            try:
                self._stop(session, subject, description)
            except LauncherError as error:
                errors.append(error)
            self._asking = None
        return errors

    def _stop(self, session: Session, subject: Subject, description: Mapping[str, Any]) -> None:
        from sagemaker_launcher.jobs import jobs  # noqa: PLC0415 - as above

        client = session.aws(subject.region).client("sagemaker")
        status, said = description["TrainingJobStatus"], "asked for; its program has 120 seconds to end"
        if status == "Stopping":
            said = "it is being stopped already"
        elif status not in ENDED:
            self._asking = subject
            stopped = jobs.stop(client, subject.name)
            status = "Stopping" if stopped else jobs.describe(client, subject.name)["TrainingJobStatus"]
        kept = {} if status in ENDED else jobs.kept_after_stop(description)
        if status in ENDED:
            said = f"nothing to do: it has ended, {status}"
        if subject.folder:
            kept["archive"] = str(subject.folder)
        self.done.append(_Stop(subject, status, said, kept))

    def wait(self, session: Session) -> LauncherError | None:
        """Waits for the end of what is being stopped."""
        return _Waiting(session, [one.subject for one in self.done if one.status not in ENDED]).wait(None)

    @contextmanager
    def explained(self, session: Session) -> Iterator[None]:
        """Lets an interruption say which stops have been asked for."""
        try:
            yield
        except Interrupted as interrupted:
            end_on_next_signal()
            asked = [one.subject for one in self.done if one.status not in ENDED]
            names = ", ".join(one.reference for one in asked)
            said = [f"the stop of {names} was asked for, and goes on"] if asked else []
            if self._asking:
                said.append(f"whether the stop of {self._asking.reference} was asked for, its status tells")
            jobs = [*asked, *filter(None, [self._asking])]
            raise CommandInterrupted(
                f"interrupted: {'; '.join(said) or 'no stop was asked for'}",
                signal_number=interrupted.number,
                hint=session.coming_back(jobs) if jobs else "",
            ) from None


def _all_of(errors: Sequence[LauncherError]) -> LauncherError:
    """One error that says what all of them say."""
    first = errors[0]
    first.message = "\n".join(error.message for error in errors)
    first.hint = "\n".join(dict.fromkeys(error.hint for error in errors if error.hint))
    return first


def _rehearsal_stop(view: JobView, subject: Subject) -> _Stop:
    if view.result.status not in ENDED:
        raise UsageError(
            f"{subject.name} runs on {subject.target}, on the machine that launched it",
            hint="Ctrl-C there, or SIGTERM to its launcher, stops it",
        )
    return _Stop(subject, view.result.status, f"nothing to do: it has ended, {view.result.status}")


def _with_way_back(error: JobStillRunningError, way_back: str) -> JobStillRunningError:
    error.hint = "\n".join(filter(None, [error.hint, way_back]))
    return error


@contextmanager
def _leaving(session: Session, running: Callable[[], Sequence[Subject | str]]) -> Iterator[None]:
    """Lets an interruption say that the jobs go on, and how to come back."""
    try:
        yield
    except Interrupted as interrupted:
        end_on_next_signal()
        jobs = running()
        several = "the jobs go on, and are billed while they run"
        raise CommandInterrupted(
            f"interrupted: {'the job goes on, and is billed while it runs' if len(jobs) == 1 else several}",
            signal_number=interrupted.number,
            hint=session.coming_back(jobs),
        ) from None


COMMANDS = {"status": status, "wait": wait, "logs": logs, "stop": stop}
