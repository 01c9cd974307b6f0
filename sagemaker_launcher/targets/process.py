"""Runs a request in plain processes on this machine, one per host: no AWS, no Docker, no root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from sagemaker_launcher.archive.experiments import Sealed
from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.config import Source
from sagemaker_launcher.errors import EnvironmentProblemError, UnsafeError
from sagemaker_launcher.events import Events
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.job import Job
from sagemaker_launcher.rehearsal import names, toolkit
from sagemaker_launcher.rehearsal.code_copy import check_copyable, copy_code
from sagemaker_launcher.rehearsal.hosts import Host, hosts_of, resource_config
from sagemaker_launcher.rehearsal.inputs import FAST_FILE
from sagemaker_launcher.rehearsal.leftovers import BASE_VARIABLE, end_processes
from sagemaker_launcher.rehearsal.logs import KeepLog
from sagemaker_launcher.rehearsal.program import OnLine, ProcessProgram, Program, shell_code
from sagemaker_launcher.rehearsal.rehearsal import Rehearsal
from sagemaker_launcher.rehearsal.tree import (
    CONTAINER_BASE,
    Tree,
    channels_of,
    checkpoint_path,
    input_data_config,
    job_arn,
    relative_to_base,
    service_environment,
)
from sagemaker_launcher.rehearsal.workspace import Workspace, make_readable
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.targets import Prepared, Started

# What a program needs of this machine, and no more: neither credentials nor the user's settings reach it.
_KEPT_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
)  # fmt: skip
# Variables that would make this machine run other code than the user's, or under another name: of shells, of interpreters, of
# libraries that load others, of compilers that frameworks call, and of programs that start those of the user's choice.
_DANGEROUS = {
    "BASHOPTS", "BASH_ENV", "HISTFILE", "INPUTRC", "PATH", "PROMPT_COMMAND", "PS0", "PS1", "PS2", "PS3", "PS4", "SHELL", "SHELLOPTS",
    "CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "LUA_INIT", "NODE_OPTIONS", "NODE_PATH", "PERL5DB", "PERL5LIB",
    "PERL5OPT", "PERLLIB", "RUBYLIB", "RUBYOPT", "R_ENVIRON", "R_PROFILE", "R_PROFILE_USER", "_JAVA_OPTIONS",
    "CUDA_INJECTION64_PATH", "GCONV_PATH", "OPENSSL_CONF", "OPENSSL_ENGINES", "OPENSSL_MODULES",
    "CC", "CXX", "LDSHARED", "MAKEFLAGS",
    "BROWSER", "EDITOR", "LESSCLOSE", "LESSOPEN", "MANPAGER", "PAGER", "SSH_ASKPASS", "VISUAL",
    "HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME",
}  # fmt: skip
_DANGEROUS_PREFIXES = ("AWS_", "DYLD_", "GIT_", "LD_", "PYTHON")
# Of what begins so, what only changes values (https://docs.python.org/3/using/cmdline.html#environment-variables), and names
# that others have given to facts.
_HARMLESS = {
    "AWS_DEFAULT_REGION", "AWS_REGION",
    "GIT_BRANCH", "GIT_COMMIT", "GIT_PYTHON_REFRESH", "GIT_REVISION", "GIT_SHA", "GIT_TAG",
    "PYTHONASYNCIODEBUG", "PYTHONCOERCECLOCALE", "PYTHONDEVMODE", "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER",
    "PYTHONHASHSEED", "PYTHONINTMAXSTRDIGITS", "PYTHONIOENCODING", "PYTHONMALLOC", "PYTHONNODEBUGRANGES", "PYTHONNOUSERSITE",
    "PYTHONOPTIMIZE", "PYTHONPROFILEIMPORTTIME", "PYTHONSAFEPATH", "PYTHONTRACEMALLOC", "PYTHONUNBUFFERED", "PYTHONUTF8",
    "PYTHONVERBOSE", "PYTHONWARNDEFAULTENCODING", "PYTHON_CPU_COUNT", "PYTHON_GIL", "PYTHON_JIT", "PYTHON_VERSION",
}  # fmt: skip
_MASTER = "MASTER_ADDR"  # where torch's processes meet


@frozen
class ProcessOptions:
    """How programs are run.

    Attributes:
        python: The Python interpreter that has the training code's packages.
        credentials: Gives the variables that hold the user's credentials; None keeps them from the program.
    """

    python: str = sys.executable
    credentials: Mapping[str, str] | None = None


class ProcessTarget:
    """See `Target`.

    Args:
        source: The training code.
        rehearsal: What carries the request out.
        options: How programs are run.
    """

    def __init__(self, source: Source, rehearsal: Rehearsal, options: ProcessOptions) -> None:
        self._source = source
        self._rehearsal = rehearsal
        self._options = options
        self._region = ""
        self._trial: names.Trial | None = None

    def prepare(self, job: Job, request: Request, events: Events) -> Prepared:
        """See `Target`.

        Raises:
            EnvironmentProblemError: No training code or no Python here, or data or code that cannot be rehearsed.
            NotFoundError: A channel has no objects.
            UnsafeError: A variable would run other code than the user's.
            ConfigError: The toolkit would fail on a hyperparameter or a variable.
        """
        self._get_ready(job, request, events)
        check_copyable(self._folder)
        return Prepared()

    def _get_ready(self, job: Job, request: Request, events: Events) -> None:
        """What a job and a shell need."""
        self._region = job.region
        self._check_machine(request)
        self._trial = names.Trial(self._folder)
        _refuse_dangerous(request.get("Environment", {}))
        hosts = hosts_of(request)
        self._runner(request).variables(hosts[0], Tree(Path(CONTAINER_BASE)))
        self._rehearsal.prepare(request, events)
        missing = self._rehearsal.not_reproduced(job, "process")
        if missing:
            events.note(f"not reproduced here: {missing}")

    def start(self, job: Job, request: Request, sealed: Sealed) -> Started:  # noqa: ARG002 - the service gets the seal
        """See `Target`. The programs themselves start in `follow`, after the launch has been recorded."""
        return Started(job_arn(request, job.region), utc_now())

    def follow(self, request: Request, events: Events, keep_log: KeepLog) -> JobResult:
        """See `Target`. Raises Interrupted, with the result, after a signal has stopped the job."""

        def make_runner(space: Workspace) -> _Runner:
            return self._runner_with_names(request, space, events)

        return self._rehearsal.run(request, self._rehearsal.planned_space({}), make_runner, events, keep_log)

    def shell(self, job: Job, request: Request, config: bytes, events: Events) -> int:
        """Runs a shell where the first host's program would run. Gives its exit code. Raises as `prepare` does."""
        self._get_ready(job, request, events)
        plan = self._rehearsal.planned_space({})
        with self._rehearsal.laid_out(request, config, plan, events) as (space, host, tree):
            runner = self._runner_with_names(request, space, events)
            # The folder itself: what is edited in the shell, or beside it, is the user's code.
            tree.code.symlink_to(self._folder, target_is_directory=True)
            command, variables = runner.command(host, tree, [_shell()])
            return subprocess.run(command, cwd=tree.code.resolve(), env=variables, check=False).returncode  # noqa: S603 - the user's shell

    def _runner_with_names(self, request: Request, space: Workspace, events: Events) -> _Runner:
        for note in space.notes:
            events.note(note)
        runner = self._runner(request)
        namespaces = self._trial is not None and self._trial.succeeded
        runner.make_names(space.folder / "hosts" if namespaces else None, events)
        return runner

    def _runner(self, request: Request) -> _Runner:
        return _Runner(request, self._region, self._folder, self._entry_point(request), self._options)

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

    def _check_machine(self, request: Request) -> None:
        if shutil.which(self._options.python) is None:
            raise EnvironmentProblemError(f"no such Python: {self._options.python}", hint="check --python")
        entry_point = self._entry_point(request)
        if not toolkit.is_valid_entry_point(entry_point) or not (self._folder / entry_point).is_file():
            raise EnvironmentProblemError(
                f"{self._folder} has no program {entry_point!r}",
                hint="check SOURCE.ENTRY_POINT, and SAGEMAKER_PROGRAM in ESTIMATOR.ENVIRONMENT",
                code="no_source",
            )
        checkpoints = checkpoint_path(request)
        if checkpoints and relative_to_base(checkpoints) is None:
            raise EnvironmentProblemError(
                f"checkpoints in {checkpoints} cannot be rehearsed in a process: the path is outside /opt/ml",
                hint="leave ESTIMATOR.CHECKPOINT_LOCAL_PATH at its default, or rehearse it with --on docker",
                code="not_rehearsable",
            )


