"""Says what became of experiments whose launcher died, and completes the archive: nothing is changed, only added.

What is found by its files (see `archive.State`) is settled so: what AWS knows by name and seal is adopted, and its result
collected when it has ended; what AWS does not know never started; of a rehearsal whose program is gone, there is no more to
come, and what it has uploaded in part is given up; and what has a result without a headline gets one.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import cache, partial

from sagemaker_launcher.archive.experiments import (
    INTENT,
    MANIFEST,
    REQUEST,
    Archive,
    Entry,
    State,
    experiment_root,
    headline_of,
    names_in,
    read_experiment,
    result_in,
)
from sagemaker_launcher.archive.headline import ABANDONED, NOT_STARTED, Headline
from sagemaker_launcher.archive.manifest import (
    SEAL_TAG,
    Intent,
    Launch,
    Manifest,
    intent_from,
    manifest_from,
    mapping_from,
    pid_space,
)
from sagemaker_launcher.archive.recalled import Recall
from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import (
    AccessDeniedError,
    ConflictError,
    ExitCode,
    IntegrityError,
    LauncherError,
    NotFoundError,
)
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.result import ENDED, JobResult
from sagemaker_launcher.storage import Storage

_DOCUMENT_MAX = 4 * 1024 * 1024  # bytes
# A launcher that prepares, uploads and starts has no word from it for minutes; nobody waits for an hour.
_GRACE = timedelta(hours=1)
# The longest that a job may run or wait: https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
_LONGEST = timedelta(days=30)


class Repair:
    """The experiments of an archive that have not been told to the end.

    Args:
        storage: Where objects are.
        archive: The archive.
        recall: Asks AWS for a job; None where AWS has no part in it.
        now: The present.
        account: The account that `recall` asks about a region's jobs; None: that of its credentials.
    """

    def __init__(
        self,
        storage: Storage,
        archive: Archive,
        recall: Recall | None,
        now: Callable[[], datetime] | None = None,
        account: Callable[[str], str] | None = None,
    ) -> None:
        self._storage = storage
        self._archive = archive
        self._recall = recall
        self._now = now or (lambda: datetime.now(timezone.utc))
        self._account = cache(account or partial(_account_asked, recall))

    def run(self, *, change: bool) -> Iterator[Finding]:
        """Looks at every experiment without a headline.

        Args:
            change: Whether to settle what can be settled, or only to say so.

        Returns:
            One finding each: `ok` for what was settled or goes on, `warning` for what could be settled with `change`,
            `unknown` for what cannot be said now, `failed` for what somebody spoiled.
        """
        return (self.settle(entry, change=change) for entry in self._untold())

    def settle(self, entry: Entry, *, change: bool) -> Finding:
        """Looks at one experiment; see `run`."""
        try:
            return self._settled(entry, change=change)
        except IntegrityError as error:
            return Finding(
                entry.job_name,
                "failed",
                error.message,
                "look at the versions of the bucket",
                ExitCode.INTEGRITY,
                error.code,
            )
        except LauncherError as error:
            return Finding(entry.job_name, "unknown", error.message, error.hint)

    def _untold(self) -> Iterator[Entry]:
        """The entries of the index that have no headline; both listings come in the same order."""
        headlines = self._archive.headlines()
        told: set[str] = set()
        last = ""
        for entry in self._archive.entries():
            while last <= _second(entry.stem) and (headline := next(headlines, None)):
                last = _second(headline[0])
                told.add(headline[0])
            if entry.stem not in told:
                yield entry
            told.discard(entry.stem)

    def _settled(self, entry: Entry, *, change: bool) -> Finding:
        intent = intent_from(self._storage.read(entry.uri, _DOCUMENT_MAX), str(entry.uri))
        folder = self._archive.folder(intent.experiment_name, entry.job_name)
        case = _Case(self._storage, self._archive, folder, intent, change=change)
        if case.state is State.FINISHED:
            return case.tell(case.result)
        if case.state in {State.NOT_STARTED, State.ABANDONED}:
            return case.mark(
                NOT_STARTED if case.state is State.NOT_STARTED else ABANDONED, "as it was marked"
            )
        age = self._now() - _moment(intent.created_at)
        if case.state is State.INTERRUPTED:
            return self._unless_alive(case, intent, age, NOT_STARTED, "its upload was never finished")
        if intent.target == "aws":
            return self._on_aws(case, intent, age)
        status = ABANDONED if case.state is State.STARTED else NOT_STARTED
        return self._unless_alive(case, intent, age, status, "its launcher is gone")

    def _unless_alive(self, case: _Case, intent: Intent, age: timedelta, status: str, why: str) -> Finding:
        """Marks an experiment unless its launcher may still be at work."""
        alive = _launcher_is_alive(intent)
        patience = _LONGEST if status == ABANDONED else _GRACE
        if alive or (alive is None and age < patience):
            return Finding(case.job_name, "ok", f"{case.state.value}: its launcher may still be at work")
        return case.mark(status, why)

    def _on_aws(self, case: _Case, intent: Intent, age: timedelta) -> Finding:
        if self._recall is None:
            return Finding(
                case.job_name,
                "unknown",
                f"{case.state.value} on AWS, which is not asked here",
                "leave --s3-root out",
            )
        manifest = case.manifest
        account = self._account(manifest.region)
        if account != manifest.account:
            # Another account knows nothing of the job, or another one of its name.
            return Finding(
                case.job_name,
                "unknown",
                f"{case.state.value}: it was launched in the account {manifest.account}, and the one that is asked here is"
                f" {account or 'not known'}",
                "use credentials of the account that launched it, for example with another AWS_PROFILE",
            )
        try:
            job = self._recall(case.job_name, manifest.region)
        except NotFoundError:
            if case.state is State.STARTED:
                if age < _LONGEST:
                    return Finding(
                        case.job_name,
                        "unknown",
                        "it was started, and AWS does not know it (in this account and region)",
                    )
                return case.mark(ABANDONED, "AWS does not know the job any more")
            return self._unless_alive(case, intent, age, NOT_STARTED, "AWS has no such job")
        if job.tags.get(SEAL_TAG) != case.seal:
            raise IntegrityError(
                f"the job {case.job_name} on AWS was started with another manifest"
            ) from None
        return case.adopt(job.result, Launch(job.arn, job.created_at, case.seal))


def collect(storage: Storage, folder: S3Uri, job_arn: str, result: JobResult) -> None:
    """Archives how a job on AWS ended, as somebody has just seen it, unless the archive knows already.

    Args:
        storage: Where the archive is.
        folder: The experiment's folder, ending in a slash.
        job_arn: The job whose result it is: another account or region may have one of the same name.
        result: Its result; nothing is done with one that has not ended.

    Raises:
        IntegrityError: The experiment is not what was sealed.
        LauncherError: The archive cannot be read or written.
    """
    if result.status not in ENDED:
        return
    intent = intent_from(storage.read(folder / INTENT, _DOCUMENT_MAX), str(folder / INTENT))
    archive = Archive(storage, experiment_root(folder, intent.experiment_name))
    case = _Case(storage, archive, folder, intent, change=True)
    if case.state is State.FINISHED:
        return
    manifest = read_experiment(storage, folder).manifest
    if manifest.target == "aws" and job_arn.endswith(
        f":{manifest.region}:{manifest.account}:training-job/{manifest.job_name}"
    ):
        case.adopt(result)


class _Case:
    """One experiment that is to be settled."""

    def __init__(
        self, storage: Storage, archive: Archive, folder: S3Uri, intent: Intent, *, change: bool
    ) -> None:
        self._storage = storage
        self._archive = archive
        self._folder = folder
        self._intent = intent
        self._change = change
        self._names = names_in(storage, folder)
        self.state = State.of(self._names)

    @property
    def job_name(self) -> str:
        return self._folder.name

    @property
    def manifest(self) -> Manifest:
        return manifest_from(self._manifest_bytes, str(self._folder / MANIFEST))

    @property
    def seal(self) -> str:
        return sha256(self._manifest_bytes)

    @property
    def result(self) -> JobResult:
        return result_in(self._storage, self._folder)

    @property
    def _manifest_bytes(self) -> bytes:
        return self._storage.read(self._folder / MANIFEST, _DOCUMENT_MAX)

    def tell(self, result: JobResult) -> Finding:
        """Makes the headline of a result."""
        headline = self._headline("", result)
        return self._done(
            "lists had to read its folder", lambda: self._archive.record_headline(self.job_name, headline)
        )

    def mark(self, status: str, why: str) -> Finding:
        """Notes that there will be no result."""
        headline = self._headline(status, None)
        note = {"status": status, "reason": why, "found_at": utc_now()}
        return self._done(
            f"{_WORDS[status]}: {why}",
            self._give_up_uploads,
            lambda: self._archive.mark(self._folder, headline, note),
        )

    def _give_up_uploads(self) -> None:
        """Of a rehearsal that was killed while it uploaded; what a job on AWS uploads is the service's."""
        if self._intent.target == "aws" or REQUEST not in self._names:
            return
        uri = self._folder / REQUEST
        request = mapping_from(self._storage.read(uri, _DOCUMENT_MAX), str(uri))
        try:
            outputs = S3Uri.parse(request["OutputDataConfig"]["S3OutputPath"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{uri} does not say where outputs are") from error
        with suppress(AccessDeniedError):
            self._storage.abort_uploads((outputs / self.job_name).folder)

    def adopt(self, result: JobResult, launch: Launch | None = None) -> Finding:
        """Records how a job on AWS ended when it has, and that it was started, as far as that is known."""
        steps: list[Callable[[], None]] = []
        told = f"the job is {result.status} on AWS"
        if launch and self.state is State.NOT_CONFIRMED:
            steps.append(lambda: self._archive.record_launch(self._folder, launch))
        if result.status in ENDED:
            headline = self._headline("", result)
            steps.append(lambda: self._archive.record_result(self._folder, result, headline))
        if not steps:
            return Finding(self.job_name, "ok", f"started: {told}")
        return self._done(told, *steps)

    def _headline(self, status: str, result: JobResult | None) -> Headline:
        if MANIFEST in self._names and REQUEST in self._names:
            uri = self._folder / REQUEST
            request = mapping_from(self._storage.read(uri, _DOCUMENT_MAX), str(uri))
            return headline_of(self.manifest, request, result, status)
        intent = self._intent
        return Headline(intent.experiment_name, intent.created_at, intent.author.user, intent.target, status)

    def _done(self, what: str, *steps: Callable[[], None]) -> Finding:
        if not self._change:
            return Finding(
                self.job_name, "warning", f"{self.state.value}: {what}", "doctor --repair settles it"
            )
        try:
            for step in steps:
                step()
        except ConflictError:
            # Its own launcher, or another repair, was faster: what there is stays.
            return Finding(self.job_name, "ok", "somebody else settled it meanwhile")
        return Finding(self.job_name, "ok", f"settled: {what}")


def _account_asked(recall: Recall | None, region: str) -> str:
    """The account of the credentials that AWS is asked with; empty when nobody can know it."""
    from sagemaker_launcher.archive.recall import AwsRecall  # noqa: PLC0415 - who has one has imported boto3 already

    return recall.account(region) if isinstance(recall, AwsRecall) else ""


_WORDS = {NOT_STARTED: "never started", ABANDONED: "abandoned"}


def _launcher_is_alive(intent: Intent) -> bool | None:
    """Whether the process that launched still runs; None when that cannot be known, as of another machine.

    A name alone tells no machine: all containers of a service, or laptops as they come from the factory, have the same. So
    does what a snapshot of a machine starts in two places, which is why the name counts, too.
    """
    author = intent.author
    if not author.pid_space or (author.pid_space, author.host) != (pid_space(), platform.node()):
        return None
    try:
        os.kill(author.pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return None
    return None  # the number may be another program's by now


def _second(stem: str) -> str:
    return stem.partition("-")[0]


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise IntegrityError(f"the reservation has no time: {text!r}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
