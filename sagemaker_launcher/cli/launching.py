"""Commands that start a job: launch, rerun."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sagemaker_launcher import estimator
from sagemaker_launcher import launch as story
from sagemaker_launcher.archive.experiments import read_experiment
from sagemaker_launcher.cli import program_name, program_words
from sagemaker_launcher.cli.looking import rerun_command
from sagemaker_launcher.cli.overrides import override_options, overrides_of
from sagemaker_launcher.cli.places import ArchivePlace, Command, archive_options, json_option, s3_root_option
from sagemaker_launcher.cli.rehearsing import (
    REHEARSAL_TARGETS,
    EndOptions,
    RehearsalOptions,
    end_options,
    rehearsal_options,
    rehearsal_target,
    terms_of,
)
from sagemaker_launcher.comeback import console_links
from sagemaker_launcher.errors import CredentialsError, UnsafeError, UsageError
from sagemaker_launcher.events import Events
from sagemaker_launcher.naming import RoleArn, S3Uri
from sagemaker_launcher.provenance import CheckoutReader
from sagemaker_launcher.rehearsal.run import Terms
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import FolderStorage, Storage
from sagemaker_launcher.targets import Target

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Aws

_Options = TypeVar("_Options")
_TARGETS = ("aws", *REHEARSAL_TARGETS)


@dataclass(frozen=True)
class RunOptions:
    """How a launch is carried out; the options that `launch` and `rerun` share."""

    s3_root: Path | None
    programs: RehearsalOptions
    ends: EndOptions
    dry_run: bool
    detach: bool
    as_json: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunOptions:
        """Made of click's values."""
        return cls(
            s3_root=values["s3_root"],
            programs=_part(RehearsalOptions, values),
            ends=_part(EndOptions, values),
            dry_run=values["dry_run"],
            detach=values["detach"],
            as_json=values["as_json"],
        )


