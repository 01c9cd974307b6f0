"""Runs a request in a plain process on this machine: no AWS, no Docker, no root."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sagemaker_launcher.archive import Sealed
from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.config import Source
from sagemaker_launcher.errors import EnvironmentProblemError, UnsafeError
from sagemaker_launcher.events import Events
from sagemaker_launcher.interrupts import Interrupted
from sagemaker_launcher.job import CONFIG_CHANNEL, Job
from sagemaker_launcher.rehearsal import toolkit
from sagemaker_launcher.rehearsal.channels import ChannelContent, list_channel
from sagemaker_launcher.rehearsal.run import Run
from sagemaker_launcher.rehearsal.tree import (
    CONTAINER_BASE,
    Tree,
    input_data_config,
    job_arn,
    resource_config,
    service_environment,
)
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import Storage
from sagemaker_launcher.targets import Started

# What a program needs of this machine, and no more: neither credentials nor the user's settings reach it.
_KEPT_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip
# Variables that would make this machine run other code than the user's, or under another name.
_DANGEROUS = {"BASH_ENV", "PATH", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP"}
_DANGEROUS_PREFIXES = ("AWS_", "DYLD_", "LD_")
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
            ConfigError: The toolkit would fail on a hyperparameter or a variable.
        """
        self._region = job.region
        self._check_machine(job, request)
        _refuse_dangerous(request.get("Environment", {}))
        self._variables(request, Tree(Path(CONTAINER_BASE)))
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
        return Started(job_arn(request, job.region), utc_now())

    def follow(self, request: Request, events: Events) -> JobResult:
        """See `Target`. Raises Interrupted, with the result, after a signal has stopped the job."""
        with _temporary_tree() as tree:
            run = Run(request, tree, self._storage, events)
            try:
                return run.execute(self._contents, self._program)
            except Interrupted as interrupted:
                if interrupted.result is not None:
                    raise
                raise Interrupted(interrupted.number, run.stopped()) from None

    def _program(self, request: Request, tree: Tree) -> tuple[tuple[str, ...], dict[str, str], float]:
        """The command, the variables and the grace period."""
        tree.code.symlink_to(self._folder, target_is_directory=True)
        arguments = toolkit.script_arguments(request.get("HyperParameters", {}))
        command = toolkit.script_command(self._options.python, self._entry_point(request), arguments)
        return command, self._variables(request, tree), self._options.grace_s

    def _variables(self, request: Request, tree: Tree) -> dict[str, str]:
        """All variables of the program. Raises ConfigError for what the toolkit cannot pass on."""
        service = service_environment(request, self._region, tree)
        variables = toolkit.script_environment(
            base=tree.base,
            job_name=request["TrainingJobName"],
            hyperparameters=request.get("HyperParameters", {}),
            input_data_config=input_data_config(request),
            resource_config=resource_config(request),
            entry_point=self._entry_point(request),
            machine=self._machine,
            service_environment=service,
        )
        return {**_machine_variables(), **service, **variables}

    @cached_property
    def _machine(self) -> toolkit.Machine:
        return toolkit.Machine.detect()

    def _entry_point(self, request: Request) -> str:
        """The program, relative to the training code; the toolkit lets a variable choose it."""
        environment: Mapping[str, str] = request.get("Environment", {})
        return environment.get("SAGEMAKER_PROGRAM", self._source.entry_point)

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
        entry_point = self._entry_point(request)
        if not toolkit.is_valid_entry_point(entry_point) or not (self._folder / entry_point).is_file():
            raise EnvironmentProblemError(
                f"{self._folder} has no program {entry_point!r}",
                hint="check SOURCE.ENTRY_POINT, and SAGEMAKER_PROGRAM in ESTIMATOR.ENVIRONMENT",
                code="no_source",
            )
        program = self._folder / entry_point
        if program.suffix != ".py" and not os.access(program, os.X_OK):
            # The toolkit makes it executable; but this is the user's own file, not a copy of it.
            raise EnvironmentProblemError(
                f"{program} is not executable",
                hint=f"chmod +x {shlex.quote(str(program))}",
                code="not_executable",
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


def _refuse_dangerous(environment: Mapping[str, str]) -> None:
    names = sorted(
        name
        for name in environment
        if name in _DANGEROUS or (name.startswith(_DANGEROUS_PREFIXES) and name not in _HARMLESS)
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
