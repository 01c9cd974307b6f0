"""The private network of the containers of several hosts."""

from __future__ import annotations

import ipaddress
import json

from sagemaker_launcher.engine import Engine, EngineError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.leftovers import label

_FIRST = 9  # added to a host's number: the engine takes the first addresses for itself
# Without it, this machine has an address in the network, and whatever listens here can be reached from inside.
# https://docs.docker.com/engine/network/drivers/bridge/
_NOT_THIS_MACHINE = ("--opt", "com.docker.network.bridge.inhibit_ipv4=true")


@frozen
class Network:
    """A network in which every host has a name and an address, whether it runs (yet, or still) or not.

    Attributes:
        name: The network's name.
        addresses: The address of each host.
    """

    name: str
    addresses: dict[str, str]

    @classmethod
    def create(cls, engine: Engine, identifier: str, hosts: tuple[Host, ...], *, isolated: bool) -> Network:
        """Makes a network.

        Args:
            engine: The engine.
            identifier: The rehearsal's, for the name and the label.
            hosts: All hosts.
            isolated: The containers reach each other and nothing else.

        Raises:
            LauncherError: The engine makes no network.
        """
        name = f"sagemaker-{identifier}"
        options = ("--label", label(identifier), *(["--internal"] if isolated else []))
        engine.call("network", "create", *options, name)
        # Addresses may only be chosen in a subnet that was asked for: we ask for the one that the engine found free.
        subnet = _subnet(engine, name)
        engine.call("network", "rm", name)
        options = (*options, "--subnet", str(subnet))
        try:
            engine.call("network", "create", *options, *(_NOT_THIS_MACHINE if isolated else ()), name)
        except EngineError:
            if not isolated:
                raise
            engine.call("network", "create", *options, name)  # podman does not know that option
        return cls(name, {host.name: str(subnet[host.number + _FIRST]) for host in hosts})

    def words(self, host: Host) -> list[str]:
        """The options of a host's container."""
        known = [
            word for name, address in self.addresses.items() for word in ("--add-host", f"{name}:{address}")
        ]
        return [
            "--network",
            self.name,
            "--network-alias",
            host.name,
            "--ip",
            self.addresses[host.name],
            *known,
        ]


def _subnet(engine: Engine, name: str) -> ipaddress.IPv4Network:
    """The IPv4 subnet of a network; podman and docker write it in different places."""
    found = json.loads(engine.call("network", "inspect", name))[0]
    entries = [*(found.get("IPAM", {}).get("Config") or ()), *(found.get("subnets") or ())]
    for entry in entries:
        subnet = ipaddress.ip_network(entry.get("Subnet") or entry.get("subnet"))
        if isinstance(subnet, ipaddress.IPv4Network):
            return subnet
    raise EngineError(f"{engine.program} made the network {name} without an IPv4 subnet")
