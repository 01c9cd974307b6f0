"""Everything that is fuzzed."""

from __future__ import annotations

from .archives import ARCHIVES
from .configs import CONFIGS
from .course import Tally, run
from .logs import LOGS
from .names import NAMES_OF_ALL_KINDS
from .subject import Subject
from .tars import TARS

SUBJECTS: tuple[Subject, ...] = (CONFIGS, NAMES_OF_ALL_KINDS, TARS, ARCHIVES, LOGS)


def run_share(name: str, seed: int, numbers: range) -> Tally:
    """Runs some inputs of the subject of that name."""
    return run(next(subject for subject in SUBJECTS if subject.name == name), seed, numbers)
