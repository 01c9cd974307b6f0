"""What differs between an archived experiment and what is about to be launched. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sagemaker_launcher.archive.manifest import Manifest
from sagemaker_launcher.frozen import frozen


@frozen
class Difference:
    """One thing that was one way and is now another.

    Attributes:
        area: `sagemaker config`, `training config`, `image`, `code`, `target` or `versions`.
        name: The dotted key, or a word for the thing.
        before: How it was.
        after: How it is now.
    """

    area: str
    name: str
    before: str
    after: str


def config_differences(
    area: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[Difference]:
    """The keys that have different values in two trees."""
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            yield Difference(area, key, _shown(old, key), _shown(new, key))


def code_differences(before: Manifest, after: Manifest) -> Iterator[Difference]:
    """What differs in the code, the versions and the target, going by two manifests."""
    if before.target != after.target:
        yield Difference("target", "target", before.target, after.target)
    pairs = (
        ("commit", _commit(before), _commit(after)),
        (
            "source",
            before.source.sha256 if before.source else "",
            after.source.sha256 if after.source else "",
        ),
    )
    for name, old, new in pairs:
        if old and new and old != new:
            yield Difference("code", name, old, new)
    for name in sorted({*before.versions, *after.versions}):
        old, new = before.versions.get(name, "nothing"), after.versions.get(name, "nothing")
        if old != new:
            yield Difference("versions", name, old, new)


def _commit(manifest: Manifest) -> str:
    git = manifest.git
    if git is None:
        return ""
    return f"{git.commit} with uncommitted changes" if git.dirty else git.commit


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return str(values[key]) if key in values else "nothing"
