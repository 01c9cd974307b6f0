"""The command that examines all that a job needs, here and on AWS: doctor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sagemaker_launcher.cli.options import (
    archive_option,
    default_config,
    docker_option,
    json_option,
    s3_root_option,
)
from sagemaker_launcher.cli.places import ArchivePlace
from sagemaker_launcher.engine import Engine
from sagemaker_launcher.errors import ExitCode, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.images.checks import Start
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.planning.questions import Question, Unknown
from sagemaker_launcher.preflight.report import Report
from sagemaker_launcher.service_model import unknown_instance_type

if TYPE_CHECKING:
    from sagemaker_launcher.launch import Plan

_PATIENCE_S = 10.0  # for all that AWS is asked
_ARCHIVES_TAKE_LONG = {"archive": "; for a large archive: doctor --repair --dry-run, which waits"}
_ROOTS = {ExitCode.CONFIG, ExitCode.CREDENTIALS, ExitCode.UNAVAILABLE}  # of other failures
_Groups = Mapping[str, Iterable[Finding]]


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--image", metavar="IMAGE", help="Look into this image, and at nothing else.")
@click.option(
    "--repair",
    is_flag=True,
    help="Settle experiments whose launcher died, give up unfinished uploads, remove what was left on this machine.",
)
@click.option("--dry-run", is_flag=True, help="With --repair: only say what would be done.")
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
    """Examine this machine, your AWS account and what the SageMaker CONFIG needs of both; change nothing.

    Each line has its fix; what could not be found out is unknown. CONFIG is configs/sagemaker_config.yaml by default, if
    that exists. With --image, an image on this machine is looked into, as CONFIG starts it, and nothing of it is run.
    With --repair, what is surely nobody's is settled or removed; the exit code is that of the failure to be mended first.
    """
    engine = Engine(docker)
    config = config or default_config()
    if image and not repair:
        patient = _Patient.of(config, image)
        return _tell(str(patient), image, _image_alone(patient, engine), as_json=as_json)
    desk = _Desk(config, archive, s3_root, engine)
    groups = desk.repaired(change=not dry_run) if repair else desk.examined()
    return _tell(desk.name, desk.name, groups, as_json=as_json)


def _tell(title: str, subject: str, groups: _Groups, *, as_json: bool) -> int:
    from sagemaker_launcher import report  # noqa: PLC0415 - see the package's docstring

    found = Report(tuple(finding for findings in groups.values() for finding in findings))
    if as_json:
        report.print_json({**report.findings_document(subject, groups), "exit": int(found.exit_code)})
    else:
        report.print_findings(title, groups)
    return found.exit_code


@frozen
class _Patient:
    """An image, and how a config starts it."""

    image: str
    start: Start
    config: Path | None

    @classmethod
    def of(cls, config: Path | None, image: str) -> _Patient:
        if config is None:
            return cls(image, Start(), None)
        return cls(image, Start.of(_plan(config).request), config)

    def __str__(self) -> str:
        return f"{self.image}, as {self.config} starts it" if self.config else self.image


def _image_alone(patient: _Patient, engine: Engine) -> _Groups:
    """The findings on an image. Raises NotFoundError when it is not on this machine."""
    from sagemaker_launcher.health.containers import engine_finding, image_findings  # noqa: PLC0415

    found = engine_finding(engine, "failed")
    if found.verdict == "failed":
        return {"engine": (found,)}
    return {"engine": (found,), "image": image_findings(engine, patient.image, patient.start)}


class _Desk:
    """What is examined.

    Args:
        config: A SageMaker config, or None.
        archive: The archive's URI, or None: the config's.
        s3_root: The folder that stands in for S3, or None; with one, AWS is asked nothing.
        engine: The container engine.
    """

    def __init__(
        self, config: Path | None, archive: str | None, s3_root: Path | None, engine: Engine
    ) -> None:
        self._config = config
        self._archive = archive
        self._s3_root = s3_root
        self._engine = engine

    @property
    def name(self) -> str:
        if self._config:
            return str(self._config)
        return self._archive or "this machine"

    def examined(self) -> _Groups:
        """Everything, without a change. What AWS is asked goes on while this machine is looked at."""
        deadline = time.monotonic() + _PATIENCE_S
        configs = _attempt("configs", self._configs)
        account = Question(lambda: _attempt("credentials", self._account))
        buckets = Question(lambda: _attempt("buckets", self._buckets))
        experiments = Question(lambda: _attempt("archive", lambda: self._experiments(change=False)))
        uploads = Question(lambda: _attempt("uploads", lambda: self._uploads(change=False)))
        here: _Groups = {
            "python": _packages(),
            "machine": _disks(),
            **self._containers(),
            "leftovers": self._leftovers(change=False),
        }
        on_aws = {
            "configs": configs,
            "account": _answer("credentials", account, deadline),
            "buckets": _answer("buckets", buckets, deadline),
            "experiments": _answer("archive", experiments, deadline),
            "uploads": _answer("uploads", uploads, deadline),
        }
        return {**here, **_once(on_aws)}

    def repaired(self, *, change: bool) -> _Groups:
        """What can be repaired, after that was done."""
        return {
            "leftovers": self._leftovers(change=change),
            **_once(
                {
                    "experiments": _attempt("archive", lambda: self._experiments(change=change)),
                    "uploads": _attempt("uploads", lambda: self._uploads(change=change)),
                }
            ),
        }

    @cached_property
    def _planned(self) -> Plan | LauncherError | None:
        """The config's job, or why there is none; None without a config."""
        try:
            return _plan(self._config) if self._config else None
        except LauncherError as error:
            return error

    @property
    def _plan(self) -> Plan | None:
        return None if isinstance(self._planned, LauncherError) else self._planned

    def _configs(self) -> Iterable[Finding]:
        if isinstance(self._planned, LauncherError):
            raise self._planned
        if self._planned is None:
            yield Finding(
                "configs",
                "unknown",
                "no config was named, so nothing is known of a job",
                "doctor CONFIG, or make a new project: init",
            )
        else:
            yield Finding("configs", "ok", f"{self._config}: both configs and the job are valid")
            for warning in self._planned.configs.warnings:
                yield Finding("configs", "warning", warning)
            for name in self._planned.job.machines.instance_types:
                unknown = unknown_instance_type(name)
                if unknown:
                    fix = (
                        "correct it; if it is newer than the installed botocore: launch --force-instance-type"
                    )
                    yield Finding("configs", "warning", unknown, fix)

    @cached_property
    def _engine_found(self) -> Finding:
        from sagemaker_launcher.health.containers import engine_finding  # noqa: PLC0415

        return engine_finding(self._engine, "warning")

    def _containers(self) -> _Groups:
        from sagemaker_launcher.health.containers import engine_disk  # noqa: PLC0415

        if self._engine_found.verdict != "ok":
            return {"engine": (self._engine_found,)}
        return {"engine": (self._engine_found, engine_disk(self._engine)), "image": self._image()}

    def _image(self) -> Iterable[Finding]:
        from sagemaker_launcher.health.containers import image_findings  # noqa: PLC0415

        if self._plan is None:
            return ()
        request = self._plan.request
        try:
            return image_findings(
                self._engine, request["AlgorithmSpecification"]["TrainingImage"], Start.of(request)
            )
        except NotFoundError as error:
            return (Finding("image", "unknown", f"{error.message}: it was not looked into", error.hint),)
        except LauncherError as error:
            return (Finding("image", "unknown", error.message, error.hint),)

    def _leftovers(self, *, change: bool) -> Iterable[Finding]:
        from sagemaker_launcher.health.leftovers import leftover_findings  # noqa: PLC0415

        engine = self._engine if self._engine_found.verdict == "ok" else None
        return tuple(leftover_findings(engine, self._s3_root, change=change))

    def _account(self) -> Iterable[Finding]:
        if self._s3_root:
            yield Finding("credentials", "unknown", f"AWS is not asked: {self._s3_root} stands in for it")
            return
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
        from sagemaker_launcher.health.account import account_findings, key_finding  # noqa: PLC0415
        from sagemaker_launcher.preflight.run import run_checks  # noqa: PLC0415

        place = self._place
        aws = Aws(place.region, place.profile, place.account)
        key = key_finding(aws)
        yield key
        if key.verdict == "failed":
            return
        if self._plan is None:
            yield from account_findings(aws)
        else:
            yield from run_checks(self._plan.subject, aws).findings

    def _buckets(self) -> Iterable[Finding]:
        place = self._place
        if self._s3_root or not place.uri:
            return
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
        from sagemaker_launcher.health.buckets import bucket_findings  # noqa: PLC0415
        from sagemaker_launcher.preflight.world import World  # noqa: PLC0415

        world = World(Aws(place.region, place.profile, place.account), dict(place.bucket_owners))
        written = dict.fromkeys(uri.bucket for uri in self._written(place.uri))
        yield from bucket_findings(world, [bucket for bucket in written if not world.is_foreign(bucket)])

    def _experiments(self, *, change: bool) -> Iterable[Finding]:
        from sagemaker_launcher.archive.repair import Repair  # noqa: PLC0415

        place = self._place
        if not place.uri:
            return [
                Finding("archive", "unknown", "none is known", "--archive S3_URI, or a config that has one")
            ]
        found = tuple(Repair(place.storage, place.archive, place.recall).run(change=change))
        return found or [Finding("archive", "ok", "every experiment is told to its end")]

    def _uploads(self, *, change: bool) -> Iterable[Finding]:
        from sagemaker_launcher.archive.uploads import unfinished_uploads  # noqa: PLC0415

        place = self._place
        if self._s3_root or not place.uri:
            return ()
        places = self._written(place.uri)
        found = tuple(unfinished_uploads(place.storage, places, change=change))
        shown = " and ".join(map(str, places))
        return found or [Finding("uploads", "ok", f"none is unfinished below {shown}")]

    def _written(self, archive: str) -> list[S3Uri]:
        """Where this tool, or a job, uploads to."""
        outputs = [self._plan.job.outputs_uri] if self._plan else []
        return [S3Uri.parse(uri).folder for uri in (archive, *outputs)]

    @cached_property
    def _place(self) -> ArchivePlace:
        return ArchivePlace(self._s3_root, self._archive, self._config)


