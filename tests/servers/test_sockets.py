"""The spy sees what a Python process looks up and connects to, in its children and threads too."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .sockets import Contact, spy_environment


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def run(script: str, folder: Path, *options: str) -> Callable[[], list[Contact]]:
    variables, read = spy_environment(folder)
    subprocess.run([sys.executable, *options, "-c", script], env={**os.environ, **variables}, check=True)
    return read


def test_a_connection_to_loopback_is_seen_and_stays_on_the_machine(tmp_path: Path, port: int) -> None:
    seen = run(f"import socket; socket.create_connection(('127.0.0.1', {port}))", tmp_path)()

    assert [(each.event, each.host, each.port) for each in seen] == [
        ("socket.getaddrinfo", "127.0.0.1", None),
        ("socket.connect", "127.0.0.1", port),
    ]
    assert not any(each.leaves_the_machine for each in seen)


@pytest.mark.parametrize(
    ("call", "event", "host"),
    [
        ("socket.getaddrinfo('bucket.example.invalid', 443)", "socket.getaddrinfo", "bucket.example.invalid"),
        ("socket.getaddrinfo(b'192.0.2.2', None)", "socket.getaddrinfo", "192.0.2.2"),
        ("socket.gethostbyname('api.example.invalid')", "socket.gethostbyname", "api.example.invalid"),
        (
            "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
            "socket.sendto",
            "192.0.2.1",
        ),
        (
            "s = socket.socket(); s.setblocking(False); s.connect(('192.0.2.1', 443))",
            "socket.connect",
            "192.0.2.1",
        ),
    ],
)
def test_whatever_leaves_the_machine_is_seen_even_when_it_fails(
    tmp_path: Path, call: str, event: str, host: str
) -> None:
    script = f"import socket, contextlib\nwith contextlib.suppress(OSError):\n    {call}"

    seen = run(script, tmp_path)()

    assert [(each.event, each.host) for each in seen if each.leaves_the_machine] == [(event, host)]


def test_threads_and_child_processes_are_seen(tmp_path: Path, port: int) -> None:
    connect = f"__import__('socket').socket().connect(('127.0.0.1', {port}))"
    script = (
        "import subprocess, sys, threading\n"
        f"subprocess.run([sys.executable, '-c', {connect!r}], check=True)\n"
        f"thread = threading.Thread(target=lambda: {connect}); thread.start(); thread.join()"
    )

    seen = run(script, tmp_path)()

    assert [each.port for each in seen] == [port, port]
    assert len({each.pid for each in seen}) == 2


def test_unix_sockets_do_not_leave_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        seen = run(f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})", tmp_path)()

    assert [(each.host, each.leaves_the_machine) for each in seen] == [(str(path), False)]


def test_a_silent_process_has_no_contacts(tmp_path: Path) -> None:
    assert run("import json", tmp_path)() == []


def test_a_process_that_did_not_load_the_spy_proves_nothing(tmp_path: Path) -> None:
    read = run("import json", tmp_path, "-I")

    with pytest.raises(RuntimeError, match="no process has loaded the spy"):
        read()
