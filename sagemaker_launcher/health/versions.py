"""Versions of packages, as far as bounds like `>=2.6,<3` need them.

https://packaging.python.org/en/latest/specifications/version-specifiers/
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from sagemaker_launcher.frozen import frozen

_VERSION = re.compile(
    r"\s*v?(?P<release>[0-9]+(?:\.[0-9]+)*)(?P<early>[-_.]?(?:a|b|c|rc|pre|alpha|beta|dev))?"
)
_BOUND = re.compile(r"\s*(>=|<=|==|>|<)\s*(\S+)\s*")
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


@frozen
class _Version:
    release: tuple[int, ...]
    early: bool  # before its release, which bounds of that number then do not hold for


def within(version: str, bounds: str) -> bool:
    """Whether a version keeps to all of some bounds; one that cannot be read keeps to none.

    Args:
        version: Such as `2.7.1` or `3.0.0rc1`.
        bounds: Such as `>=2.6,<3`.

    Raises:
        ValueError: A bound is none.
    """
    found = _read(version)
    return found is not None and all(_keeps_to(found, bound) for bound in bounds.split(","))


def _keeps_to(version: _Version, bound: str) -> bool:
    match = _BOUND.fullmatch(bound)
    limit = _read(match[2]) if match else None
    if match is None or limit is None:
        raise ValueError(f"no bound: {bound!r}")
    if version.early and version.release == limit.release:
        return match[1] == "<="
    return _COMPARE[match[1]](version.release, limit.release)


def _read(text: str) -> _Version | None:
    match = _VERSION.match(text)
    if match is None:
        return None
    numbers = [int(part) for part in match["release"].split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        del numbers[-1]
    return _Version(tuple(numbers), bool(match["early"]))
