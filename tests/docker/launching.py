"""Launches in containers, and what their programs tell of what they saw."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.commands import CommandLine, Finished, clean_environment
from tests.project import Project
from tests.servers.engine import Engine

CODE = "/opt/ml/code"
# What an image is built with whose ENTRYPOINT is the program of a `Project`.
RUNS_THE_CODE = f'ENTRYPOINT ["python3", "{CODE}/main.py"]'
LABEL = "sagemaker-launcher.rehearsal"
_PRELUDE = """\
import json, os, pathlib, re, signal, socket, subprocess, sys, time
base = pathlib.Path("/opt/ml")
model, data = base / "model", base / "output" / "data"
def tell(**what): print(json.dumps(what), flush=True)
def host(): return json.loads((base / "input/config/resourceconfig.json").read_text())["current_host"]
# The kernel knows where a mount comes from on the host.
identifier = re.search(r"/rehearsals/(\\w+)/", pathlib.Path("/proc/self/mountinfo").read_text())[1]
"""
_WAIT_S = 120


@dataclass(frozen=True)
class Ended:
    """A launch that has ended, with `--json`."""

    done: Finished

    @property
    def code(self) -> int:
        return self.done.code

    @cached_property
    def answer(self) -> dict[str, Any]:
        ours = [line for line in self.done.err.splitlines() if not line.startswith("algo-")]
        assert "Traceback (most recent call last):" not in ours, self.done.err
        document: dict[str, Any] = self.done.json
        return document

    @property
    def result(self) -> dict[str, Any]:
        assert "result" in self.answer, self.done.err + self.done.out
        result: dict[str, Any] = self.answer["result"]
        return result

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.answer["error"]
        return error

    @property
    def statuses(self) -> list[str]:
        return [transition["status"] for transition in self.result["transitions"]]

    @property
    def notes(self) -> list[str]:
        return [line[6:] for line in self.done.err.splitlines() if line.startswith("note: ")]

    def lines(self, host: str = "algo-1") -> list[str]:
        """What a host's program printed."""
        start = f"{host} | "
        return [line.removeprefix(start) for line in self.done.err.splitlines() if line.startswith(start)]

    def told(self, host: str = "algo-1") -> dict[str, Any]:
        """All that a host's program told with `tell`."""
        found: dict[str, Any] = {}
        for line in self.lines(host):
            if line.startswith("{"):
                found |= json.loads(line)
        assert found, self.done.err
        return found


