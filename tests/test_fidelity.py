"""The table of what a rehearsal reproduces: complete, proven and up to date."""

from __future__ import annotations

import pytest

from tests.fidelity import IMPOSSIBLE, REPRODUCED, ROWS, TABLE, TARGETS, Row, proofs, table


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_called_reproduced_is_proven_and_what_is_not_has_a_reason(row: Row, target: str) -> None:
    verdict, proven = row.verdict(target), proofs().get((row.name, target))
    if verdict.word == REPRODUCED:
        assert proven, "no test has @reproduces for it"
    else:
        assert verdict.why
    if verdict.word == IMPOSSIBLE:
        assert not proven, "a test reproduces what is called impossible"


def test_tests_prove_only_rows_that_exist() -> None:
    rows = {(row.name, target) for row in ROWS for target in TARGETS}
    assert set(proofs()) <= rows


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_the_document_is_up_to_date() -> None:
    assert TABLE.read_text("utf-8") == table(), "run: make docs"
