"""Runs a request in containers on this machine, one per host, started as the service starts them.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-dockerfile.html
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sagemaker_launcher.archive.experiments import Sealed
from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.config import Source
from sagemaker_launcher.engine import Engine, ImageFacts, mount
from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError, NotFoundError
from sagemaker_launcher.events import Events
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.images.checks import Start, login_command, notes_on_start
from sagemaker_launcher.job import Job
from sagemaker_launcher.rehearsal.code_copy import check_copyable, copy_code
from sagemaker_launcher.rehearsal.head_start import HeadStart
from sagemaker_launcher.rehearsal.hosts import Host, hosts_of
from sagemaker_launcher.rehearsal.inputs import FAST_FILE
from sagemaker_launcher.rehearsal.leftovers import ENGINE, IMAGE, label, owners, take_over, take_over_new
from sagemaker_launcher.rehearsal.limits import has_gpus
from sagemaker_launcher.rehearsal.program import OnLine, Program
from sagemaker_launcher.rehearsal.rehearsal import Rehearsal
from sagemaker_launcher.rehearsal.tree import (
    CONTAINER_BASE,
    Tree,
    channels_of,
    checkpoint_path,
    job_arn,
    service_environment,
    tree_of,
)
from sagemaker_launcher.rehearsal.workspace import ForeignFilesError, Workspace, closed_part
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.targets import Prepared, Started

if TYPE_CHECKING:
    from sagemaker_launcher.rehearsal.logs import KeepLog
    from sagemaker_launcher.rehearsal.network import Network

_PLATFORM = "linux/amd64"
_PULL_TIMEOUT_S = 3600.0
# What the program takes from ~/.docker/config.json otherwise. https://docs.docker.com/engine/cli/proxy/
_PROXIES = frozenset(
    spelt
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
    for spelt in (name, name.lower())
)
# Where nobody outside answers, each unknown name would take 10 s; those of the hosts are answered by the container's engine.
_NO_RESOLVER = ("--dns-option", "timeout:1", "--dns-option", "attempts:1")
_ROOT = ("", "0", "root", "0:0", "root:root")  # as USER of an image has it
_SHELL = "command -v bash > /dev/null && exec bash; exec sh"


@frozen
class DockerOptions:
    """How containers are run.

    Attributes:
        image: The image to run in the place of the request's; empty: the request's.
        image_code: Run the code that is in the image instead of the folder on this machine.
        credentials: The variables that hold the user's credentials; empty keeps them from the program.
    """

    image: str = ""
    image_code: bool = False
    credentials: Mapping[str, str] = field(default_factory=dict)


class DockerTarget:
    """See `Target`.

    Args:
        source: The training code.
        rehearsal: What carries the request out.
        options: How containers are run.
        engine: What runs them; it may have begun to look the image up.
    """

    def __init__(self, source: Source, rehearsal: Rehearsal, options: DockerOptions, engine: Engine) -> None:
        self._source = source
        self._rehearsal = rehearsal
        self._options = options
        self._engine = engine
        self._region = ""
        self._image_facts: ImageFacts  # known once ready, and so is the next
        self._space: Workspace
        self._gpus = False
        self._head_start: HeadStart | None = None

    def prepare(self, job: Job, request: Request, events: Events) -> Prepared:
        """See `Target`.

        Raises:
            EnvironmentProblemError: No engine answers, the image cannot be had, or data or code cannot be rehearsed.
            NotFoundError: A channel has no objects.
        """
        if self._code_folder:
            check_copyable(self._code_folder)  # while the engine looks the image up
        digest = self._get_ready(job, request, events)
        self._head_start = self._runner(request, self._space, events).head_start_now()
        return Prepared(digest)

    def _get_ready(self, job: Job, request: Request, events: Events) -> str:
        """What a job and a shell need; gives the image's digest."""
        self._region = job.region
        folder = self._code_folder
        facts = self._inspect(self._image(request), events)
        self._image_facts = facts
        for note in notes_on_start(facts, request):
            events.note(note)
        self._gpus = any(map(has_gpus, job.machines.instance_types)) and _has_gpus_here()
        if folder and not _mentions(facts, request, self._source.container_folder):
            events.note(
                f"nothing in the image points to {self._source.container_folder}: its own code may run instead of {folder};"
                " SOURCE.CONTAINER_DIR says where the image has it"
            )
        self._rehearsal.prepare(request, events)
        missing = self._rehearsal.not_reproduced(job, "docker", gpus=self._gpus)
        if missing:
            events.note(f"not reproduced here: {missing}")
        self._space = self._rehearsal.planned_space(
            {ENGINE: self._engine.program, IMAGE: self._image(request)}
        )
        return facts.digest

    def start(self, job: Job, request: Request, sealed: Sealed) -> Started:  # noqa: ARG002 - the service gets the seal
        """See `Target`. The containers themselves start in `follow`, after the launch has been recorded."""
        return Started(job_arn(request, job.region), utc_now())

    def follow(self, request: Request, events: Events, keep_log: KeepLog) -> JobResult:
        """See `Target`. Raises Interrupted, with the result, after a signal has stopped the job."""
        return self._rehearsal.run(
            request,
            self._space,
            lambda space: self._runner(request, space, events),
            events,
            keep_log,
        )

    def shell(self, job: Job, request: Request, config: bytes, events: Events) -> int:
        """Runs a shell in a container like that of the first host. Gives its exit code. Raises as `prepare` does."""
        self._get_ready(job, request, events)
        with self._rehearsal.laid_out(request, config, self._space, events) as (space, host, tree):
            runner = self._runner(request, space, events)
            # The folder itself: what is edited on this machine can be run in the shell at once.
            folder = self._code_folder
            words = runner.words(host, tree, ("sh", ("-c", _SHELL)), folder or tree.code)
            before = owners(folder) if folder else {}
            terminal = ["--tty"] if sys.stdin.isatty() else []
            command = [self._engine.find(), "run", "--interactive", *terminal, *words]
            code = subprocess.run(command, check=False, env=runner.client_environment).returncode  # noqa: S603 - the user's engine
            if folder:
                runner.take_over_code(folder, before)
            return code

    def _image(self, request: Request) -> str:
        name: str = self._options.image or request["AlgorithmSpecification"]["TrainingImage"]
        return name

    def _inspect(self, name: str, events: Events) -> ImageFacts:
        try:
            return self._engine.image(name)
        except NotFoundError:
            events.phase("Pulling", f"the image {name}, which is not on this machine")
        try:
            self._engine.call("pull", "--platform", _PLATFORM, name, timeout_s=_PULL_TIMEOUT_S)
        except LauncherError as error:
            raise EnvironmentProblemError(
                f"the image {name} is not on this machine and cannot be pulled: {error.message}",
                hint=self._how_to_get(name),
                code="no_image",
            ) from error
        return self._engine.image(name)

    def _how_to_get(self, name: str) -> str:
        build = "build it: ./build_and_push.sh --local, and run what it prints: --image NAME:TAG"
        login = login_command(name, self._engine.program)
        return f"log in to its registry: {login}\nor {build}" if login else build

    @property
    def _code_folder(self) -> Path | None:
        return None if self._options.image_code else self._source.folder

    def _runner(self, request: Request, space: Workspace, events: Events) -> _Runner:
        for note in space.notes:
            events.note(note)
        return _Runner(
            request=request,
            region=self._region,
            engine=self._engine,
            image=self._image(request),
            facts=self._image_facts,
            space=space,
            code=self._code_folder,
            code_target=self._source.container_folder,
            credentials=self._options.credentials,
            gpus=self._gpus,
            events=events,
            head_start=self._head_start,
        )


