"""The docker program, called as a program: docker, or another that answers to the same words, such as podman or finch."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError, NotFoundError, UnavailableError
from sagemaker_launcher.frozen import frozen

_TIMEOUT_S = 60.0  # of a question that an engine answers in milliseconds
# What the programs say, and what it means: the first that is found counts.
_CAUSES = (
    (
        ("permission denied while trying to connect", "connect: permission denied"),
        "you may not talk to the engine behind {program}",
        "add yourself to its group, then log in again: sudo usermod -aG docker $USER",
    ),
    (
        ("cannot connect", "connection refused", "no such file or directory", "is the docker daemon running"),
        "no engine answers {program}{host}",
        "start it (Docker Desktop, `sudo systemctl start docker`), or check DOCKER_HOST",
    ),
    (
        (
            "error during connect",
            "unable to parse docker host",
            "no such host",
            "unable to resolve docker endpoint",
        ),
        "{program} cannot reach its engine{host}",
        "check DOCKER_HOST and `docker context ls`",
    ),
)
_TELL_OF_OTHERS = {"run", "manifest", "pull"}  # of the program that ran, and of registries: not of the engine
_SPECIAL_IN_CSV = frozenset(',"\r\n')
_ELSEWHERE = "\nor rehearse without Docker: --on process"


@frozen
class ImageFacts:
    """What the engine knows of an image.

    Attributes:
        identifier: Its ID, `sha256:...`.
        system: Operating system and processor, such as `linux/amd64`.
        entry_point: ENTRYPOINT in exec form; empty when the image has none.
        arguments: CMD.
        environment: ENV.
        folder: WORKDIR; empty when the image has none.
        user: USER; empty when the image has none.
        digests: `repository@sha256:...` for each registry that the image came from or went to.
    """

    identifier: str
    system: str
    entry_point: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    user: str
    digests: tuple[str, ...]

    @property
    def processor(self) -> str:
        """The processor that the image is built for, such as `amd64`."""
        return self.system.partition("/")[2]

    @property
    def digest(self) -> str:
        """What the image is, `sha256:...`: its digest in a registry; its ID when it has never been in one."""
        return self.digests[0].rpartition("@")[2] if self.digests else self.identifier


class Engine:
    """A container engine behind its command-line program.

    Args:
        program: The program's name or path.
    """

    def __init__(self, program: str = "docker") -> None:
        self.program = program
        self._begun: dict[str, subprocess.Popen[str]] = {}  # by the image that is looked up

    def call(self, *words: str, timeout_s: float | None = _TIMEOUT_S) -> str:
        """Runs one command and gives what it prints on stdout.

        Raises:
            EnvironmentProblemError: There is no such program, or no engine behind it.
            NotFoundError: The engine does not know what the command names.
            UnavailableError: No answer in time.
            EngineError: The engine says no for another reason.
        """
        return self._answer(words, self._begin(words), timeout_s)

    def _begin(self, words: tuple[str, ...]) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - the user's own engine, words of ours
            [self.find(), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C in the terminal is for us: it must not end what is asked in a moment that is shielded from it.
            start_new_session=True,
        )

    def _answer(self, words: tuple[str, ...], process: subprocess.Popen[str], timeout_s: float | None) -> str:
        with process:
            try:
                answer, said = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise UnavailableError(
                    f"{self.program} {words[0]}: no answer in {timeout_s:g} s",
                    hint="is the engine overloaded? restart it",
                ) from error
            except BaseException:
                process.kill()  # who interrupts us does not wait for it
                raise
        if process.returncode:
            raise self._explain(words, said.strip())
        return answer

    def find(self) -> str:
        """The program's path. Raises EnvironmentProblemError when there is none."""
        path = shutil.which(self.program)
        if path is None:
            raise EnvironmentProblemError(
                f"the program {self.program} is not installed, or not on PATH",
                hint=f"install Docker, or name another program that works alike: --docker podman{_ELSEWHERE}",
                code="no_docker",
            )
        return path

    def begin_image(self, name: str) -> None:
        """Begins to look an image up, so that `image` has the answer soon. Without the program, `image` says so."""
        if name not in self._begun and shutil.which(self.program):
            process = self._begin(_inspect(name))
            atexit.register(process.kill)  # a mistake may end us before anybody wants the answer
            self._begun[name] = process

    def image(self, name: str) -> ImageFacts:
        """Looks an image up on this machine.

        Raises:
            NotFoundError: It is not on this machine.
            EnvironmentProblemError: As for `call`.
        """
        words = _inspect(name)
        process = self._begun.pop(name, None) or self._begin(words)
        found = json.loads(self._answer(words, process, _TIMEOUT_S))[0]
        config = found.get("Config") or {}
        entry_point = _words(config.get("Entrypoint"))
        pairs = (entry.partition("=") for entry in config.get("Env") or ())
        return ImageFacts(
            identifier=found["Id"],
            system=f"{found.get('Os', 'linux')}/{found.get('Architecture', '')}",
            # One empty word is how a Dockerfile takes back the entry point of its base.
            entry_point=() if entry_point == ("",) else entry_point,
            arguments=_words(config.get("Cmd")),
            environment={key: value for key, _, value in pairs},
            folder=config.get("WorkingDir") or "",
            user=config.get("User") or "",
            digests=tuple(found.get("RepoDigests") or ()),
        )

    def _explain(self, words: tuple[str, ...], said: str) -> LauncherError:
        lowered = said.lower()
        missing = "no such" in lowered and "no such file" not in lowered and "no such host" not in lowered
        if missing or "not known" in lowered:  # the second in podman's words
            return NotFoundError(f"{self.program} {' '.join(words[:2])}: {said}", code="not_found")
        host = f" at {os.environ['DOCKER_HOST']}" if "DOCKER_HOST" in os.environ else ""
        if words[0] not in _TELL_OF_OTHERS:
            for signs, message, hint in _CAUSES:
                if any(sign in lowered for sign in signs):
                    return EnvironmentProblemError(
                        message.format(program=self.program, host=host),
                        hint=hint + _ELSEWHERE,
                        code="no_docker",
                    )
        return EngineError(f"{self.program} {' '.join(words[:2])}: {said or 'failed without a word'}")


def mount(source: Path, target: str, *, read_only: bool = False) -> tuple[str, str]:
    """The option that shows a folder of this machine in a container.

    Args:
        source: An absolute path; commas, colons, quotes and spaces in it do no harm.
        target: The path in the container.
        read_only: The container cannot write to it.
    """
    fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    # The engine reads the value as a line of CSV; most are the same as one.
    if not any(_SPECIAL_IN_CSV.intersection(one) for one in fields):
        return "--mount", ",".join(fields)
    import csv  # noqa: PLC0415 - and a rehearsal has to reach its program soon
    import io  # noqa: PLC0415

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return "--mount", line.getvalue()


class EngineError(EnvironmentProblemError):
    """The engine refused a command."""

    code = "engine"


def _inspect(image: str) -> tuple[str, ...]:
    return "image", "inspect", image


def _words(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever the engine answers
    """A list of words; podman gives a text for one word."""
    return (value,) if isinstance(value, str) else tuple(value or ())
