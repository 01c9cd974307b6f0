"""Names and read-only folders for plain processes: each gets a view of this machine's files of its own.

In a mount namespace (Linux, https://man7.org/linux/man-pages/man7/mount_namespaces.7.html) /etc/hosts says where algo-1,
algo-2 ... are, each at an address of its own on the loopback interface, and the folders of FastFile channels cannot be written to.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable
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


def wrapped(command: Iterable[str], hosts_file: Path, read_only: Iterable[Path] = ()) -> tuple[str, ...]:
    """A command that runs another one with this hosts file and with these folders read-only, as the same user."""
    user, group = os.getuid(), os.getgid()
    enter: tuple[str, ...] = ("unshare", "--mount")
    leave: tuple[str, ...] = ()
    if user:
        # Mounting needs to be root in a user namespace; the program itself is in one where it is the user again.
        enter = ("unshare", "--user", "--map-root-user", "--mount")
        leave = ("unshare", "--user", f"--map-user={user}", f"--map-group={group}")
    return (*enter, "sh", "-c", _SCRIPT, "sh", str(hosts_file), *map(str, read_only), "--", *leave, *command)


def works_here(folder: Path) -> bool:
    """Whether this machine lets its user have such a view.

    Args:
        folder: An existing folder for the trial.
    """
    trial = folder / "hosts"
    trial.write_text("127.0.0.1 localhost\n")
    command = wrapped(["true"], trial, [folder])
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own words
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
