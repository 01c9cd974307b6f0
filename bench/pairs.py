"""Measures commands in pairs of runs that follow each other, and prints the ratios."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAIRS = 7
Measure = Callable[[], float]


def seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a command takes."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr.decode()}")
    return taken


def seconds_to_line(
    command: Sequence[str], environment: Mapping[str, str], text: str, *, anywhere: bool = False
) -> float:
    """How long a command takes to its first line that starts with a text, or has it anywhere."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            if line.startswith(text) or (anywhere and text in line):
                taken = time.perf_counter() - start
                process.communicate()
                return taken
    sys.exit(f"{command} printed no line {text!r}")


def compare(name: str, ours: Measure, theirs: Measure, limit: str, *, pairs_of_runs: int = PAIRS) -> None:
    """Prints the medians of pairs of runs, their ratio and their difference.

    The medians of seven pairs differ by a tenth on a machine with neighbours; where the aim is nearer than that, it takes more.
    """
    ours(), theirs()  # the first run fills the caches
    pairs = [(ours(), theirs()) for _ in range(pairs_of_runs)]
    ratio = statistics.median(a / b for a, b in pairs)
    difference = statistics.median(a - b for a, b in pairs)
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"{name:<44} {a:6.3f} s  against {b:6.3f} s: {ratio:5.2f}x, {difference:+.3f} s  (aim: {limit})",
        flush=True,
    )
