"""One run of a request on this machine, from its empty tree to its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.events import Events
from sagemaker_launcher.interrupts import Interrupted, shielded
from sagemaker_launcher.job import CONFIG_CHANNEL
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal import toolkit
from sagemaker_launcher.rehearsal.artifacts import save_artifacts
from sagemaker_launcher.rehearsal.channels import ChannelContent, list_channel, materialise
from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync
from sagemaker_launcher.rehearsal.metrics import MetricReader
from sagemaker_launcher.rehearsal.program import Program
from sagemaker_launcher.rehearsal.tree import Tree
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import COMPLETED, FAILED, FAILURE_REASON_MAX, STOPPED, JobResult, Transition
from sagemaker_launcher.storage import Storage

_HOST = "algo-1"
# Makes the command, all variables and the grace period (seconds between SIGTERM and SIGKILL) of the program.
ProgramMaker = Callable[[Request, Tree], tuple[tuple[str, ...], dict[str, str], float]]


@dataclass(frozen=True)
class _End:
    """How the program ended: its exit code, whether its time was up, and the signal to us that stopped it, if any."""

    exit_code: int
    timed_out: bool
    signal_number: int | None


class Run:
    """One run of a request.

    Args:
        request: The CreateTrainingJob request.
        tree: Where /opt/ml is.
        storage: Where channels come from, and artifacts and checkpoints go.
        events: Who is told.
    """

    def __init__(self, request: Request, tree: Tree, storage: Storage, events: Events) -> None:
        self._request = request
        self._tree = tree
        self._storage = storage
        self._events = events
        self._metrics = MetricReader(request)
        self._transitions: list[Transition] = []
        self._started_at = ""
        self._training_s = 0.0

    def execute(self, contents: list[ChannelContent], make_program: ProgramMaker) -> JobResult:
        """Brings the data, runs the program, saves what it left.

        Args:
            contents: The data channels.
            make_program: Called once the tree is complete.

        Raises:
            Interrupted: A signal stopped the job; with the result when the program ran.
        """
        self._enter("Starting", "Preparing the tree")
        self._tree.create(self._request)
        self._enter("Downloading", "Downloading input data")
        try:
            sync = self._bring_data(contents)
        except LauncherError as error:
            return self._result(
                FAILED, reason=f"ClientError: Data download failed: {error}"[:FAILURE_REASON_MAX]
            )
        command, variables, grace_s = make_program(self._request, self._tree)
        self._enter("Training", "Training in progress")
        end = self._train(command, variables, grace_s, sync)
        self._enter("Uploading", "Uploading generated training model")
        artifacts, problem = self._save(sync)
        result = self._judge(end, command, artifacts, problem)
        if end.signal_number is not None:
            raise Interrupted(end.signal_number, result)
        return result

    def stopped(self) -> JobResult:
        """The result of a run that was stopped before the program ran, or after it ended."""
        return self._result(STOPPED)

    def _bring_data(self, contents: list[ChannelContent]) -> CheckpointSync | None:
        config = next(
            item for item in self._request["InputDataConfig"] if item["ChannelName"] == CONFIG_CHANNEL
        )
        contents = [*contents, list_channel(config, "File", self._storage)]
        for content in contents:
            materialise(content, self._tree.channel(content.name), self._storage, lambda _: None)
        folder = self._tree.checkpoints(self._request)
        if folder is None:
            return None
        sync = CheckpointSync(folder, S3Uri.parse(self._request["CheckpointConfig"]["S3Uri"]), self._storage)
        restored = sync.restore()
        if restored:
            self._events.note(f"restored {restored} checkpoint files")
        return sync

    def _train(
        self, command: tuple[str, ...], variables: dict[str, str], grace_s: float, sync: CheckpointSync | None
    ) -> _End:
        """Runs the program to its end."""
        limit = self._request["StoppingCondition"]["MaxRuntimeInSeconds"]
        self._started_at, start = utc_now(), time.monotonic()
        timed_out, signal_number = False, None
        with ExitStack() as stack:
            if sync:
                stack.enter_context(sync.running())
            program = None
            try:
                with shielded():  # a program that has started is also one that can be stopped
                    program = Program(command, self._tree.code.resolve(), variables, self._line)
                    stack.callback(program.kill)
                exit_code = program.wait(limit)
                if exit_code is None:
                    timed_out = True
                    self._enter_stopping(f"it has run for {limit} s", grace_s)
                    exit_code = program.stop(grace_s)
            except Interrupted as interrupted:
                if program is None:
                    raise
                signal_number = interrupted.number
                self._enter_stopping("interrupted", grace_s)
                exit_code = _stop(program, grace_s)
        self._training_s = time.monotonic() - start
        return _End(exit_code, timed_out, signal_number)

    def _enter_stopping(self, why: str, grace_s: float) -> None:
        self._enter("Stopping", "Stopping the training job")
        self._events.note(
            f"stopping the job ({why}): SIGTERM, and SIGKILL after {grace_s:g} s (Ctrl-C: at once)"
        )

    def _save(self, sync: CheckpointSync | None) -> tuple[dict[str, str], str]:
        """Uploads the last checkpoints, the model and the output; gives their URIs, and what went wrong."""
        try:
            if sync:
                sync.sync()
            return save_artifacts(self._request, self._tree, self._storage), ""
        except (LauncherError, OSError) as error:
            self._events.note(f"what the program left cannot be saved: {error}")
            return {}, str(error)

    def _judge(
        self, end: _End, command: tuple[str, ...], artifacts: dict[str, str], save_problem: str
    ) -> JobResult:
        if end.signal_number is not None:
            return self._result(STOPPED, exit_code=end.exit_code, artifacts=artifacts)
        if end.timed_out:
            return self._result(
                STOPPED, secondary="MaxRuntimeExceeded", exit_code=end.exit_code, artifacts=artifacts
            )
        if end.exit_code:
            text = self._failure_text() or toolkit.failure_text(end.exit_code, command)
            tail = f", exit code: {end.exit_code}"
            reason = f"AlgorithmError: {text}"[: FAILURE_REASON_MAX - len(tail)] + tail
            return self._result(FAILED, reason=reason, exit_code=end.exit_code, artifacts=artifacts)
        if save_problem:
            reason = f"ClientError: Artifact upload failed: {save_problem}"[:FAILURE_REASON_MAX]
            return self._result(FAILED, reason=reason, exit_code=0)
        for name in self._metrics.never_seen:
            self._events.note(f"no line of the log matched the metric {name}")
        if "model" not in artifacts:
            self._events.note("the program left nothing in the model folder (SM_MODEL_DIR)")
        return self._result(COMPLETED, exit_code=0, artifacts=artifacts)

    def _failure_text(self) -> str:
        try:
            return self._tree.failure.read_bytes()[: 4 * FAILURE_REASON_MAX].decode("utf-8", "replace")
        except OSError:
            return ""

    def _line(self, line: str) -> None:
        self._metrics.read(line)
        self._events.log(_HOST, line)

    def _enter(self, status: str, message: str) -> None:
        now = utc_now()
        if self._transitions:
            last = self._transitions[-1]
            self._transitions[-1] = Transition(last.status, last.started_at, now, last.message)
        self._transitions.append(Transition(status, now, message=message))
        self._events.phase(status, message)

    def _result(
        self,
        status: str,
        *,
        secondary: str = "",
        reason: str = "",
        exit_code: int | None = None,
        artifacts: Mapping[str, str] | None = None,
    ) -> JobResult:
        self._enter(secondary or status, reason.partition("\n")[0])
        return JobResult(
            status=status,
            secondary_status=secondary or status,
            failure_reason=reason,
            training_seconds=round(self._training_s),
            artifacts=artifacts or {},
            metrics=dict(self._metrics.values),
            started_at=self._started_at,
            ended_at=utc_now(),
            transitions=tuple(self._transitions),
            exit_code=exit_code,
        )


def _stop(program: Program, grace_s: float) -> int:
    """Stops a program; one more signal during the grace period ends the grace."""
    try:
        return program.stop(grace_s)
    except Interrupted:
        return program.stop(0)
