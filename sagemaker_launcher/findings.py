"""What a check has found: the unit that `doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "failed", "unknown"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: The check, in a word.
        verdict: `failed`: a job would fail; `warning`: it would lose something; `unknown`: it could not be found out.
        message: What was found, on what exactly.
        fix: What to do about it; empty when all is well.
    """

    name: str
    verdict: Verdict
    message: str
    fix: str = ""
