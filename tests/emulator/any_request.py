"""A rehearsal of any client's request: nothing of it comes from this tool's configs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sagemaker_launcher.config import Source
from sagemaker_launcher.engine import Engine
from sagemaker_launcher.events import Events
from sagemaker_launcher.job import Job
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import list_channel
from sagemaker_launcher.rehearsal.hosts import Host, hosts_of
from sagemaker_launcher.rehearsal.inputs import PIPE, Inputs
from sagemaker_launcher.rehearsal.rehearsal import Rehearsal
from sagemaker_launcher.rehearsal.tree import Tree
from sagemaker_launcher.request import Request
from sagemaker_launcher.targets.docker import DockerOptions, DockerTarget
from sagemaker_launcher.targets.process import ProcessOptions, ProcessTarget
from sagemaker_launcher.user_cache import cache_folder

from .orders import Order

_CONTAINER_CODE = "/opt/ml/code"


class AnyRequest(Rehearsal):
    """A rehearsal whose channels, also one called config, are all there when the job starts."""

    def prepare(self, request: Request, events: Events) -> None:  # noqa: ARG002 - there is nothing to note
        self._cache_folder = cache_folder()
        mode = request["AlgorithmSpecification"]["TrainingInputMode"]
        self._contents = tuple(list_channel(one, mode, self._storage) for one in request["InputDataConfig"])

    def not_reproduced(self, job: Job, target: str, *, gpus: bool = False) -> str:  # noqa: ARG002 - nobody reads it
        return ""

    def _inputs(self, hosts: tuple[Host, ...], config: Callable[[], bytes]) -> Inputs:
        return _AllChannels(
            self._contents, hosts, DataCache(self._cache_folder / "data", self._storage), config
        )


class _AllChannels(Inputs):
    def lay_out(self, host: Host, tree: Tree) -> None:
        for content, objects in self._of(host):
            if content.mode != PIPE:
                folder = tree.channel(content.name)
                folder.mkdir(parents=True, exist_ok=True)
                self._cache.link(objects, folder)


@dataclass(frozen=True)
class _Machines:
    instance_types: tuple[str, ...]


@dataclass(frozen=True)
class _JobOfRequest:
    """What the targets ask of a job, whose configs nobody has here."""

    region: str
    machines: _Machines


def target_of(order: Order, rehearsal: Rehearsal) -> ProcessTarget | DockerTarget:
    """What carries an order out."""
    code = order.code
    source = Source(Path(code.folder) if code.folder else None, code.entry_point, _CONTAINER_CODE)
    if order.place == "docker":
        return DockerTarget(source, rehearsal, DockerOptions(image_code=source.folder is None), Engine())
    return ProcessTarget(source, rehearsal, ProcessOptions(order.python))


def job_of(order: Order) -> Job:
    """A stand-in for the Job that the configs would make."""
    types = tuple(sorted({host.instance_type for host in hosts_of(order.request)}))
    return cast("Job", _JobOfRequest(order.region, _Machines(types)))
