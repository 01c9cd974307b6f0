"""How the jobs of an emulator run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from .fate import Fate
from .orders import Code


@dataclass
class Settings:
    """How jobs run, until the next reset.

    Attributes:
        codes: Which program runs for which images; the first that fits.
        place: `process` or `docker`.
        python: The Python that runs programs on `process`.
        stop_grace_s: Seconds between SIGTERM and SIGKILL; the service gives 120.
        fate: What befalls every job whose tags say nothing.
        next_fates: What befalls the next jobs instead, one after the other.
        quotas: How many instances of a type may be in use at once; without an entry any number.
    """

    codes: tuple[Code, ...]
    place: str = "process"
    python: str = sys.executable
    stop_grace_s: float = 120.0
    fate: Fate = field(default_factory=Fate)
    next_fates: list[Fate] = field(default_factory=list)
    quotas: dict[str, int] = field(default_factory=dict)

    def code_for(self, image: str) -> Code:
        """What runs for an image."""
        return next(code for code in self.codes if code.runs_for(image))
