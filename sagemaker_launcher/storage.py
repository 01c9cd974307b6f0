"""Objects under `s3://` URIs, in S3 or in a folder that stands in for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Protocol

from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import (
    ConflictError,
    EnvironmentProblemError,
    IntegrityError,
    NotFoundError,
    UnsafeError,
)
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.unfinished import unfinished
from sagemaker_launcher.unique import unique_name

_TEMPORARY = ".incomplete"
_CHUNK_BYTES = 2**20
S3_CONCURRENCY = 8  # calls that S3 answers about as soon as one
Check = Callable[[], None]


def no_check() -> None:
    """Lets a download go on."""


@frozen
class StoredObject:
    """One object of a listing: where it is, its size in bytes, and a tag that changes when its content does."""

    uri: S3Uri
    size: int
    tag: str


@frozen
class Upload:
    """An upload in parts that has not been finished: of which object, S3's name for it, and when it began."""

    uri: S3Uri
    identifier: str
    began_at: datetime


class Storage(Protocol):
    """What this tool needs of S3. Every method raises NotFoundError for a missing bucket or object.

    Attributes:
        concurrency: How many calls are worth making at the same time.
    """

    concurrency: int

    def read(self, uri: S3Uri, limit: int) -> bytes:
        """The object's bytes. Raises IntegrityError when there are more than `limit`."""

    def create(self, uri: S3Uri, data: bytes) -> None:
        """Writes an object that must not exist yet. Raises ConflictError when it does, with other content."""

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        """The objects whose keys start with the prefix, in the order of their keys; at most `limit` when not 0."""

    def folders(self, folder: S3Uri) -> Iterator[S3Uri]:
        """The folders directly in one, each ending in a slash as the given one has to, in the order of their names."""

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
        """Writes an object's bytes into a file.

        Args:
            uri: The object.
            file: Open for writing; `appearing` makes one that is only seen when it is complete. What it already has, up
                to its position, is not asked for again.
            tag: The tag that a listing gave; when given, an object that has another one by now raises IntegrityError.
            check: Called before each part of the object; what it raises ends the download.
        """

    def upload(self, path: Path, uri: S3Uri) -> None:
        """Copies a file to an object, replacing what is there."""

    def delete(self, uri: S3Uri) -> None:
        """Deletes an object; a missing one is no error."""

    def uploads(self, prefix: S3Uri) -> Iterator[Upload]:
        """The uploads in parts to keys that start so and have not been finished."""

    def abort(self, upload: Upload) -> None:
        """Gives one of them up; one that has ended meanwhile is no error."""

    def abort_uploads(self, prefix: S3Uri) -> int:
        """Gives up what was uploaded in part, by somebody who was killed, to keys that start so; how many uploads."""


