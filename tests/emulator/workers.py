"""The processes that carry jobs out, and their folder on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from sagemaker_launcher.rehearsal.leftovers import clear
from sagemaker_launcher.rehearsal.workspace import Workspace
from sagemaker_launcher.user_cache import VARIABLE as CACHE_VARIABLE
from tests.commands import ROOT

from .orders import Line, Order

_NOT_KEPT = ("AWS_", "SAGEMAKER_", "SM_")


class Workers:
    """What starts a process for each job.

    Args:
        variables: Where S3 is, and credentials for it.
    """

    def __init__(self, variables: dict[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sagemaker-emulator-"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_KEPT)}
        environment = {**kept, **variables, CACHE_VARIABLE: str(self._folder / "cache")}
        self._control, theirs = socket.socketpair()
        with theirs, self._log_path.open("wb") as log:
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "tests.emulator.nursery", str(theirs.fileno())],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
            )

    def start(self, order: Order) -> Line:
        """Starts the process of a job, and gives the line to it; it ends when that is closed."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
        line = Line(ours)
        line.say(order.to_json())
        return line

    def clear(self) -> None:
        """Kills every program of any job."""
        clear(Workspace("", self._folder, {}))

    def close(self) -> None:
        """Leaves nothing, once the lines of all jobs are closed."""
        self._control.close()
        self._nursery.wait()
        self.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def leftovers(self) -> list[Path]:
        """The folders of jobs that run, or that have left something."""
        return list((self._folder / "cache" / "rehearsals").glob("*"))

    def log(self) -> str:
        """What the processes said of their own troubles."""
        return self._log_path.read_text("utf-8", "replace")

    @property
    def _log_path(self) -> Path:
        return self._folder / "workers.log"
