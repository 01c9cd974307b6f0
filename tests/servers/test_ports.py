"""Ports are free, distinct, and safe from outgoing connections."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

import pytest

from .ports import free_ports


def test_ports_are_distinct_and_can_be_bound_with_their_companions() -> None:
    ports = free_ports(20, companion=10_000)

    assert len(set(ports)) == 20
    for port in [*ports, *(port + 10_000 for port in ports)]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_companions_stay_below_the_ports_of_outgoing_connections() -> None:
    assert max(free_ports(50, companion=10_000)) + 10_000 < 32_768


@pytest.mark.parametrize("companion", [0, 10_000])
def test_a_port_is_never_given_when_it_or_its_companion_is_in_use(companion: int) -> None:
    occupied = range(15_000, 15_300)
    with ExitStack() as held:
        for port in occupied:
            listener = held.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind(("127.0.0.1", port + companion))
                listener.listen()

        assert not set(occupied) & set(free_ports(300, companion=companion))


def test_running_out_of_ports_is_an_error() -> None:
    with pytest.raises(OSError, match="ports are free"):
        free_ports(2000)
