"""Carries a plan out, and reports what came of it: what `launch` and `rerun` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sagemaker_launcher import launch as story
from sagemaker_launcher.cli import program_name
from sagemaker_launcher.cli.beginning import Beginning
from sagemaker_launcher.cli.rehearsal_options import REHEARSAL_TARGETS
from sagemaker_launcher.cli.rehearsing import rehearsal_target, terms_of
from sagemaker_launcher.comeback import console_links
from sagemaker_launcher.differences import Difference
from sagemaker_launcher.errors import CredentialsError, LauncherError, UnsafeError
from sagemaker_launcher.events import Events
from sagemaker_launcher.naming import RoleArn, S3Uri
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import FolderStorage, Storage
from sagemaker_launcher.targets import Prepared, Target

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Aws
    from sagemaker_launcher.planning.inquiry import Compare, Inquiry
    from sagemaker_launcher.planning.overview import Overview


class _Review:
    """Shows what is going to happen as soon as the target is prepared, and refuses what can cost too much.

    Args:
        inquire: Gives what is being asked.
        compare: Tells what the launch changes against an experiment.
        refuses: Whether the budget matters.

    Attributes:
        overview: What was shown.
    """

    def __init__(self, inquire: Callable[[], Inquiry], compare: Compare, *, refuses: bool) -> None:
        self._inquire = inquire
        self._compare = compare
        self._refuses = refuses
        self.overview: Overview

    def __call__(self, prepared: Prepared) -> None:
        from sagemaker_launcher import report  # noqa: PLC0415 - a rehearsal has to reach its program soon

        self.overview = self._inquire().overview(self._compare, prepared.image_digest)
        report.print_overview(self.overview)
        if self._refuses:
            self.overview.refuse_beyond_budget()


class Run:
    """Carries a plan out and reports it.

    Args:
        beginning: What has begun.
        config: The SageMaker config that the command line names, or None.
        trusting: Whether the role may be another account's.
    """

    def __init__(self, beginning: Beginning, config: Path | None, *, trusting: bool = True) -> None:
        self._options = beginning.options
        self._beginning = beginning
        self._config = config
        self._trusting = trusting

    def carry_out(self, plan: story.Plan) -> int:
        """Dry run or launch, and the report. Gives the exit code."""
        from sagemaker_launcher import report  # noqa: PLC0415 - a rehearsal has to reach its program soon

        events = report.ConsoleEvents()
        for warning in plan.configs.warnings:
            events.note(warning)
        # Before anything else: it may be a mistake in the command line.
        terms = terms_of(self._options.ends, plan.target, spot=plan.job.limits.spot)
        differences = (
            story.differences(plan, plan.original, self._beginning.checkout) if plan.original else ()
        )
        if plan.original:
            report.print_differences(differences)
        if self._options.dry_run:
            self._dry_run(plan, differences)
            return 0
        overview, outcome = self._execute(plan, terms, events)
        if self._options.as_json:
            found = (*differences, *outcome.drift)
            report.print_json(report.launch_document(plan, overview, outcome.result, found))
        else:
            from sagemaker_launcher.cli.looking import rerun_command  # noqa: PLC0415 - as above

            program, words = self._way_on(plan)
            report.print_result(
                overview,
                outcome.result,
                model=self._here(outcome.result.artifacts.get("model", "")),
                folder=self._here(str(plan.experiment)),
                again=rerun_command(
                    str(plan.experiment),
                    self._options.s3_root,
                    (*words, *self._options.programs.words(plan.target), *self._source_words(plan)),
                    program,
                ),
            )
            if plan.target == "aws":
                _print_way_on(plan, outcome.result)
        return 0 if self._options.detach else int(outcome.result.command_exit_code)

    def _way_on(self, plan: story.Plan) -> tuple[str, tuple[str, ...]]:
        """How this program is called for what was launched, and what it then has to be told of credentials."""
        if self._options.s3_root is not None:
            return program_name(), ()
        from sagemaker_launcher.cli.places import reached_with  # noqa: PLC0415 - not where a folder stands in for S3

        before, words = reached_with(plan.configs.sagemaker["AWS"]["PROFILE"], self._config)
        return before + program_name(), words

    def _source_words(self, plan: story.Plan) -> tuple[str, ...]:
        """What a rerun from here has to be told of the code: it looks for it below the checkout or the current folder only."""
        folder = plan.configs.source.folder
        try:
            if folder is None or folder.resolve().is_relative_to(self._beginning.checkout_root().resolve()):
                return ()
            return "--set", "SOURCE.DIR", os.path.relpath(folder)
        except (LauncherError, OSError):
            return ()  # the current folder was deleted meanwhile: nothing can be run from here

    def _dry_run(self, plan: story.Plan, differences: tuple[Difference, ...]) -> None:
        """Shows what a launch would do. Refuses what a launch would refuse, unless AWS was not asked for the price."""
        from sagemaker_launcher import report  # noqa: PLC0415 - as above
        from sagemaker_launcher.cli.reviewing import sources_of_dry_run  # noqa: PLC0415
        from sagemaker_launcher.planning.inquiry import Inquiry  # noqa: PLC0415

        sources = sources_of_dry_run(plan, self._options.s3_root, offline=self._options.offline)
        if sources.storage:
            _ = self._beginning.checkout
        overview = Inquiry(plan, sources).overview(self._compare(plan))
        if not self._options.as_json:
            report.print_request(plan)
            report.print_overview(overview)
        if not self._options.yes and not (overview.offline and overview.max_cost_usd is None):
            overview.refuse_beyond_budget()
        if self._options.as_json:
            report.print_json(report.launch_document(plan, overview, None, differences))

    def _compare(self, plan: story.Plan) -> Compare:
        return lambda before: story.differences(plan, before, self._beginning.checkout)

    def _execute(self, plan: story.Plan, terms: Terms, events: Events) -> tuple[Overview, story.Outcome]:
        try:
            surroundings, review = self._surroundings(plan, terms, events)
            outcome = story.execute(
                plan, surroundings, detach=self._options.detach, allow_drift=self._options.allow_drift
            )
        except CredentialsError as error:
            if plan.target in REHEARSAL_TARGETS:
                error.hint += "\nor rehearse without AWS, with a folder in the place of S3: --s3-root DIR"
            raise
        return review.overview, outcome

    def _surroundings(
        self, plan: story.Plan, terms: Terms, events: Events
    ) -> tuple[story.Surroundings, _Review]:
        aws, storage = self._places(plan)
        program, words = self._way_on(plan)
        root = self._options.s3_root
        if aws and plan.target == "aws":
            if not self._trusting:
                _refuse_foreign_role(plan, aws)
            target = _aws_target(aws, plan, self._options.skip_check)
            asked = _inquiry(plan, aws, storage)
            review = self._review(plan, lambda: asked)
        else:
            target = self._rehearsal(plan, terms, storage)
            review = self._review(plan, lambda: _inquiry(plan))
        return (
            story.Surroundings(
                target,
                storage,
                lambda: aws.identity if aws else None,
                review,
                self._beginning.checkout,
                events,
                program,
                words if root is None else ("--s3-root", str(root)),
            ),
            review,
        )

    def _review(self, plan: story.Plan, inquire: Callable[[], Inquiry]) -> _Review:
        return _Review(inquire, self._compare(plan), refuses=not self._options.yes)

    def _places(self, plan: story.Plan) -> tuple[Aws | None, Storage]:
        """AWS, unless a folder stands in for it, and where the archive and the data are."""
        if self._options.s3_root is not None:
            return None, FolderStorage(self._options.s3_root)
        from sagemaker_launcher.cli.reviewing import aws_of, storage_of  # noqa: PLC0415 - as above

        aws = aws_of(plan)
        return aws, storage_of(plan, aws)

    def _rehearsal(self, plan: story.Plan, terms: Terms, storage: Storage) -> Target:
        options, image = self._options.programs, plan.job.image.uri
        return rehearsal_target(plan.target, plan.configs, storage, options, terms, image)

    def _here(self, uri: str) -> str:
        """Where an object or a folder lies on this machine, when a folder stands in for S3."""
        root = self._options.s3_root
        if not uri or root is None:
            return ""
        place = S3Uri.parse(uri)
        return str(root / place.bucket / place.key)


def _inquiry(plan: story.Plan, aws: Aws | None = None, storage: Storage | None = None) -> Inquiry:
    """What is asked about a launch: AWS and the archive at once, or nobody about a rehearsal."""
    from sagemaker_launcher.planning.inquiry import Inquiry, Sources  # noqa: PLC0415 - the engine's program is being started

    return Inquiry(plan, Sources(aws, storage))


def _refuse_foreign_role(plan: story.Plan, aws: Aws) -> None:
    """An archive, which others can write to, must not choose whose account a job works in."""
    role, account = plan.job.role, aws.identity.account
    if RoleArn.parse(role).account != account:
        raise UnsafeError(
            f"the role {role} is of another account than yours, {account}",
            hint="name one of yours: --set ESTIMATOR.ROLE ARN; --yes takes it all the same",
            code="foreign_role",
        )


def _aws_target(aws: Aws, plan: story.Plan, skip: tuple[str, ...]) -> Target:
    from sagemaker_launcher.console import err  # noqa: PLC0415
    from sagemaker_launcher.preflight.run import run_checks  # noqa: PLC0415
    from sagemaker_launcher.targets.aws import AwsTarget  # noqa: PLC0415 - needs boto3

    return AwsTarget(aws, lambda: run_checks(plan.subject, aws, skip), attended=err().is_terminal)


def _print_way_on(plan: story.Plan, result: JobResult) -> None:
    """Where AWS shows a job, and what to try after one that failed; its log has just been seen."""
    from sagemaker_launcher.jobs import job_report  # noqa: PLC0415 - only for jobs on AWS

    job_report.print_links(console_links(plan.job.name, plan.job.region))
    job_report.print_trouble(result)
