"""The jobs that a command is about: where each is, and what leads to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sagemaker_launcher.archive.references import Reference, resolve_job
from sagemaker_launcher.cli import program_name
from sagemaker_launcher.cli.options import Command, archive_options, given, json_option
from sagemaker_launcher.cli.places import ArchivePlace
from sagemaker_launcher.comeback import coming_back, console_links, running_again
from sagemaker_launcher.errors import CredentialsError, LauncherError, NotFoundError, UsageError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.jobs.job_report import JobView
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.parallel import in_parallel
from sagemaker_launcher.report import ConsoleEvents
from sagemaker_launcher.result import ENDED, FAILED, NOT_FOUND, JobResult

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Aws
    from sagemaker_launcher.jobs.contact import Contact
    from sagemaker_launcher.jobs.watching import Sight

# CreateTrainingJob, TrainingJobName: botocore model sagemaker/2017-07-24
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_LAST_LINES = 20
_CONCURRENT = 16


@frozen
class Subject:
    """A job that a command is about.

    Attributes:
        name: Its name.
        folder: Its experiment's folder; None when no archive knows it.
        target: Where it was launched; what no archive knows is on AWS.
        region: Where it is; empty: where the profile says.
        missing: Why there is no such job, where that is known before anybody is asked.
    """

    name: str
    folder: S3Uri | None
    target: str
    region: str
    missing: NotFoundError | None = None

    @property
    def reference(self) -> str:
        """What leads back to it from anywhere."""
        return str(self.folder or self.name)

    @property
    def archived_in(self) -> S3Uri:
        """Its experiment's folder, of a rehearsal, which always has one."""
        if self.folder is None:
            raise TypeError(self.name)
        return self.folder


