"""The archive: one folder per experiment, written in an order that makes every crash readable.

index entry -> intent.json (reserves the name) -> the files -> manifest.json (seals them) -> the job starts -> launch.json ->
result.json. Nothing is ever replaced or deleted. What exists tells how far a launch came; see `State`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from sagemaker_launcher.clock import utc
from sagemaker_launcher.documents import read_document
from sagemaker_launcher.errors import ConflictError, IntegrityError, NotFoundError
from sagemaker_launcher.interrupts import pause_point
from sagemaker_launcher.manifest import (
    Author,
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
from sagemaker_launcher.naming import (
    S3Uri,
    experiment_name_problem,
    launch_second,
    newest_first,
    second_of_newest_first,
)
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import Storage, sha256

SAGEMAKER_CONFIG, TRAINING_CONFIG, REQUEST, PATCH = (
    "sagemaker_config.yaml",
    "training_config.yaml",
    "request.json",
    "uncommitted.patch",
)
INTENT, MANIFEST, LAUNCH, RESULT = "intent.json", "manifest.json", "launch.json", "result.json"
LOGS = "logs"  # a folder; rehearsals keep a file per host and attempt in it
PATCH_MAX = 1024 * 1024  # bytes
_SEALABLE = (SAGEMAKER_CONFIG, TRAINING_CONFIG, REQUEST, PATCH)
_FILE_MAX = 4 * 1024 * 1024  # bytes; no file of an experiment comes near
_FILES_MAX = 1000  # one page of a listing; an experiment has not that many files, a folder of experiments may have millions
_INDEX = "_index"  # no experiment's name can start with an underscore
_CONCURRENT = 8
_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


class State(Enum):
    """How far an experiment came, read off the files that exist."""

    INTERRUPTED = "interrupted"  # reserved, and the upload never finished: there is no experiment
    NOT_CONFIRMED = "not confirmed"  # sealed, but nobody saw the job start
    STARTED = "started"  # the job was started, and its end was not observed
    FINISHED = "finished"  # there is a result
    UNREADABLE = "unreadable"  # its index entry or its result is not what this tool writes

    @classmethod
    def of(cls, names: set[str]) -> State:
        """The state of a folder that holds files of these names."""
        if MANIFEST not in names:
            return cls.INTERRUPTED
        if RESULT in names:
            return cls.FINISHED
        return cls.STARTED if LAUNCH in names else cls.NOT_CONFIRMED


@dataclass(frozen=True)
class Experiment:
    """An archived experiment, every file of it verified against the seal."""

    folder: S3Uri
    manifest: Manifest
    files: Mapping[str, bytes]
    launch: Launch | None
    result: JobResult | None

    @property
    def state(self) -> State:
        """How far it came."""
        if self.result:
            return State.FINISHED
        return State.STARTED if self.launch else State.NOT_CONFIRMED

    @property
    def request(self) -> dict[str, Any]:
        """The CreateTrainingJob request."""
        return mapping_from(self.files[REQUEST], str(self.folder / REQUEST))


@dataclass(frozen=True)
class Summary:
    """One line of a list of experiments."""

    folder: S3Uri
    intent: Intent
    state: State
    result: JobResult | None


@dataclass(frozen=True)
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
        """Writes the files, and last of all the manifest, which names the hash of each."""
        _in_parallel(lambda item: self._storage.create(folder / item[0], item[1]), list(files.items()))
        pause_point("uploaded")
        data = to_bytes(manifest)
        self._storage.create(folder / MANIFEST, data)
        return Sealed(folder, sha256(data))

    def record_launch(self, folder: S3Uri, launch: Launch) -> None:
        """Says that the job was started."""
        self._storage.create(folder / LAUNCH, to_bytes(launch))

    def record_result(self, folder: S3Uri, result: JobResult) -> None:
        """Says how the job ended."""
        self._storage.create(folder / RESULT, to_bytes(result.to_json()))

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

    def recent(self, limit: int) -> tuple[Summary, ...]:
        """The newest experiments, newest first. Costs the same whatever the number of experiments is."""
        entries = list(self._storage.list((self._root / _INDEX).folder, limit))
        return tuple(_in_parallel(self._summary, [entry.uri for entry in entries]))

    def _summary(self, entry: S3Uri) -> Summary:
        try:
            return self._readable_summary(entry)
        except IntegrityError:
            # One entry that somebody spoiled must not hide all others.
            number, _, job_name = entry.name.removesuffix(".json").partition("-")
            nobody = Author(user="", host="", pid=0)
            intent = Intent(job_name, "", "", _time_of(number), nobody, request_sha256="")
            return Summary(entry, intent, State.UNREADABLE, None)

    def _readable_summary(self, entry: S3Uri) -> Summary:
        intent = intent_from(self._storage.read(entry, _FILE_MAX), str(entry))
        folder = self.folder(intent.experiment_name, intent.job_name)
        names = _names(self._storage, folder)
        state = State.of(names)
        result = _result(self._storage, folder) if state is State.FINISHED else None
        return Summary(folder, intent, state, result)

    def _index_entry(self, job_name: str) -> S3Uri:
        second = launch_second(job_name)
        if second is None:
            raise ValueError(job_name)
        return self._root / _INDEX / f"{newest_first(second)}-{job_name}.json"

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


def _time_of(number: str) -> str:
    try:
        return utc(second_of_newest_first(number))
    except ValueError:
        return ""


def read_experiment(storage: Storage, folder: S3Uri) -> Experiment:
    """Reads an experiment and verifies each file against the seal.

    Args:
        storage: Where objects are.
        folder: The experiment's folder, ending in a slash.

    Raises:
        NotFoundError: There is no experiment, or its upload was never finished.
        IntegrityError: Something was changed, deleted or added to the seal; the message names every such file.
    """
    names = _names(storage, folder)
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
        zip(present, _in_parallel(lambda name: storage.read(folder / name, _FILE_MAX), present), strict=True)
    )
    problems += [
        f"{name} was changed" for name, content in files.items() if not _intact(content, manifest.files[name])
    ]
    if problems:
        raise IntegrityError(
            f"{folder} is not what was sealed: {'; '.join(problems)}",
            hint="somebody with write access changed the archive; look at the bucket's versions",
            code="tampered",
        )
    return Experiment(folder, manifest, files, launch, _result(storage, folder) if RESULT in names else None)


def seals(files: Mapping[str, bytes]) -> dict[str, FileSeal]:
    """The hash and size of each file."""
    return {name: FileSeal(sha256(data), len(data)) for name, data in files.items()}


def _intact(data: bytes, seal: FileSeal) -> bool:
    return len(data) == seal.size and sha256(data) == seal.sha256


def _names(storage: Storage, folder: S3Uri) -> set[str]:
    """The names of the files in an experiment's folder."""
    return {item.uri.key.removeprefix(folder.key) for item in storage.list(folder, _FILES_MAX)}


def _result(storage: Storage, folder: S3Uri) -> JobResult:
    uri = folder / RESULT
    try:
        return read_document(JobResult, mapping_from(storage.read(uri, _FILE_MAX), str(uri)))
    except TypeError as error:
        raise IntegrityError(f"{uri} is not what this tool writes: {error}", code="unreadable") from error


def _in_parallel(function: Callable[[_Value], _Result], values: list[_Value]) -> list[_Result]:
    """Applies a function to each value, several at a time, since each application waits for S3."""
    if len(values) <= 1:
        return [function(value) for value in values]
    with ThreadPoolExecutor(min(len(values), _CONCURRENT)) as pool:
        return list(pool.map(function, values))
