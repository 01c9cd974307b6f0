"""Lines that a training program prints to take over the terminal of whoever watches."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from sagemaker_launcher.console import Console, err, out
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.report import ConsoleEvents, print_error, print_rows
from sagemaker_launcher.result import JobResult, Transition
from tests.project import Project

from .screen import Terminal, captured, command, require_harmless
from .subject import Input, Random, Subject
from .texts import NAMES, STEERING, word

_LINES = 50  # of one log
_SHOWN_MAX = (
    70_000  # characters of one line: 8 KiB of which each may have to be escaped, and what stands before it
)
# Prints the bytes of a file, so that the launcher gets them as a pipe has them.
_PROGRAM = "import pathlib, sys\nsys.stdout.buffer.write(pathlib.Path({!r}).read_bytes())\n"


def _make(random: Random) -> Input:
    return {"log": b"\n".join(_line(random).replace(b"\n", b"\r") for _ in range(_LINES)) + b"\n"}


def _line(random: Random) -> bytes:
    kind = random.randrange(7)
    if kind == 0:
        return random.randbytes(random.choice((1, 20, 300)))
    if kind == 1:
        return (random.choice(STEERING) * 20_000)[: random.choice((100, 9_000, 100_000))].encode(
            "utf-8", "replace"
        )
    if kind == 2:
        return bytes(random.randrange(0x20) for _ in range(20)) + b"loss=0.5"
    if kind == 3:
        return (
            b"\xc2" + bytes([random.randrange(0x80, 0xA0)]) + b"\xe2\x80\xae" + random.choice(NAMES).encode()
        )
    if kind == 4:
        return random.choice(
            (b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x9b[2J")
        ) * random.choice((1, 3000))
    return " ".join(word(random) for _ in range(4)).encode("utf-8", "surrogatepass")


def _judge(pieces: Input, folder: Path) -> str:
    log = folder / "log"
    log.write_bytes(pieces["log"])
    project = Project(folder / "project")
    if not project.folder.exists():
        Project.create(project.folder)
        project.program(_PROGRAM.format(str(log)))
    code, _, told = command(
        "launch", str(project.config), "--on", "process", "--s3-root", str(project.s3), "--stop-grace", "1"
    )
    assert code == 0, told
    assert told.count("algo-1 | ") >= _LINES, told
    _require_short_lines(told)
    for line in pieces["log"].decode("utf-8", "replace").split("\n"):
        for way in _WAYS:
            _require_one_line(way, line, Terminal())
            _require_one_line(way, line, io.StringIO())
    return "accepted"


def _require_one_line(way: Callable[[str], None], line: str, stream: io.StringIO) -> None:
    """Fails when a line steers the terminal, or makes more lines of itself than one."""
    with captured(stream, stream):
        way(line)
    shown = stream.getvalue()
    require_harmless(shown)
    assert shown.endswith("\n")
    assert shown.count("\n") == 1 or way is _table, shown


def _require_short_lines(text: str) -> None:
    longest = max(map(len, text.split("\n")))
    assert longest <= _SHOWN_MAX, f"a line of {longest:,} characters"


def _log(line: str) -> None:
    ConsoleEvents(out()).log("algo-1", line)


def _phase(line: str) -> None:
    ConsoleEvents().phase("Training", line)


def _note(line: str) -> None:
    ConsoleEvents().note(line or "nothing")


def _error(line: str) -> None:
    print_error(LauncherError(line))


def _row(line: str) -> None:
    result = JobResult("Failed", failure_reason=line, transitions=(Transition(line, "", ""),))
    print_rows([("reason", result.failure_reason)], "")


def _table(line: str) -> None:
    if not err().is_terminal:
        Console(io.StringIO()).table(("name",), [(line,)])
    out().table(("name", "value"), [(line[:300], line[:300])])


_WAYS = (_log, _phase, _note, _error, _row, _table)
LOGS = Subject("logs", 40, 15.0, _make, _judge, sample=1, worth=_LINES)
