"""What may reach a terminal, and the command line in this process."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sagemaker_launcher.cli import main

# What steers a terminal: C0 without tab and newline, DEL, C1, and the bidirectional controls of Unicode (UAX #9, 2).
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    """A stream that says that somebody watches."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def require_harmless(text: str, *, coloured: bool = False) -> None:
    """Fails when a text would steer a terminal; a coloured one may have colours in it."""
    found = _STEERING.search(_COLOUR.sub("", text) if coloured else text)
    assert found is None, f"U+{ord(found[0]):04X} reaches the terminal: {text[:200]!r}"


@contextmanager
def captured(out: io.StringIO, err: io.StringIO) -> Iterator[None]:
    """Takes both streams of this process for a while."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def command(*words: str, terminal: bool = False) -> tuple[int, str, str]:
    """Runs a command in this process, and looks at all that it shows.

    Returns:
        The exit code, stdout and stderr.
    """
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    with captured(out, err):
        code = main(list(words))
    shown = out.getvalue(), err.getvalue()
    for text in shown:
        require_harmless(text, coloured=terminal and os.environ.get("TERM") != "dumb")
    assert 0 <= code <= 15, (code, shown)
    assert code != 1, shown
    return (code, *shown)
