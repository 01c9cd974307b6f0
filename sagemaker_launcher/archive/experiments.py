"""The archive: one folder per experiment, written in an order that makes every crash readable.

index entry -> intent.json (reserves the name) -> the files -> manifest.json (seals them) -> the job starts -> launch.json ->
result.json -> the headline, which tells lists of it without their reading anything (see `headline`). Nothing is ever replaced
or deleted. What exists tells how far a launch came; see `State`. A rerun leaves a note below `_reruns/` of the archive it goes
to, and `repair` one in the folder of an experiment that never will have a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sagemaker_launcher.archive.headline import ABANDONED, NOT_STARTED, Headline, key_of, read_key
from sagemaker_launcher.archive.manifest import (
    FileSeal,
    Intent,
    Launch,
    Manifest,
    intent_from,
    launch_from,
    manifest_from,
    mapping_from,
    to_bytes,
)
from sagemaker_launcher.clock import utc
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.documents import read_document
from sagemaker_launcher.errors import ConflictError, IntegrityError, NotFoundError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.interrupts import pause_point
from sagemaker_launcher.job import CONFIG_SHA256_VARIABLE
from sagemaker_launcher.naming import (
    S3Uri,
    experiment_name_problem,
    launch_second,
    newest_first,
    second_of_newest_first,
)
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import Storage

SAGEMAKER_CONFIG, TRAINING_CONFIG, REQUEST, PATCH = (
    "sagemaker_config.yaml",
    "training_config.yaml",
    "request.json",
    "uncommitted.patch",
)
INTENT, MANIFEST, LAUNCH, RESULT = "intent.json", "manifest.json", "launch.json", "result.json"
MARKS = {
    NOT_STARTED: "not_started.json",
    ABANDONED: "abandoned.json",
}  # by the status that they give an experiment
LOGS = "logs"  # a folder; rehearsals keep a file per host and attempt in it
_SEALABLE = (SAGEMAKER_CONFIG, TRAINING_CONFIG, REQUEST, PATCH)
_FILE_MAX = 4 * 1024 * 1024  # bytes; no file of an experiment comes near
_LOGS_MAX, _LOG_MAX = 4, 16 * 1024 * 1024  # files and bytes that are read again for a metric's course
_FILES_MAX = 1000  # one page of a listing; an experiment has not that many files, a folder of experiments may have millions
_RERUNS_MAX = 1000  # of one experiment: one page of a listing
_HEADLINES_MAX = 10  # of one experiment; all that can be are its result's and one for each mark
_INDEX, _HEADLINES, _RERUNS = (
    "_index",
    "_headlines",
    "_reruns",
)  # no experiment's name can start with an underscore
_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


class State(Enum):
    """How far an experiment came, read off the files that exist."""

    INTERRUPTED = "interrupted"  # reserved, and the upload never finished: there is no experiment
    NOT_CONFIRMED = "not confirmed"  # sealed, but nobody saw the job start
    STARTED = "started"  # the job was started, and its end was not observed
    FINISHED = "finished"  # there is a result
    NOT_STARTED = "not started"  # somebody found out that the job was never started
    ABANDONED = "abandoned"  # somebody found out that the job's end will never be known
    UNREADABLE = "unreadable"  # its index entry or its result is not what this tool writes

    @property
    def may_run(self) -> bool:
        """Whether the job may be running, as far as the archive knows."""
        return self in {State.NOT_CONFIRMED, State.STARTED}

    @classmethod
    def of(cls, names: set[str]) -> State:
        """The state of a folder that holds files of these names."""
        if MANIFEST in names and RESULT in names:
            return cls.FINISHED
        if MARKS[ABANDONED] in names:
            return cls.ABANDONED
        if MANIFEST in names and LAUNCH in names:
            return cls.STARTED
        if MARKS[NOT_STARTED] in names:
            return cls.NOT_STARTED
        return cls.NOT_CONFIRMED if MANIFEST in names else cls.INTERRUPTED


@frozen
class Experiment:
    """An archived experiment, every file of it verified against the seal; the state is read off the files that exist."""

    folder: S3Uri
    manifest: Manifest
    files: Mapping[str, bytes]
    launch: Launch | None
    result: JobResult | None
    state: State

    @property
    def request(self) -> dict[str, Any]:
        """The CreateTrainingJob request; empty when it was deleted, and that was put up with."""
        if REQUEST not in self.files:
            return {}
        return mapping_from(self.files[REQUEST], str(self.folder / REQUEST))

    @property
    def checkpoints(self) -> str:
        """Where its job keeps checkpoints, by the sealed request; empty when it keeps none."""
        return _checkpoints_in(self.request)


@frozen
class Entry:
    """One entry of the index: `<newest-first second>-<job name>`, and the object."""

    stem: str
    uri: S3Uri

    @property
    def second(self) -> str:
        """The second of the launch, as the index counts."""
        return self.stem.partition("-")[0]

    @property
    def job_name(self) -> str:
        """The job's name."""
        return self.stem.partition("-")[2]


