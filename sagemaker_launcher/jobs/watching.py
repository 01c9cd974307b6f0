"""Waits for jobs on AWS: one, with its log, or hundreds with a request now and then.

Each request is one of those that https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTrainingJobs.html and
API_DescribeTrainingJob.html describe; ListTrainingJobs is limited to two a second for a whole account.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sagemaker_launcher.aws import answered, aws_errors
from sagemaker_launcher.clock import Stopwatch
from sagemaker_launcher.errors import AccessDeniedError, ExitCode, NotFoundError
from sagemaker_launcher.events import Events
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.jobs import jobs
from sagemaker_launcher.jobs.contact import Contact, Pace
from sagemaker_launcher.jobs.job_log import JobLog
from sagemaker_launcher.naming import launch_second
from sagemaker_launcher.result import ENDED, FAILED, NOT_FOUND, JobResult

REQUEST_EVERY_S = 1.05  # so that no second has two
_FEW = 4  # jobs that are described one by one, since that costs no more than listing
_DESCRIBE_EVERY_S = 3.0
_SWEEP_EVERY_S = 5.0
_SWEEP_REST_S = 2.0  # between two sweeps, however long they take, so that descriptions have their turn
_FULL_SWEEP_EVERY_S = 600.0
_PAGE = 100
_LISTING = "list the training jobs"
_OVERLAP = timedelta(minutes=5)  # a change may show up in lists later than one that was made after it
_CLOCK_SKEW = timedelta(hours=1)  # of the machine that named a job
_LOOK_EVERY_S = 1.0
_LOG_REQUESTS_PER_S = 10  # GetLogEvents has 25 a second for a whole account
_IDLE_S = 0.2
# Log lines go on arriving for some seconds after the end, and those of a failure are the ones that matter.
_DRAIN_S, _DRAIN_FAILED_S = 2.0, 8.0
# The worst first: what a command that waits for several jobs answers.
_SEVERITY = (
    ExitCode.JOB_FAILED,
    ExitCode.JOB_STOPPED,
    ExitCode.NOT_FOUND,
    ExitCode.JOB_RUNNING,
    ExitCode.DONE,
)


@frozen
class Sight:
    """What was last seen of a job.

    Attributes:
        job_name: The job.
        result: Its status, and what else is known; of a job that is not there, the status is NOT_FOUND.
        description: What DescribeTrainingJob said; None when only a list has told of the job.
        hint: What to do about a job that is not there.
    """

    job_name: str
    result: JobResult
    description: Mapping[str, Any] | None = None
    hint: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will not change any more. A status that is not known is taken for a running job's."""
        return self.result.status in {*ENDED, NOT_FOUND}

    @property
    def gone(self) -> bool:
        """Whether there is no such job."""
        return self.result.status == NOT_FOUND

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to ask."""
        return self.gone or (self.ended and self.description is not None)

    @property
    def exit_code(self) -> ExitCode:
        """What a command that waited for it answers."""
        return ExitCode.NOT_FOUND if self.gone else self.result.command_exit_code


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code that stands for several jobs."""
    return min(codes, key=_SEVERITY.index, default=ExitCode.DONE)


