"""Times as every document of this tool has them."""

from __future__ import annotations

from datetime import datetime, timezone


def utc(moment: datetime) -> str:
    """A time as ISO 8601, UTC, with milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")


def utc_now() -> str:
    """The present as `utc` writes it."""
    return utc(datetime.now(timezone.utc))
