"""The container engine: whether it answers, its disk, and whether an image would do on SageMaker."""

from __future__ import annotations

import json
import platform
import shlex
from pathlib import Path
from typing import Any

from sagemaker_launcher.engine import Engine, EngineError, ImageFacts
from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError, NotFoundError, UnavailableError
from sagemaker_launcher.findings import Finding, Verdict
from sagemaker_launcher.health.disk import room
from sagemaker_launcher.images.checks import Start, check_image, login_command
from sagemaker_launcher.images.inspection import read_files, read_manifest

_PATIENCE_S = 15.0


def engine_finding(engine: Engine, without: Verdict) -> Finding:
    """Whether an engine answers.

    Args:
        engine: The engine.
        without: The verdict when none does.
    """
    try:
        engine.call("version", timeout_s=_PATIENCE_S)
    except (EnvironmentProblemError, UnavailableError) as error:
        fix = error.hint or f"see what this says: {shlex.quote(engine.program)} version"
        return Finding("engine", without, error.message, fix)
    return Finding("engine", "ok", f"{engine.program} and its engine answer")


def engine_disk(engine: Engine) -> Finding:
    """The engine's version, and the room where it keeps images, when that is a disk of this machine."""
    try:
        facts = json.loads(engine.call("info", "--format", "{{json .}}", timeout_s=_PATIENCE_S))
        version, node, folder = _said(facts)
    except (LauncherError, ValueError, AttributeError) as error:
        said = error.message if isinstance(error, LauncherError) else "its answer is none that is known"
        return Finding("engine-disk", "unknown", f"{engine.program} info: {said}")
    if not folder or node != platform.node():
        where = f"{folder or 'somewhere'} on {node or 'another machine'}"
        return Finding(
            "engine-disk", "unknown", f"version {version} keeps images in {where}: its disk cannot be seen"
        )
    fix = f"{engine.program} image prune, or {engine.program} builder prune"
    found = room("engine-disk", Path(folder), fix, written=False)
    return Finding(
        found.name, found.verdict, f"{found.message}, where version {version} keeps images", found.fix
    )


def _said(facts: dict[str, Any]) -> tuple[str, str, str]:
    """Version, machine and folder, as docker and as podman tell them."""
    podman: dict[str, Any] = facts.get("host") or {}
    version = facts.get("ServerVersion") or (facts.get("version") or {}).get("Version") or "?"
    folder = facts.get("DockerRootDir") or (facts.get("store") or {}).get("graphRoot") or ""
    return str(version), str(facts.get("Name") or podman.get("hostname") or ""), str(folder)


def image_findings(engine: Engine, image: str, start: Start) -> tuple[Finding, ...]:
    """What would become of an image on SageMaker. Raises NotFoundError when it is not on this machine."""
    facts = _facts(image, engine)
    try:
        files = read_files(engine, facts, start)
    except EngineError as error:
        fix = error.hint or (
            f"see what this says: {shlex.quote(engine.program)} create {shlex.quote(image)} train"
        )
        return (Finding("image", "failed", error.message, fix),)
    return check_image(facts, files, read_manifest(engine, image), start)


def _facts(image: str, engine: Engine) -> ImageFacts:
    try:
        return engine.image(image)
    except NotFoundError as error:
        pull = f"{shlex.quote(engine.program)} pull {shlex.quote(image)}"
        hint = "\n".join(filter(None, [login_command(image, engine.program), pull]))
        raise NotFoundError(
            f"the image {image} is not on this machine", hint=hint, code="no_image"
        ) from error