class Watch:
    """Jobs of one region, seen with as few requests as will do.

    A few jobs are described in turns. Of many, sweeps of ListTrainingJobs tell the statuses, and only those that have
    ended are described.

    Args:
        client: Gives a client of SageMaker; it may be another one each time.
        job_names: The jobs.
        pace: When a request may be made.
        few: How many jobs are a few.
    """

    def __init__(
        self, client: Callable[[], Any], job_names: Sequence[str], pace: Pace, *, few: int = _FEW
    ) -> None:
        self._client = client
        self._pace = pace
        self._sights: dict[str, Sight | None] = dict.fromkeys(job_names)
        self._few = len(self._sights) <= few
        self._to_describe: deque[str] = deque()
        self._sweep: _Sweep | None = None
        self._sweeps = Stopwatch()
        self._next_sweep_s = self._next_full_sweep_s = 0.0
        self._latest_change: datetime | None = None

    @property
    def sights(self) -> tuple[Sight, ...]:
        """What was last seen of each job that has been seen, in the order of their names' giving."""
        return tuple(sight for sight in self._sights.values() if sight)

    @property
    def seen(self) -> bool:
        """Whether every job has been seen."""
        return None not in self._sights.values()

    @property
    def over(self) -> bool:
        """Whether nothing will change any more, and all is known."""
        return all(sight and sight.complete for sight in self._sights.values())

    def look(self) -> tuple[Sight, ...]:
        """Makes one request, or none when none is due. Gives what it saw of these jobs that was new.

        Raises:
            LauncherError: As `aws_errors` says. The same request is made by the next call.
        """
        if self._sweep is None and self._sweeps.seconds >= self._next_sweep_s:
            self._begin()
        if self._sweep is not None:
            return self._list()
        if self._to_describe:
            return self._describe(self._to_describe[0])
        return ()

    def _begin(self) -> None:
        running = [name for name, sight in self._sights.items() if not (sight and sight.ended)]
        if not running:
            return
        now_s = self._sweeps.seconds
        if self._few:
            self._next_sweep_s = now_s + _DESCRIBE_EVERY_S
            self._to_describe.extend(name for name in running if name not in self._to_describe)
            return
        self._next_sweep_s = now_s + _SWEEP_EVERY_S
        full = now_s >= self._next_full_sweep_s or self._latest_change is None
        if full:
            self._next_full_sweep_s = now_s + _FULL_SWEEP_EVERY_S
        self._sweep = _Sweep.of(running, None if full else self._latest_change)

    def _list(self) -> tuple[Sight, ...]:
        sweep = self._sweep
        if sweep is None:
            return ()
        client = self._paced_client()
        try:
            with aws_errors(_LISTING):
                page = answered(client.list_training_jobs(**sweep.request), "TrainingJobSummaries", _LISTING)
        except AccessDeniedError:
            # Slower, and needs no such permission.
            self._few, self._sweep, self._next_sweep_s = True, None, 0.0
            return ()
        changed = [sight for sight in map(self._summary, page["TrainingJobSummaries"]) if sight]
        self._sweep = sweep.after(page)
        if self._sweep is None:
            self._next_sweep_s = max(self._next_sweep_s, self._sweeps.seconds + _SWEEP_REST_S)
            if sweep.full:
                self._describe_later(name for name in sweep.job_names if name not in sweep.found)
        return tuple(changed)

    def _paced_client(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        client = self._client()  # first: a new one takes its time, which must not shorten the next pause
        self._pace.wait()
        return client

    def _summary(self, summary: Mapping[str, Any]) -> Sight | None:
        name = summary["TrainingJobName"]
        if name not in self._sights:
            return None
        if self._sweep:
            self._sweep.found.add(name)
        changed_at = summary.get("LastModifiedTime") or summary["CreationTime"]
        self._latest_change = max(self._latest_change or changed_at, changed_at)
        result = JobResult(summary["TrainingJobStatus"], summary.get("SecondaryStatus", ""))
        before = self._sights[name]
        if before and (before.ended or _status(before) == (result.status, result.secondary_status)):
            return None
        sight = self._sights[name] = Sight(name, result)
        if sight.ended:
            self._describe_later([name])
        return sight

    def _describe_later(self, names: Iterable[str]) -> None:
        self._to_describe.extend(name for name in names if name not in self._to_describe)

    def _describe(self, name: str) -> tuple[Sight, ...]:
        client = self._paced_client()
        try:
            description = jobs.describe(client, name)
            sight = Sight(name, jobs.result_of(description), description)
        except NotFoundError as error:
            sight = Sight(name, JobResult(NOT_FOUND, failure_reason=error.message), hint=error.hint)
        self._to_describe.popleft()
        before, self._sights[name] = self._sights[name], sight
        return () if before and before.description and _phases(before) == _phases(sight) else (sight,)


@dataclass
class _Sweep:
    """A listing in pages.

    Attributes:
        job_names: The jobs that are looked for.
        full: Whether all of them have to be in it; otherwise only those that have changed.
        request: The parameters of the next page.
        found: Those that were in it.
        pages: How many pages were read.
    """

    job_names: tuple[str, ...]
    full: bool
    request: dict[str, Any]
    found: set[str]
    pages: int = 0

    @classmethod
    def of(cls, job_names: Sequence[str], changed_after: datetime | None) -> _Sweep:
        request: dict[str, Any] = {"MaxResults": _PAGE, "SortBy": "CreationTime", "SortOrder": "Descending"}
        common = _common_beginning(job_names)
        if common:
            request["NameContains"] = common
        named_at = [launch_second(name) for name in job_names]
        if changed_after is not None:
            request["LastModifiedTimeAfter"] = changed_after - _OVERLAP
        elif all(named_at):
            request["CreationTimeAfter"] = min(filter(None, named_at)) - _CLOCK_SKEW
        return cls(tuple(job_names), changed_after is None, request, set())

    def after(self, page: Mapping[str, Any]) -> _Sweep | None:
        """The rest of the sweep after a page; None when it is over."""
        self.pages += 1
        token = page.get("NextToken")
        missing = len(self.job_names) - len(self.found)
        # In an account with very many jobs, describing the missing ones costs less than listing all.
        if not token or not missing or (self.full and self.pages > missing):
            return None
        self.request["NextToken"] = token
        return self


def see(client: Any, job_names: Sequence[str]) -> dict[str, Sight]:  # noqa: ANN401 - boto3 is untyped
    """How jobs of one region stand now; of more than a hundred, those that run are only known from lists.

    Args:
        client: A client of SageMaker.
        job_names: The jobs.

    Raises:
        LauncherError: As `aws_errors` says. A job that is not there is no error.
    """
    watch = Watch(lambda: client, job_names, Pace(0.0), few=_PAGE)
    while not watch.seen:
        watch.look()
    return {sight.job_name: sight for sight in watch.sights}


def wait_for_all(watches: Sequence[tuple[Contact, Watch]], tell: Callable[[Sight], None]) -> None:
    """Waits until every job has ended.

    Args:
        watches: The jobs, by region, and how AWS is asked there.
        tell: Called with each job that has changed.

    Raises:
        JobStillRunningError: The time is over, or contact is lost; the jobs go on.
    """
    while not all(watch.over for _, watch in watches):
        for contact, watch in watches:
            for sight in contact.ask(watch.look):
                tell(sight)
        for contact, watch in watches:
            if not watch.over:
                contact.pause(_IDLE_S)


def follow(
    contact: Contact, job_name: str, events: Events, log: JobLog | None, *, pace: Pace | None = None
) -> Sight:
    """Waits until a job has ended, and tells each new phase and log line.

    Args:
        contact: How AWS is asked.
        job_name: The job.
        events: Who is told.
        log: The job's log; None when nobody wants it.
        pace: When a request to SageMaker may be made.

    Raises:
        JobStillRunningError: The time is over, or contact is lost; the job goes on.
        NotFoundError: There is no such job (any more).
    """
    watch = Watch(contact.sagemaker, [job_name], pace or Pace(REQUEST_EVERY_S))
    phases, lines = Phases(events), _LogTeller(log, contact, events)
    while True:
        contact.ask(watch.look)
        sight = next(iter(watch.sights), None)
        if sight and sight.ended:
            lines.drain(sight.result)
            phases.tell(sight)
            if sight.gone:
                raise NotFoundError(sight.result.failure_reason, hint=sight.hint, code="job_not_found")
            return sight
        if sight:
            phases.tell(sight)
        lines.tell()
        contact.pause(lines.pause_s)


class Phases:
    """Tells each phase of a job once, those included that came and went between two looks.

    Args:
        events: Who is told.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._told: list[tuple[str, str]] = []

    def tell(self, sight: Sight) -> None:
        """Tells what is new in a job's time line."""
        steps = [(step.status, step.message) for step in sight.result.transitions]
        steps = steps or [(sight.result.secondary_status or sight.result.status, "")]
        known = len(self._told)
        for number, step in enumerate(steps):
            # What is in progress may get another message; what is over stays as it is.
            if number >= known or (number == known - 1 and step != self._told[number]):
                self._events.phase(*step)
        self._told = steps


class _LogTeller:
    """Tells the lines of a log as they come, and does without a log that may not be read."""

    def __init__(self, log: JobLog | None, contact: Contact, events: Events) -> None:
        self._log = log
        self._contact = contact
        self._events = events

    @property
    def pause_s(self) -> float:
        """How long to wait until the next look."""
        requests = 1 + self._log.streams if self._log else 0
        return max(_LOOK_EVERY_S, requests / _LOG_REQUESTS_PER_S)

    def tell(self, *, last: bool = False) -> bool:
        """Tells what has come; gives whether anything has."""
        log, count = self._log, 0
        if log is None:
            return False

        def tell_lines() -> None:
            nonlocal count
            try:
                for line in log.look(last=last):
                    self._events.log(line.host, line.text)
                    count += 1
            except AccessDeniedError as error:
                # Nothing to wait for: the job's phases can still be told.
                self._events.note(f"the log cannot be shown: {error.message}")
                self._log = None

        self._contact.ask(tell_lines)
        return count > 0

    def drain(self, result: JobResult) -> None:
        """Tells lines until none has come for some seconds; at once when the job ended long ago."""
        quiet_s = _DRAIN_FAILED_S if result.status == FAILED else _DRAIN_S
        if result.ended_at:
            quiet_s -= min(
                max(time.time() - datetime.fromisoformat(result.ended_at).timestamp(), 0.0), quiet_s
            )
        self.tell(last=True)
        quiet = Stopwatch()
        while self._log and quiet.seconds < quiet_s:
            self._contact.pause(min(_LOOK_EVERY_S, quiet_s))
            if self.tell(last=True):
                quiet = Stopwatch()


def _common_beginning(names: Sequence[str]) -> str:
    # What the first and the last in their order share, all share.
    pairs = zip(min(names), max(names), strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _status(sight: Sight) -> tuple[str, str]:
    return sight.result.status, sight.result.secondary_status


def _phases(sight: Sight) -> tuple[object, ...]:
    return *_status(sight), sight.result.transitions
