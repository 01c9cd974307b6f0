"""Ports are free, distinct, and safe from outgoing connections."""

from __future__ import annotations

import socket

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


def test_a_port_in_use_is_never_given() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_ports(1)[0]))
        listener.listen()
        taken = listener.getsockname()[1]

        assert all(taken not in free_ports(900) for _ in range(5))


def test_running_out_of_ports_is_an_error() -> None:
    with pytest.raises(OSError, match="ports are free"):
        free_ports(2000)
