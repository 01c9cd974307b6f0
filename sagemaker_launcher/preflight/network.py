"""The VPC that a job runs in: its subnets and security groups exist and belong together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from sagemaker_launcher.aws import asked
from sagemaker_launcher.errors import ExitCode, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World

_NAME = "network"


class NetworkCheck:
    """Looks at subnets and security groups."""

    def __init__(self, subject: Subject, world: World) -> None:
        self._job = subject.job
        self._world = world
        self._subnets: list[dict[str, Any]] = []
        self._groups: list[dict[str, Any]] = []

    @property
    def check(self) -> Check:
        """The check."""
        return Check(_NAME, (self._look_at_subnets, self._look_at_groups), self._compare)

    def _look_at_subnets(self) -> Iterator[Finding]:
        question = partial(
            self._world.client("ec2").describe_subnets, SubnetIds=list(self._job.network.subnets)
        )
        self._subnets = yield from _found(question, "Subnets", "ESTIMATOR.SUBNETS")
        hosts = self._job.machines.host_count
        room = sum(subnet.get("AvailableIpAddressCount", hosts) for subnet in self._subnets)
        if self._subnets and room < hosts:
            message = f"the subnets have {room} free addresses, and the job needs at least {hosts}"
            yield Finding(_NAME, "warning", message, "add a subnet, or free some addresses")

    def _look_at_groups(self) -> Iterator[Finding]:
        question = partial(
            self._world.client("ec2").describe_security_groups,
            GroupIds=list(self._job.network.security_group_ids),
        )
        self._groups = yield from _found(question, "SecurityGroups", "ESTIMATOR.SECURITY_GROUP_IDS")

    def _compare(self) -> Iterator[Finding]:
        if not self._subnets or not self._groups:
            return  # one of both is not known, and has been told
        networks = {part["VpcId"] for part in (*self._subnets, *self._groups)}
        if len(networks) > 1:
            where = {
                part.get("SubnetId") or part["GroupId"]: part["VpcId"]
                for part in (*self._subnets, *self._groups)
            }
            shown = ", ".join(f"{name} in {vpc}" for name, vpc in where.items())
            fix = "use subnets and security groups of one VPC"
            yield failed(_NAME, f"not all of one VPC: {shown}", fix, ExitCode.CONFIG, "networks_differ")
        else:
            yield Finding(_NAME, "ok", f"subnets and security groups are of {networks.pop()}")


def _found(
    question: Callable[..., dict[str, Any]], member: str, key: str
) -> Generator[Finding, None, list[dict[str, Any]]]:
    """What EC2 knows of the things that a config key names; nothing, and a finding, when one of them does not exist."""
    try:
        answer = asked(question, member, f"look up {key}")
    except NotFoundError as error:
        yield failed(_NAME, error.message, f"correct {key}", ExitCode.NOT_FOUND, "network_not_found")
        return []
    parts: list[dict[str, Any]] = answer[member]
    return parts
