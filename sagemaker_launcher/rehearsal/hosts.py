"""The hosts of a job: their names, their machines, and what each is told of all of them. Pure.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
https://docs.aws.amazon.com/sagemaker/latest/dg/train-heterogeneous-cluster.html
"""

from __future__ import annotations

from typing import Any

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.request import Request

INTERFACE = "eth0"
_ONLY_GROUP = "homogeneousCluster"  # what the service calls the group of a job without groups


@frozen
class Host:
    """One machine of the job.

    Attributes:
        name: `algo-1` and so on, counted from 1.
        number: The same as a number.
        instance_type: Such as `ml.m5.large`.
        group: The instance group that it belongs to.
    """

    name: str
    number: int
    instance_type: str
    group: str


def hosts_of(request: Request) -> tuple[Host, ...]:
    """All hosts that a request asks for, in the order of their numbers."""
    resources = request["ResourceConfig"]
    groups = resources.get("InstanceGroups") or [{**resources, "InstanceGroupName": _ONLY_GROUP}]
    kinds = [
        (group["InstanceType"], group["InstanceGroupName"])
        for group in groups
        for _ in range(group["InstanceCount"])
    ]
    return tuple(
        Host(f"algo-{number}", number, instance_type, group)
        for number, (instance_type, group) in enumerate(kinds, start=1)
    )


def names(hosts: tuple[Host, ...]) -> list[str]:
    """The names as the service lists them: as texts, so that algo-10 comes before algo-2."""
    return sorted(host.name for host in hosts)


def resource_config(hosts: tuple[Host, ...], host: Host) -> dict[str, Any]:
    """What one host is told of the machines, in resourceconfig.json."""
    groups = {member.group: member.instance_type for member in hosts}
    return {
        "current_host": host.name,
        "current_instance_type": host.instance_type,
        "current_group_name": host.group,
        "hosts": names(hosts),
        "instance_groups": [
            {
                "instance_group_name": group,
                "instance_type": instance_type,
                "hosts": names(tuple(member for member in hosts if member.group == group)),
            }
            for group, instance_type in groups.items()
        ],
        "network_interface_name": INTERFACE,
    }