@frozen
class Summary:
    """One line of a list of experiments.

    Attributes:
        stem: `<newest-first second>-<job name>`, which orders lists.
        folder: The experiment's folder; of an unreadable one, its entry in the index.
        state: How far it came.
        headline: What else there is to tell.
    """

    stem: str
    folder: S3Uri
    state: State
    headline: Headline

    @property
    def job_name(self) -> str:
        """The job's name."""
        return self.stem.partition("-")[2]


@frozen
class Sealed:
    """An experiment that is complete in the archive and whose job may start."""

    folder: S3Uri
    manifest_sha256: str


class Archive:
    """All experiments under one S3 prefix.

    Args:
        storage: Where objects are.
        root: The prefix, such as `s3://team/experiments`.
    """

    def __init__(self, storage: Storage, root: S3Uri) -> None:
        self._storage = storage
        self._root = root

    def folder(self, experiment_name: str, job_name: str) -> S3Uri:
        """The folder of an experiment, ending in a slash.

        Raises:
            IntegrityError: The names, which may come from the archive, would lead out of it.
        """
        if experiment_name_problem(experiment_name) or launch_second(job_name) is None:
            raise IntegrityError(f"no experiment can be called {experiment_name!r} with a job {job_name!r}")
        return (self._root / experiment_name / job_name).folder

    def reserve(self, intent: Intent) -> S3Uri:
        """Takes the name of a new experiment.

        The index entry comes first, so that no reservation can ever be missing from a list.

        Raises:
            ConflictError: Somebody else has the name; the message says who and since when.
        """
        folder = self.folder(intent.experiment_name, intent.job_name)
        data = to_bytes(intent)
        try:
            self._storage.create(self._index_entry(intent.job_name), data)
            pause_point("indexed")
            self._storage.create(folder / INTENT, data)
        except ConflictError as error:
            raise self._taken(folder, error) from error
        return folder

    def seal(self, folder: S3Uri, files: Mapping[str, bytes], manifest: Manifest) -> Sealed:
        """Writes the files, and last of all the manifest, which names the hash of each.

        Until then they are no experiment, so nobody who interrupts this has to wait for those that are on their way.
        """
        _in_parallel(
            self._storage, lambda item: self._storage.create(folder / item[0], item[1]), list(files.items())
        )
        pause_point("uploaded")
        data = to_bytes(manifest)
        self._storage.create(folder / MANIFEST, data)
        return Sealed(folder, sha256(data))

    def record_launch(self, folder: S3Uri, launch: Launch) -> None:
        """Says that the job was started."""
        self._storage.create(folder / LAUNCH, to_bytes(launch))

    def record_result(self, folder: S3Uri, result: JobResult, headline: Headline) -> None:
        """Says how the job ended; lists then find the headline."""
        self._storage.create(folder / RESULT, to_bytes(result.to_json()))
        self.record_headline(folder.name, headline)

    def record_headline(self, job_name: str, headline: Headline) -> None:
        """Lets lists tell of an experiment without reading it."""
        place = (self._root / _HEADLINES).folder
        key = key_of(self._stem(job_name), headline, room=len(place.key.encode()))
        self._storage.create(place / key, to_bytes(headline))

    def mark(self, folder: S3Uri, headline: Headline, note: Mapping[str, str]) -> None:
        """Says of an experiment that it will never have a result; the headline's status says why."""
        self._storage.create(folder / MARKS[headline.status], to_bytes(note))
        self.record_headline(folder.name, headline)

    def record_rerun(self, original: str, job_name: str, folder: S3Uri) -> None:
        """Notes that a job repeats another, for those who look at the other."""
        note = to_bytes({"experiment": str(folder)})
        self._storage.create(self._root / _RERUNS / original / f"{self._stem(job_name)}.json", note)

    def reruns(self, job_name: str, limit: int) -> tuple[str, ...]:
        """The job names of the newest experiments that repeat one, newest first."""
        notes = self._storage.list((self._root / _RERUNS / job_name).folder, limit)
        return tuple(note.uri.name.removesuffix(".json").partition("-")[2] for note in notes)

    def other_writers(self, job_name: str, checkpoints: str) -> list[str]:
        """The job names of the other experiments that may still be writing the checkpoints of one.

        A folder of checkpoints has the name of the job that began it. Whoever goes on from there is noted among the
        reruns of that job, or among those of another one that has gone on from there.

        Args:
            job_name: The one.
            checkpoints: Where its job keeps checkpoints, by its request.

        Raises:
            IntegrityError: What the archive has of another one is not what this tool writes.
        """
        first = beginner_of(checkpoints)
        states: dict[str, State | None] = {job_name: None}
        names, parents = [first], [name for name in {job_name, first} if launch_second(name)]
        while parents:
            for found in _in_parallel(self._storage, lambda name: self.reruns(name, _RERUNS_MAX), parents):
                names += found
            new = [name for name in dict.fromkeys(names) if name not in states and launch_second(name)]
            told = _in_parallel(self._storage, lambda name: self._state_of_writer(name, checkpoints), new)
            states.update(zip(new, told, strict=True))
            names, parents = [], [name for name in new if states[name] and name != first]
        return [name for name, state in states.items() if state and state.may_run]

    def _state_of_writer(self, job_name: str, checkpoints: str) -> State | None:
        """How far an experiment came whose job keeps its checkpoints in a place; None for any other."""
        try:
            uri = self.find(job_name) / REQUEST
            request = mapping_from(self._storage.read(uri, _FILE_MAX), str(uri))
        except NotFoundError:
            return None  # it is in another archive, or its upload was never finished
        if _checkpoints_in(request) != checkpoints:
            return None
        return State.of(names_in(self._storage, uri.parent))

    def record_log(self, folder: S3Uri, path: Path) -> None:
        """Keeps a log file beside the result, under its own name; each name is used once."""
        self._storage.upload(path, folder / LOGS / path.name)

    def find(self, job_name: str) -> S3Uri:
        """The folder of an experiment whose job name is known; the name alone tells where its index entry is.

        Raises:
            NotFoundError: The archive has no such experiment.
        """
        if launch_second(job_name) is not None:
            entry = self._index_entry(job_name)
            try:
                intent = intent_from(self._storage.read(entry, _FILE_MAX), str(entry))
            except NotFoundError:
                pass
            else:
                return self.folder(intent.experiment_name, job_name)
        raise NotFoundError(
            f"the archive {self._root} has no experiment {job_name!r}",
            hint="`list` shows what it has; an experiment can also be named by its S3 URI",
            code="experiment_not_found",
        )

    def entries(self, limit: int = 0) -> Iterator[Entry]:
        """The index, newest first; at most `limit` of it when that is not 0."""
        place = (self._root / _INDEX).folder
        for item in self._storage.list(place, limit):
            yield Entry(item.uri.key.removeprefix(place.key).removesuffix(".json"), item.uri)

    def entry(self, stem: str) -> Entry:
        """The entry of the index that has a stem."""
        return Entry(stem, self._root / _INDEX / f"{stem}.json")

    def names(self) -> Iterator[str]:
        """The job names of all experiments, newest first."""
        return (entry.job_name for entry in self.entries() if launch_second(entry.job_name))

    def names_of(self, experiment_name: str, limit: int) -> tuple[str, ...] | None:
        """The job names of an experiment and of those below it, newest first; None when they are more than the limit.

        Their folders tell them. Of a launch that ended before it had one, only the index tells.
        """
        if experiment_name_problem(experiment_name):
            return ()
        names: list[str] = []
        folders = [(self._root / experiment_name).folder]
        while folders and len(names) + len(folders) <= limit:
            for found in islice(self._storage.folders(folders.pop()), limit + 1):
                if launch_second(found.name) is None:
                    folders.append(found)
                else:
                    names.append(found.name)
        return None if folders or len(names) > limit else tuple(sorted(names, key=self._stem))

    def entry_of(self, job_name: str) -> Entry:
        """The entry of the index of a job."""
        return self.entry(self._stem(job_name))

    def intents(self, entries: Iterable[Entry]) -> list[Intent]:
        """The reservations of experiments; those that cannot be read are left out."""
        return [found for found in _in_parallel(self._storage, self._intent_or_none, list(entries)) if found]

    def headlines(self, limit: int = 0) -> Iterator[tuple[str, Headline]]:
        """The headlines with their stems, newest first; those that this version cannot read are left out."""
        place = (self._root / _HEADLINES).folder
        for item in self._storage.list(place, limit):
            try:
                yield read_key(item.uri.key.removeprefix(place.key))
            except ValueError:
                continue

    def headlines_of(self, stems: Sequence[str]) -> dict[str, Headline]:
        """The headlines of some experiments by their stems, as far as they have one."""
        found = zip(stems, _in_parallel(self._storage, self._headline_in_key, list(stems)), strict=True)
        return {stem: headline for stem, headline in found if headline}

    def _headline_in_key(self, stem: str) -> Headline | None:
        found = self._foremost(stem)
        return found[1] if found else None

    def _foremost(self, stem: str) -> tuple[S3Uri, Headline] | None:
        """The headline of an experiment and where it is; that of a result when somebody had marked it before that came."""
        place = (self._root / _HEADLINES).folder
        found = None
        for item in self._storage.list(place / f"{stem}.", _HEADLINES_MAX):
            with suppress(ValueError):
                headline = read_key(item.uri.key.removeprefix(place.key))[1]
                if found is None or found[1].status in MARKS:
                    found = item.uri, headline
        return found

    def full_headline(self, summary: Summary) -> Headline:
        """A headline with what its key had no room for."""
        return self._headline(summary.stem) or summary.headline

    def headline(self, job_name: str) -> Headline | None:
        """The whole headline of an experiment; None when it has none."""
        return self._headline(self._stem(job_name))

    def _headline(self, stem: str) -> Headline | None:
        found = self._foremost(stem)
        if found is None:
            return None
        uri = found[0]
        try:
            return read_document(Headline, mapping_from(self._storage.read(uri, _FILE_MAX), str(uri)))
        except TypeError as error:
            raise IntegrityError(f"{uri} is not what this tool writes: {error}") from error

    def told(self, entry: Entry, headline: Headline) -> Summary:
        """The summary of an experiment that has a headline. Raises IntegrityError when that leads out of the archive."""
        folder = self.folder(headline.experiment_name, entry.job_name)
        states = {NOT_STARTED: State.NOT_STARTED, ABANDONED: State.ABANDONED}
        return Summary(entry.stem, folder, states.get(headline.status, State.FINISHED), headline)

    def read_summaries(self, entries: Sequence[Entry]) -> list[Summary]:
        """The summaries of experiments that have no headline, read from their folders."""
        return _in_parallel(self._storage, self._summary, list(entries))

    def _summary(self, entry: Entry) -> Summary:
        try:
            return self._readable_summary(entry)
        except (IntegrityError, NotFoundError):
            # One entry that somebody spoiled or deleted must not hide all others.
            created = _time_of(entry.stem.partition("-")[0])
            return Summary(entry.stem, entry.uri, State.UNREADABLE, Headline("", created, "", ""))

    def _readable_summary(self, entry: Entry) -> Summary:
        intent = self._intent(entry)
        folder = self.folder(intent.experiment_name, intent.job_name)
        names = names_in(self._storage, folder)
        state = State.of(names)
        headline = Headline(intent.experiment_name, intent.created_at, intent.author.user, intent.target)
        if MANIFEST in names and REQUEST in names:
            manifest = manifest_from(self._storage.read(folder / MANIFEST, _FILE_MAX), str(folder / MANIFEST))
            request = mapping_from(self._storage.read(folder / REQUEST, _FILE_MAX), str(folder / REQUEST))
            result = result_in(self._storage, folder) if state is State.FINISHED else None
            headline = headline_of(manifest, request, result)
        return Summary(entry.stem, folder, state, headline)

    def _intent(self, entry: Entry) -> Intent:
        intent = intent_from(self._storage.read(entry.uri, _FILE_MAX), str(entry.uri))
        if launch_second(intent.job_name) is None or self._stem(intent.job_name) != entry.stem:
            raise IntegrityError(f"{entry.uri} is the entry of another job: {intent.job_name!r}")
        return intent

    def _intent_or_none(self, entry: Entry) -> Intent | None:
        try:
            return self._intent(entry)
        except (IntegrityError, NotFoundError):
            return None

    def _index_entry(self, job_name: str) -> S3Uri:
        return self._root / _INDEX / f"{self._stem(job_name)}.json"

    @staticmethod
    def _stem(job_name: str) -> str:
        second = launch_second(job_name)
        if second is None:
            raise ValueError(job_name)
        return f"{newest_first(second)}-{job_name}"

    def _taken(self, folder: S3Uri, error: ConflictError) -> ConflictError:
        try:
            holder = intent_from(self._storage.read(folder / INTENT, _FILE_MAX), str(folder / INTENT))
        except NotFoundError:
            return error
        author = holder.author
        return ConflictError(
            f"the name {holder.job_name} is taken by {author.user}@{author.host} since {holder.created_at}",
            hint="launch again: each launch makes a new name",
        )


