"""Checkpoints: restored before the program starts, copied to S3 while it runs, deleted there when it deletes them.

https://docs.aws.amazon.com/sagemaker/latest/dg/model-checkpoints.html
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.channels import placed_objects
from sagemaker_launcher.storage import Storage, appearing

_INTERVAL_S = 1.0


class CheckpointSync:
    """Keeps a local folder and an S3 prefix equal, in the direction of S3.

    Args:
        folder: The checkpoint folder of the host.
        prefix: The request's CheckpointConfig.S3Uri.
        storage: Where the objects are.
        open_up: Makes readable what a program wrote as another user.
    """

    def __init__(
        self, folder: Path, prefix: S3Uri, storage: Storage, open_up: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
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
        """
        for placed in placed_objects(self._prefix, self._storage):
            with appearing(self._folder / placed.relative) as file:
                self._storage.download(placed.source, file, placed.tag)
        self._known = self._files()
        return len(self._known)

    def sync(self) -> None:
        """Copies what is new or changed, and deletes what is gone."""
        if not all(map(_may_read, self._folder.rglob("*"))):
            self._open_up()
        files = self._files()
        for name, state in files.items():
            if self._known.get(name) != state:
                try:
                    self._storage.upload(self._folder / name, self._prefix / name)
                except LauncherError:
                    if (self._folder / name).exists():
                        raise  # otherwise the program has just removed it, and the next round will see that
                self._known[name] = state
                self.newest_at = max(self.newest_at, state[1] / 1e9)
        for name in set(self._known) - set(files):
            self._storage.delete(self._prefix / name)
            del self._known[name]

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
        for path in self._folder.rglob("*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # renamed while we looked
            if path.is_file():
                found[path.relative_to(self._folder).as_posix()] = (status.st_size, status.st_mtime_ns)
        return found


def _may_read(path: Path) -> bool:
    return path.is_symlink() or os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0))
