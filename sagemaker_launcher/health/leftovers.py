"""What killed rehearsals, launches and image checks have left on this machine; locks show what is nobody's any more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sagemaker_launcher import unfinished
from sagemaker_launcher.engine import Engine
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.images import inspection
from sagemaker_launcher.rehearsal import leftovers, workspace
from sagemaker_launcher.user_cache import place

_NAME = "leftovers"
_NO_ANSWER = ("no_docker", "unavailable")


def leftover_findings(engine: Engine | None, s3_root: Path | None, *, change: bool) -> Iterator[Finding]:
    """Looks for leftovers.

    Args:
        engine: The container engine; None when none answers.
        s3_root: The folder that stands in for S3, where one does.
        change: Whether to remove what is found, or only to tell of it.

    Returns:
        One finding for each kind that was found: `ok` when it was removed, `warning` when it could be or could not be.
    """
    try:
        found = [*_rehearsals(change=change), *_files(s3_root, change=change)]
    except OSError as error:
        found = [Finding(_NAME, "unknown", f"cannot look at {error.filename}: {error.strerror}")]
    if engine is None:
        seen = "nothing is left on the disk of what was killed here; no engine was asked for containers"
    else:
        found += _containers(engine, change=change)
        seen = "nothing is left of what was killed here"
    yield from found or [Finding(_NAME, "ok", seen)]


def _rehearsals(*, change: bool) -> Iterator[Finding]:
    cache = place()
    before = [space.folder for space in workspace.abandoned(cache)]
    problems = workspace.remove_abandoned(cache, leftovers.clear) if before and change else {}
    for folder in before:
        what = f"a killed rehearsal: {folder}, and what it has left running"
        problem = problems.get(folder)
        if problem is None:
            yield _told(what, change=change)
        elif problem.code in _NO_ANSWER:
            yield Finding(
                _NAME,
                "warning",
                f"{what}; its container engine does not answer",
                "start that engine, and repair again",
            )
        else:
            yield Finding(_NAME, "warning", f"{what}; {problem.message}", problem.hint)


def _files(s3_root: Path | None, *, change: bool) -> Iterator[Finding]:
    for folder in _folders(s3_root):
        if os.path.isdir(folder):  # noqa: PTH112 - Path's raises where one may not look
            count = sum(1 for _ in unfinished.abandoned(folder))
            if count and change:
                unfinished.remove_abandoned(folder)
            if count:
                yield _told(f"{count:,} unfinished files in {folder}", change=change)


def _folders(s3_root: Path | None) -> Iterable[Path]:
    """Where files wait that are not complete yet: for the cache of data, for AWS's model, for objects."""
    cache = place()
    return (
        cache / "data" / "incoming",
        cache / "incomplete",
        *([s3_root / ".incomplete"] if s3_root else ()),
    )


def _containers(engine: Engine, *, change: bool) -> Iterator[Finding]:
    try:
        yield from _checks(engine, change=change)
        yield from _strays(engine)
    except LauncherError as error:
        yield Finding(_NAME, "unknown", error.message, error.hint)


def _checks(engine: Engine, *, change: bool) -> Iterator[Finding]:
    count = len(inspection.abandoned(engine))
    if count and change:
        inspection.remove_abandoned(engine)
    if count:
        yield _told(f"{count:,} containers of killed image checks", change=change)


def _strays(engine: Engine) -> Iterator[Finding]:
    """Containers of rehearsals that this user's cache knows nothing of: another one may, so nobody here removes them."""
    shown = f'{{{{.Label "{leftovers.LABEL}"}}}}'
    found = engine.call("ps", "--all", "--filter", f"label={leftovers.LABEL}", "--format", shown).split()
    for identifier in sorted(set(found) - workspace.identifiers(place())):
        selection = f"{engine.program} ps --all --quiet --filter label={leftovers.label(identifier)}"
        yield Finding(
            _NAME,
            "warning",
            f"containers of the rehearsal {identifier}, which is another user's or has lost its cache folder",
            f"if it is nobody's: {engine.program} rm --force --volumes $({selection})",
        )


def _told(what: str, *, change: bool) -> Finding:
    if change:
        return Finding(_NAME, "ok", f"removed: {what}")
    return Finding(_NAME, "warning", what, "doctor --repair removes it")
