"""Names that nobody else comes upon."""

from __future__ import annotations

import os


def unique_name(octets: int) -> str:
    """Hexadecimal digits, two for each octet, from the system's source of random numbers.

    The same as `secrets.token_hex`, whose import takes longer than all the names that a launch needs.
    """
    return os.urandom(octets).hex()
