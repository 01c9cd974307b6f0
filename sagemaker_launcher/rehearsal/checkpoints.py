"""Checkpoints: restored before the program starts, copied to S3 while it runs, deleted there when it deletes them.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sagemaker_launcher.errors import EnvironmentProblemError, LauncherError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.channels import Placed, placed_objects
from sagemaker_launcher.rehearsal.own_files import file_within, held, is_own_folder, is_text, refuse_nameless
from sagemaker_launcher.rehearsal.workspace import entries
from sagemaker_launcher.storage import Storage, appearing

_INTERVAL_S = 1.0


class CheckpointSync:
    """Keeps a local folder and an S3 prefix equal, in the direction of S3.

    A link to a file within the folder is copied as the file. All other links count as if they were not there: those to
    folders, those that lead out (an absolute path of a container does), nowhere or in a circle; and so do FIFOs, sockets and
    devices.

    Args:
        folder: The checkpoint folder of the host.
        prefix: The request's CheckpointConfig.S3Uri.
        storage: Where the objects are.
        open_up: Makes readable what a program wrote as another user.
    """

    def __init__(
        self, folder: Path, prefix: S3Uri, storage: Storage, open_up: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = Path(os.path.realpath(folder))  # before the program can put a link into its path
        self._prefix = prefix
        self._storage = storage
        self._open_up = open_up
        self._known: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self.newest_at = (
            0.0  # when the program wrote what was saved last, in seconds since 1970; 0 before that
        )

    def restore(self) -> int:
        """Copies everything under the prefix into the folder. Returns the number of files.

        Raises:
            UnsafeError: A key would leave the folder.
            EnvironmentProblemError: One object lies below another, as no file does.
        """
        objects = placed_objects(self._prefix, self._storage)
        _refuse_same_place(objects)
        for placed in objects:
            with appearing(self._folder / placed.relative) as file:
                self._storage.download(placed.source, file, placed.tag)
        self._known = self._files()
        return len(self._known)

    def sync(self) -> None:
        """Copies what is new or changed, and deletes what is gone.

        Raises:
            LauncherError: S3 refuses; or a file has a name that no key can have, which is told once all else is done.
        """
        complete = self._is_open()
        if not complete:
            self._open_up()
            complete = self._is_open()
        files = self._files()
        nameable = {name: state for name, state in files.items() if is_text(name)}
        gone = set(self._known) - set(nameable) if complete else set()  # or they only cannot be seen
        # A folder that was a file, or the other way round: a folder that stands in for S3 cannot have both.
        in_the_way = gone & set().union(*map(_above, nameable)) | {
            name for name in gone if _above(name) & nameable.keys()
        }
        self._delete(in_the_way)
        for name, state in nameable.items():
            if self._known.get(name) != state and self._save(name):
                self._known[name] = state
                self.newest_at = max(self.newest_at, state[1] / 1e9)
        self._delete(gone - in_the_way)
        refuse_nameless(files, self._prefix)

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._storage.delete(self._prefix / name)
            del self._known[name]

    def _save(self, name: str) -> bool:
        """Copies a file; not when the program has just removed it, which the next round will see."""
        path = self._folder / name
        with held(path, self._folder) as file:
            if file is None:
                return False
            try:
                self._storage.upload(file, self._prefix / name)
            except (LauncherError, FileNotFoundError):
                if file_within(path, self._folder):
                    raise
                return False
        return True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Syncs every second while the block runs; what comes after the last of these is for `sync`."""
        thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            try:
                self.sync()
            except (LauncherError, OSError):
                continue  # the next round tries again, and the last one, after the program's end, reports

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self._paths():
            if status := file_within(path, self._folder):
                found[path.relative_to(self._folder).as_posix()] = (status.st_size, status.st_mtime_ns)
        return found

    def _is_open(self) -> bool:
        return all(map(_may_read, self._paths()))

    def _paths(self) -> list[Path]:
        if not is_own_folder(self._folder):
            return []
        return [Path(entry.path) for entry in entries(self._folder, skip_closed=True)]


def _above(name: str) -> set[str]:
    """The folders that a file lies in, at whatever depth."""
    parts = name.split("/")
    return {"/".join(parts[:length]) for length in range(1, len(parts))}


def _refuse_same_place(objects: tuple[Placed, ...]) -> None:
    places = {placed.relative: placed.source for placed in objects}
    for placed in objects:
        folder = placed.relative
        while folder := folder.rpartition("/")[0]:
            if folder in places:
                raise EnvironmentProblemError(
                    f"the checkpoints {places[folder]} and {placed.source} cannot both be restored: a file cannot have the"
                    " name of a folder beside it",
                    hint="remove one of them from S3, or move it",
                    code="not_rehearsable",
                )


def _may_read(path: Path) -> bool:
    return path.is_symlink() or os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))
