"""Archives of models, made by somebody who means harm."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zlib
from pathlib import Path

from sagemaker_launcher.archive.unpacking import Limits, unpack
from sagemaker_launcher.errors import LauncherError

from .subject import Input, Random, Subject
from .texts import NAMES, STEERING, spoiled, word

_LIMITS = Limits(members=1000, ratio=100, small=8 * 2**20)
_TYPES = (
    *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.DIRTYPE),
    *(tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"V", b"M", b"Z", b"\0"),
)
_PATHS = (
    "a",
    "b",
    "a/b",
    "a/b/c",
    "./a",
    "d",
    "d/e",
    "D/e",
    "é",
    "e\u0301",
    "..",
    "../x",
    "/x",
    "a/../../x",
    "d/./e",
    "C:x",
)


def _make(random: Random) -> Input:
    kind = random.random()
    if kind < 0.55:
        data = _packed(random)
    elif kind < 0.8:
        data = gzip.compress(_raw(random), 1, mtime=0)
    elif kind < 0.93:
        data = spoiled(random, _packed(random))
    elif kind < 0.97:
        data = gzip.compress(spoiled(random, gzip.decompress(_packed(random))), 1)
    else:
        data = _bomb(random)
    return {"model.tar.gz": data}


def _judge(pieces: Input, folder: Path) -> str:
    archive, target = folder / "model.tar.gz", folder / "target"
    archive.write_bytes(pieces["model.tar.gz"])
    try:
        count = unpack(archive, target, _LIMITS)
    except LauncherError as error:
        assert os.listdir(folder) == ["model.tar.gz"], os.listdir(folder)
        return error.code
    total = 0
    for path in target.rglob("*"):
        state = path.lstat()
        assert stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode) or path.is_symlink(), path
        assert not state.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX), path
        assert path.resolve().is_relative_to(target.resolve()), path
        total += state.st_size if stat.S_ISREG(state.st_mode) else 0
    assert count <= _LIMITS.members
    assert total <= max(_LIMITS.small, _LIMITS.ratio * archive.stat().st_size)
    shutil.rmtree(target)
    assert os.listdir(folder) == ["model.tar.gz"], os.listdir(folder)
    return "accepted"


def _packed(random: Random) -> bytes:
    """What Python's own tarfile writes, with names and kinds of every sort."""
    file = io.BytesIO()
    form = random.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT))
    harmless = random.random() < 0.3
    with tarfile.open(
        fileobj=file, mode="w:gz", format=form, compresslevel=1, errors="surrogateescape"
    ) as tar:
        for number in range(random.randrange(1, 7)):
            info = tarfile.TarInfo(f"f{number}" if harmless else _name(random))
            info.type = tarfile.REGTYPE if harmless else random.choice(_TYPES)
            info.mode = (
                0o644 if harmless else random.choice((0o644, 0o755, 0o644, 0o4755, 0o2755, 0o1777, 0, -1))
            )
            info.linkname = _name(random)
            data = random.randbytes(random.choice((0, 1, 511, 512, 513, 5000)))
            info.size = len(data) if info.isreg() else 0
            if form == tarfile.PAX_FORMAT and random.random() < 0.3:
                info.pax_headers = _pax(random)
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError:  # this form has no room for the name
                continue
    return file.getvalue()


def packed_model() -> bytes:
    """A model as it should be."""
    tar = header("model.txt", b"0", 7) + b"weights" + bytes(505) + bytes(1024)
    return gzip.compress(tar, 1, mtime=0)


def _name(random: Random) -> str:
    kind = random.random()
    if kind < 0.6:
        return random.choice(_PATHS)
    text = random.choice(NAMES) if kind < 0.75 else word(random)
    return text.replace("\0", "").encode("utf-8", "replace").decode() or "x"


