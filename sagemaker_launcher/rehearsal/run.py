"""A rehearsal from its first attempt to its result: what the service does with a request, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError
from sagemaker_launcher.events import Events
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.interrupts import Interrupted, Reluctance, shielded
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.crew import Crew, Ended
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.inputs import Inputs
from sagemaker_launcher.rehearsal.logs import KeepLog, Logs
from sagemaker_launcher.rehearsal.metrics import MetricReader
from sagemaker_launcher.rehearsal.program import OnLine, Program
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.rehearsal.timeline import Timeline
from sagemaker_launcher.rehearsal.tree import Tree, checkpoint_path, tree_of
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import (
    COMPLETED,
    FAILED,
    FAILURE_REASON_MAX,
    STOPPED,
    Interruption,
    JobBrokenError,
    JobResult,
)
from sagemaker_launcher.storage import Storage

if TYPE_CHECKING:
    from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync

_METRICS_EVERY_S = 0.25
_SHOWN = 40  # characters of what is no number
_KILLED = 137  # 128 + SIGKILL, as a shell shows it
_SAVING = "interrupted: what the job left is being saved; Ctrl-C once more gives it up"
_OTHERS_GRACE_S = 10.0  # for the other hosts when one has failed: nothing says how long the service waits


class Runner(Protocol):
    """Starts the programs of hosts; what the targets differ in."""

    def start(self, host: Host, tree: Tree, on_line: OnLine) -> Program:
        """Starts a host's program in a tree that is complete."""

    def settle(self, trees: Mapping[Host, Tree]) -> None:
        """Called when all programs have ended: whatever they left belongs to the user from now on."""

    def open_up(self, host: Host, folder: str) -> None:
        """Makes readable what a host's program, which may run, wrote as another user below a folder of its own."""

    def unexplained(self, exit_code: int) -> str:
        """Why a program failed that left no word of its own."""


@frozen
class Stage:
    """What a rehearsal has to do with.

    Attributes:
        request: The CreateTrainingJob request.
        hosts: Its hosts.
        inputs: The data of its channels.
        folder: An empty folder of this rehearsal alone.
        keep_log: Called with each log file at the end.
        storage: Where artifacts and checkpoints go.
        runner: What starts programs.
        terms: Time limits and interruptions.
        events: Who is told.
    """

    request: Request
    hosts: tuple[Host, ...]
    inputs: Inputs
    folder: Path
    keep_log: KeepLog
    storage: Storage
    runner: Runner
    terms: Terms
    events: Events


class _Cause(Enum):
    """What ended an attempt, and what is said of it."""

    ENDED = ""
    RECLAIMED = "the spot instance is reclaimed"
    MAX_RUNTIME = "MaxRuntimeExceeded"
    MAX_WAIT = "MaxWaitTimeExceeded"
    SIGNAL = "interrupted"


@frozen
class _Limit:
    """When an attempt has to end, on the monotonic clock, and why."""

    at: float
    cause: _Cause
    why: str = field(compare=False, default="")


@frozen
class _End:
    """How an attempt ended."""

    cause: _Cause
    failed: Ended | None
    trees: Mapping[Host, Tree]
    saved_problem: str = ""
    data_problem: str = ""
    signal_number: int = 0