@frozen
class _Runner:
    """Starts the container of each host; see `rehearsal.run.Runner`."""

    request: Request
    region: str
    engine: Engine
    image: str
    facts: ImageFacts
    space: Workspace
    code: Path | None
    code_target: str
    credentials: Mapping[str, str]
    gpus: bool
    events: Events
    head_start: HeadStart | None
    _problems: list[str] = field(default_factory=list)  # of the present attempt
    _told: list[str] = field(default_factory=list)  # of the last one
    _containers: list[str] = field(default_factory=list)
    _attempts: dict[Host, int] = field(default_factory=dict)

    def start(self, host: Host, tree: Tree, on_line: OnLine) -> Program:
        """See `Runner`."""
        from sagemaker_launcher.rehearsal.container import ContainerProgram  # noqa: PLC0415 - while that program starts

        self._attempts[host] = self._attempts.get(host, 0) + 1
        name = self._name(host)
        self._containers.append(name)
        if self.code:
            copy_code(self.code, tree.code)
        return ContainerProgram(
            self.engine,
            name,
            self._command(host, tree),
            on_line,
            self._problems.append,
            environment=self.client_environment,
            head_start=self.head_start,
        )

    def head_start_now(self) -> HeadStart | None:
        """Starts the engine's program for the first attempt, where that is possible; it waits for `start`."""
        hosts = hosts_of(self.request)
        if len(hosts) > 1 or not HeadStart.possible(self.engine.find()):
            return None  # many hosts wait for each other in any case
        command = self._command(hosts[0], tree_of(self.space.folder, 1, hosts[0]))
        try:
            return HeadStart(command, self.client_environment)
        except OSError:
            return None  # it is tried again when it is its turn

    def settle(self, trees: Mapping[Host, Tree]) -> None:
        """See `Runner`.

        Raises:
            ForeignFilesError: The user cannot read what would have to be saved.
        """
        if self._containers:
            # They have ended; whatever keeps the engine from removing them now, what they left can be saved.
            with suppress(LauncherError):
                self.engine.call("rm", "--force", "--volumes", *self._containers)
            self._containers.clear()
        for problem in self._problems:
            self.events.note(problem)
        self._told[:] = self._problems
        self._problems.clear()
        self._take_over(trees)

    def open_up(self, host: Host, folder: str) -> None:
        """See `Runner`."""
        if self._containers:  # they are gone once all has been taken over
            words = ("chmod", "-R", "a+rX", folder)
            self.engine.call("exec", "--user", "0", self._name(host), *words)

    def unexplained(self, exit_code: int) -> str:  # noqa: ARG002 - the service knows no more than the code either
        """See `Runner`."""
        return "; ".join(self._told)

    def take_over_code(self, folder: Path, before: Mapping[str, int]) -> None:
        """Makes the user the owner of what a shell wrote in the folder of the code; see `owners`."""
        of_root = self.facts.user in _ROOT
        try:
            take_over_new(self.engine, self.image, folder, before, of_root=of_root)
        except ForeignFilesError as error:
            self.events.note(error.message)

    def _take_over(self, trees: Mapping[Host, Tree]) -> None:
        try:
            take_over(self.engine, self.image, self.space.folder)
        except ForeignFilesError as error:
            lost = next(filter(None, map(closed_part, self._saved(trees))), "")
            if lost:  # without it the job would be Completed, and what it made would be gone
                raise ForeignFilesError(
                    f"{lost} cannot be saved: you may not read it, and {error.message}", hint=error.hint
                ) from error
            self.events.note(error.message)

    def _saved(self, trees: Mapping[Host, Tree]) -> Iterator[Path]:
        """The folders that matter when the programs have ended."""
        for tree in trees.values():
            yield from (tree.model, tree.failure.parent)
            checkpoints = tree.checkpoints(self.request)
            if checkpoints:
                yield checkpoints

    @property
    def client_environment(self) -> dict[str, str]:
        """The variables of the engine's program, which hands some of them on: so they appear in no list of processes."""
        own = {name: value for name, value in os.environ.items() if name not in _PROXIES}
        return {**own, **self.credentials}

    def words(self, host: Host, tree: Tree, entry: tuple[str, tuple[str, ...]], code: Path) -> list[str]:
        """The words after `run` and the container's name.

        Args:
            host: The host.
            tree: Its complete tree.
            entry: The entry point, empty for the image's own, and the arguments.
            code: The folder that takes the place of the image's code, unless that is to run.
        """
        entry_point, arguments = entry
        return [
            "--label", label(self.space.identifier),
            # The image's own, whatever this machine is: the engine would look for another image otherwise.
            "--platform", self.facts.system,
            "--hostname", f"ip-10-0-0-{host.number}.{self.region}.compute.internal",
            "--shm-size", str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2),
            *self._network_words(host),
            *(["--gpus", "all"] if self.gpus else []),
            *self._variables(),
            *self._mounts(host, tree),
            *(mount(code, self.code_target) if self.code else ()),
            *(["--entrypoint", entry_point] if entry_point else []),
            self.image,
            *arguments,
        ]  # fmt: skip

    def _name(self, host: Host) -> str:
        return f"sagemaker-{self.space.identifier}-{self._attempts.get(host, 1)}-{host.name}"

    def _command(self, host: Host, tree: Tree) -> list[str]:
        words = self.words(host, tree, self._entry, tree.code)
        return [self.engine.find(), "run", "--name", self._name(host), *words]

    @property
    def _entry(self) -> tuple[str, tuple[str, ...]]:
        """How the service starts the image: `train` is the argument of an image that the request says nothing about."""
        algorithm = self.request["AlgorithmSpecification"]
        entry_point = tuple(algorithm.get("ContainerEntrypoint", ()))
        arguments = tuple(algorithm.get("ContainerArguments", () if entry_point else ("train",)))
        return (entry_point or ("",))[0], (*entry_point[1:], *arguments)

    def _variables(self) -> list[str]:
        values = {
            **{name: self.facts.environment[name] for name in _PROXIES & set(self.facts.environment)},
            **service_environment(self.request, self.region),
            "NVIDIA_VISIBLE_DEVICES": "all" if self.gpus else "void",
        }
        given = [f"{name}={value}" for name, value in values.items()]
        # A name alone has the value that it has here: the credentials have one, and the proxies of the user's settings none.
        names = (*self.credentials, *sorted(_PROXIES - set(values)))
        return [word for entry in (*given, *names) for word in ("--env", entry)]

    def _mounts(self, host: Host, tree: Tree) -> list[str]:
        """The parts of /opt/ml one by one: what else the image has there stays visible."""
        places = {f"{CONTAINER_BASE}/{name}": tree.base / name for name in ("input", "model", "output")}
        checkpoints = tree.checkpoints(self.request)
        if checkpoints:  # which may be one of these folders
            places[checkpoint_path(self.request).rstrip("/")] = checkpoints
        words = [word for target, source in places.items() for word in mount(source, target)]
        default = self.request["AlgorithmSpecification"]["TrainingInputMode"]
        for channel in channels_of(self.request, host):
            if channel.get("InputMode", default) == FAST_FILE:
                name = channel["ChannelName"]
                words += mount(tree.channel(name), f"{CONTAINER_BASE}/input/data/{name}", read_only=True)
        return words

    def _network_words(self, host: Host) -> list[str]:
        isolated = self.request.get("EnableNetworkIsolation", False)
        if self._network:
            return [*self._network.words(host), *(_NO_RESOLVER if isolated else ())]
        # A network of its own would take longer to make and to remove than the container.
        return [*(["--network", "none"] if isolated else []), "--add-host", f"{host.name}:127.0.0.1"]

    @cached_property
    def _network(self) -> Network | None:
        hosts = hosts_of(self.request)
        if len(hosts) == 1:
            return None
        from sagemaker_launcher.rehearsal.network import Network  # noqa: PLC0415 - most jobs have one host

        isolated = self.request.get("EnableNetworkIsolation", False)
        return Network.create(self.engine, self.space.identifier, hosts, isolated=isolated)


def _has_gpus_here() -> bool:
    from sagemaker_launcher.rehearsal.toolkit import Machine  # noqa: PLC0415 - most jobs want no GPU

    return Machine.detect().gpus > 0


def _mentions(facts: ImageFacts, request: Request, folder: str) -> bool:
    """Whether what is started seems to be code in a folder: something names it, or the toolkit is told what to run."""
    start = Start.of(request)
    environment = {**facts.environment, **start.environment}
    texts = (facts.folder, *start.command(facts), *environment.values())
    return "SAGEMAKER_PROGRAM" in environment or any(folder in text for text in texts)