def headline_of(
    manifest: Manifest, request: Mapping[str, Any], result: JobResult | None = None, status: str = ""
) -> Headline:
    """What lists say of a sealed experiment.

    Args:
        manifest: Its seal.
        request: Its CreateTrainingJob request.
        result: How it ended or stands; None when that is not known.
        status: The status to give it without a result.
    """
    return Headline(
        experiment_name=manifest.experiment_name,
        created_at=manifest.created_at,
        user=manifest.author.user,
        target=manifest.target,
        status=result.status if result else status,
        training_seconds=result.training_seconds if result else None,
        billable_seconds=result.billable_seconds if result else None,
        instances=_instances(request.get("ResourceConfig")),
        spot=request.get("EnableManagedSpotTraining") is True,
        metrics=dict(sorted(result.metrics.items())) if result else {},
        changed=manifest.changed,
    )


def _instances(resources: object) -> str:
    """Such as `2 x ml.m5.large`, or several of them for instance groups."""
    if not isinstance(resources, Mapping):
        return ""
    groups = resources.get("InstanceGroups") or [resources]
    if not isinstance(groups, list):
        return ""
    shown = (
        f"{group.get('InstanceCount')} x {group.get('InstanceType')}"
        for group in groups
        if isinstance(group, Mapping)
    )
    return ", ".join(shown)


