"""Brings what an experiment left to this machine: model, outputs, logs, configs; what was begun is gone on with."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from sagemaker_launcher.archive.experiments import LOGS, Experiment
from sagemaker_launcher.archive.unpacking import Names, unpack
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import (
    ConflictError,
    EnvironmentProblemError,
    IntegrityError,
    LauncherError,
    NotFoundError,
    UnsafeError,
)
from sagemaker_launcher.events import Events
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import Storage, StoredObject

PARTS = ("model", "output", "logs", "configs")
_OWNER = ".experiment"  # names the experiment that a folder belongs to; whoever writes to the folder locks it
_INCOMPLETE = ".incomplete"  # a folder; what is in it is not whole
_OBJECTS_MAX = 200_000
_NOTHING = "part_not_found"
CloudLog = Callable[[], Iterable[tuple[str, str]]]
_ARCHIVES = {"model": "model.tar.gz", "output": "output.tar.gz"}
_LOOSE = {"model": "model", "output": "data"}  # the folders of files that the request asks not to compress


@frozen
class Fetched:
    """A part that is on this machine now.

    Attributes:
        part: `model`, `output`, `logs` or `configs`.
        path: Where.
        files: How many files were brought; 0 when it had been there.
    """

    part: str
    path: Path
    files: int


class Fetching:
    """The download of one experiment into one folder.

    Args:
        storage: Where objects are.
        experiment: The experiment, verified.
        folder: Where to.
        events: Who is told.
        cloud_log: Gives the host and the text of each line that CloudWatch has of the job; None where it has none.
        packed: Whether archives stay as they are.
    """

    def __init__(
        self,
        storage: Storage,
        experiment: Experiment,
        folder: Path,
        events: Events,
        cloud_log: CloudLog | None = None,
        *,
        packed: bool = False,
    ) -> None:
        self._storage = storage
        self._experiment = experiment
        self._folder = folder
        self._events = events
        self._cloud_log = cloud_log
        self._packed = packed

    def fetch(self, parts: Sequence[str]) -> tuple[Fetched, ...]:
        """Brings parts, and leaves alone what is already there.

        Args:
            parts: Of PARTS; none of them: all that there are.

        Raises:
            NotFoundError: A part that was asked for does not exist.
            ConflictError: The folder belongs to something else, or another download writes to it.
            UnsafeError: A name or an archive could do harm.
            IntegrityError: Something is damaged, or changed meanwhile.
        """
        with self._claimed():
            found = tuple(self._named(parts) if parts else self._all())
            self._tidy()
        return found

    def _named(self, parts: Sequence[str]) -> Iterator[Fetched]:
        return map(self._part, parts)

    def _all(self) -> Iterator[Fetched]:
        """All parts that there are; those are told of that could have been there."""
        missing = False
        for part in PARTS:
            try:
                yield self._part(part)
            except NotFoundError as error:
                if error.code != _NOTHING:
                    raise
                if self._is_expected(part):
                    missing = True
                    self._events.note(error.message)
        if missing and self._experiment.state.may_run:
            self._events.note(
                "the archive knows of no end of the job: `wait` notes it; then run the same again"
            )

    def _is_expected(self, part: str) -> bool:
        """Whether the archive does not know that the job left no such part."""
        result = self._experiment.result
        if not result or part not in _ARCHIVES or part in result.artifacts:
            return True
        # What AWS says of a job names its model only.
        return part == "output" and self._experiment.manifest.target == "aws"

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Takes the folder for this experiment and, until the block ends, for this download, so that two never mix."""
        with ExitStack() as opened:
            try:
                made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
                self._folder.mkdir(parents=True, exist_ok=True)
                names = {path.name for path in self._folder.iterdir()}
                if names and _OWNER not in names:
                    raise _taken(f"{self._folder} has something else in it")
                owner = opened.enter_context(_open_owner(self._folder / _OWNER))
                self._lock(owner)
                is_new = self._sign(owner, empty=names <= {_OWNER})
            except OSError as error:
                raise _cannot_write(self._folder, error) from error
            try:
                yield
            finally:
                if is_new:
                    self._give_back(made)

    def _give_back(self, made: Sequence[Path]) -> None:
        """Leaves nothing behind when nothing has come.

        Args:
            made: The folders that were made for it, the innermost first.
        """
        with suppress(OSError):
            (self._folder / _INCOMPLETE).rmdir()
        with suppress(OSError):
            if [path.name for path in self._folder.iterdir()] == [_OWNER]:
                (self._folder / _OWNER).unlink()
                for folder in made:
                    folder.rmdir()

    def _lock(self, owner: BinaryIO) -> None:
        """Locks the folder as long as the file is open; the lock of a download that was killed is gone."""
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(self._folder) from None
        if not os.fstat(owner.fileno()).st_nlink:
            raise _busy(self._folder)  # whoever had it has just given it back

    def _sign(self, owner: BinaryIO, *, empty: bool) -> bool:
        """Writes the experiment's name into the locked file, or makes sure that it is there. Gives whether it is new.

        Args:
            owner: The file.
            empty: Whether there was nothing else in the folder.
        """
        uri = f"{self._experiment.folder}\n".encode()
        written = owner.read()
        if not written and empty:  # just made, or by somebody who was killed at once
            owner.write(uri)
            owner.flush()
            return True
        if written != uri:
            raise _taken(f"{self._folder} belongs to another experiment")
        return False

    def _part(self, part: str) -> Fetched:
        target = self._folder / part
        if self._packed and part in _ARCHIVES:
            packed = self._folder / _ARCHIVES[part]
            # Files that lie there loose are no archive, and get no name of one.
            if _is_there(packed) or self._archived(part):
                target = packed
        if _is_there(target):
            self._events.note(f"{target} is there already, and stays as it is")
            return Fetched(part, target, 0)
        try:
            files = self._configs(target) if part == "configs" else self._objects(part, target)
        except OSError as error:
            raise _cannot_write(target, error) from error
        return Fetched(part, target, files)

    def _configs(self, target: Path) -> int:
        """What is sealed, and was verified when it was read."""
        unfinished = self._unfinished("configs")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, data in self._experiment.files.items():
            (unfinished / name).write_bytes(data)
        unfinished.rename(target)
        return len(self._experiment.files)

    def _objects(self, part: str, target: Path) -> int:
        if part == "logs" and self._cloud_log:
            return self._lines(self._cloud_log, target)
        if part == "logs":
            return self._tree((self._experiment.folder / LOGS).folder, part, target)
        archive = self._archived(part)
        if archive:
            return self._archive(archive, part, target)
        # The service leaves a folder where the request asks for no compression.
        return self._tree((self._outputs / _LOOSE[part]).folder, part, target)

    def _archived(self, part: str) -> StoredObject | None:
        """The archive that holds the model or the output; None where there is none."""
        whole = self._outputs / _ARCHIVES[part]
        return next((item for item in self._storage.list(whole, 1) if item.uri == whole), None)

    @property
    def _outputs(self) -> S3Uri:
        """Where the service leaves model and outputs, by the sealed request."""
        try:
            request = self._experiment.request
            root = S3Uri.parse(str(request["OutputDataConfig"]["S3OutputPath"]))
            return root / str(request["TrainingJobName"]) / "output"
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"the request of {self._experiment.folder} does not say where outputs are"
            ) from error

    def _archive(self, item: StoredObject, part: str, target: Path) -> int:
        path = self._whole(item, self._unfinished(f"{part}-{_short(item)}.tar.gz"), part)
        if target.name == _ARCHIVES[part]:
            path.rename(target)
            return 1
        unfinished = self._unfinished(part)
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            with self._events.progress(f"unpacking {part}", item.size) as told:
                files = unpack(path, unfinished, told=told)
        except UnsafeError:
            self._remove(path)
            raise
        unfinished.rename(target)
        path.unlink()
        return files

    def _lines(self, log: CloudLog, target: Path) -> int:
        """The log of a job that has ended, one file per host."""
        if self._experiment.state.may_run:
            raise _not_whole("logs")
        unfinished = self._unfinished("logs")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        self._events.phase("Downloading", "the log, from CloudWatch")
        names, files = Names(), dict[str, TextIO]()
        with ExitStack() as opened:
            for host, text in log():
                if host not in files:
                    path = unfinished / names.take(f"{host}.log")
                    files[host] = opened.enter_context(path.open("w", encoding="utf-8", newline="\n"))
                files[host].write(f"{text}\n")
        if not files:
            unfinished.rmdir()
            raise NotFoundError("CloudWatch has no log of the job", code=_NOTHING)
        unfinished.rename(target)
        return len(files)

    def _tree(self, prefix: S3Uri, part: str, target: Path) -> int:
        """Every object below a prefix, as files, once no more are going to come."""
        items = self._checked(prefix, part)
        if self._experiment.state.may_run:
            raise _not_whole(part)
        unfinished = self._unfinished(part)
        for item, name in items:
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (path.exists() and path.stat().st_size == item.size):
                marked = self._unfinished(f"{_short(item)}.part")
                self._whole(item, marked, name).rename(path)
        unfinished.rename(target)
        return len(items)

    def _checked(self, prefix: S3Uri, part: str) -> list[tuple[StoredObject, str]]:
        """The objects below a prefix and their paths, once all names are known to be harmless."""
        names, found = Names(), []
        for item in self._storage.list(prefix):
            name = item.uri.key.removeprefix(prefix.key)
            if name.endswith("/") and not item.size:
                continue  # what consoles call a folder
            if name != "/".join(filter(None, name.split("/"))):
                raise UnsafeError(
                    f"{str(item.uri)!r} is refused: no file can be called so", code="hostile_key"
                )
            found.append((item, str(names.take(name))))
            if len(found) > _OBJECTS_MAX:
                raise UnsafeError(f"{prefix} has more than {_OBJECTS_MAX:,} objects", code="bomb")
        if not found:
            raise NotFoundError(f"the experiment has no {part}: nothing at {prefix}", code=_NOTHING)
        return found

    def _whole(self, item: StoredObject, path: Path, what: str) -> Path:
        """Downloads an object, or the rest of it; the path is tied to the object's tag, so both are of the same one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            missing = item.size - file.tell()
            if missing > shutil.disk_usage(path.parent).free:
                raise EnvironmentProblemError(
                    f"no room for {item.uri}: {missing:,} bytes are to come", code="disk_full"
                )
            if missing > 0:
                with self._events.progress(f"downloading {what}", missing) as told:
                    self._storage.download(item.uri, cast("BinaryIO", _Counting(file, told)), item.tag)
            size = file.tell()
        if size != item.size:
            path.unlink()
            raise IntegrityError(
                f"{item.uri} should have {item.size:,} bytes, and {size:,} came", hint="run the same again"
            )
        return path

    def _remove(self, path: Path) -> None:
        """Removes what nobody should have, and its folder unless a part that is to be gone on with is in it."""
        with suppress(OSError):
            path.unlink()
            path.parent.rmdir()

    def _unfinished(self, name: str) -> Path:
        return self._folder / _INCOMPLETE / name

    def _tidy(self) -> None:
        shutil.rmtree(self._folder / _INCOMPLETE, ignore_errors=True)


class _Counting:
    """A file that tells how many bytes are written to it."""

    def __init__(self, file: BinaryIO, told: Callable[[int], None]) -> None:
        self._file = file
        self._told = told

    def write(self, data: bytes) -> int:
        self._told(len(data))
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def truncate(self) -> int:
        return self._file.truncate()


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _open_owner(path: Path) -> BinaryIO:
    """A file to read and write, made when it is missing, reached through no link."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")


def _busy(folder: Path) -> ConflictError:
    return ConflictError(
        f"another download writes to {folder}",
        hint="wait until it has ended, or name another folder: --to DIR",
        code="folder_busy",
    )


def _taken(message: str) -> ConflictError:
    return ConflictError(message, hint="name another folder: --to DIR", code="folder_taken")


def _not_whole(part: str) -> NotFoundError:
    what, then = (
        ("log", "`logs` shows what there is") if part == "logs" else (part, "then run the same again")
    )
    return NotFoundError(
        f"the {what} is not whole: the archive knows of no end of the job",
        hint=f"`wait` notes the end; {then}",
        code=_NOTHING,
    )


def _short(item: StoredObject) -> str:
    return sha256(f"{item.uri} {item.tag} {item.size}".encode())[:16]


def _cannot_write(path: Path, error: OSError) -> LauncherError:
    return EnvironmentProblemError(
        f"cannot write to {path}: {error.strerror or error}", hint="name another folder: --to DIR"
    )
