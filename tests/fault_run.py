"""Runs the tests that provoke faults and prints how each row of the table went: `python -m tests.fault_run`."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from tests.fault_rows import SECTIONS, Row, provoking

_PROPERTY = "fault_rows"
_REQUIRED = ("REQUIRE_SERVERS", "REQUIRE_DOCKER")
PASSED, FAILED, NOT_APPLICABLE, NOT_RUN = "passed", "FAILED", "not applicable", "not run"


@dataclass
class Tally:
    """How the tests of one row went.

    Attributes:
        passed: How many.
        failed: How many, errors of their fixtures included.
        skipped: Their reasons.
    """

    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)


class Rows:
    """A pytest plugin that counts the outcomes of tests by the rows that they provoke."""

    def __init__(self) -> None:
        self.tallies: dict[int, Tally] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Every test has up to three reports, and of those that went well only the call's counts."""
        rows = next((value for name, value in report.user_properties if name == _PROPERTY), ())
        for number in rows if isinstance(rows, Sequence) else ():
            tally = self.tallies.setdefault(int(number), Tally())
            if report.failed:
                tally.failed += 1
            elif report.skipped:
                tally.skipped.append(_reason(report))
            elif report.when == "call":
                tally.passed += 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Writes the rows of each test into its reports, which come from other processes."""
    for item in items:
        rows = sorted({number for mark in item.iter_markers("fault") for number in mark.args})
        if rows:
            item.user_properties.append((_PROPERTY, rows))


def verdict(row: Row, tally: Tally | None, tests: Sequence[str]) -> tuple[str, str]:
    """What the table says of a row: a word, and why or how many tests.

    Args:
        row: The row.
        tally: How its tests went; None: none of them ran.
        tests: Those that there are, on whatever machine.
    """
    if tally is None:
        return (NOT_APPLICABLE, row.why_not) if row.why_not else (FAILED, _without_outcome(tests))
    if tally.failed:
        return FAILED, f"{tally.failed} of {tally.passed + tally.failed} tests"
    if not tally.passed:
        reason, _ = Counter(tally.skipped).most_common(1)[0]
        return NOT_RUN, reason
    more = f", {len(tally.skipped)} skipped" if tally.skipped else ""
    return PASSED, f"{tally.passed} tests{more}" if tally.passed > 1 else f"1 test{more}"


def report(
    tallies: Mapping[int, Tally], tests: Mapping[int, Sequence[str]], say: Callable[[str], None]
) -> Counter[str]:
    """Says the table line by line, each row with its tests; gives how many rows have each word."""
    words: Counter[str] = Counter()
    for section, rows in SECTIONS.items():
        say(f"\n{section}")
        for row in rows:
            word, detail = verdict(row, tallies.get(row.number), tests.get(row.number, ()))
            words[word] += 1
            say(f"{row.number:>5}  {word:<14}  {row.fault} ({detail})")
            for test in tests.get(row.number, ()):
                say(f"{'':23}{test}")
    say("\n" + ", ".join(f"{count} {word}" for word, count in words.most_common()))
    return words


def main(arguments: Sequence[str]) -> int:
    """Runs the tests, with these further arguments for pytest, and gives the exit code: 1 unless every row is fine."""
    rows = Rows()
    ended = pytest.main(["-p", __spec__.name, "-m", "fault", "--quiet", *arguments], plugins=[rows])
    words = report(rows.tallies, provoking(), print)
    required = [name for name in _REQUIRED if os.environ.get(name)]
    return int(bool(ended or words[FAILED] or (required and words[NOT_RUN])))


def _without_outcome(tests: Sequence[str]) -> str:
    return f"none of its tests ran, such as {tests[0]}" if tests else "no test provokes it"


def _reason(skipped: pytest.TestReport) -> str:
    """Of a skipped test: pytest gives file, line and reason."""
    text = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else str(skipped.longrepr)
    return text.removeprefix("Skipped: ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
