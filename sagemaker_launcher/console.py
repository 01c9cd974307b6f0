"""Output for people: styled on a terminal, plain text elsewhere; rich is only loaded for a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

Part = tuple[str, str]  # a text and its style, such as `bold` or `red`; no style is empty
_KILO = 1000
# Characters that make a terminal do things: C0 without tab and newline, DEL and C1, and the bidirectional controls.
_CONTROLS = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004
    for code in (
        *range(9),
        *range(11, 32),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x061C,
        0x200E,
        0x200F,
    )
}


def safe(text: str) -> str:
    """A text from outside, with every character escaped that could steer a terminal."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """A text from outside that is to be a part of one line, and must not begin another."""
    return text.replace("\n", "\\n")


def write(stream: TextIO, text: str) -> None:
    """Writes a text as it is. A reader that has gone is no error: what is told of goes on."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _silence(stream)


class Console:
    """A stream that people read.

    Args:
        stream: stdout or stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches."""
        return self._stream.isatty()

    def line(self, *parts: Part) -> None:
        """One line, made safe, that is neither cut nor wrapped."""
        parts = tuple((safe(text), style) for text, style in parts)
        if not self.is_terminal:
            write(self._stream, f"{''.join(text for text, _ in parts)}\n")
            return
        from rich.text import Text  # noqa: PLC0415 - see the module's docstring

        self._rich.print(Text.assemble(*parts), soft_wrap=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns on a terminal; elsewhere one line each, with tabs between the cells."""
        cells = [[safe(one_line(cell)) for cell in row] for row in rows]
        if not self.is_terminal:
            lines = ("\t".join(cell.replace("\t", " ") for cell in row) for row in (header, *cells))
            write(self._stream, "".join(f"{line}\n" for line in lines))
            return
        from rich.table import Table  # noqa: PLC0415 - see the module's docstring
        from rich.text import Text  # noqa: PLC0415

        table = Table(*header, box=None, header_style="bold")
        for row in cells:
            table.add_row(*map(Text, row))
        self._rich.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal while the block runs, which calls what it gets with each step; a line elsewhere.

        Args:
            what: What goes on.
            total: Bytes.
        """
        if not self.is_terminal:
            self.line((what[:1].upper() + what[1:], "bold"), (f"  {_bytes(total)}", ""))
            yield lambda _: None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._rich, transient=True) as bar:
            task = bar.add_task(safe(what), total=total)
            yield lambda done: bar.advance(task, done)

    @cached_property
    def _rich(self) -> RichConsole:
        from rich.console import Console as RichConsole  # noqa: PLC0415 - see the module's docstring

        class LastingConsole(RichConsole):
            """Falls silent when its reader has gone, where rich would end the process."""

            def on_broken_pipe(self) -> None:
                self.quiet = True
                _silence(self.file)

        options: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
        return LastingConsole(file=self._stream, **options)


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < _KILO:
            return f"{number:,.0f} {unit}"
        number /= _KILO
    return f"{number:,.1f} GB"


def _silence(stream: IO[str]) -> None:
    """After the reader of a pipe has gone, keeps Python from trying again and complaining at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def out() -> Console:
    """stdout: the answer."""
    return Console(sys.stdout)


def err() -> Console:
    """stderr: progress and problems."""
    return Console(sys.stderr)
