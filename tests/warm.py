"""The command line in processes that are forked off one which has imported everything: a tenth of a second each.

What is forked is a process like any other, which signals stop and kill; only Python and the libraries are there already.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.commands import ROOT, SCRIPT, Finished

_IMPORTED = (
    "sagemaker_launcher.cli.launching",
    "sagemaker_launcher.cli.running",
    "sagemaker_launcher.cli.fetching",
    "sagemaker_launcher.cli.looking",
)
_HEAVY = (
    "sagemaker.estimator",
    "boto3",
    "psutil",
    "sagemaker_launcher.rehearsal.rehearsal",
    "sagemaker_launcher.s3_storage",
)
_ORDER_MAX = 2**20  # bytes
_ANSWER_S = 240.0


class Warm:
    """A process that waits for orders, as long as the `with` block of `warm`."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._started: list[WarmProcess] = []

    def start(self, *words: str | Path, folder: Path, env: Mapping[str, str]) -> WarmProcess:
        """Starts a command and comes back at once; the caller waits for it or kills it."""
        out = os.memfd_create("stdout")
        err, written = os.pipe()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_ANSWER_S)
        connection.connect(str(self._place))
        order = {"words": list(map(str, words)), "folder": str(folder), "env": dict(env)}
        socket.send_fds(connection, [json.dumps(order).encode()], [out, written])
        os.close(written)
        self._started.append(WarmProcess(connection, out, err))
        return self._started[-1]

    def abandon(self) -> None:
        """Kills what still runs, when a test has failed."""
        while self._started:
            self._started.pop().abandon()

    def run(self, *words: str | Path, folder: Path, env: Mapping[str, str]) -> Finished:
        """Runs a command to its end."""
        return self.start(*words, folder=folder, env=env).ended()


class WarmProcess:
    """A command that runs."""

    def __init__(self, connection: socket.socket, out: int, err: int) -> None:
        self._answers = connection.makefile()
        self._connection = connection
        self._out = out
        self.stderr = os.fdopen(err, encoding="utf-8", errors="replace")
        self._seen = ""
        self.pid = int(self._answers.readline())

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def read_until(self, text: str) -> str:
        """Reads stderr up to the line that has a text; gives that line."""
        for line in self.stderr:
            self._seen += line
            if text in line:
                return line
        raise AssertionError(f"{text!r} never came:\n{self._seen}")

    def ended(self) -> Finished:
        """Waits for the end."""
        self._seen += self.stderr.read()
        self.stderr.close()
        code = int(self._answers.readline())
        self._answers.close()
        self._connection.close()
        with os.fdopen(self._out, "rb") as out:
            out.seek(0)
            return Finished(code, out.read().decode(), self._seen)

    def abandon(self) -> None:
        """Kills it, if it still runs: the test has failed."""
        if not self.stderr.closed:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.ended()


@contextmanager
def warm() -> Iterator[Warm]:
    """The process that waits."""
    with TemporaryDirectory(prefix="warm-", dir="/tmp") as folder:
        place = Path(folder, "socket")
        command = [sys.executable, "-m", "tests.warm", str(place)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "ready\n"
                yield Warm(place)
            finally:
                process.kill()


def _serve(place: str) -> None:
    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):  # the SDK advertises its next version
        for name in (*_IMPORTED, *_HEAVY):
            importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(place)
    listener.listen(64)
    gc.freeze()  # what is there already is shared, and stays so
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for commands
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _supervise(connection)
        connection.close()


def _supervise(connection: socket.socket) -> None:
    """Runs one command, and tells its number and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, descriptors, _, _ = socket.recv_fds(connection, _ORDER_MAX, 2)
    number = os.fork()
    if number == 0:
        connection.close()
        _become(json.loads(data), *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{number}\n".encode())
    _, status = os.waitpid(number, 0)
    with suppress(BrokenPipeError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(order: dict[str, object], out: int, err: int) -> None:
    """Is the command from here on."""
    from sagemaker_launcher.cli import main  # noqa: PLC0415 - imported long ago

    code = 1
    try:
        for standard, descriptor in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(str(order["folder"]))
        os.environ.clear()
        os.environ.update(order["env"])  # type: ignore[call-overload] # it was a mapping before it was JSON
        sys.argv = [str(SCRIPT), *order["words"]]  # type: ignore[misc] # and this a list
        code = main()
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