class _Runner:
    """Starts the program of each host as a process; see `rehearsal.run.Runner`."""

    def __init__(
        self, request: Request, region: str, folder: Path, entry_point: str, options: ProcessOptions
    ) -> None:
        self._request = request
        self._region = region
        self._folder = folder
        self._entry_point = entry_point
        self._options = options
        self._hosts = hosts_of(request)
        self._hosts_file: Path | None = None
        self._resolvable = True
        # What `subprocess` says of an exit code as a shell shows it: of the first program of an attempt that ended so.
        self._codes: dict[int, int] = {}  # of the present attempt
        self._last_codes: Mapping[int, int] = {}  # of the one before

    def start(self, host: Host, tree: Tree, on_line: OnLine) -> Program:
        """See `Runner`."""
        copy_code(self._folder, tree.code)
        program = tree.code / self._entry_point
        if program.suffix != ".py" and program.resolve().is_relative_to(tree.code.resolve()):
            program.chmod(0o777)  # as the toolkit does; a link may lead to what is the user's
        command, variables = self.command(host, tree, self._script())

        def ended(code: int) -> None:
            self._codes.setdefault(shell_code(code), code)
            end_processes(tree.base)  # what has left its session, as workers of a launcher do

        return ProcessProgram(command, tree.code, variables, on_line, ended)

    def settle(self, trees: Mapping[Host, Tree]) -> None:
        """See `Runner`. All files are the user's already, but some may be closed to everybody."""
        self._last_codes, self._codes = self._codes, {}
        for tree in trees.values():
            for folder in (tree.model, tree.failure.parent, tree.checkpoints(self._request)):
                if folder:
                    make_readable(folder)

    def open_up(self, host: Host, folder: str) -> None:
        """See `Runner`. There is no other user."""

    def unexplained(self, exit_code: int) -> str:
        """See `Runner`. What the toolkit would say."""
        return toolkit.failure_text(self._last_codes.get(exit_code, exit_code), self._script())

    def make_names(self, hosts_file: Path | None, events: Events) -> None:
        """Makes the names of the hosts known to the programs.

        Args:
            hosts_file: The file that takes the place of /etc/hosts; None where this machine does not allow that.
            events: Who is told.
        """
        self._hosts_file = hosts_file
        if hosts_file:
            names.write_hosts_file(hosts_file, self._hosts)
        elif not names.resolve_here(self._hosts):
            self._resolvable = False
            if len(self._hosts) > 1:
                events.note(
                    "this machine does not let its user give names to hosts: algo-1 is 127.0.0.1, in MASTER_ADDR too;"
                    " write the names into /etc/hosts, or rehearse with --on docker"
                )

    def command(
        self, host: Host, tree: Tree, words: list[str] | tuple[str, ...]
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """What runs some words as a host's program, and all variables that they get."""
        command, variables = tuple(words), self.variables(host, tree)
        if self._hosts_file:
            read_only = self._read_only(host, tree)
            command = names.wrapped(command, self._hosts_file, read_only, variables)
        return command, variables

    def variables(self, host: Host, tree: Tree) -> dict[str, str]:
        """All variables of a host's program. Raises ConfigError for what the toolkit cannot pass on."""
        request = self._request
        service = {
            **service_environment(request, self._region),
            # Whatever the request says: the tree is here, and /opt/ml is none of the rehearsal's.
            BASE_VARIABLE: str(tree.base),
            "SAGEMAKER_METRICS_DIRECTORY": str(tree.base / "output" / "metrics" / "sagemaker"),
        }
        if not self._resolvable and service.get(_MASTER, self._hosts[0].name) in {
            one.name for one in self._hosts
        }:
            service[_MASTER] = "127.0.0.1"
        variables = toolkit.script_environment(
            base=tree.base,
            job_name=request["TrainingJobName"],
            hyperparameters=request.get("HyperParameters", {}),
            input_data_config=input_data_config(request, host),
            resource_config=resource_config(self._hosts, host),
            entry_point=self._entry_point,
            machine=self._machine,
            service_environment=service,
        )
        return {**_machine_variables(), **service, **variables, **(self._options.credentials or {})}

    def _script(self) -> tuple[str, ...]:
        arguments = toolkit.script_arguments(self._request.get("HyperParameters", {}))
        return toolkit.script_command(self._options.python, self._entry_point, arguments)

    def _read_only(self, host: Host, tree: Tree) -> list[Path]:
        default = self._request["AlgorithmSpecification"]["TrainingInputMode"]
        return [
            tree.channel(channel["ChannelName"])
            for channel in channels_of(self._request, host)
            if channel.get("InputMode", default) == FAST_FILE
        ]

    @cached_property
    def _machine(self) -> toolkit.Machine:
        return toolkit.Machine.detect()


def _refuse_dangerous(environment: Mapping[str, str]) -> None:
    found = sorted(name for name, value in environment.items() if not _is_harmless(name, value))
    if found:
        raise UnsafeError(
            f"ESTIMATOR.ENVIRONMENT sets {', '.join(found)}, which could run other code on this machine",
            hint="leave them out of a rehearsal in a process, or rehearse with --on docker",
            code="dangerous_environment",
        )


def _is_harmless(name: str, value: str) -> bool:
    if name == "ENV":  # often the word for a stage; but what sh expands, and then reads as a file
        return re.fullmatch(r"[\w.-]*", value) is not None
    if name == "PYTHONWARNINGS":
        # action:message:category:module:line, and the module in which a category lies is imported.
        # https://docs.python.org/3/library/warnings.html#describing-warning-filters
        return not any("." in part for option in value.split(",") for part in option.split(":")[2:3])
    return name in _HARMLESS or not (name in _DANGEROUS or name.startswith(_DANGEROUS_PREFIXES))


def _machine_variables() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # The job has a role of its own on AWS; here it must not borrow the user's.
    return {**kept, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def _shell() -> str:
    return shutil.which("bash") or "/bin/sh"