def _time_of(number: str) -> str:
    try:
        return utc(second_of_newest_first(number))
    except ValueError:
        return ""


def _refuse(folder: S3Uri, problems: Sequence[str]) -> None:
    raise IntegrityError(
        f"{folder} is not what was sealed: {'; '.join(problems)}",
        hint="somebody with write access changed the archive; a bucket that keeps versions still has what was there: "
        f"aws s3api list-object-versions --bucket {folder.bucket} --prefix {folder.key}",
        code="tampered",
    )


def read_experiment(
    storage: Storage, folder: S3Uri, tampered: Callable[[S3Uri, Sequence[str]], None] = _refuse
) -> Experiment:
    """Reads an experiment and verifies each file against the seal.

    Args:
        storage: Where objects are.
        folder: The experiment's folder, ending in a slash.
        tampered: Called with what is not as it was sealed; raises IntegrityError unless it is another function, for
            those who want to look at what there is all the same.

    Raises:
        NotFoundError: There is no experiment, or its upload was never finished.
        IntegrityError: Something was changed, deleted or added to the seal; the message names every such file.
    """
    names = names_in(storage, folder)
    if not names & {INTENT, MANIFEST}:
        raise NotFoundError(
            f"there is no experiment at {folder}",
            hint="`list` shows what there is",
            code="experiment_not_found",
        )
    if MANIFEST not in names:
        raise NotFoundError(
            f"{folder} was reserved, but its upload was interrupted: there is nothing to read",
            hint="launch it again from the original configs",
            code="experiment_interrupted",
        )
    data = storage.read(folder / MANIFEST, _FILE_MAX)
    manifest = manifest_from(data, str(folder / MANIFEST))
    launch = None
    if LAUNCH in names:
        launch = launch_from(storage.read(folder / LAUNCH, _FILE_MAX), str(folder / LAUNCH))
    problems = [] if launch is None or launch.manifest_sha256 == sha256(data) else [f"{MANIFEST} was changed"]
    problems += [
        f"{name} is sealed, but no such file belongs to an experiment"
        for name in manifest.files
        if name not in _SEALABLE
    ]
    required = [*(name for name in _SEALABLE if name in manifest.files or name != PATCH)]
    problems += [f"{name} is not sealed" for name in required if name not in manifest.files]
    problems += [f"{name} was deleted" for name in required if name not in names]
    present = [name for name in required if name in names and name in manifest.files]
    files = dict(
        zip(
            present,
            _in_parallel(storage, lambda name: storage.read(folder / name, _FILE_MAX), present),
            strict=True,
        )
    )
    problems += [
        f"{name} was changed" for name, content in files.items() if not _intact(content, manifest.files[name])
    ]
    if not problems and not _belong_together(files, folder):
        # The manifest was replaced as well, and the record of the start, which would tell that, deleted.
        problems.append(f"{TRAINING_CONFIG} is not the one that {REQUEST} names")
    if problems:
        tampered(folder, problems)
    result = result_in(storage, folder) if RESULT in names else None
    return Experiment(folder, manifest, files, launch, result, State.of(names))