class Run:
    """One run of a request.

    Args:
        stage: What it has to do with.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._metrics = MetricReader(stage.request)
        self._timeline = Timeline(stage.events)
        self._logs = Logs(stage.folder, self._metrics, stage.events)
        self._ran_s = 0.0  # of all attempts together
        self._interruptions: list[Interruption] = []
        self._artifacts: Mapping[str, str] = {}
        self.result: JobResult | None = None  # as soon as it is known

    def execute(self) -> JobResult:
        """Runs one attempt after the other until one is not interrupted, and saves what the last one left.

        Raises:
            Interrupted: A signal stopped the job; with its result.
            JobBrokenError: This machine failed, such as its container engine; with the job's result.
        """
        try:
            return self._execute()
        except Interrupted as interrupted:
            raise Interrupted(interrupted.number, self.result or self._result(STOPPED)) from None
        except (LauncherError, OSError) as error:
            cause = error if isinstance(error, LauncherError) else _trouble_here(error)
            # What the service says of its own failures; here it was this machine's.
            reason = f"InternalServerError: {cause}"[:FAILURE_REASON_MAX]
            raise JobBrokenError(cause, self._result(FAILED, reason=reason)) from error
        finally:
            with shielded():
                self._logs.close(self._stage.keep_log)

    def _execute(self) -> JobResult:
        terms = self._stage.terms
        with Reluctance(_SAVING) as reluctance:
            for number, after_s in enumerate((*terms.interrupt_after_s, None), start=1):
                try:
                    trees, syncs = self._prepare(number)
                except (LauncherError, OSError) as error:
                    return self._no_data(str(error))
                end = self._attempt(trees, syncs, after_s, reluctance)
                if end.cause is not _Cause.RECLAIMED:
                    break
                reluctance.end()
            return self._finish(end, reluctance)

    def _prepare(self, number: int) -> tuple[dict[Host, Tree], dict[Host, CheckpointSync]]:
        """Everything fresh but the checkpoints."""
        stage = self._stage
        self._timeline.enter("Starting", "Preparing the hosts" if number == 1 else "Preparing new hosts")
        trees = {host: tree_of(stage.folder, number, host) for host in stage.hosts}
        for host, tree in trees.items():
            tree.create(stage.request, stage.hosts, host)
        self._timeline.enter("Downloading", "Downloading input data")
        stage.inputs.fetch(stage.events)
        for host, tree in trees.items():
            stage.inputs.lay_out(host, tree)
        return trees, self._restore(trees)

    def _restore(self, trees: Mapping[Host, Tree]) -> dict[Host, CheckpointSync]:
        if "CheckpointConfig" not in self._stage.request:
            return {}
        from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync  # noqa: PLC0415 - many jobs have none

        place = S3Uri.parse(self._stage.request["CheckpointConfig"]["S3Uri"])
        folders = {host: tree.checkpoints(self._stage.request) for host, tree in trees.items()}
        syncs = {
            host: CheckpointSync(folder, place, self._stage.storage, self._opener(host))
            for host, folder in folders.items()
            if folder
        }
        restored = [sync.restore() for sync in syncs.values()]
        if any(restored):
            self._stage.events.note(f"restored {restored[0]} checkpoint files")
        return syncs

    def _opener(self, host: Host) -> Callable[[], None]:
        return lambda: self._stage.runner.open_up(host, checkpoint_path(self._stage.request))

    def _attempt(
        self,
        trees: Mapping[Host, Tree],
        syncs: Mapping[Host, CheckpointSync],
        after_s: float | None,
        reluctance: Reluctance,
    ) -> _End:
        """Runs the programs of all hosts to their end, whatever it is, and saves their checkpoints, with reluctance to be stopped."""
        stage, crew = self._stage, Crew()
        self._timeline.enter("Training", "Training in progress")
        start = time.monotonic()
        limit = self._limit(start, after_s)
        cause, signal_number = _Cause.ENDED, 0
        with ExitStack() as stack:
            feeders = stack.enter_context(stage.inputs.feeding(dict(trees)))
            for sync in syncs.values():
                stack.enter_context(sync.running())
            stack.callback(crew.kill)
            try:
                for host, tree in trees.items():
                    with shielded():  # a program that has started is also one that can be stopped
                        crew.add(host, stage.runner.start(host, tree, self._logs.open(host)))
                if not self._wait(crew, limit.at):
                    cause = limit.cause
                    self._stop(crew, limit.why, reclaimed=cause is _Cause.RECLAIMED)
                elif crew.failed:
                    self._stop_others(crew, crew.failed.host)
                reluctance.begin()
            except Interrupted as interrupted:
                signal_number = interrupted.number
                if cause is _Cause.ENDED and (crew.failed or len(crew.ended) == len(trees)):
                    _stop_now(crew)  # how the job ended was known before
                else:
                    cause = _Cause.SIGNAL
                    self._stop(crew, "interrupted", reclaimed=False)
                reluctance.begin()
        ended = time.monotonic()
        self._ran_s += ended - start
        stage.runner.settle(trees)
        self._metrics.read_heard()
        if cause is _Cause.ENDED and after_s is not None:
            stage.events.note(f"the job ended before it could be interrupted after {after_s:g} s")
        # Whoever had to be killed was there until the instance was gone: nobody had time for a last copy.
        killed = not stage.terms.grace_s or any(one.exit_code == _KILLED for one in crew.ended)
        problem = "" if cause is _Cause.RECLAIMED and killed else self._last_sync(syncs)
        if cause is _Cause.RECLAIMED:
            self._reclaimed(syncs, ended - start)
        if cause is _Cause.RECLAIMED and reluctance.kept:
            cause = _Cause.SIGNAL  # nobody wants the next attempt
        unfed = next((str(feeder.problem) for feeder in feeders if feeder.problem), "")
        return _End(cause, crew.failed, trees, problem, unfed, signal_number or reluctance.kept)

    def _wait(self, crew: Crew, until: float) -> bool:
        """See Crew; searches what the programs write meanwhile, since nothing but this thread can end a search."""
        if not self._metrics.defined:
            return crew.wait(until)
        while not crew.wait(min(until, time.monotonic() + _METRICS_EVERY_S)):
            if time.monotonic() >= until:
                return False
            self._metrics.read_heard()
        return True

    def _limit(self, start: float, after_s: float | None) -> _Limit:
        """What comes first of the time limits and the interruption."""
        condition = self._stage.request["StoppingCondition"]
        max_run, max_wait = condition["MaxRuntimeInSeconds"], condition.get("MaxWaitTimeInSeconds")
        limits = [_Limit(start + max_run - self._ran_s, _Cause.MAX_RUNTIME, f"it has run for {max_run} s")]
        if max_wait is not None:
            why = f"waiting and running took {max_wait} s"
            limits.append(_Limit(start + max_wait - self._timeline.seconds, _Cause.MAX_WAIT, why))
        if after_s is not None:
            limits.append(_Limit(start + after_s, _Cause.RECLAIMED, _Cause.RECLAIMED.value))
        return min(limits, key=lambda limit: limit.at)

    def _stop(self, crew: Crew, why: str, *, reclaimed: bool) -> None:
        """Stops all programs; one more signal during the grace period ends the grace."""
        grace_s = self._stage.terms.grace_s
        try:
            if not reclaimed:
                self._timeline.enter("Stopping", "Stopping the training job")
            self._stage.events.note(
                f"stopping the job ({why}): SIGTERM, and SIGKILL after {grace_s:g} s (Ctrl-C: at once)"
            )
            crew.stop(grace_s)
        except Interrupted:
            _stop_now(crew)  # a third one wants no more than the second
            if reclaimed:
                raise

    def _stop_others(self, crew: Crew, failed: Host) -> None:
        """Stops the hosts that are left when one has failed."""
        if len(self._stage.hosts) > 1:
            self._stage.events.note(f"{failed.name} failed, which ends the job")
        crew.stop(min(_OTHERS_GRACE_S, self._stage.terms.grace_s))

    def _last_sync(self, syncs: Mapping[Host, CheckpointSync]) -> str:
        """Saves the checkpoints of every host once more; gives what went wrong first."""
        problems = []
        for host, sync in syncs.items():
            try:
                sync.sync()
            except (LauncherError, OSError) as error:
                self._stage.events.note(f"the last checkpoints of {host.name} cannot be saved: {error}")
                problems.append(str(error))
        return problems[0] if problems else ""

    def _reclaimed(self, syncs: Mapping[Host, CheckpointSync], ran_s: float) -> None:
        """Says how much work an interruption cost: all since the last checkpoint that was saved."""
        newest_at = max((sync.newest_at for sync in syncs.values()), default=0.0)
        lost_s = round(max(0.0, min(ran_s, time.time() - newest_at)), 1)
        self._interruptions.append(Interruption(utc_now(), round(ran_s, 1), lost_s))
        self._timeline.enter("Interrupted", "The spot instances were reclaimed")
        self._stage.events.note(
            f"interrupted after {ran_s:.1f} s of training; lost: the {lost_s:g} s since the last checkpoint"
        )

    def _finish(self, end: _End, reluctance: Reluctance) -> JobResult:
        """Uploads what the programs left, and judges.

        Raises:
            Interrupted: A signal came before or meanwhile; with the result.
        """
        from sagemaker_launcher.rehearsal.artifacts import save_artifacts  # noqa: PLC0415 - the program had to start soon

        self._timeline.enter("Uploading", "Uploading generated training model")
        problem = end.saved_problem
        try:
            saved = save_artifacts(self._stage.request, end.trees, self._stage.storage, self._stage.folder)
        except (LauncherError, OSError) as error:
            problem = str(error)
            self._stage.events.note(f"what the program left cannot be saved: {error}")
        except Interrupted as interrupted:  # for the second time: nothing else comes through
            cause = end.cause if end.failed else _Cause.SIGNAL
            end = replace(end, cause=cause, signal_number=interrupted.number)
        else:
            self._artifacts = saved.uris
            if saved.problem:
                problem = saved.problem
                self._stage.events.note(f"not all that the program left can be saved: {problem}")
            if saved.collisions:
                self._stage.events.note(
                    f"several hosts wrote the same file, and only one is kept: {'; '.join(saved.collisions)}"
                )
            if saved.refusals:
                more = f", and {len(saved.refusals) - 1} more" if len(saved.refusals) > 1 else ""
                self._stage.events.note(
                    f"`download` will only bring what was saved --packed, and not unpack it: {saved.refusals[0]}{more}"
                )
        result = self._judge(end, problem)
        if number := end.signal_number or reluctance.kept:
            raise Interrupted(number, result)
        return result

    def _judge(self, end: _End, problem: str) -> JobResult:
        failed = end.failed
        exit_code = failed.exit_code if failed else 0
        if end.cause is not _Cause.ENDED:
            secondary = "" if end.cause is _Cause.SIGNAL else end.cause.value
            return self._result(STOPPED, secondary=secondary, exit_code=exit_code)
        if end.data_problem:
            return self._no_data(end.data_problem, exit_code=exit_code)
        if failed:
            text = self._failure_text(end.trees[failed.host]) or self._stage.runner.unexplained(exit_code)
            tail = f", exit code: {exit_code}"
            reason = f"AlgorithmError: {text}"[: FAILURE_REASON_MAX - len(tail)] + tail
            return self._result(FAILED, reason=reason, exit_code=exit_code)
        if problem:
            self._artifacts = {}  # saved or not, the service would not name them
            reason = f"ClientError: Artifact upload failed: {problem}"[:FAILURE_REASON_MAX]
            return self._result(FAILED, reason=reason, exit_code=0)
        for name in self._metrics.too_slow:
            self._stage.events.note(
                f"the expression of the metric {name} takes too long to search for and was given up: its value, if any, is"
                " that of an earlier line; make it simpler"
            )
        for name, text in self._metrics.no_numbers.items():
            self._stage.events.note(
                f"the log has the metric {name}, but {text[:_SHOWN]!r} is no number that CloudWatch takes"
            )
        for name in self._metrics.never_seen:
            self._stage.events.note(f"no line of the log matched the metric {name}")
        if "model" not in self._artifacts:
            self._stage.events.note("the program left nothing in the model folder, /opt/ml/model")
        return self._result(COMPLETED, exit_code=0)

    def _no_data(self, problem: str, *, exit_code: int | None = None) -> JobResult:
        reason = f"ClientError: Data download failed: {problem}"[:FAILURE_REASON_MAX]
        return self._result(FAILED, reason=reason, exit_code=exit_code)

    @staticmethod
    def _failure_text(tree: Tree) -> str:
        """What the program says of its failure, in a file of its own: no link to somebody else's, no pipe to wait for."""
        from sagemaker_launcher.rehearsal.own_files import held  # noqa: PLC0415 - only when a program has failed

        try:
            with held(tree.failure, tree.base.resolve() / "output") as path:
                if path is None:
                    return ""
                with path.open("rb") as file:
                    return file.read(4 * FAILURE_REASON_MAX).decode("utf-8", "replace")
        except OSError:
            return ""

    def _result(
        self,
        status: str,
        *,
        secondary: str = "",
        reason: str = "",
        exit_code: int | None = None,
    ) -> JobResult:
        training_s, billable_s = self._timeline.training_seconds, self._timeline.billable_seconds
        with shielded():  # what people were told is what is known
            self._timeline.enter(secondary or status, reason.partition("\n")[0])
            self.result = JobResult(
                status=status,
                secondary_status=secondary or status,
                failure_reason=reason,
                training_seconds=round(training_s),
                billable_seconds=round(billable_s),
                artifacts=self._artifacts,
                metrics=dict(self._metrics.values),
                started_at=self._timeline.training_started_at,
                ended_at=utc_now(),
                transitions=self._timeline.transitions,
                exit_code=exit_code,
                interruptions=tuple(self._interruptions),
            )
        return self.result


def _stop_now(crew: Crew) -> None:
    """Kills what still runs, and lets no signal in between."""
    with suppress(Interrupted), shielded():
        crew.stop(0)


def _trouble_here(error: OSError) -> LauncherError:
    return EnvironmentProblemError(
        f"the rehearsal cannot go on here: {error}",
        hint="is the disk full? SAGEMAKER_LAUNCHER_CACHE=DIR rehearses on another",
        code="rehearsal_broken",
    )