@dataclass(frozen=True)
class Desk:
    """Somebody with a project and an engine.

    Attributes:
        project: The project; its program runs in the image.
        cli: The command line, in the project's folder.
        engine: The engine.
        image: What `launch` runs.
        cache: The cache folder of the command line.
    """

    project: Project
    cli: CommandLine
    engine: Engine
    image: str
    cache: Path

    @classmethod
    def set_up(
        cls,
        folder: Path,
        engine: Engine,
        image: str = "",
        command_line: type[CommandLine] = CommandLine,
        **variables: str,
    ) -> Desk:
        """A new project and a new home.

        Args:
            folder: Where both are made.
            engine: The engine.
            image: What to run instead of an image whose ENTRYPOINT is the project's program.
            command_line: Who runs the commands.
            variables: Of the command line.
        """
        project, home = Project.create(folder / "project"), folder / "home"
        home.mkdir()
        environment = clean_environment(home, **engine.variables, **variables)
        image = image or engine.build("code", RUNS_THE_CODE)
        cache = Path(environment.get("SAGEMAKER_LAUNCHER_CACHE", home / ".cache" / "sagemaker-launcher"))
        return cls(project, command_line(project.folder, environment), engine, image, cache)

    def words(self, *more: str | Path) -> tuple[str | Path, ...]:
        """The words of a launch."""
        where = ("--on", "docker", "--s3-root", self.project.s3)
        # What a test says of the image comes later, and wins.
        return ("launch", self.project.config, *where, "--json", "--image", self.image, *more)

    def launch(self, *more: str | Path, env: Mapping[str, str] | None = None) -> Ended:
        return Ended(self.cli(*self.words(*more), env=env))

    @contextmanager
    def launching(
        self, *more: str | Path, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A launch that runs while the block does, and not longer."""
        with self.cli.start(*self.words(*more), env=env) as process:
            try:
                yield process
            except BaseException:
                process.kill()
                self._remove_all()
                raise
            finally:
                process.kill()

    def program(self, text: str) -> None:
        """Replaces the training program; see the prelude for what it can use."""
        self.project.program(_PRELUDE + text)

    def identifier(self) -> str:
        """Of the one rehearsal that runs, or was killed."""
        [lock] = (self.cache / "rehearsals").glob("*.lock")
        return lock.stem

    def containers(self, identifier: str) -> list[str]:
        """Names of the containers of a rehearsal, ended ones too."""
        selection = ("--all", "--filter", f"label={LABEL}={identifier}", "--format", "{{.Names}}")
        return self.engine("ps", *selection).stdout.split()

    def networks(self, identifier: str) -> list[str]:
        selection = ("--filter", f"label={LABEL}={identifier}", "--format", "{{.Name}}")
        return self.engine("network", "ls", *selection).stdout.split()

    def left(self, identifier: str) -> list[str]:
        """All that there is of a rehearsal outside the archive and the cache of data."""
        folder = self.cache / "rehearsals"
        found = [path.name for path in folder.iterdir()] if folder.exists() else []
        return [*self.containers(identifier), *self.networks(identifier), *found]

    def _remove_all(self) -> None:
        """Removes what launches of this desk have left running."""
        for lock in (self.cache / "rehearsals").glob("*.lock"):
            for name in self.containers(lock.stem):
                self.engine("rm", "--force", name)
            for name in self.networks(lock.stem):
                self.engine("network", "rm", name)

    def path(self, uri: str) -> Path:
        """Where an object or a prefix of S3 lies."""
        return self.project.s3 / uri.removeprefix("s3://").removesuffix("/")


def ended(process: subprocess.Popen[str], before: str = "") -> Ended:
    """Waits for the end of a launch.

    Args:
        process: The launch.
        before: What has been read from its stderr already.
    """
    out, err = process.communicate(timeout=_WAIT_S)
    return Ended(Finished(process.returncode, out, before + err))


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Reads the stderr of a launch up to the line that has a text."""
    assert process.stderr
    read = ""
    for line in process.stderr:
        read += line
        if text in line:
            return read
    raise AssertionError(f"the launch ended without a line with {text!r}:\n{read}")


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Waits for something that is about to happen."""
    until = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that other users can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="ordinary-user-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


class OrdinaryUser(CommandLine):
    """The command line in the hands of a user who may speak with the engine and nothing more."""

    UID = 12345
    GROUPS = ""

    @classmethod
    def of(cls, engine: Engine) -> type[OrdinaryUser]:
        """One of the group that the engine's socket belongs to.

        Raises:
            LookupError: There can be none here, and why.
        """
        if os.getuid():
            raise LookupError("only root can become another user")
        if not engine.host.startswith("unix://"):
            raise LookupError("the engine has no socket on this machine")
        socket = Path(engine.host.removeprefix("unix://")).stat()

        class Member(cls):  # type: ignore[misc,valid-type]
            GROUPS = str(socket.st_gid)

        tried = subprocess.run(
            [*Member.prefix(), engine.program, "version"],
            env={"PATH": os.environ["PATH"], **engine.variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if tried.returncode:
            raise LookupError(f"an ordinary user cannot use the engine: {tried.stderr.strip()}")
        seen = subprocess.run(Member.command("--version"), capture_output=True, text=True, check=False)
        if seen.returncode:
            raise LookupError(f"an ordinary user cannot run {sys.executable} here: {seen.stderr.strip()}")
        return Member

    @classmethod
    def prefix(cls) -> list[str]:
        groups = ["--groups", cls.GROUPS] if cls.GROUPS else ["--clear-groups"]
        return ["setpriv", f"--reuid={cls.UID}", f"--regid={cls.UID}", *groups]

    @classmethod
    def command(cls, *words: str | Path) -> list[str]:
        return [*cls.prefix(), *CommandLine.command(*words)]