def beginner_of(uri: str) -> str:
    """The name of the job that began a folder of checkpoints: each has one of its own, named after it."""
    return uri.removesuffix("/").rpartition("/")[2]


def _checkpoints_in(request: Mapping[str, Any]) -> str:
    """Where a job keeps its checkpoints, by its request, which need not be of this tool; empty when it keeps none."""
    place = request.get("CheckpointConfig")
    uri = place.get("S3Uri") if isinstance(place, Mapping) else ""
    return uri if isinstance(uri, str) else ""


def experiment_root(folder: S3Uri, experiment_name: str) -> S3Uri:
    """The archive that an experiment's folder is in: above its job's name and its own."""
    for _ in ("job", *experiment_name.split("/")):
        folder = folder.parent
    return folder


def read_log(storage: Storage, folder: S3Uri) -> Iterator[str]:
    """The lines of the logs that an experiment keeps, host by host; none of them for a job on AWS."""
    for item in storage.list((folder / LOGS).folder, _LOGS_MAX):
        try:
            yield from storage.read(item.uri, _LOG_MAX).decode("utf-8", "replace").split("\n")
        except IntegrityError:
            continue  # too large to be worth reading


def seals(files: Mapping[str, bytes]) -> dict[str, FileSeal]:
    """The hash and size of each file."""
    return {name: FileSeal(sha256(data), len(data)) for name, data in files.items()}


