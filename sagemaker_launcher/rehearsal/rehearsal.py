"""What the targets on this machine share: their data, their folder, and the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.events import Events
from sagemaker_launcher.interrupts import Interrupted, pause_point
from sagemaker_launcher.job import CONFIG_CHANNEL, Job
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import ChannelContent, list_channel, refuse_shared_names
from sagemaker_launcher.rehearsal.hosts import Host, hosts_of
from sagemaker_launcher.rehearsal.inputs import Inputs
from sagemaker_launcher.rehearsal.leftovers import clear
from sagemaker_launcher.rehearsal.limits import not_reproduced
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.rehearsal.tree import Tree
from sagemaker_launcher.rehearsal.workspace import Workspace, planned_workspace, workspace
from sagemaker_launcher.request import Request
from sagemaker_launcher.result import FAILED, FAILURE_REASON_MAX, JobBrokenError, JobResult
from sagemaker_launcher.storage import Storage
from sagemaker_launcher.user_cache import cache_folder

if TYPE_CHECKING:
    from sagemaker_launcher.rehearsal.logs import KeepLog
    from sagemaker_launcher.rehearsal.run import Run, Runner

_GIB = 2**30
_CONFIG_MAX = 16 * 1024 * 1024  # bytes; no training config comes near
MakeRunner: TypeAlias = "Callable[[Workspace], Runner]"


class Rehearsal:
    """The rehearsal of one request.

    Args:
        storage: Where channels come from, and artifacts and checkpoints go.
        terms: Time limits and interruptions.
    """

    def __init__(self, storage: Storage, terms: Terms) -> None:
        self._storage = storage
        self._terms = terms
        self._contents: tuple[ChannelContent, ...] = ()
        self._cache_folder = Path()

    def prepare(self, request: Request, events: Events) -> None:
        """Finds out what every data channel has, before anything is written.

        Raises:
            NotFoundError: A channel has no objects.
            EnvironmentProblemError: A channel's data cannot be rehearsed, or nothing can be kept on this machine.
            UnsafeError: An object's key would leave its folder.
        """
        self._cache_folder = cache_folder()
        self._contents = tuple(
            list_channel(channel, request["AlgorithmSpecification"]["TrainingInputMode"], self._storage)
            for channel in request["InputDataConfig"]
            if channel["ChannelName"] != CONFIG_CHANNEL
        )
        refuse_shared_names(self._contents)
        hosts = hosts_of(request)
        inputs = self._inputs(hosts, bytes)
        volume = request["ResourceConfig"].get("VolumeSizeInGB", 0)
        needed = max(inputs.size(host) for host in hosts)
        if volume and needed > volume * _GIB:
            events.note(
                f"the data of one host is {needed / _GIB:.1f} GiB, and its volume has {volume}: it will not fit"
            )

    def not_reproduced(self, job: Job, target: str, *, gpus: bool = False) -> str:
        """What the job uses that its rehearsal cannot have, in one line; empty when there is nothing."""
        interrupted = bool(self._terms.interrupt_after_s)
        return ", ".join(not_reproduced(job, target, interrupted=interrupted, gpus=gpus))

    def planned_space(self, facts: dict[str, str]) -> Workspace:
        """Where a request that has been prepared is going to be rehearsed.

        Args:
            facts: What somebody else needs to know to end what runs outside the rehearsal's folder.
        """
        return planned_workspace(self._cache_folder, facts)

    def run(
        self,
        request: Request,
        plan: Workspace,
        make_runner: MakeRunner,
        events: Events,
        keep_log: KeepLog,
    ) -> JobResult:
        """Runs the request to its end.

        Args:
            request: A request that has been prepared, and whose training config has been archived.
            plan: Where to rehearse it; see `planned_space`.
            make_runner: Makes what starts programs.
            events: Who is told.
            keep_log: Called with each log file at the end.

        Raises:
            Interrupted: By a signal; with the job's result, if it came so far.
            JobBrokenError: This machine failed, such as its disk or its container engine; with the job's result.
        """
        from sagemaker_launcher.rehearsal.run import Run, Stage  # noqa: PLC0415 - the engine's program is being started

        hosts = hosts_of(request)
        run: Run | None = None
        try:
            with workspace(plan, clear, events.note) as space:
                inputs = self._inputs(hosts, lambda: self._read_config(request))
                runner = make_runner(space)
                stage = Stage(
                    request, hosts, inputs, space.folder, keep_log, self._storage, runner, self._terms, events
                )
                run = Run(stage)
                result = run.execute()
                pause_point("ended")
                return result
        except JobBrokenError:
            raise
        except LauncherError as error:
            reason = f"InternalServerError: {error}"[:FAILURE_REASON_MAX]
            result = JobResult(FAILED, FAILED, failure_reason=reason, ended_at=utc_now())
            raise JobBrokenError(error, result) from error
        except Interrupted as interrupted:
            # It may have come when the job had ended, and only its folder was left to remove.
            raise Interrupted(interrupted.number, run.result if run else None) from None

    @contextmanager
    def laid_out(
        self, request: Request, config: bytes, plan: Workspace, events: Events
    ) -> Iterator[tuple[Workspace, Host, Tree]]:
        """The tree of the first host as its program would find it, without a job.

        Args:
            request: A request that has been prepared.
            config: The training config.
            plan: As for `run`.
            events: Who is told.
        """
        hosts = hosts_of(request)
        with workspace(plan, clear, events.note) as space:
            host, tree = hosts[0], Tree(space.folder / "opt" / "ml")
            tree.create(request, hosts, host)
            inputs = self._inputs(hosts, lambda: config)
            inputs.fetch(events)
            inputs.lay_out(host, tree)
            with inputs.feeding({host: tree}):
                yield space, host, tree

    def _inputs(self, hosts: tuple[Host, ...], config: Callable[[], bytes]) -> Inputs:
        return Inputs(self._contents, hosts, DataCache(self._cache_folder / "data", self._storage), config)

    def _read_config(self, request: Request) -> bytes:
        """The training config, where the request says that the service finds it."""
        channel = next(one for one in request["InputDataConfig"] if one["ChannelName"] == CONFIG_CHANNEL)
        return self._storage.read(S3Uri.parse(channel["DataSource"]["S3DataSource"]["S3Uri"]), _CONFIG_MAX)
