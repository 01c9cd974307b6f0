"""Runs a request in a plain process on this machine: no AWS, no Docker, no root."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from sagemaker_launcher.archive import Sealed
from sagemaker_launcher.config import Source
from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError, UnsafeError
from sagemaker_launcher.events import Events
from sagemaker_launcher.interrupts import Interrupted
from sagemaker_launcher.job import CONFIG_CHANNEL, Job
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal import toolkit
from sagemaker_launcher.rehearsal.artifacts import save_artifacts
from sagemaker_launcher.rehearsal.channels import ChannelContent, list_channel, materialise
from sagemaker_launcher.rehearsal.checkpoints import CheckpointSync
from sagemaker_launcher.rehearsal.metrics import MetricReader
from sagemaker_launcher.rehearsal.program import Program, ProgramEnd
from sagemaker_launcher.rehearsal.tree import (
    Tree,
    input_data_config,
    job_arn,
    resource_config,
    service_environment,
)
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import COMPLETED, FAILED, FAILURE_REASON_MAX, STOPPED, JobResult, Transition
from sagemaker_launcher.storage import Storage
from sagemaker_launcher.targets import Started

_HOST = "algo-1"
_ProgramMaker = Callable[[Request, Tree], tuple[tuple[str, ...], dict[str, str], float]]
# What a program needs of this machine, and no more: neither credentials nor the user's settings reach it.
_KEPT_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip
# Variables that would make this machine run other code than the user's, or under another name.
_DANGEROUS_PREFIXES = ("AWS_", "DYLD_", "LD_", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")
_HARMLESS = {"AWS_DEFAULT_REGION", "AWS_REGION"}


@dataclass(frozen=True)
class ProcessOptions:
    """How the program is run.

    Attributes:
        python: The Python interpreter that has the training code's packages.
        grace_s: Seconds between SIGTERM and SIGKILL.
    """

    python: str = sys.executable
    grace_s: float = 120.0


class ProcessTarget:
    """See `Target`.

    Args:
        source: The training code.
        storage: Where channels come from and artifacts go.
        options: How the program is run.
    """

    def __init__(self, source: Source, storage: Storage, options: ProcessOptions) -> None:
        self._source = source
        self._storage = storage
        self._options = options
        self._region = ""
        self._contents: list[ChannelContent] = []

    def prepare(self, job: Job, request: Request, events: Events) -> None:
        """See `Target`.

        Raises:
            EnvironmentProblemError: More than one host, no training code or no Python here, or data of a kind that cannot
                be rehearsed.
            NotFoundError: A channel has no objects.
            UnsafeError: A variable would run other code than the user's.
        """
        self._region = job.region
        self._check_machine(job, request)
        _refuse_dangerous(request.get("Environment", {}))
        mode = request["AlgorithmSpecification"]["TrainingInputMode"]
        self._contents = [
            list_channel(channel, mode, self._storage)
            for channel in request["InputDataConfig"]
            if channel["ChannelName"] != CONFIG_CHANNEL
        ]
        missing = _not_reproduced(job)
        if missing:
            events.note(f"not reproduced here: {', '.join(missing)}")

    def start(self, job: Job, request: Request, sealed: Sealed) -> Started:  # noqa: ARG002 - the service gets the seal
        """See `Target`. The program itself starts in `follow`, after the launch has been recorded."""
        return Started(job_arn(request, job.region), _now())

    def follow(self, request: Request, events: Events) -> JobResult:
        """See `Target`. Raises Interrupted, with the result, after a signal has stopped the job."""
        with _temporary_tree() as tree:
            run = _Run(request, tree, self._storage, events)
            try:
                return run.execute(self._contents, self._program)
            except Interrupted as interrupted:
                if interrupted.result is not None:
                    raise
                raise Interrupted(interrupted.number, run.stopped()) from None

    def _program(self, request: Request, tree: Tree) -> tuple[tuple[str, ...], dict[str, str], float]:
        """The command, the variables and the grace period."""
        hyperparameters = request.get("HyperParameters", {})
        service = service_environment(request, self._region, tree)
        entry_point = service.get("SAGEMAKER_PROGRAM", self._source.entry_point)
        variables = toolkit.script_environment(
            base=tree.base,
            job_name=request["TrainingJobName"],
            hyperparameters=hyperparameters,
            input_data_config=input_data_config(request),
            resource_config=resource_config(request),
            entry_point=entry_point,
            machine=toolkit.Machine.detect(),
            service_environment=service,
        )
        tree.code.symlink_to(self._folder, target_is_directory=True)
        arguments = toolkit.script_arguments(hyperparameters)
        command = toolkit.script_command(self._options.python, entry_point, arguments)
        return command, {**_machine_variables(), **service, **variables}, self._options.grace_s

    @property
    def _folder(self) -> Path:
        if self._source.folder is None:
            raise EnvironmentProblemError(
                "the training code is not on this machine",
                hint="name its folder: --set SOURCE.DIR sagemaker_container",
                code="no_source",
            )
        return self._source.folder

    def _check_machine(self, job: Job, request: Request) -> None:
        hosts = sum(group.instance_count for group in job.machines.groups) or job.machines.instance_count
        if hosts > 1:
            raise EnvironmentProblemError(
                f"the job asks for {hosts} hosts, and the process target runs one",
                hint="rehearse one host: --set ESTIMATOR.INSTANCE_COUNT 1",
                code="not_rehearsable",
            )
        if shutil.which(self._options.python) is None:
            raise EnvironmentProblemError(f"no such Python: {self._options.python}", hint="check --python")
        entry_point = self._source.entry_point
        if not toolkit.is_valid_entry_point(entry_point) or not (self._folder / entry_point).is_file():
            raise EnvironmentProblemError(
                f"{self._folder} has no program {entry_point!r}",
                hint="check SOURCE.ENTRY_POINT",
                code="no_source",
            )
        try:
            Tree(Path()).checkpoints(request)
        except ValueError:
            path = request["CheckpointConfig"]["LocalPath"]
            raise EnvironmentProblemError(
                f"checkpoints in {path} cannot be rehearsed here: the path is outside /opt/ml",
                hint="leave ESTIMATOR.CHECKPOINT_LOCAL_PATH at its default",
                code="not_rehearsable",
            ) from None


class _Run:
    """One run of a request, from its empty tree to its result."""

    def __init__(self, request: Request, tree: Tree, storage: Storage, events: Events) -> None:
        self._request = request
        self._tree = tree
        self._storage = storage
        self._events = events
        self._metrics = MetricReader(request)
        self._transitions: list[Transition] = []
        self._started_at = ""
        self._training_s = 0.0

    def execute(self, contents: list[ChannelContent], make_program: _ProgramMaker) -> JobResult:
        self._enter("Starting", "Preparing the tree")
        self._tree.create(self._request)
        self._enter("Downloading", "Downloading input data")
        try:
            sync = self._bring_data(contents)
        except LauncherError as error:
            return self._result(FAILED, reason=f"ClientError: Data download failed: {error.message}")
        command, variables, grace_s = make_program(self._request, self._tree)
        self._enter("Training", "Training in progress")
        end, signal_number = self._train(command, variables, grace_s, sync)
        self._enter("Uploading", "Uploading generated training model")
        artifacts = save_artifacts(self._request, self._tree, self._storage)
        result = self._judge(end, command, artifacts, stopped=signal_number is not None)
        if signal_number is not None:
            raise Interrupted(signal_number, result)
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
    ) -> tuple[ProgramEnd, int | None]:
        """Runs the program to its end; gives also the signal that stopped it, if one did."""
        limit = self._request["StoppingCondition"]["MaxRuntimeInSeconds"]
        self._started_at, start = _now(), time.monotonic()
        signal_number = None
        with ExitStack() as stack:
            if sync:
                stack.enter_context(sync.running())
            program = Program(command, self._tree.code.resolve(), variables, self._line)
            stack.callback(program.kill)
            try:
                end = program.wait(limit, grace_s)
            except Interrupted as interrupted:
                signal_number = interrupted.number
                self._events.note(
                    f"stopping the job: SIGTERM, and SIGKILL after {grace_s:g} s (Ctrl-C: at once)"
                )
                self._enter("Stopping", "Stopping the training job")
                end = _stop(program, grace_s)
        self._training_s = time.monotonic() - start
        return end, signal_number

    def _judge(
        self, end: ProgramEnd, command: tuple[str, ...], artifacts: dict[str, str], *, stopped: bool
    ) -> JobResult:
        if stopped:
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
        now = _now()
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
            ended_at=_now(),
            transitions=tuple(self._transitions),
            exit_code=exit_code,
        )


def _stop(program: Program, grace_s: float) -> ProgramEnd:
    """Stops a program; one more signal during the grace period ends the grace."""
    try:
        return program.stop(grace_s)
    except Interrupted:
        return program.stop(0)


def _refuse_dangerous(environment: Mapping[str, str]) -> None:
    names = sorted(
        name for name in environment if name.startswith(_DANGEROUS_PREFIXES) and name not in _HARMLESS
    )
    if names:
        raise UnsafeError(
            f"ESTIMATOR.ENVIRONMENT sets {', '.join(names)}, which could run other code on this machine",
            hint="leave them out of a rehearsal in a process",
            code="dangerous_environment",
        )


def _machine_variables() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # The job has a role of its own on AWS; here it must not borrow the user's.
    return {**kept, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def _not_reproduced(job: Job) -> list[str]:
    """What the request uses that a plain process cannot have."""
    uses = {
        "the image's entry point and arguments": job.image.entry_point or job.image.arguments,
        "spot interruptions": job.limits.spot,
        "the VPC": job.network.subnets,
        "network isolation": job.network.isolated,
        "encryption keys": job.output_kms_key or job.machines.volume_kms_key,
        "the warm pool": job.machines.keep_alive_s,
        "the debugger": job.debugger_hook,
        "the profiler": job.profiler,
        "TensorBoard upload": job.tensorboard,
    }
    return [name for name, used in uses.items() if used]


@contextmanager
def _temporary_tree() -> Iterator[Tree]:
    folder = Path(tempfile.mkdtemp(prefix="sagemaker-rehearsal-"))
    try:
        base = folder / "opt" / "ml"
        base.mkdir(parents=True)
        yield Tree(base)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
