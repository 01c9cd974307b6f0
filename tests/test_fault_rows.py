"""The table of faults: complete, provoked and up to date; and how `make faults` tells what came out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.fault_rows import ROWS, TABLE, Row, provoking, table
from tests.fault_run import FAILED, NOT_APPLICABLE, NOT_RUN, PASSED, Tally, report, verdict

_ROW = Row(1, "a fault", "what follows", "0")


def test_every_row_is_provoked_by_a_test_or_says_why_it_cannot_be() -> None:
    provoked = {number for number, tests in provoking().items() if tests}
    assert [row.number for row in ROWS if bool(row.why_not) == (row.number in provoked)] == []


def test_tests_provoke_only_rows_that_exist() -> None:
    assert set(provoking()) <= {row.number for row in ROWS}


def test_no_row_is_missing_or_told_twice() -> None:
    assert [row.number for row in ROWS] == list(range(1, 130))


def test_the_document_is_up_to_date() -> None:
    assert TABLE.read_text("utf-8") == table(), "run: make docs"


@pytest.mark.parametrize(
    ("row", "tally", "tests", "expected"),
    [
        (_ROW, Tally(passed=2), ["t"], (PASSED, "2 tests")),
        (_ROW, Tally(passed=1, skipped=["no engine"]), ["t"], (PASSED, "1 test, 1 skipped")),
        (_ROW, Tally(passed=5, failed=1), ["t"], (FAILED, "1 of 6 tests")),
        (_ROW, Tally(skipped=["no engine"]), ["t"], (NOT_RUN, "no engine")),
        (_ROW, None, ["t"], (FAILED, "none of its tests ran, such as t")),
        (_ROW, None, [], (FAILED, "no test provokes it")),
        (Row(1, "a", "b", "0", "there is no board"), None, [], (NOT_APPLICABLE, "there is no board")),
    ],
)
def test_a_row_is_told_as_its_tests_went(
    row: Row, tally: Tally | None, tests: list[str], expected: tuple[str, str]
) -> None:
    assert verdict(row, tally, tests) == expected


def test_each_row_is_followed_by_its_tests() -> None:
    said: list[str] = []
    tests = {3: ["tests/test_a.py::test_one", "tests/test_b.py::test_two"]}
    words = report({3: Tally(passed=2)}, tests, said.append)
    row = next(number for number, line in enumerate(said) if line.startswith("    3  passed"))
    assert [line.strip() for line in said[row + 1 : row + 3]] == tests[3]
    assert words[PASSED] == 1
    assert words.total() == len(ROWS)


_TESTS = """\
import pytest

@pytest.mark.fault(2)
def test_good(): pass

@pytest.mark.fault(2, 3)
@pytest.mark.parametrize("bad", [False, True])
def test_half(bad): assert not bad

@pytest.fixture
def broken(): raise OSError

@pytest.mark.fault(4)
def test_without_what_it_needs(broken): pass

@pytest.mark.fault(5)
def test_skipped(): pytest.skip("no engine")

def test_of_no_row(): assert False
"""


def test_outcomes_are_counted_by_row_also_when_they_come_from_other_processes(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault: x\n")
    (tmp_path / "test_them.py").write_text(_TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault_run", "-c", tmp_path / "pytest.ini", tmp_path, "-n", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line[:5].strip().isdigit()}
    assert done.returncode == 1
    assert "FAILED" in lines["2"]
    assert lines["2"].endswith("(1 of 3 tests)")
    assert lines["3"].endswith("(1 of 2 tests)")
    assert lines["4"].endswith("(1 of 1 tests)")
    assert "not run" in lines["5"]
    assert lines["5"].endswith("(no engine)")
    assert "not applicable" in lines["95"]