def _part(kind: type[_Options], values: Mapping[str, Any]) -> _Options:
    return kind(**{field.name: values[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def _run_options(command: Command) -> Command:
    for option in (
        click.option("--dry-run", is_flag=True, help="Print the request; write and start nothing."),
        click.option("--detach", is_flag=True, help="Do not wait for the job's end (on aws only)."),
        end_options,
        rehearsal_options,
        json_option,
    ):
        command = option(command)
    return command


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--on", "target", type=click.Choice(_TARGETS), default="aws", show_default=True, help="Where to run it."
)
@override_options
@s3_root_option
@_run_options
def launch(
    config: Path,
    target: str,
    settings: tuple[tuple[str, str], ...],
    train: tuple[tuple[str, str], ...],
    force_instance_type: bool,
    **options: Any,  # noqa: ANN401 - click's values, typed by RunOptions
) -> int:
    """Start the job that a SageMaker CONFIG describes, archive it and follow it to its end."""
    run = _Run(RunOptions.of(options), target, config.parent if config.parent.is_dir() else Path())
    plan = story.plan(
        config,
        overrides_of(settings, train),
        target=target,
        command=_command_line(),
        allow_unknown_instance_type=force_instance_type,
    )
    return run.carry_out(plan)


@click.command()
@click.argument("experiment")
@click.option("--on", "target", type=click.Choice(_TARGETS), help="Where to run it.  [default: where it ran]")
@override_options
@click.option(
    "--resume", is_flag=True, help="Go on from the checkpoints of EXPERIMENT, and write new ones there."
)
@click.option(
    "--yes", is_flag=True, help="Do it although the role is another account's, or the original may still run."
)
@archive_options
@_run_options
def rerun(
    experiment: str,
    target: str | None,
    settings: tuple[tuple[str, str], ...],
    train: tuple[tuple[str, str], ...],
    force_instance_type: bool,
    resume: bool,
    yes: bool,
    archive: str | None,
    config_path: Path | None,
    **options: Any,  # noqa: ANN401 - click's values, typed by RunOptions
) -> int:
    """Start an archived EXPERIMENT again, with the same configs unless told otherwise, and say what differs.

    EXPERIMENT is an S3 URI, a job name, the beginning of one, @latest or @me.
    """
    run_options = RunOptions.of(options)
    place = ArchivePlace(run_options.s3_root, archive, config_path)
    original = read_experiment(place.storage, place.find(experiment))
    if not target and original.manifest.target not in _TARGETS:
        raise UsageError(
            f"it ran on {original.manifest.target!r}, which this version does not know",
            hint=f"say where to run it: --on {' or --on '.join(_TARGETS)}",
        )
    if resume and original.result is None and not yes:
        raise UnsafeError(
            f"--resume: how {original.folder.name} ended is not known, and two jobs would write the same checkpoints",
            hint="see `status`; --yes goes on all the same",
            code="may_still_run",
        )
    run = _Run(run_options, target or original.manifest.target, Path(), trusting=yes)
    plan = story.plan_rerun(
        original,
        overrides_of(settings, train),
        target=target or "",
        command=_command_line(),
        root=run.checkout_root(),
        allow_unknown_instance_type=force_instance_type,
        resume=resume,
    )
    return run.carry_out(plan)


class _Run:
    """Carries a plan out and reports it. What takes time and needs no plan is begun when this is made.

    Args:
        options: How to carry it out.
        target: Where the job is going to run.
        folder: Where the git repository is looked for.
        trusting: Whether the role may be another account's.
    """

    def __init__(self, options: RunOptions, target: str, folder: Path, *, trusting: bool = True) -> None:
        if options.detach and target != "aws":
            raise UsageError(f"--detach: a job on {target} ends with this command")
        if options.s3_root and target == "aws" and not options.dry_run:
            raise UsageError(
                "--s3-root stands in for S3, and a job on AWS needs S3 itself",
                hint="add --on docker or --on process",
            )
        self._options = options
        self._folder = folder
        self._trusting = trusting
        if not options.dry_run:
            if target == "aws":
                estimator.begin_import()
            _ = self._checkout

    @cached_property
    def _checkout(self) -> CheckoutReader:
        return CheckoutReader(self._folder)

    def checkout_root(self) -> Path:
        """The root of the git repository that the user stands in; without one, the current folder."""
        checkout = self._checkout.read()
        return checkout.root if checkout else Path.cwd()

    def carry_out(self, plan: story.Plan) -> int:
        """Dry run or launch, and the report. Gives the exit code."""
        from sagemaker_launcher import report  # noqa: PLC0415 - a rehearsal has to reach its program soon

        events = report.ConsoleEvents()
        for warning in plan.configs.warnings:
            events.note(warning)
        # Before anything else: it may be a mistake in the command line.
        terms = terms_of(self._options.ends, plan.target, spot=plan.job.limits.spot)
        differences = story.differences(plan, self._checkout) if plan.original else ()
        if plan.original:
            report.print_differences(differences)
        if self._options.dry_run:
            if self._options.as_json:
                report.print_json(report.launch_document(plan, None, differences))
            else:
                report.print_plan(plan)
            return 0
        outcome = self._execute(plan, terms, events)
        if self._options.as_json:
            report.print_json(report.launch_document(plan, outcome.result, differences))
        else:
            report.print_result(
                plan,
                outcome.result,
                model=self._here(outcome.result.artifacts.get("model", "")),
                folder=self._here(str(plan.experiment)),
                again=rerun_command(
                    str(plan.experiment), self._options.s3_root, self._options.programs.words(plan.target)
                ),
            )
            if plan.target == "aws":
                _print_way_on(plan, outcome.result)
        return 0 if self._options.detach else int(outcome.result.command_exit_code)

    def _execute(self, plan: story.Plan, terms: Terms, events: Events) -> story.Outcome:
        try:
            return story.execute(plan, self._surroundings(plan, terms, events), detach=self._options.detach)
        except CredentialsError as error:
            if plan.target in REHEARSAL_TARGETS:
                error.hint += "\nor rehearse without AWS, with a folder in the place of S3: --s3-root DIR"
            raise

    def _surroundings(self, plan: story.Plan, terms: Terms, events: Events) -> story.Surroundings:
        root = self._options.s3_root
        if root is not None:
            storage = FolderStorage(root)
            target = self._rehearsal(plan, terms, storage)
            return story.Surroundings(target, storage, lambda: None, self._checkout, events, program_name())
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
        from sagemaker_launcher.s3_storage import S3Storage  # noqa: PLC0415

        settings = plan.configs.sagemaker["AWS"]
        aws = Aws(settings["REGION"], settings["PROFILE"])
        if plan.target == "aws" and not self._trusting:
            _refuse_foreign_role(plan, aws)
        target = _aws_target(aws) if plan.target == "aws" else self._rehearsal(plan, terms, S3Storage(aws))
        # The archive has to be ours. Data may well belong to others.
        archive = S3Storage(aws, owner=lambda: aws.identity.account)
        return story.Surroundings(
            target, archive, lambda: aws.identity, self._checkout, events, program_name()
        )

    def _rehearsal(self, plan: story.Plan, terms: Terms, storage: Storage) -> Target:
        return rehearsal_target(plan.target, plan.configs, storage, self._options.programs, terms)

    def _here(self, uri: str) -> str:
        """Where an object or a folder lies on this machine, when a folder stands in for S3."""
        root = self._options.s3_root
        if not uri or root is None:
            return ""
        place = S3Uri.parse(uri)
        return str(root / place.bucket / place.key)


def _refuse_foreign_role(plan: story.Plan, aws: Aws) -> None:
    """An archive, which others can write to, must not choose whose account a job works in."""
    role, account = plan.job.role, aws.identity.account
    if RoleArn.parse(role).account != account:
        raise UnsafeError(
            f"the archived role {role} is of another account than yours, {account}",
            hint="name one of yours: --set ESTIMATOR.ROLE ARN; --yes takes the archived one",
            code="foreign_role",
        )


def _aws_target(aws: Aws) -> Target:
    from sagemaker_launcher.console import err  # noqa: PLC0415
    from sagemaker_launcher.targets.aws import AwsTarget  # noqa: PLC0415 - needs boto3

    return AwsTarget(aws, attended=err().is_terminal)


def _print_way_on(plan: story.Plan, result: JobResult) -> None:
    """Where AWS shows a job, and what to try after one that failed; its log has just been seen."""
    from sagemaker_launcher.jobs import job_report  # noqa: PLC0415 - only for jobs on AWS

    job_report.print_links(console_links(plan.job.name, plan.job.region))
    job_report.print_trouble(result)


def _command_line() -> tuple[str, ...]:
    """The command line to archive, as the user would type it again."""
    return (*program_words(), *sys.argv[1:])


COMMANDS = {"launch": launch, "rerun": rerun}
