"""Carries jobs out, each in a process of its own that is forked from one that has imported everything already.

Run as a program, with the file descriptor of a socket as its argument; each descriptor that comes through it is the
end of a job's line.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import LauncherError, NotFoundError
from sagemaker_launcher.interrupts import Interrupted, raise_on_signals
from sagemaker_launcher.rehearsal import leftovers  # noqa: F401 - imported once, for all jobs
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.result import FAILED, FAILURE_REASON_MAX, STOPPED, JobResult
from sagemaker_launcher.s3_storage import S3Storage
from sagemaker_launcher.storage import Storage

from .any_request import AnyRequest, job_of, target_of
from .orders import END, STOP, Line, Order

_SECOND_SIGNAL_S = 1.0  # for a program that ends when it is asked to


def main(control_fd: int) -> None:
    """Forks a process for every line that comes, until the emulator is gone."""
    storage = S3Storage(Aws("us-east-1"))
    _ = storage._client  # making it takes longer than a fork
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the emulator, which then ends the jobs
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(fileno=control_fd) as control:
        while True:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not descriptors:
                return
            if os.fork() == 0:
                try:
                    control.close()
                    _carry_out(Line(socket.socket(fileno=descriptors[0])), storage)
                finally:
                    os._exit(0)
            os.close(descriptors[0])


def _carry_out(line: Line, storage: Storage) -> None:
    """The whole life of a job's process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    messages = line.hear()
    line.say({"pid": os.getpid()})
    order = Order.from_json(next(messages))
    raise_on_signals()
    try:
        threading.Thread(target=_obey, args=(messages,), daemon=True).start()
        result = _run(order, storage, _Wire(line))
        line.say({"result": result.to_json()})
    except Interrupted:
        line.say({"result": JobResult(STOPPED, STOPPED).to_json()})
    except BaseException:  # noqa: BLE001 - the process has nobody above it
        traceback.print_exc()


def _run(order: Order, storage: Storage, events: _Wire) -> JobResult:
    rehearsal = AnyRequest(storage, Terms(order.stop_grace_s, order.interrupt_after_s))
    target = target_of(order, rehearsal)
    try:
        target.prepare(job_of(order), order.request, events)
        return target.follow(order.request, events, _keep_nothing)
    except Interrupted as interrupted:
        return interrupted.result or JobResult(STOPPED, STOPPED)
    except LauncherError as error:
        words = "Data download failed: " if isinstance(error, NotFoundError) else ""
        reason = f"ClientError: {words}{error.message}"[:FAILURE_REASON_MAX]
        return JobResult(FAILED, FAILED, reason)


def _obey(messages: Iterator[str]) -> None:
    """Turns what the emulator says into signals; when it is gone, so is the job."""
    for message in messages:
        if message == STOP:
            os.kill(os.getpid(), signal.SIGTERM)
        elif message == END:
            break
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SECOND_SIGNAL_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _keep_nothing(_: Path) -> None:
    """CloudWatch has the log."""


class _Wire:
    """Tells the emulator what a rehearsal tells; see `Events`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def phase(self, name: str, message: str = "") -> None:
        self._line.say({"phase": name, "message": message, "at": time.time()})

    def note(self, text: str) -> None:
        self._line.say({"note": text})

    def log(self, host: str, line: str) -> None:
        self._line.say({"log": line, "host": host, "at": time.time()})

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:  # noqa: ARG002 - nobody looks
        return nullcontext(lambda _: None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
