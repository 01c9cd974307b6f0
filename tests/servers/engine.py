"""A real Docker engine: found, never installed; and the images that the tests run on it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FAMILY = "sagemaker-launcher-tests"
# Debian with Python: what an image is built on where no registry can be reached.
BASE_IMAGE = f"{_FAMILY}/base:bookworm"
_SUITE = "bookworm"
_PACKAGES = ("python3", "python3-pip", "python3-venv", "python3-dev", "gcc", "libc6-dev", "ca-certificates")
_ANSWER_TIMEOUT_S = 20
_BUILD_TIMEOUT_S = 900


@dataclass(frozen=True)
class Engine:
    """An engine that answers, and the program that speaks with it.

    Attributes:
        program: The path of `docker`.
        host: Where the engine listens, as DOCKER_HOST takes it.
    """

    program: str
    host: str

    @classmethod
    def found(cls) -> Engine:
        """The engine that `docker` would use here.

        Raises:
            LookupError: There is none, and why.
        """
        program = shutil.which("docker")
        if program is None:
            raise LookupError("there is no program `docker` here")
        # The tests hide HOME, and with it the current context of a developer: its address is asked for before.
        endpoint = "{{.Endpoints.docker.Host}}"
        words = [program, "context", "inspect", "--format", endpoint]
        asked = subprocess.run(words, capture_output=True, text=True, timeout=_ANSWER_TIMEOUT_S, check=False)
        if asked.returncode:
            raise LookupError(f"docker has no usable context: {asked.stderr.strip()}")
        engine = cls(program, asked.stdout.strip())
        answer = engine("version", check=False, timeout=_ANSWER_TIMEOUT_S)
        if answer.returncode:
            raise LookupError(f"no Docker engine answers at {engine.host}: {answer.stderr.strip()}")
        return engine

    @property
    def variables(self) -> dict[str, str]:
        """What commands under test need in their environment to use this engine."""
        return {"DOCKER_HOST": self.host}

    def __call__(
        self, *words: str | Path, check: bool = True, timeout: float = 120, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs `docker WORDS`, with `text` as its input.

        Raises:
            AssertionError: It failed, and `check` is true; the message has what it wrote.
        """
        done = subprocess.run(
            [self.program, *map(str, words)],
            env={**os.environ, **self.variables},
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        said = f"docker {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0 or not check, said
        return done

    def inspect(self, thing: str) -> dict[str, Any]:
        """What the engine knows of a container, image, network or volume; an AssertionError when there is none."""
        [found] = json.loads(self("inspect", thing).stdout)
        return dict(found)

    def has_image(self, image: str) -> bool:
        return self("image", "inspect", image, check=False).returncode == 0

    def build(
        self,
        name: str,
        instructions: str,
        files: Mapping[str, str | bytes] | None = None,
        *,
        base: str = BASE_IMAGE,
    ) -> str:
        """Builds a small image, or finds the one that an earlier call with the same arguments has built.

        Args:
            name: For people who look at `docker images`.
            instructions: A Dockerfile without its FROM; `COPY` and `ADD` take from `files`.
            files: Content by path. What begins with `#!` is executable.
            base: The image to build on; it must be there.

        Returns:
            The image's name and tag. The tag is a hash of all arguments, so nobody ever has to remove it.
        """
        content = {"Dockerfile": f"FROM {base}\n{instructions}\n", **(files or {})}
        known = repr((self.inspect(base)["Id"], sorted(content.items())))
        image = f"{_FAMILY}/{name}:{hashlib.sha256(known.encode()).hexdigest()[:12]}"
        with one_at_a_time():
            if not self.has_image(image):
                with tempfile.TemporaryDirectory() as folder:
                    _write(Path(folder), content)
                    # Packages come over the network of this machine: its names may not resolve on another one.
                    self("build", "--network", "host", "--tag", image, folder, timeout=_BUILD_TIMEOUT_S)
        return image

    def make_base_image(self) -> None:
        """Makes BASE_IMAGE from Debian's packages when it is missing, which takes half a minute, once per engine.

        Raises:
            LookupError: It is missing and cannot be made here; what to do about it.
        """
        with one_at_a_time():
            if self.has_image(BASE_IMAGE):
                return
            if shutil.which("mmdebstrap") is None:
                raise LookupError(
                    f"there is no image {BASE_IMAGE}, and no mmdebstrap to make it: install that, or give the name "
                    f"to an image of Debian with Python and gcc: docker tag python:3.11-bookworm {BASE_IMAGE}"
                )
            with tempfile.TemporaryDirectory() as folder:
                tree = Path(folder) / "tree.tar"
                words = [
                    "--quiet",
                    "--variant=minbase",
                    f"--include={','.join(_PACKAGES)}",
                    _SUITE,
                    str(tree),
                ]
                subprocess.run(["mmdebstrap", *words], timeout=_BUILD_TIMEOUT_S, check=True)
                self("import", tree, BASE_IMAGE, timeout=_BUILD_TIMEOUT_S)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Makes the test processes of this machine wait for each other: what one has built the next one finds."""
    path = Path(tempfile.gettempdir()) / f"{_FAMILY}-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(folder: Path, content: Mapping[str, str | bytes]) -> None:
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)
