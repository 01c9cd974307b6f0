"""The training program of one host in a container."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sagemaker_launcher.engine import Engine, EngineError
from sagemaker_launcher.errors import LauncherError, NotFoundError
from sagemaker_launcher.rehearsal.head_start import HeadStart
from sagemaker_launcher.rehearsal.program import OnLine, Output, start

_POLL_S = 0.05
_STARTING_S = 3.0  # in which a program without a handler of SIGTERM is taken for one that has not got so far
_OUT_OF_MEMORY = "the engine ended it because it ran out of memory (OOMKilled)"


class ContainerProgram:
    """A container that runs; see `Program`.

    Args:
        engine: The engine.
        name: The container's name.
        command: What makes it and shows its output: the engine's program and the words of its `run`.
        on_line: Called with each line of its output.
        on_problem: Called with what the engine says of a container that it could not start, or had to end.
        environment: All variables of the engine's program.
        head_start: A `run` that waits, perhaps for this very command.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        command: Sequence[str],
        on_line: OnLine,
        on_problem: Callable[[str], None],
        *,
        environment: Mapping[str, str],
        head_start: HeadStart | None = None,
    ) -> None:
        self._engine = engine
        self._name = name
        self._on_problem = on_problem
        self._asked_for = time.monotonic()
        self._ended = threading.Event()
        process = head_start.go(command) if head_start else None
        self._output = Output(process or start(command, environment=environment), on_line)

    def wait(self) -> int:
        """See `Program`.

        Raises:
            LauncherError: The container was never made, or the engine has gone.
        """
        try:
            return self._wait()
        finally:
            self._ended.set()

    def terminate(self) -> None:
        """See `Program`. A program that is about to start gets the signal when it would notice it, however long it takes."""
        threading.Thread(target=self._terminate, name=f"stop {self._name}", daemon=True).start()

    def kill(self) -> None:
        """See `Program`. A container takes everything in it along."""
        self._signal("KILL")

    def _wait(self) -> int:
        self._output.process.wait()
        self._output.drain()
        try:
            state = json.loads(
                self._engine.call("container", "inspect", "--format", "{{json .State}}", self._name)
            )
        except NotFoundError as error:
            raise EngineError(
                f"{self._engine.program} did not make the container {self._name}",
                hint="the last lines of the log say why",
            ) from error
        if state.get("Running"):  # the program that showed its log has been killed
            return int(self._engine.call("wait", self._name, timeout_s=None))
        if state.get("OOMKilled"):
            self._on_problem(_OUT_OF_MEMORY)
        elif state.get("Error"):
            self._on_problem(state["Error"])
        return int(state["ExitCode"])

    def _terminate(self) -> None:
        told = False
        with suppress(LauncherError):  # whoever waits for the end hears that the engine has gone
            process = self._first_process()
            while not self._ended.is_set():
                catches = _catches_sigterm(process)
                # Without a handler it may still wait for the signal, as tini does, and /proc does not show that.
                if catches or (not told and time.monotonic() > self._asked_for + _STARTING_S):
                    self._signal("TERM")
                    told = True
                    # The handler may have been the engine's, which then became the program.
                    if catches and _catches_sigterm(process):
                        return
                self._ended.wait(_POLL_S)

    def _first_process(self) -> Path | None:
        """The folder in /proc of the container's first process, once there is one; None: it cannot be seen from here."""
        while not self._ended.is_set():
            with suppress(NotFoundError):
                state = ("--format", "{{.State.Pid}} {{.Id}}", self._name)
                pid, identifier = self._engine.call("container", "inspect", *state).split()
                if pid != "0":
                    process = Path("/proc", pid)
                    return process if identifier in _text(process / "cgroup") else None
            self._ended.wait(_POLL_S)
        return None

    def _signal(self, name: str) -> None:
        """Sends a signal; a container that is about to start gets it as soon as it has."""
        while not self._ended.is_set():
            try:
                self._engine.call("kill", "--signal", name, self._name)
            except (NotFoundError, EngineError):
                self._ended.wait(_POLL_S)  # not there yet, or just ended, which its watcher is about to hear
            else:
                return


def _catches_sigterm(process: Path | None) -> bool:
    """Whether a container's first process has a handler of SIGTERM: without one, the kernel keeps the signal from it.

    https://man7.org/linux/man-pages/man7/pid_namespaces.7.html

    Args:
        process: Its folder in /proc; None, which counts as yes: it cannot be seen, such as in an engine's virtual machine.
    """
    if process is None:
        return True
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", _text(process / "status"), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def _text(path: Path) -> str:
    """The content of a file in /proc; empty when the process has ended, or is none of ours."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
