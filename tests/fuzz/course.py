"""Runs the inputs of a subject one after the other in this process, and counts what becomes of them."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from .subject import Input, Subject, random_for

_MEMORY_MAX = 2 * 2**30  # bytes of address space
_HANGS_S = 60  # after which an input is not waited for
_FAILURES_MAX = 20  # of a course; whoever mends them runs it again


@dataclass(frozen=True)
class Failure:
    """An input that showed something wrong."""

    subject: str
    number: int
    pieces: Input
    story: str


@dataclass
class Tally:
    """What became of many inputs.

    Attributes:
        verdicts: How many, by verdict.
        slowest_s: The most processor time that one of them took.
        memory_kib: The most memory that the process had.
        failures: Those that showed something wrong.
    """

    verdicts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    memory_kib: int = 0
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Takes in what another process has counted."""
        self.verdicts += other.verdicts
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.memory_kib = max(self.memory_kib, other.memory_kib)
        self.failures += other.failures


class _HangsError(BaseException):
    """An input takes for ever; no handler of the code under test may take this for an error of its own."""


def run(subject: Subject, seed: int, numbers: Iterable[int]) -> Tally:
    """Makes and judges the inputs of these numbers."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_memory_folder()) as root:
        for number in numbers:
            pieces = subject.make(random_for(seed, subject.name, number))
            verdict, took_s, story = judged(subject, pieces, Path(root))
            tally.verdicts[verdict] += subject.worth
            tally.slowest_s = max(tally.slowest_s, took_s)
            if story:
                tally.failures.append(Failure(subject.name, number, pieces, story))
            if len(tally.failures) >= _FAILURES_MAX:
                break
    tally.memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return tally


def _memory_folder() -> str | None:
    """Where files cost least."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def judged(subject: Subject, pieces: Input, folder: Path) -> tuple[str, float, str]:
    """Judges one input.

    Args:
        subject: What it is an input of.
        pieces: The input.
        folder: Where the judge may write; what the one before left is still there.

    Returns:
        The verdict, the processor time that it took in seconds, and what is wrong (empty when nothing is).
    """
    before = time.process_time()
    try:
        with _no_longer_than(_HANGS_S), warnings.catch_warnings():
            warnings.simplefilter("error")
            verdict, story = subject.judge(pieces, folder), ""
    except (Exception, _HangsError):  # noqa: BLE001 - whatever it is, it is what is looked for
        verdict, story = "WRONG", traceback.format_exc()
    took_s = time.process_time() - before
    if took_s > subject.limit_s and not story:
        verdict, story = (
            "WRONG",
            f"it took {took_s:.2f} s of processor time, and {subject.limit_s} s are allowed",
        )
    return verdict, took_s, story


def prepare(home: Path) -> None:
    """Gives this process a home without settings, no AWS, and an end to its memory, so that the machine stays usable."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "SAGEMAKER_", "XDG_"))]:
        del os.environ[name]
    os.environ.update(HOME=str(home), AWS_EC2_METADATA_DISABLED="true", TERM="dumb")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX, resource.RLIM_INFINITY))


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    def end(_: int, __: FrameType | None) -> None:
        raise _HangsError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
