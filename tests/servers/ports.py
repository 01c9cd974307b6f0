"""Free TCP ports on loopback, for servers that must be told their port before they start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Below the range that kernels hand out to outgoing connections (32768 on Linux), so that none of those takes
# a port between our look and the server's start; the companions stay below it too.
_LOWEST, _HIGHEST = 10_000, 22_767


def free_ports(count: int, *, companion: int = 0) -> list[int]:
    """Distinct ports that nothing listens on at the moment.

    Args:
        count: How many.
        companion: When given, `port + companion` is free too (SeaweedFS speaks gRPC on port + 10000).

    Raises:
        OSError: No free ports are left.
    """
    ports: list[int] = []
    # One generator per call, seeded by the system: parallel test processes must not try the same ports.
    candidates = random.SystemRandom().sample(range(_LOWEST, _HIGHEST), 1000)
    with ExitStack() as held:
        for port in candidates:
            if len(ports) == count:
                break
            if all(_hold(held, each) for each in {port, port + companion}):
                ports.append(port)
    if len(ports) < count:
        raise OSError(f"only {len(ports)} of {count} ports are free")
    return ports


def _hold(held: ExitStack, port: int) -> bool:
    listener = held.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
    except OSError:
        return False
    return True
