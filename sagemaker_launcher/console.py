"""Output for people: styled on a terminal, plain text elsewhere; rich is only loaded for a terminal."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

Part = tuple[str, str]  # a text and its style, such as `bold` or `red`; no style is empty
_KILO = 1000
_PADDING = 2  # between the columns of a table
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
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
    """Writes a text as it is. That nobody can read it any more is no error: what is told of goes on.

    Raises:
        OSError: There is no room for an answer on stdout, such as on a full disk.
    """
    lasting = _Lasting(stream)
    lasting.write(text)
    lasting.flush()


class _Lasting:
    """A stream that falls silent for good when its reader has gone, its terminal was closed, or its log found no room.

    Args:
        stream: stdout, which holds an answer and so does not keep it to itself that there was no room; or stderr.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._forgiving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiving():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a stream has
        return getattr(self._stream, name)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._stream is sys.stdout and error.errno in NO_ROOM:
                raise
            silence(self._stream)


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

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], spare: Sequence[str] = ()) -> None:
        """Columns on a terminal that has room for them, and row by row on others; tabs between the cells elsewhere.

        No word is ever cut, so that every name can be copied.

        Args:
            header: The names of the columns.
            rows: A cell for each column.
            spare: What is left out where there is no room for all columns, and in which order.
        """
        cells = [[safe(one_line(cell)) for cell in row] for row in rows]
        if not self.is_terminal:
            lines = ("\t".join(cell.replace("\t", " ") for cell in row) for row in (header, *cells))
            write(self._stream, "".join(f"{line}\n" for line in lines))
            return
        columns = list(zip(header, *cells, strict=True))
        for number in range(len(spare) + 1):
            shown = [column for column in columns if column[0] not in spare[:number]]
            if widths := _column_widths(shown, self._rich.width):
                self._columns(shown, widths)
                if number:
                    self.line((f"no room for: {', '.join(spare[:number])}", "dim"))
                return
        if cells:
            self._row_by_row(header, cells)
        else:
            self.line(("  ".join(header), "bold"))

    def _columns(self, columns: Sequence[Sequence[str]], widths: Iterable[int]) -> None:
        from rich.table import Table  # noqa: PLC0415 - see the module's docstring
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, padding=(0, _PADDING // 2), header_style="bold")
        for column, width in zip(columns, widths, strict=True):
            table.add_column(column[0], width=width)
        for row in zip(*(column[1:] for column in columns), strict=True):
            table.add_row(*map(Text, row))
        self._rich.print(table)

    def _row_by_row(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Names and values, one a line; no values, no line."""
        width = max(map(len, header)) + 2
        for number, row in enumerate(rows):
            if number:
                self.line()
            for name, cell in zip(header, row, strict=True):
                if cell:
                    self.line((name.ljust(width), "bold"), (cell, ""))

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

        options: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
        return RichConsole(file=cast("IO[str]", _Lasting(self._stream)), **options)


def _column_widths(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column may be, the widest folded first, but between words only; empty when there is no room."""
    from rich.cells import cell_len  # noqa: PLC0415 - see the module's docstring

    room = width - _PADDING * len(columns)
    words = [max(cell_len(word) for cell in column for word in cell.split()) for column in columns]
    whole = [max(map(cell_len, column)) for column in columns]
    for most in range(room, -1, -1):
        widths = [max(word, min(text, most)) for word, text in zip(words, whole, strict=True)]
        if sum(widths) <= room:
            return widths
    return []


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if number < _KILO:
            return f"{number:,.0f} {unit}"
        number /= _KILO
    return f"{number:,.1f} GB"


def silence(stream: TextIO) -> None:
    """After nobody can read a stream any more, keeps Python from trying again and complaining at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def out() -> Console:
    """stdout: the answer."""
    return Console(sys.stdout)


def err() -> Console:
    """stderr: progress and problems."""
    return Console(sys.stderr)
