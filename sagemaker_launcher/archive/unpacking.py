"""Unpacks a model.tar.gz of somebody else: what could do harm is refused, and then nothing of it stays."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from sagemaker_launcher.errors import EnvironmentProblemError, IntegrityError, UnsafeError
from sagemaker_launcher.frozen import frozen

_CHUNK_BYTES = 2**20
_HEADERS_MAX = (
    2**20
)  # bytes of all headers before a member; tarfile keeps them in memory, and some of them for good
_NAME_MAX, _DEPTH_MAX = 255, 64  # bytes of a part of a path, and parts
_LINKS_MAX = 40  # on the way to one file, as on Linux
_ODD, _POWERFUL = "it is neither a file nor a folder nor a link", "it would run with somebody else's rights"
_PACKED = "--packed keeps the archive as it is"
_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


@frozen
class Limits:
    """How much may come out of an archive.

    Attributes:
        members: Files, folders and links.
        ratio: Times its own size, beyond `small`.
        small: Bytes that any archive may have in it.
    """

    members: int = 200_000
    ratio: int = 200
    small: int = 2**30


class Names:
    """The paths that have been taken below a folder, on file systems that know no upper and lower case, too.

    Args:
        hint: What to do about a path that is refused.
    """

    def __init__(self, hint: str = "") -> None:
        self._hint = hint
        self._folders: dict[str, str] = {}
        self._files: dict[str, str] = {}

    def take(self, name: str, *, folder: bool = False) -> PurePosixPath:
        """Takes a relative path, and those above it as folders; folders may be taken more than once.

        Raises:
            UnsafeError: It leads elsewhere, cannot be the name of a file everywhere, or is taken.
        """
        parts = [part for part in name.split("/") if part not in {"", "."}]
        problem = _name_problem(name, parts)
        if problem:
            raise _unsafe(name, problem, self._hint)
        folders = len(parts) if folder else len(parts) - 1
        for length in range(1, folders + 1):
            path = "/".join(parts[:length])
            if self._folders.setdefault(_alike(path), path) != path or _alike(path) in self._files:
                raise _unsafe(name, f"there is something else called {path!r}", self._hint)
        whole = "/".join(parts)
        if not folder:
            if _alike(whole) in self._files or _alike(whole) in self._folders:
                raise _unsafe(name, "there is something else of that name", self._hint)
            self._files[_alike(whole)] = whole
        return PurePosixPath(*parts)


def unpack(
    archive: Path, folder: Path, limits: Limits = Limits(), told: Callable[[int], None] = lambda _: None
) -> int:
    """Unpacks a gzipped tar archive into a new folder.

    Regular files, folders, and links that stay inside come out; owners, special permissions and times do not matter.

    Args:
        archive: The file.
        folder: Where to; it must not exist, and only exists afterwards when all went well.
        limits: How much may come out.
        told: Called with the number of bytes of each part that was written.

    Returns:
        How many files there are.

    Raises:
        UnsafeError: Something in it could do harm; the message names it.
        IntegrityError: It is damaged.
        EnvironmentProblemError: There is no room, or the file system refuses a name.
    """
    folder.mkdir(parents=True)
    try:
        with _errors(archive):
            return _Unpacking(archive, folder, limits, told).run()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def refusals(files: Mapping[str, Path], packed: Path, limits: Limits = Limits()) -> Iterator[str]:
    """Why `unpack` would refuse an archive of files, folders and links: each that it would, and why.

    Args:
        files: What was packed, by its path in the archive; parents first.
        packed: The archive.
        limits: As for `unpack`.
    """
    size = sum(path.lstat().st_size for path in files.values())
    if size > max(limits.small, limits.ratio * packed.stat().st_size):
        yield f"{packed.name} would become more than {limits.ratio} times its size"
    if len(files) > limits.members:
        yield f"{packed.name} has more than {limits.members:,} files in it"
    names = Names()
    links = {name: str(path.readlink()) for name, path in files.items() if path.is_symlink()}
    targets = {_alike(name): target for name, target in links.items()}
    for name, path in files.items():
        mode = path.lstat().st_mode
        if stat.S_ISSOCK(mode):
            continue  # tarfile packs none
        try:
            names.take(name, folder=stat.S_ISDIR(mode))
        except UnsafeError as error:
            yield error.message
        if name in links and not _stays_inside(name, targets):
            yield _unsafe(name, _outside(links[name])).message
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or name in links):
            yield _unsafe(name, _ODD).message
        elif stat.S_ISREG(mode) and mode & _SPECIAL:
            yield _unsafe(name, _POWERFUL).message


class _Unpacking:
    def __init__(self, archive: Path, folder: Path, limits: Limits, told: Callable[[int], None]) -> None:
        self._archive = archive
        self._folder = folder
        self._limits = limits
        self._told = told
        size = archive.stat().st_size
        self._left = max(limits.small, limits.ratio * size)
        self._names = Names(_PACKED)
        self._files: dict[PurePosixPath, Path] = {}
        self._links: list[tuple[Path, str, str]] = []

    def run(self) -> int:
        with gzip.open(self._archive) as unzipped:
            source = _Source(unzipped, self._spend)
            with tarfile.open(fileobj=source, mode="r|", tarinfo=_Member) as tar:  # type: ignore[call-overload] # it only reads
                count = 0
                while member := source.next_member(tar):
                    count += 1
                    if count > self._limits.members:
                        raise UnsafeError(
                            f"{self._archive.name} has more than {self._limits.members:,} files in it",
                            code="bomb",
                        )
                    self._unpack(tar, member)
            # Only at its end the archive's checksum is compared.
            while source.read(_CHUNK_BYTES):
                pass
        self._make_links()
        return len(self._files) + len(self._links)

    def _unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if member.isdir():
            if set(member.name) <= {".", "/"} and ".." not in member.name and not member.name.startswith("/"):
                return  # the folder itself
            (self._folder / self._names.take(member.name, folder=True)).mkdir(parents=True, exist_ok=True)
            return
        if not (member.isreg() or member.issym() or member.islnk()) or member.issparse():
            raise _unsafe(member.name, _ODD)
        path = self._names.take(member.name)
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            self._links.append((place, member.linkname, member.name))
        elif member.islnk():
            self._copy_link(member, place, path)
        else:
            if member.mode & _SPECIAL:
                raise _unsafe(member.name, _POWERFUL)
            self._write(tar, member, place)
            self._files[path] = place

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
        self._require_room(member.size)
        source = tar.extractfile(member)
        if source is None:
            raise _unsafe(member.name, "it has no content")
        with source, _new_file(place, executable=bool(member.mode & stat.S_IXUSR)) as file:
            written = 0
            while chunk := source.read(_CHUNK_BYTES):
                file.write(chunk)
                self._told(len(chunk))
                written += len(chunk)
        if written != member.size:
            raise IntegrityError(f"{self._archive.name} breaks off in {member.name!r}", code="damaged")

    def _copy_link(self, member: tarfile.TarInfo, place: Path, path: PurePosixPath) -> None:
        """A hard link is the file that it names, which has to have come before."""
        original = self._files.get(PurePosixPath(member.linkname))
        if original is None:
            raise _unsafe(
                member.name, f"it is a link to {member.linkname!r}, which is no file of this archive"
            )
        os.link(original, place)
        self._files[path] = place

    def _make_links(self) -> None:
        """Symbolic links come last, so that nothing is ever written through one."""
        for place, target, _ in self._links:
            place.symlink_to(target)
        inside = self._folder.resolve()
        targets = {_alike(self._below(place)): target for place, target, _ in self._links}
        for place, target, name in self._links:
            # A way out and back again is one only as long as the folder is called what it is now.
            if not _stays_inside(self._below(place), targets) or not _resolved(place).is_relative_to(inside):
                raise _unsafe(name, _outside(target))

    def _below(self, place: Path) -> str:
        return place.relative_to(self._folder).as_posix()

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise UnsafeError(
                f"{self._archive.name} would become far larger than it is: more than {self._limits.ratio} times its size",
                hint=_PACKED,
                code="bomb",
            )

    def _require_room(self, size: int) -> None:
        """Refuses a file before any of it is written."""
        if size > self._left:
            self._spend(size)
        free = shutil.disk_usage(self._folder).free
        if size > free:
            raise EnvironmentProblemError(
                f"{size:,} bytes are to come, and the disk has room for {free:,}", code="disk_full"
            )


class _Source:
    """What comes out of the compression. Of what tarfile makes a header of, it gives only so much.

    Args:
        file: The file.
        spend: Called with the number of all bytes that come out; raises when there are too many.
    """

    def __init__(self, file: gzip.GzipFile, spend: Callable[[int], None]) -> None:
        self._file = file
        self._spend = spend
        self._headers_left: int | None = _HEADERS_MAX  # the first header is read when the archive is opened

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._spend(len(data))
        if self._headers_left is not None:
            self._headers_left -= len(data)
            if self._headers_left < 0:
                raise UnsafeError(
                    f"more than {_HEADERS_MAX:,} bytes of headers before a file, which nothing honest has",
                    code="bomb",
                )
        return data

    def next_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """The next member of an archive that reads from here; None at its end."""
        # It would remember every header, and what is said for all members in advance.
        tar.members.clear()  # type: ignore[attr-defined] # typeshed does not know it
        tar.pax_headers = {}
        self._headers_left = _HEADERS_MAX
        member = tar.next()
        self._headers_left = None
        return member


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:  # tarfile would read backwards
            raise UnsafeError(f"a member of {member.size:,} bytes", code="bomb")
        return member


def _name_problem(name: str, parts: list[str]) -> str:
    if name.startswith("/") or ".." in parts:
        return "it leads out of its folder"
    if not parts:
        return "it has no name"
    if "\\" in name or ":" in parts[0][1:2] or any(not character.isprintable() for character in name):
        return "it has a character that no name of a file should have"
    if len(parts) > _DEPTH_MAX or any(
        len(part.encode("utf-8", "surrogateescape")) > _NAME_MAX for part in parts
    ):
        return "it is too long"
    return ""


def _outside(target: str) -> str:
    return f"it is a link to {target!r}, outside of this archive"


def _alike(path: str) -> str:
    """What is the same for all spellings that some file system takes for one."""
    return unicodedata.normalize("NFC", path).casefold()


def _stays_inside(link: str, targets: Mapping[str, str]) -> bool:
    """Whether no step of the way that a link leads is above the archive's root.

    Args:
        link: Its path below the root.
        targets: What every link of the archive says, by its path, spelled as `_alike` does.
    """
    parts, here, followed = link.split("/"), list[str](), 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            if not here:
                return False
            here.pop()
        elif part not in {"", "."}:
            here.append(part)
        target = targets.get(_alike("/".join(here)))
        if target is not None:
            followed += 1
            if target.startswith("/") or followed > _LINKS_MAX:
                return False
            here.pop()
            parts[:0] = target.split("/")
    return True


def _resolved(link: Path) -> Path:
    try:
        return link.resolve(strict=True)
    except FileNotFoundError:
        return link.resolve()
    except (OSError, RuntimeError):  # a loop of links, of which Python 3.13 tells only those who are strict
        return Path("/")


@contextmanager
def _new_file(path: Path, *, executable: bool) -> Iterator[IO[bytes]]:
    """A file that did not exist, reached through no link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o755 if executable else 0o644), "wb") as file:
        yield file


@contextmanager
def _errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise IntegrityError(f"{archive.name} is damaged, or no .tar.gz: {error}", code="damaged") from error
    except OSError as error:
        raise EnvironmentProblemError(
            f"cannot unpack {archive.name}: {error}", code="cannot_unpack"
        ) from error


def _unsafe(name: str, problem: str, hint: str = _PACKED) -> UnsafeError:
    return UnsafeError(f"{name!r} is refused: {problem}", hint=hint, code="hostile_archive")
