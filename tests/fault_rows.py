"""The faults that this tool has to survive, row by row, and the tests that provoke them."""

from __future__ import annotations

import pytest


def provokes(*rows: int) -> pytest.MarkDecorator:
    """Says that a test makes the faults of these rows happen, and sees what has to follow."""
    return pytest.mark.fault(*rows)