def _pax(random: Random) -> dict[str, str]:
    numbers = (
        "0",
        "1",
        "-1",
        "1e9",
        "nan",
        "inf",
        "9" * 400,
        "9" * 5000,
        "x",
        "",
        "1,2",
        "0,1,2,3",
        str(2**62),
    )
    keys = (
        *("size", "mtime", "uid", "path", "linkpath", "hdrcharset", "comment", "GNU.sparse.major"),
        *("GNU.sparse.minor", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.name"),
        *("GNU.sparse.offset", "GNU.sparse.numbytes", "GNU.sparse.numblocks", "SCHILY.xattr.user.x"),
    )
    return {
        random.choice(keys): random.choice((*numbers, *_PATHS, *STEERING)).encode("utf-8", "replace").decode()
        for _ in range(random.randrange(1, 4))
    }


def _raw(random: Random) -> bytes:
    """Headers that no program writes."""
    return b"".join(_member(random) for _ in range(random.randrange(1, 6))) + bytes(
        random.choice((0, 512, 1024))
    )


def _member(random: Random) -> bytes:
    body = random.choice((b"", b"x" * 10, random.randbytes(600), _records(random), b"/" * 300 + b"\0"))
    kind = random.choice((*_TYPES, b"x", b"g", b"X", b"L", b"K", b"S", b"D", b"N"))
    size = random.choice((len(body), len(body), len(body), 0, 2**33 - 1, 10**6))
    return header(_name(random), kind, size, random.choice(_PATHS)) + body + bytes(-len(body) % 512)


def _records(random: Random) -> bytes:
    """Pax records, some of which lie about their length."""
    found = b""
    for key, text in _pax(random).items():
        record = f" {key}={text}\n".encode("utf-8", "replace")
        length = len(record) + len(str(len(record) + 3))
        found += str(random.choice((length, length, length, 0, 1, 10**9, -5))).encode() + record
    return found


def header(name: str, kind: bytes, size: int, link: str = "", magic: bytes = b"ustar\x0000") -> bytes:
    """One block of 512 bytes with its checksum."""
    number = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(512)
    encoded, linked = (
        name.encode("utf-8", "surrogateescape")[:100],
        link.encode("utf-8", "surrogateescape")[:100],
    )
    block[: len(encoded)] = encoded
    block[100:156] = b"0000644\0" + b"0000000\0" * 2 + number + b"00000000000\0" + b" " * 8
    block[156:157] = kind
    block[157 : 157 + len(linked)] = linked
    block[257:265] = magic
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _bomb(random: Random) -> bytes:
    """Little that becomes much: in bytes, in members, in headers, in folders, in links."""
    zeros = _repeated(bytes(2**20), 2000)
    kind = random.randrange(9)
    if kind == 0:
        return gzip.compress(header("zeros", b"0", 2000 * 2**20), 1) + zeros
    if kind == 1:  # a million members
        many = b"".join(header(f"f{number}", b"0", 0) for number in range(1000))
        return _repeated(many, 1000)
    if kind == 2:  # a million times the same folder
        return _repeated(header("d", b"5", 0) * 1000, 1000)
    if kind == 3:  # an old sparse file whose map does not end
        first = bytearray(header("s", b"S", 512, magic=b"ustar  \0"))
        return gzip.compress(bytes(_extended(first)), 1) + _repeated(_sparse_block() * 1000, 200)
    if kind == 4:  # a new one, whose map has no line
        records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
        head = header("x", b"x", len(records)) + records + bytes(-len(records) % 512)
        return gzip.compress(head + header("s", b"0", 2**33 - 1) + b"5\n", 1) + _repeated(b"1" * 2**20, 100)
    if kind == 5:  # a header that is larger than anything
        return gzip.compress(header("x", random.choice((b"x", b"g", b"L", b"K")), 2**33 - 1), 1) + zeros
    if kind == 6:  # each member with as large a header as there may be
        record = b" comment=" + b"c" * (2**20 - 100) + b"\n"
        record = str(len(record) + 7).encode() + record
        one = header("x", b"x", len(record)) + record + bytes(-len(record) % 512) + header("d", b"5", 0)
        return _repeated(one, 900)
    if kind == 7:  # headers of headers
        return _repeated((header("x", b"g", 0) + header("l", b"L", 512) + b"n" * 512) * 500, 100)
    links = [header("l0", b"2", 0, ".")]
    links += [header(f"l{number}", b"2", 0, f"l{number - 1}/l{number - 1}") for number in range(1, 200)]
    return gzip.compress(b"".join(links), 1)


def _extended(first: bytearray) -> bytearray:
    """The header of a sparse file that says that its map goes on in the next block."""
    first[482] = 1
    first[483:495] = b"%011o\0" % 2**30
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    return first


def _sparse_block() -> bytes:
    return (b"%011o\0" % 7) * 42 + b"\1" + bytes(7)


def _repeated(data: bytes, times: int) -> bytes:
    """Gzip of the same bytes again and again, as the many members that a gzip file may have."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return (packer.compress(data) + packer.flush()) * times


TARS = Subject("tars", 2_000, 3.0, _make, _judge, sample=200)
