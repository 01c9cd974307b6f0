"""What a user means by EXPERIMENT or JOB: an S3 URI, a job name, its unique beginning, `@latest` or `@me`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol

from sagemaker_launcher.archive.experiments import INTENT, MANIFEST, Archive, Entry
from sagemaker_launcher.archive.manifest import Intent, manifest_from
from sagemaker_launcher.errors import IntegrityError, LauncherError, NotFoundError, UsageError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import S3Uri, experiment_name_problem, launch_second
from sagemaker_launcher.storage import Storage

LATEST, MINE = "@latest", "@me"
_DOCUMENT_MAX = 4 * 1024 * 1024  # bytes
_SHOWN = 5  # of the names that an ambiguous beginning fits
_LATEST_AMONG = 100  # newest experiments, of which the first that can be read is taken
_MINE_AMONG = 1000  # newest experiments that are searched for the user's own
_PREFIX_MIN = 3  # characters


class Place(Protocol):
    """Where references lead: what `cli.places.ArchivePlace` has."""

    @property
    def storage(self) -> Storage:
        """Where objects are."""

    @property
    def archive(self) -> Archive:
        """The archive. Raises UsageError when nothing names it."""

    @property
    def s3_root(self) -> Path | None:
        """The folder that stands in for S3, where there is no AWS; None elsewhere."""

    @property
    def user(self) -> str:
        """The user's name on this machine."""


@frozen
class Reference:
    """What a reference leads to.

    Attributes:
        job_name: The job's name.
        folder: The experiment's folder, ending in a slash; None for a job that no archive knows.
        region: The region that the archive has it in; empty when the archive does not say. It wins over any config.
        target: Where it was launched, as users type it; empty when the archive does not say.
    """

    job_name: str
    folder: S3Uri | None
    region: str
    target: str


def resolve(text: str, place: Place) -> Reference:
    """Finds the job that a user means, and where it ran.

    Args:
        text: An S3 URI of an experiment (or of a file in it), a job name, the beginning of exactly one job name,
            `@latest` (the newest experiment) or `@me` (the newest of this user, among the newest 1,000 of all).
        place: Where to look.

    Raises:
        NotFoundError: There is none.
        UsageError: It means several, or nothing says where the archive is.
        IntegrityError: The experiment's manifest is not what this tool writes.
    """
    folder = locate(text, place)
    try:
        data = place.storage.read(folder / MANIFEST, _DOCUMENT_MAX)
    except NotFoundError:
        _look_for_reservation(folder, place)
        return Reference(folder.name, folder, "", "")
    manifest = manifest_from(data, str(folder / MANIFEST))
    if manifest.job_name != folder.name:
        raise IntegrityError(f"{folder} holds the manifest of another job: {manifest.job_name!r}")
    return Reference(manifest.job_name, folder, manifest.region, manifest.target)


def resolve_job(text: str, place: Place) -> Reference:
    """Finds a job that need not be archived: what no archive knows is taken for the whole name of a job on AWS.

    Raises:
        NotFoundError: There is none, and no AWS that could know the job.
        UsageError: It means several, or it is a reference that only an archive can answer.
    """
    try:
        return resolve(text, place)
    except (NotFoundError, UsageError) as error:
        ambiguous = isinstance(error, UsageError) and error.code == "ambiguous"
        if ambiguous or place.s3_root is not None or text.startswith(("s3:", "@")):
            raise
        return Reference(text, None, "", "")


def locate(text: str, place: Place) -> S3Uri:
    """Finds the folder, ending in a slash, of the experiment that a user means; see `resolve`."""
    if text.startswith("s3:"):
        return experiment_folder(text)
    if text.startswith("@"):
        return _special(text, place)
    try:
        return place.archive.find(text)
    except NotFoundError as missing:
        return _by_beginning(text, place.archive, missing)


def experiment_folder(text: str) -> S3Uri:
    """The folder that an S3 URI names, or that holds the file which it names. Raises UsageError for no S3 URI."""
    try:
        uri = S3Uri.parse(text)
    except ValueError as error:
        raise UsageError(f"{text}: {error}") from error
    of_file = launch_second(uri.name) is None and launch_second(uri.parent.name) is not None
    return uri.parent if of_file else uri.folder


def _look_for_reservation(folder: S3Uri, place: Place) -> None:
    """Raises NotFoundError unless an experiment was reserved here that was never sealed."""
    try:
        place.storage.read(folder / INTENT, _DOCUMENT_MAX)
    except NotFoundError as error:
        raise _none(f"there is no experiment at {folder}") from error


def _special(text: str, place: Place) -> S3Uri:
    if text == LATEST:
        found = _newest(place.archive, place.archive.entries(_LATEST_AMONG), lambda _: True)
        problem = "the archive has no experiment yet"
    elif text == MINE:
        user, archive = place.user, place.archive
        found = _newest(archive, _perhaps_of(user, archive), lambda intent: intent.author.user == user)
        problem = (
            f"none of the newest {_MINE_AMONG:,} experiments is one of {user!r}, and {MINE} looks at no more"
        )
    else:
        raise UsageError(
            f"{text}: no such reference", hint=f"{LATEST} is the newest experiment, {MINE} your newest"
        )
    if found is None:
        raise _none(problem)
    return found


def _newest(archive: Archive, entries: Iterable[Entry], wanted: Callable[[Intent], bool]) -> S3Uri | None:
    """The newest experiment of some kind; the index orders those of one second by name, and their own clock tells more."""
    for _, group in groupby(entries, key=lambda entry: entry.second):
        found = max(
            filter(wanted, archive.intents(group)), key=lambda intent: intent.created_at, default=None
        )
        if found:
            return archive.folder(found.experiment_name, found.job_name)
    return None


def _perhaps_of(user: str, archive: Archive) -> Iterator[Entry]:
    """The newest experiments without those of which a list says that somebody else has launched them."""
    others = {stem for stem, headline in archive.headlines(_MINE_AMONG) if headline.user != user}
    return (entry for entry in archive.entries(_MINE_AMONG) if entry.stem not in others)


def _by_beginning(text: str, archive: Archive, missing: LauncherError) -> S3Uri:
    """The one experiment whose job name starts like this, or whose experiment does."""
    if len(text) < _PREFIX_MIN or experiment_name_problem(text):
        raise missing
    found = list(islice(_starting_with(text, archive), _SHOWN + 1))
    if not found:
        raise missing
    if len(found) > 1:
        shown = "\n".join(found[:_SHOWN]) + ("\n..." if len(found) > _SHOWN else "")
        raise UsageError(f"{text} is the beginning of several job names", hint=shown, code="ambiguous")
    return archive.find(found[0])


def _starting_with(text: str, archive: Archive) -> Iterator[str]:
    # Job names have hyphens where the experiment's name has slashes.
    beginning = text.replace("/", "-")
    return (name for name in archive.names() if name.startswith(beginning))


def _none(message: str) -> NotFoundError:
    return NotFoundError(message, hint="`list` shows what there is", code="experiment_not_found")
