"""The training program of one host in a container."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sagemaker_launcher.engine import Engine, EngineError
from sagemaker_launcher.errors import NotFoundError
from sagemaker_launcher.rehearsal.program import OnLine, Output

_START_S = 30.0  # in which a container that was asked for appears
_AWAKE_S = 3.0  # in which a program that was started has installed what handles SIGTERM
_POLL_S = 0.05
_OUT_OF_MEMORY = "the engine ended it because it ran out of memory (OOMKilled)"


class ContainerProgram:
    """A container that runs; see `Program`.

    Args:
        engine: The engine.
        name: The container's name.
        words: The options of `run` after the name, the image and its arguments.
        on_line: Called with each line of its output.
        on_problem: Called with what the engine says of a container that it could not start, or had to end.
        environment: All variables of the engine's program, when not ours.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        words: Sequence[str],
        on_line: OnLine,
        on_problem: Callable[[str], None],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._engine = engine
        self._name = name
        self._on_problem = on_problem
        self._asked_for = time.monotonic()
        self._output = Output(
            [engine.find(), "run", "--name", name, *words], on_line, environment=environment
        )

    def wait(self) -> int:
        """See `Program`.

        Raises:
            LauncherError: The container was never made, or the engine has gone.
        """
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

    def terminate(self) -> None:
        """See `Program`. A program that is about to start gets the signal when it would notice it."""
        while not self._listens() and time.monotonic() < self._asked_for + _AWAKE_S:
            time.sleep(_POLL_S)
        self._signal("TERM")

    def kill(self) -> None:
        """See `Program`. A container takes everything in it along."""
        self._signal("KILL")

    def _listens(self) -> bool:
        """Whether SIGTERM would be noticed: the kernel keeps a signal without a handler from a container's first process.

        https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
        """
        if self._output.process.poll() is not None:
            return True  # too late for any signal
        try:
            pid = self._engine.call("container", "inspect", "--format", "{{.State.Pid}}", self._name).strip()
        except NotFoundError:
            return False
        try:
            status = Path("/proc", pid, "status").read_text("ascii", "replace")
        except OSError:
            return pid != "0"  # it runs in the virtual machine of an engine, or on another machine
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return caught is None or bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)

    def _signal(self, name: str) -> None:
        """Sends a signal; a container that is about to start gets it as soon as it has."""
        until = time.monotonic() + _START_S
        while self._output.process.poll() is None and time.monotonic() < until:
            try:
                self._engine.call("kill", "--signal", name, self._name)
            except (NotFoundError, EngineError):
                time.sleep(_POLL_S)  # not there yet, or just ended, which the process tells
            else:
                return