class Session:
    """What the options of a command lead to."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.place = ArchivePlace(values["s3_root"], values["archive"], values["config_path"])
        self.events = ConsoleEvents()
        self._wanted_region: str = values["region"] or self.place.region
        self._regions: dict[str, Aws] = {}

    def renew(self) -> None:
        """Reads the credentials again: who waited for long may have logged in meanwhile."""
        self._regions.clear()
        if self.place.s3_root is None:
            from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
            from sagemaker_launcher.s3_storage import S3Storage  # noqa: PLC0415

            aws = Aws(self.place.region, self.place.profile, self.place.account)
            self.place.storage = S3Storage(aws, self.place.bucket_owners)

    @contextmanager
    def explaining_absence(self, subject: Subject) -> Iterator[None]:
        """Lets the error that AWS has no such job say that it may never have had it, where the archive tells that."""
        try:
            yield
        except NotFoundError as error:
            if subject.folder and error.code == "job_not_found":
                error.hint = self._never_started(subject.folder) or error.hint
            raise

    def _never_started(self, folder: S3Uri) -> str:
        """What to do about an experiment of which nobody saw a start; empty for any other."""
        from sagemaker_launcher.archive.experiments import State, names_in  # noqa: PLC0415 - rarely needed

        try:
            state = State.of(names_in(self.place.storage, folder))
        except LauncherError:
            return ""
        again = running_again(program_name(), str(folder), given("config_path", "s3_root"))
        ways = {
            State.NOT_STARTED: f"it was archived and never started: {again}",
            State.NOT_CONFIRMED: "it was archived, and as far as the archive knows never started; "
            f"`doctor --repair` settles that, and this starts it again: {again}",
        }
        return ways.get(state, "")

    def coming_back(self, jobs: Sequence[Subject | str]) -> str:
        """How to come back to jobs from here.

        Args:
            jobs: The jobs; of those that have not been found yet, what the user calls them.
        """
        options = ["config_path", "s3_root"]
        if any(isinstance(job, str) for job in jobs):
            options.append("archive")
        if any(isinstance(job, str) or job.folder is None for job in jobs):
            options.append("region")  # no archive knows it
        references = [job if isinstance(job, str) else job.reference for job in jobs]
        return coming_back(program_name(), references, given(*options))

    def subjects(self, texts: Sequence[str], *, some_missing: bool = False) -> list[Subject]:
        """The jobs that references mean, each once, and what is to be known before they are asked for.

        Args:
            texts: The references.
            some_missing: Whether one of several that is not there has to hide none of the others.
        """
        if len(texts) == 1:
            found = [self._find(texts[0])]
        else:
            found = in_parallel(self._find_or_miss if some_missing else self._find, texts, _CONCURRENT)
            for subject in found:
                if subject.missing:
                    self.events.note(f"{subject.missing.message}\n{subject.missing.hint}")
        return list({subject.name: subject for subject in found}.values())

    def _find(self, text: str) -> Subject:
        return self._subject(resolve_job(text, self.place))

    def _find_or_miss(self, text: str) -> Subject:
        try:
            return self._find(text)
        except NotFoundError as error:
            if error.code == "bucket_not_found":
                raise  # then it is not the job that is not there
            return Subject(text, None, "", "", error)

    def _subject(self, reference: Reference) -> Subject:
        name, region, wanted = reference.job_name, reference.region, self._wanted_region
        if not _JOB_NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a job", hint="letters, digits and hyphens, at most 63")
        if reference.folder and not reference.target:
            self._refuse_unfinished(reference.folder)
        target = reference.target or "aws"
        if region and wanted and region != wanted and target == "aws":
            self.events.note(f"{name} is in {region}, says the archive; asking there, not in {wanted}")
        return Subject(name, reference.folder, target, region or wanted)

    def _refuse_unfinished(self, folder: S3Uri) -> None:
        """Raises NotFoundError for an experiment without a seal, of which no job was started."""
        from sagemaker_launcher.archive.experiments import LAUNCH, names_in  # noqa: PLC0415 - rarely needed

        if LAUNCH not in names_in(self.place.storage, folder):  # or somebody has deleted the seal
            raise NotFoundError(
                f"there is no job {folder.name}: its upload was never finished, so nothing was started",
                hint="launch it again from the original configs; `doctor --repair` settles what is left",
                code="job_not_found",
            )

    def aws(self, region: str) -> Aws:
        """A region's sessions and clients."""
        from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant

        if region not in self._regions:
            self._regions[region] = Aws(region, self.place.profile)
        return self._regions[region]

    def contact(self, region: str, timeout_s: float | None) -> Contact:
        """AWS for as long as it takes. Without a terminal or a timeout, nobody is there to log in again."""
        from sagemaker_launcher.console import err  # noqa: PLC0415
        from sagemaker_launcher.jobs.contact import Contact  # noqa: PLC0415

        attended = timeout_s is not None or err().is_terminal
        return Contact(self.aws(region), self.events, timeout_s=timeout_s, waits_for_login=attended)

    def collect(self, subject: Subject, sight: Sight) -> None:
        """Lets the archive know how a job ended; that it cannot is no reason to fail."""
        if subject.folder is None or sight.description is None:
            return
        from sagemaker_launcher.archive.repair import collect  # noqa: PLC0415

        job_arn = sight.description["TrainingJobArn"]
        try:
            try:
                collect(self.place.storage, subject.folder, job_arn, sight.result)
            except CredentialsError:
                self.renew()
                collect(self.place.storage, subject.folder, job_arn, sight.result)
        except LauncherError as error:
            self.events.note(f"the archive does not have the result of {subject.name}: {error.message}")

    def view(self, subject: Subject, sight: Sight, *, last_lines: bool = False) -> JobView:
        """A job on AWS as it is shown."""
        from sagemaker_launcher.jobs import jobs  # noqa: PLC0415

        result, lines = sight.result, []
        if last_lines and result.status == FAILED:
            lines = _last_lines(self.aws(subject.region), subject.name, result)
        region = self.aws(subject.region).session.region_name or ""
        return JobView(
            subject.name,
            "aws",
            result,
            region,
            str(subject.folder or ""),
            jobs.instances(sight.description or {}),
            console_links(subject.name, region),
            lines,
        )

    def archived_view(self, subject: Subject) -> JobView:
        """A rehearsal, or a job that is not there, as it is shown."""
        if subject.missing:
            return JobView(subject.name, "", JobResult(NOT_FOUND, failure_reason=subject.missing.message))
        from sagemaker_launcher.archive import archived_job  # noqa: PLC0415

        folder = subject.archived_in
        result, lines = archived_job.result_of(self.place.storage, folder), []
        if result.status not in ENDED:
            self.events.note(
                f"{subject.name} has no result; only its launcher, on {subject.target}, knows how it stands"
            )
        if result.status == FAILED:
            lines = list(archived_job.log_lines(self.place.storage, folder, tail=_LAST_LINES))
        return JobView(subject.name, subject.target, result, "", str(folder), last_lines=lines)


def job_options(command: Command) -> Command:
    """Adds the options that say where jobs and their archive are, and `--json`."""
    region = click.option(
        "--region",
        metavar="REGION",
        help="Where the job is, when no archive knows it.  [default: the config's]",
    )
    return archive_options(region(json_option(command)))


def _last_lines(aws: Aws, job_name: str, result: JobResult) -> list[tuple[str, str]]:
    """The end of a job's log; the log of a job that has just failed may not be there yet."""
    from sagemaker_launcher.jobs.job_log import last_lines  # noqa: PLC0415 - boto3 only where AWS is meant

    try:
        client = aws.client("logs")
        lines = last_lines(client, job_name, _LAST_LINES, result.ended_at)
    except LauncherError:
        return []  # the result is worth more than its explanation
    return [(line.host, line.text) for line in lines]
