"""What the emulator and the processes that carry its jobs out say to each other: JSON, a line each."""

from __future__ import annotations

import fnmatch
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

STOP, END = "stop", "end"


@dataclass(frozen=True)
class Code:
    """Which program runs for which images.

    Attributes:
        images: A pattern as of shells for TrainingImage.
        folder: The folder of the code; empty: what is in the image.
        entry_point: The program in it.
    """

    images: str
    folder: str
    entry_point: str = "main.py"

    @classmethod
    def parse(cls, text: str) -> Code:
        """`IMAGE_PATTERN=FOLDER[:ENTRY_POINT]`. Raises ValueError for anything else."""
        images, equals, rest = text.partition("=")
        folder, _, entry_point = rest.partition(":")
        if not images or not equals or not folder:
            raise ValueError(f"{text!r} is not IMAGE_PATTERN=FOLDER[:ENTRY_POINT]")
        return cls(images, folder, entry_point or cls.entry_point)

    def runs_for(self, image: str) -> bool:
        """Whether it is meant for an image."""
        return fnmatch.fnmatchcase(image, self.images)


@dataclass(frozen=True)
class Order:
    """One job to be carried out.

    Attributes:
        request: The CreateTrainingJob request.
        region: Where it was asked for.
        code: What runs.
        place: `process` or `docker`.
        python: The Python that runs the code.
        stop_grace_s: Seconds between SIGTERM and SIGKILL.
        interrupt_after_s: When each attempt is interrupted.
    """

    request: dict[str, Any]
    region: str
    code: Code
    place: str
    python: str
    stop_grace_s: float
    interrupt_after_s: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Order:
        code = Code(**document.pop("code"))
        return cls(code=code, **{**document, "interrupt_after_s": tuple(document["interrupt_after_s"])})


class Line:
    """One end of the line between the emulator and the process of a job."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lock = threading.Lock()

    def say(self, message: object) -> None:
        """Sends a message; nothing happens when nobody is at the other end any more."""
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            return

    def hear(self) -> Iterator[Any]:
        """Every message until the other end is closed."""
        try:
            with self._socket.makefile("rb") as file:
                for line in file:
                    yield json.loads(line)
        except OSError:
            return

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()