def _intact(data: bytes, seal: FileSeal) -> bool:
    return len(data) == seal.size and sha256(data) == seal.sha256


def _belong_together(files: Mapping[str, bytes], folder: S3Uri) -> bool:
    """Whether the training config is the one that the job was told the hash of."""
    variables = mapping_from(files[REQUEST], str(folder / REQUEST)).get("Environment")
    told = variables.get(CONFIG_SHA256_VARIABLE) if isinstance(variables, Mapping) else None
    return told == sha256(files[TRAINING_CONFIG])


def names_in(storage: Storage, folder: S3Uri) -> set[str]:
    """The names of the files in an experiment's folder."""
    return {item.uri.key.removeprefix(folder.key) for item in storage.list(folder, _FILES_MAX)}


def result_in(storage: Storage, folder: S3Uri) -> JobResult:
    """The result of a finished experiment. Raises IntegrityError when it is not what this tool writes."""
    uri = folder / RESULT
    try:
        return read_document(JobResult, mapping_from(storage.read(uri, _FILE_MAX), str(uri)))
    except TypeError as error:
        raise IntegrityError(f"{uri} is not what this tool writes: {error}", code="unreadable") from error


def _in_parallel(
    storage: Storage, function: Callable[[_Value], _Result], values: list[_Value]
) -> list[_Result]:
    """Applies a function to each value, several at a time where each application waits for S3."""
    if storage.concurrency <= 1:
        return [function(value) for value in values]
    from sagemaker_launcher.parallel import in_parallel  # noqa: PLC0415 - a rehearsal without S3 does without it

    return in_parallel(function, values, storage.concurrency)