def _plan(config: Path) -> Plan:
    from sagemaker_launcher import launch  # noqa: PLC0415 - an image alone needs no config

    return launch.plan(config, (), target="aws", command=(), allow_unknown_instance_type=True)


def _packages() -> Iterable[Finding]:
    from sagemaker_launcher.health.packages import package_findings  # noqa: PLC0415

    return tuple(package_findings(datetime.now(timezone.utc).date()))


def _disks() -> Iterable[Finding]:
    from sagemaker_launcher.health.disk import disk_findings  # noqa: PLC0415

    return tuple(disk_findings())


def _attempt(name: str, look: Callable[[], Iterable[Finding]]) -> tuple[Finding, ...]:
    """Findings, the last of which is an error that ended the looking."""
    found: list[Finding] = []
    try:
        found += look()  # one after the other: those before an error stay
    except LauncherError as error:
        code = ExitCode(error.exit_code)
        found.append(Finding(name, "failed", error.message, error.hint, code, error.code))
    return tuple(found)


def _once(groups: Mapping[str, tuple[Finding, ...]]) -> _Groups:
    """Without a config, credentials or a network nothing else can be known, and that is told once."""
    told: set[ExitCode] = set()
    result: dict[str, list[Finding]] = {}
    for name, findings in groups.items():
        result[name] = [
            Finding(one.name, "unknown", "not looked at, because of what failed above")
            if one.verdict == "failed" and one.exit_code in told
            else one
            for one in findings
        ]
        told |= {one.exit_code for one in findings if one.verdict == "failed"} & _ROOTS
    return result


def _answer(name: str, question: Question[tuple[Finding, ...]], deadline: float) -> tuple[Finding, ...]:
    answer = question.answer(deadline)
    if isinstance(answer, Unknown):
        fix = "check the network and the proxy" + _ARCHIVES_TAKE_LONG.get(name, "")
        return (Finding(name, "unknown", f"no answer in {_PATIENCE_S:g} s", fix),)
    return answer


COMMANDS = {"doctor": doctor}
