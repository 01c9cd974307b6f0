"""The command that examines what a job needs besides its configs: doctor."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from sagemaker_launcher.cli.places import (
    DEFAULT_CONFIG,
    ArchivePlace,
    archive_option,
    docker_option,
    json_option,
    s3_root_option,
)
from sagemaker_launcher.engine import Engine, EngineError, ImageFacts
from sagemaker_launcher.errors import (
    EnvironmentProblemError,
    ExitCode,
    LauncherError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.images.checks import Start, check_image, login_command


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--image", metavar="IMAGE", help="The image to look into.  [default: the config's]")
@click.option(
    "--repair", is_flag=True, help="Settle the archive's experiments whose launcher died, and nothing else."
)
@click.option("--dry-run", is_flag=True, help="With --repair: only say what would be settled.")
@archive_option
@s3_root_option
@docker_option
@json_option
def doctor(
    config: Path | None,
    image: str | None,
    repair: bool,
    dry_run: bool,
    archive: str | None,
    s3_root: Path | None,
    docker: str,
    as_json: bool,
) -> int:
    """Check the container engine and the image of a SageMaker CONFIG, without running anything of the image.

    CONFIG says how the image is started; by default it is configs/sagemaker_config.yaml, if that exists. With --repair
    it only says where the archive is, whose unfinished experiments are then looked at, asked for on AWS, and settled.
    """
    if repair:
        return _repair(ArchivePlace(s3_root, archive, config), change=not dry_run, as_json=as_json)
    patient = _Patient.of(config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None), image)
    groups = _examine(patient, Engine(docker))
    from sagemaker_launcher import report  # noqa: PLC0415 - see the package's docstring

    if as_json:
        report.print_json(report.findings_document(patient.image, groups))
    else:
        report.print_findings(str(patient), groups)
    failed = any(finding.verdict == "failed" for findings in groups.values() for finding in findings)
    return ExitCode.ENVIRONMENT if failed else ExitCode.DONE


def _repair(place: ArchivePlace, *, change: bool, as_json: bool) -> int:
    from sagemaker_launcher import report  # noqa: PLC0415 - see the package's docstring
    from sagemaker_launcher.archive.repair import Repair  # noqa: PLC0415

    found = tuple(Repair(place.storage, place.archive, place.recall).run(change=change))
    groups = {"experiments": found or (Finding("archive", "ok", "every experiment is told to its end"),)}
    if as_json:
        report.print_json(report.findings_document(place.uri, groups))
    else:
        report.print_findings(place.uri, groups)
    return ExitCode.INTEGRITY if any(finding.verdict == "failed" for finding in found) else ExitCode.DONE


@dataclass(frozen=True)
class _Patient:
    """An image, and how a config starts it."""

    image: str
    start: Start
    config: Path | None

    @classmethod
    def of(cls, config: Path | None, image: str | None) -> _Patient:
        if config is None:
            if not image:
                raise UsageError("which image?", hint="name a SageMaker config, or --image IMAGE")
            return cls(image, Start(), None)
        from sagemaker_launcher import launch  # noqa: PLC0415 - an image alone needs no config

        request = launch.plan(config, (), target="aws", command=()).request
        return cls(image or request["AlgorithmSpecification"]["TrainingImage"], Start.of(request), config)

    def __str__(self) -> str:
        return f"{self.image}, as {self.config} starts it" if self.config else self.image


def _examine(patient: _Patient, engine: Engine) -> Mapping[str, tuple[Finding, ...]]:
    """The findings of each group of checks. Raises NotFoundError when the image is not on this machine."""
    found = _engine(engine)
    if found.verdict == "failed":
        return {"engine": (found,)}
    return {"engine": (found,), "image": _image(patient, engine)}


def _engine(engine: Engine) -> Finding:
    try:
        engine.call("version")
    except (EnvironmentProblemError, UnavailableError) as error:
        return _failed("engine", error, f"{shlex.quote(engine.program)} version")
    return Finding("engine", "ok", f"{engine.program} and its engine answer")


def _image(patient: _Patient, engine: Engine) -> tuple[Finding, ...]:
    from sagemaker_launcher.images.inspection import read_files, read_manifest  # noqa: PLC0415

    facts = _facts(patient.image, engine)
    try:
        files = read_files(engine, facts, patient.start)
    except EngineError as error:
        return (
            _failed(
                "image", error, f"{shlex.quote(engine.program)} create {shlex.quote(patient.image)} train"
            ),
        )
    return check_image(facts, files, read_manifest(engine, patient.image), patient.start)


def _facts(image: str, engine: Engine) -> ImageFacts:
    try:
        return engine.image(image)
    except NotFoundError as error:
        pull = f"{shlex.quote(engine.program)} pull {shlex.quote(image)}"
        hint = "\n".join(filter(None, [login_command(image, engine.program), pull]))
        raise NotFoundError(
            f"the image {image} is not on this machine", hint=hint, code="no_image"
        ) from error


def _failed(name: str, error: LauncherError, command: str) -> Finding:
    """The finding on an error; without a hint of its own, the command that may tell more."""
    return Finding(name, "failed", error.message, error.hint or f"see what this says: {command}")


COMMANDS = {"doctor": doctor}