class FolderStorage:
    """A folder that stands in for S3: `s3://bucket/key` is `<root>/bucket/key`.

    Args:
        root: The folder, which has to exist.
    """

    concurrency = 1  # nothing is waited for

    def __init__(self, root: Path) -> None:
        if not os.path.isdir(root):  # noqa: PTH112 - Path's raises where one may not look
            raise EnvironmentProblemError(
                f"no such folder: {root}", hint="--s3-root needs an existing folder", code="no_s3_root"
            )
        self._root = root
        # Two such folders may hold files that nothing but their content tells apart.
        self._root_tag = sha256(os.fsencode(os.path.realpath(root)))[:16]

    def read(self, uri: S3Uri, limit: int) -> bytes:
        with _file_errors(uri), self._open(uri) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise too_large(uri, limit)
        return data

    def create(self, uri: S3Uri, data: bytes) -> None:
        with _file_errors(uri), unfinished(self._root / _TEMPORARY) as temporary:
            temporary.write_bytes(data)
            path = self._path(uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                # Unlike a rename, a link never replaces what is there: one of many writers wins.
                os.link(temporary, path)
            except FileExistsError:
                if path.read_bytes() != data:
                    raise ConflictError(
                        f"{uri} exists already, and nothing in the archive is ever replaced"
                    ) from None

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        bucket = self._bucket(prefix)
        # The last part may be the beginning of a name.
        _refuse_traversal(S3Uri(prefix.bucket, prefix.key.rpartition("/")[0]))
        with _file_errors(prefix):
            for count, (key, status) in enumerate(_walk(bucket, prefix.key)):
                if limit and count >= limit:
                    return
                yield StoredObject(S3Uri(prefix.bucket, key), status.st_size, self._tag(status))

    def folders(self, folder: S3Uri) -> Iterator[S3Uri]:
        self._bucket(folder)
        path = self._path(folder)
        with _file_errors(folder):
            entries = list(os.scandir(path)) if path.is_dir() else []
            names = sorted(entry.name for entry in entries if entry.is_dir())
        return ((folder / name).folder for name in names)

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
        with _file_errors(uri), self._open(uri) as source:
            source.seek(file.tell())
            while chunk := source.read(_CHUNK_BYTES):
                check()
                file.write(chunk)
            if tag and tag != self._tag(os.fstat(source.fileno())):
                raise changed(uri)

    def upload(self, path: Path, uri: S3Uri) -> None:
        with _file_errors(uri), unfinished(self._root / _TEMPORARY) as temporary:
            shutil.copyfile(path, temporary)
            place = self._path(uri)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                _remove_empty_folders(place)
                temporary.replace(place)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise EnvironmentProblemError(
                    f"{uri} cannot be written: in a folder that stands in for S3, nothing can be a file and a folder at once",
                    hint="S3 itself would take it; for a rehearsal, give one of the two another name",
                    code="no_such_place",
                ) from error

    def delete(self, uri: S3Uri) -> None:
        with _file_errors(uri):
            self._path(uri).unlink(missing_ok=True)

    def uploads(self, prefix: S3Uri) -> Iterator[Upload]:  # noqa: ARG002 - whoever writes the next object removes them all
        return iter(())

    def abort(self, upload: Upload) -> None:
        """See Storage; there are none."""

    def abort_uploads(self, prefix: S3Uri) -> int:  # noqa: ARG002 - the same
        return 0

    def _open(self, uri: S3Uri) -> BinaryIO:
        path = self._path(uri)
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OSError(f"{path} is no ordinary file")  # reading from a named pipe would never end
        return path.open("rb")

    def _tag(self, status: os.stat_result) -> str:
        """The size and the time of a file are copied with it (cp -p, rsync -a, tar -x); no program sets its ctime."""
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return "-".join((self._root_tag, *map(str, state)))

    def _bucket(self, uri: S3Uri) -> Path:
        bucket = self._root / uri.bucket
        with _file_errors(uri):
            there = bucket.is_dir()
        if not there:
            raise NotFoundError(f"no such bucket: s3://{uri.bucket} ({bucket})", code="bucket_not_found")
        return bucket

    def _path(self, uri: S3Uri) -> Path:
        _refuse_traversal(uri)
        return self._root / uri.bucket / uri.key


def _refuse_traversal(uri: S3Uri) -> None:
    """What S3 takes for a name like any other leads out of a folder; nothing but a hostile archive has such keys."""
    if uri.key and not {"", ".", ".."}.isdisjoint(uri.key.removesuffix("/").split("/")):
        raise UnsafeError(f"{uri} has a key that leads out of its folder", code="traversal")


def _walk(bucket: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Keys and states of the files in a bucket's folder in the order of their keys, looking only where the prefix leads."""
    start, slash, _ = prefix.rpartition("/")
    folder = bucket / start
    return _walk_folder(str(folder), f"{start}{slash}", prefix) if folder.is_dir() else iter(())


def _walk_folder(folder: str, key: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    for name, entry in _entries(folder, key):
        if name.endswith("/"):
            if name.startswith(prefix) or prefix.startswith(name):
                yield from _walk_folder(entry.path, name, prefix)
        elif name.startswith(prefix):
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # deleted since, or a link that leads nowhere, such as an editor's lock on a file
            yield name, status


def _entries(folder: str, key: str) -> list[tuple[str, os.DirEntry[str]]]:
    """What is in a folder, with its keys and in their order; nothing when it is gone by now."""
    try:
        with os.scandir(folder) as entries:
            # S3 orders whole keys, so a folder counts as its name with the slash.
            found = [(f"{key}{entry.name}{'/' * entry.is_dir()}", entry) for entry in entries]
    except FileNotFoundError:
        return []
    return sorted(found, key=itemgetter(0))


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, in a folder that is made when needed, that takes its name only when the block ends well, and leaves nothing otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    incomplete = path.with_name(unique_name(8))
    try:
        with incomplete.open("wb") as file:
            yield file
        incomplete.replace(path)
    except BaseException:
        incomplete.unlink(missing_ok=True)
        raise


def _remove_empty_folders(place: Path) -> None:
    """Removes what deleted objects have left in the place of an object: S3 has no folders."""
    if place.is_symlink():
        return  # to what the user has put there
    for folder, _, _ in os.walk(place, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)  # noqa: PTH106 - os.walk gives texts


def changed(uri: S3Uri) -> IntegrityError:
    """The error for an object that is no longer the listed one."""
    return IntegrityError(
        f"{uri} was replaced after it was listed", hint="run the same again", code="object_changed"
    )


def too_large(uri: S3Uri, limit: int) -> IntegrityError:
    """The error for an object that is larger than anything in an archive."""
    return IntegrityError(f"{uri} is larger than {limit:,} bytes, which nothing in an archive is")


@contextmanager
def _file_errors(uri: S3Uri) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFoundError(f"no such object: {uri} ({error.filename})", code="object_not_found") from error
    except OSError as error:
        raise EnvironmentProblemError(
            f"cannot reach {uri}: {error}", hint="check the folder behind --s3-root"
        ) from error
