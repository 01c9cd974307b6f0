"""Proof of whom a Python process talks to: an audit hook in it writes down every address it looks up or connects to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

_LOG_VARIABLE = "SOCKET_SPY_LOG"
# Runs in the spied process before anything else, hence no imports but these and no functions left behind.
# Audit events: https://docs.python.org/3/library/audit_events.html
_SITECUSTOMIZE = f"""\
import json, os, sys

def _install():
    log = os.open(os.environ["{_LOG_VARIABLE}"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    where = {{
        "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1,
        "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0,
    }}

    def write(event, address):
        host, port = (address[0], address[1]) if isinstance(address, tuple) else (address, None)
        line = {{"pid": os.getpid(), "event": event, "host": host and os.fsdecode(host), "port": port}}
        os.write(log, json.dumps(line).encode() + b"\\n")

    def hook(event, arguments):
        if event in where:
            write(event, arguments[where[event]])

    write("start", None)
    sys.addaudithook(hook)

_install()
del _install
"""


@dataclass(frozen=True)
class Contact:
    """One look-up, connection or datagram.

    Attributes:
        pid: Of the process that did it.
        event: Python's name of the audit event, such as `socket.connect`.
        host: A host name, an address, or the path of a unix socket; None in a look-up of this machine itself.
        port: None where the event has none.
    """

    pid: int
    event: str
    host: str | None
    port: int | None

    @property
    def leaves_the_machine(self) -> bool:
        """Whether this concerns anything but loopback and unix sockets."""
        if self.host is None or self.host == "localhost" or self.host.startswith(("/", "\0")):
            return False
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return True


def spy_environment(folder: Path) -> tuple[dict[str, str], Callable[[], list[Contact]]]:
    """Prepares to spy on Python processes.

    Args:
        folder: An existing folder for the spy and what it writes.

    Returns:
        The variables to add to a child's environment (its own children inherit them), and a function that
        returns what has been seen so far. That function raises RuntimeError when no process has loaded the spy,
        for then its silence proves nothing (`python -I`, `-E` and `-S` do not load it).
    """
    site = folder / "socket-spy"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE, encoding="utf-8")
    log = folder / "contacts.jsonl"
    search_path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))

    def read() -> list[Contact]:
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
        if not lines:
            raise RuntimeError("no process has loaded the spy")
        return [Contact(**line) for line in lines if line["event"] != "start"]

    return {"PYTHONPATH": search_path, _LOG_VARIABLE: str(log)}, read
