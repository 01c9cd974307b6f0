"""Names and read-only folders for plain processes: each gets a view of this machine's files of its own.

In a mount namespace (Linux, https://man7.org/linux/man-pages/man7/mount_namespaces.7.html) /etc/hosts says where algo-1,
algo-2 ... are, each at an address of its own on the loopback interface, and the folders of FastFile channels cannot be written to.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sagemaker_launcher.rehearsal.hosts import Host

_HOSTS_FILE = Path("/etc/hosts")
_TIMEOUT_S = 5.0
# $1 is the file in the place of /etc/hosts; then come read-only folders, then `--`, then the program.
_SCRIPT = """\
mount --bind "$1" /etc/hosts || exit
shift
while [ "$1" != -- ]; do
  mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit
  shift
done
shift
exec "$@"
"""
_ENV = ("env", "-u", "PWD", "-u", "OLDPWD", "-u", "SHLVL", "-u", "_")  # what a shell adds of its own


def resolve_here(hosts: tuple[Host, ...]) -> bool:
    """Whether this machine knows the names already, since somebody wrote them into its /etc/hosts."""
    try:
        for host in hosts:
            socket.getaddrinfo(host.name, None)
    except OSError:
        return False
    return True


def write_hosts_file(path: Path, hosts: tuple[Host, ...]) -> None:
    """Writes a copy of /etc/hosts that has the hosts' names too."""
    own = "".join(f"127.0.0.{host.number} {host.name}\n" for host in hosts)
    try:
        known = _HOSTS_FILE.read_text("utf-8", "replace")
    except OSError:
        known = "127.0.0.1 localhost\n"
    path.write_text(f"{own}{known}", "utf-8")


def wrapped(
    command: Iterable[str],
    hosts_file: Path,
    read_only: Iterable[Path] = (),
    variables: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """A command that runs another one with this hosts file and with these folders read-only, as the same user.

    Args:
        command: The command.
        hosts_file: What /etc/hosts is to be.
        read_only: Existing folders.
        variables: All that the command is to have; the caller starts it with them.
    """
    user, group = os.getuid(), os.getgid()
    enter: tuple[str, ...] = ("unshare", "--mount")
    leave: tuple[str, ...] = ()
    if user:
        # Mounting needs to be root in a user namespace; the program itself is in one where it is the user again.
        enter = ("unshare", "--user", "--map-root-user", "--mount")
        leave = ("unshare", "--user", f"--map-user={user}", f"--map-group={group}")
    lost = [f"{name}={value}" for name, value in (variables or {}).items() if not _is_for_shells(name)]
    folders = map(str, read_only)
    return (
        *enter,
        "sh",
        "-c",
        _SCRIPT,
        "sh",
        str(hosts_file),
        *folders,
        "--",
        *leave,
        *_ENV,
        *lost,
        *command,
    )


def _is_for_shells(name: str) -> bool:
    """Whether a variable passes through a shell, which loses those that it could not name itself: SM_HP_SOLVER.LR."""
    return name.isascii() and name.isidentifier()


class Trial:
    """Finds out whether this machine lets its user have such a view, while others go on with their work.

    Args:
        folder: Any folder of the user.
    """

    def __init__(self, folder: Path) -> None:
        self._works = False
        self._thread = threading.Thread(target=self._try, args=(folder,), name="namespaces", daemon=True)
        self._thread.start()

    @property
    def succeeded(self) -> bool:
        """Whether it does."""
        self._thread.join()
        return self._works

    def _try(self, folder: Path) -> None:
        command = wrapped(["true"], _HOSTS_FILE, [folder])
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own words
            self._works = done.returncode == 0
