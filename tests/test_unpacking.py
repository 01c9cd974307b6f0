"""Archives of others: what is harmless comes out, and of what is not, nothing."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagemaker_launcher.archive.unpacking import Limits, Names, refusals, unpack
from sagemaker_launcher.errors import IntegrityError, LauncherError, UnsafeError
from tests.fault_rows import provokes
from tests.stand_in import snapshot

Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def packed(path: Path, *members: Member, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def directory(name: str) -> Member:
    return member(name, kind=tarfile.DIRTYPE, mode=0o2755)


def link(name: str, target: str) -> Member:
    return member(name, kind=tarfile.SYMTYPE, link=target)


def hard(name: str, target: str) -> Member:
    return member(name, kind=tarfile.LNKTYPE, link=target)


def test_files_folders_and_links_that_stay_inside_come_out(tmp_path: Path) -> None:
    long = "deep/" * 20 + "a" * 120
    archive = packed(
        tmp_path / "model.tar.gz",
        directory("."),
        member("./model.bin", b"weights"),
        directory("code"),
        member("code/run.sh", b"#!", mode=0o777),
        directory("code"),
        member("empty/ümlaut.txt", b""),
        member(long, b"long"),
        link("latest", "code/run.sh"),
        link("code/up", "../model.bin"),
        link("around", "code/../empty/.././/model.bin"),
        link("folder", "empty"),
        link("through", "folder/../model.bin"),
        hard("copy.bin", "model.bin"),
    )
    told: list[int] = []
    count = unpack(archive, tmp_path / "out", told=told.append)
    out = snapshot(tmp_path / "out")
    assert {name: data for name, data in out.items() if data is not None} == {
        "model.bin": b"weights",
        "code/run.sh": b"#!",
        "empty/ümlaut.txt": b"",
        long: b"long",
        "latest": b"#!",
        "code/up": b"weights",
        "around": b"weights",
        "through": b"weights",
        "copy.bin": b"weights",
    }
    assert (count, sum(told)) == (10, 13)
    assert stat.S_IMODE((tmp_path / "out/code/run.sh").stat().st_mode) & 0o7111 == 0o111
    assert stat.S_IMODE((tmp_path / "out/code").stat().st_mode) & 0o7000 == 0
    assert (tmp_path / "out/model.bin").stat().st_uid == os.getuid()


HOSTILE: dict[str, tuple[Member, ...]] = {
    "absolute": (member("/etc/passwd"),),
    "above": (member("../escaped"),),
    "above, later": (member("a/../../escaped"),),
    "above within": (member("a/../b"),),
    "Windows": (member("..\\escaped"),),
    "drive": (member("C:/escaped"),),
    "control": (member("a\x1b[2J"),),
    "newline": (member("a\nb"),),
    "right to left": (member("a\u202eb"),),
    "long part": (member("a" * 256),),
    "deep": (member("a/" * 70 + "b"),),
    "nothing": (member("./"),),
    "twice": (member("a"), member("a")),
    "twice, differently written": (member("a"), member("./a")),
    "upper and lower case": (member("a/File"), member("a/file")),
    "upper and lower case of folders": (member("A/x"), member("a/y")),
    "two ways to write é": (member("\u00e9"), member("e\u0301")),
    "file below a file": (member("a"), member("a/b")),
    "file in the place of a folder": (member("a/b"), member("a")),
    "file below a link": (link("a", "."), member("a/b")),
    "link to a root": (link("a", "/etc/passwd"),),
    "link to the root within": (link("a", "/"),),
    "link above": (link("a", "../x"),),
    "link above through a link": (link("d", "."), link("l", "d/../../x")),
    "link that loops": (link("a", "b"), link("b", "a")),
    "link through a link to above": (member("s/x"), link("d", "s"), link("l", "d/../../x")),
    # Only in the folder where it is unpacked, which is renamed afterwards, do these lead back into the archive.
    "link out of the archive and back": (link("l", "../out/harmless"),),
    "link out of a folder and back": (link("a/l", "../../out/harmless"),),
    "link out and back through a link": (
        *(member("x/y/z"), link("x/y/up", "../.."), link("l", "x/y/up/../../work/out/harmless")),
    ),
    "link out and back through a link, differently written": (
        *(member("x/y/z"), link("x/y/up", "../.."), link("l", "x/y/UP/../../work/out/harmless")),
    ),
    "hard link to outside": (hard("a", "/etc/passwd"),),
    "hard link to what comes later": (hard("a", "b"), member("b")),
    "hard link to a link": (link("a", "b"), hard("c", "a")),
    "device": (member("a", kind=tarfile.CHRTYPE),),
    "block device": (member("a", kind=tarfile.BLKTYPE),),
    "pipe": (member("a", kind=tarfile.FIFOTYPE),),
    "contiguous": (member("a", kind=b"V"),),
    "setuid": (member("a", mode=0o4755),),
    "setgid": (member("a", mode=0o2755),),
}


@provokes(85)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("members", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_member_is_refused_and_nothing_of_the_archive_stays(
    tmp_path: Path, members: tuple[Member, ...], form: int
) -> None:
    (tmp_path / "work").mkdir()
    archive = packed(tmp_path / "model.tar.gz", member("harmless"), *members, form=form)
    with pytest.raises(UnsafeError) as refused:
        unpack(archive, tmp_path / "work/out")
    assert refused.value.exit_code == 14
    assert {path.name for path in tmp_path.rglob("*")} == {"model.tar.gz", "work"}


@provokes(85)
def test_a_bomb_is_refused_by_size_ratio_and_number(tmp_path: Path) -> None:
    zeros = packed(tmp_path / "zeros.tar.gz", member("zeros", bytes(10**7)))
    small = Limits(small=10**6, ratio=100)
    with pytest.raises(UnsafeError, match="100 times its size"):
        unpack(zeros, tmp_path / "out", small)
    assert unpack(zeros, tmp_path / "whole") == 1
    many = packed(tmp_path / "many.tar.gz", *(member(f"f{number}", b"") for number in range(101)))
    with pytest.raises(UnsafeError, match="more than 100 files"):
        unpack(many, tmp_path / "out", Limits(members=100))
    trailing = tmp_path / "trailing.tar.gz"
    trailing.write_bytes(
        packed(tmp_path / "one.tar.gz", member("a")).read_bytes() + gzip.compress(bytes(10**7))
    )
    with pytest.raises(UnsafeError, match="times its size"):
        unpack(trailing, tmp_path / "out", small)
    assert not (tmp_path / "out").exists()


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    path = tmp_path / "model.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    with pytest.raises(UnsafeError, match="more than 1,048,576 bytes of headers"):
        unpack(path, tmp_path / "out")


@provokes(85)
def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info, data = member("sparse")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    with pytest.raises(LauncherError):
        unpack(packed(tmp_path / "model.tar.gz", (info, b"0\n" + bytes(510) + data)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:-6] + b"\0\0" + data[-4:],
        lambda _: b"no archive at all",
        lambda _: b"",
    ],
)
def test_a_damaged_archive_is_told(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = packed(tmp_path / "model.tar.gz", member("random", os.urandom(5000)))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(IntegrityError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        unpack(packed(tmp_path / "model.tar.gz", member("a")), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)
part = st.sampled_from(["a", "A", "b", "..", ".", "", "c\\d", "/", "é", "x\x00y"])
paths = st.lists(part, min_size=1, max_size=4).map("/".join)
members = st.lists(st.tuples(paths, kinds, paths, st.sampled_from([0o644, 0o755, 0o4755])), max_size=6)


@given(members)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_it_nothing_appears_outside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made = [member(name, b"data", kind, target, mode) for name, kind, target, mode in members]
    archive = packed(folder / "model.tar.gz", *made)
    out = folder / "inner" / "out"
    try:
        unpack(archive, out)
    except LauncherError:
        assert not out.exists()
    else:
        for path in out.rglob("*"):
            assert path.resolve().is_relative_to(out.resolve())
            assert not path.stat(follow_symlinks=False).st_mode & 0o7000
    assert {path.name for path in folder.iterdir()} <= {"model.tar.gz", "inner"}


@given(st.binary(max_size=2000))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_in_words(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    path = folder / "model.tar.gz"
    path.write_bytes(gzip.compress(data + bytes(1024)))
    try:
        unpack(path, folder / "out")
    except LauncherError as error:
        told = error.message
        assert told


@given(st.lists(st.text(max_size=12), max_size=8))
@settings(deadline=None, max_examples=150)
def test_names_that_are_taken_lie_below_and_differ(texts: list[str]) -> None:
    names, taken = Names(), []
    for text in texts:
        try:
            taken.append(names.take(text))
        except UnsafeError:
            continue
    assert not any(path.is_absolute() or ".." in path.parts for path in taken)
    assert len({str(path).casefold() for path in taken}) == len(taken)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(small=10_000), "would become more than 200 times its size"),
        (Limits(small=10**6, members=1), "has more than 1 files in it"),
        (Limits(small=10**6), ""),
    ],
)
def test_what_is_too_much_to_unpack_is_known_when_it_is_packed(
    tmp_path: Path, limits: Limits, reason: str
) -> None:
    files = {name: tmp_path / name for name in ("a", "b")}
    for path in files.values():
        path.write_bytes(bytes(300_000))
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, path in files.items():
            tar.add(path, name)
    assert [reason in told for told in refusals(files, archive, limits)] == ([True] if reason else [])
    if reason:
        with pytest.raises(UnsafeError):
            unpack(archive, tmp_path / "unpacked", limits)
    else:
        assert unpack(archive, tmp_path / "unpacked", limits) == 2
