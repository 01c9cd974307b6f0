"""SHA-256. For the few kilobytes of a launch, loading OpenSSL takes longer than all sums without it.

The standard library's own `random` takes its digest from such a module of Python's for the same reason. OpenSSL is six times
as fast once it is there, which counts for large folders of code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol

try:
    if sys.version_info >= (3, 12):
        from _sha2 import sha256 as _lean
    else:
        from _sha256 import sha256 as _lean
except ImportError:  # a Python that was built to have no digests but OpenSSL's
    from hashlib import sha256 as _lean

_OPENSSL_FROM = 2 * 1024 * 1024  # bytes, which take 8 ms without it


class Digest(Protocol):
    """A sum that is being made."""

    def update(self, data: bytes, /) -> None:
        """Takes more bytes."""

    def hexdigest(self) -> str:
        """The sum of all bytes so far, in hex."""


_new: Callable[[], Digest] = _lean


def new_sha256(size: int) -> Digest:
    """A SHA-256 of nothing yet.

    Args:
        size: How many bytes there are going to be, about.
    """
    if size < _OPENSSL_FROM:
        return _new()
    from hashlib import sha256

    return sha256()


def sha256(data: bytes) -> str:
    """The SHA-256 of bytes, in hex."""
    digest = new_sha256(len(data))
    digest.update(data)
    return digest.hexdigest()
