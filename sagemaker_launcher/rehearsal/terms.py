"""When and how the programs of a rehearsal are stopped."""

from __future__ import annotations

from sagemaker_launcher.frozen import frozen


@frozen
class Terms:
    """How a rehearsal deals with its programs.

    Attributes:
        grace_s: Seconds between SIGTERM and SIGKILL; the service gives 120.
        interrupt_after_s: When each attempt is interrupted, in seconds from the start of its programs.
    """

    grace_s: float = 120.0
    interrupt_after_s: tuple[float, ...] = ()
