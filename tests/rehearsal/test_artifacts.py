"""What a job leaves: model and output, packed as the service packs them."""

from __future__ import annotations

import io
import os
import re
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sagemaker_launcher.archive.unpacking import unpack
from sagemaker_launcher.errors import UnsafeError
from sagemaker_launcher.rehearsal.artifacts import Saved, save_artifacts
from sagemaker_launcher.rehearsal.hosts import Host, hosts_of
from sagemaker_launcher.rehearsal.tree import Tree
from sagemaker_launcher.request import Request
from sagemaker_launcher.storage import FolderStorage
from tests.fidelity import reproduces
from tests.project import Project
from tests.stand_in import request_of, snapshot

JOB = "tiny-20260102-030405-abcdef"


@pytest.fixture
def tree(tmp_path: Path, project: Project) -> Tree:
    tree = Tree(tmp_path / "ml")
    request = request_of(project)
    hosts = hosts_of(request)
    tree.create(request, hosts, hosts[0])
    return tree


def save(project: Project, tree: Tree, request: Request | None = None) -> tuple[dict[str, str], Path]:
    """Saves what one host left; gives the URIs and the folder of the job's output."""
    saved = save_all(project, [tree], request)
    assert saved.collisions == ()
    return saved.uris, project.s3 / "team/outputs" / JOB / "output"


def save_all(project: Project, trees: list[Tree], request: Request | None = None) -> Saved:
    hosts = [Host(f"algo-{number}", number, "ml.m5.large", "all") for number in range(1, len(trees) + 1)]
    scratch = project.folder / "scratch"
    scratch.mkdir()
    return save_artifacts(
        request or request_of(project),
        dict(zip(hosts, trees, strict=True)),
        FolderStorage(project.s3),
        scratch,
    )


def members(tar: Path) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(tar.read_bytes()), mode="r:gz") as opened:
        files = ((member, opened.extractfile(member)) for member in opened)
        return {member.name: file.read() if file else None for member, file in files}


@reproduces("artifacts")
def test_members_lie_at_the_root_of_both_tarballs(project: Project, tree: Tree) -> None:
    (tree.model / "weights.bin").write_bytes(b"\0\1")
    (tree.model / "vocabulary").mkdir()
    (tree.model / "vocabulary" / "a.txt").write_text("a")
    (tree.output_data / "curve.csv").write_text("1,2")
    saved, folder = save(project, tree)
    place = f"s3://team/outputs/{JOB}/output"
    assert saved == {"model": f"{place}/model.tar.gz", "output": f"{place}/output.tar.gz"}
    assert members(folder / "model.tar.gz") == {
        "vocabulary": None,
        "vocabulary/a.txt": b"a",
        "weights.bin": b"\0\1",
    }
    assert members(folder / "output.tar.gz") == {"curve.csv": b"1,2"}
    assert sorted(snapshot(folder)) == ["model.tar.gz", "output.tar.gz"]


def test_the_failure_file_is_no_part_of_the_output(project: Project, tree: Tree) -> None:
    (tree.output_data / "curve.csv").write_text("1,2")
    tree.failure.write_text("no memory")
    saved, folder = save(project, tree)
    assert list(saved) == ["output"]
    assert list(members(folder / "output.tar.gz")) == ["curve.csv"]


@reproduces("artifacts")
def test_without_compression_the_files_lie_there_as_they_are(project: Project, tree: Tree) -> None:
    (tree.model / "parts").mkdir()
    (tree.model / "parts" / "1.bin").write_bytes(b"\1")
    (tree.model / "weights.bin").write_bytes(b"\0")
    (tree.output_data / "curve.csv").write_text("1,2")
    request = request_of(project, ("ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", "true"))
    assert request["OutputDataConfig"]["CompressionType"] == "NONE"
    saved, folder = save(project, tree, request)
    place = f"s3://team/outputs/{JOB}/output"
    assert saved == {"model": f"{place}/model/", "output": f"{place}/data/"}
    assert snapshot(folder) == {
        "data": None,
        "data/curve.csv": b"1,2",
        "model": None,
        "model/parts": None,
        "model/parts/1.bin": b"\1",
        "model/weights.bin": b"\0",
    }


def test_empty_folders_leave_nothing(project: Project, tree: Tree) -> None:
    saved, folder = save(project, tree)
    assert saved == {}
    assert not folder.exists()


def test_without_compression_only_files_are_an_artifact(project: Project, tree: Tree) -> None:
    (tree.model / "parts").mkdir()
    os.mkfifo(tree.output_data / "fifo")
    request = request_of(project, ("ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", "true"))
    saved, folder = save(project, tree, request)
    assert saved == {}
    assert not folder.exists()


def test_a_program_may_remove_the_folders_themselves(project: Project, tree: Tree) -> None:
    tree.model.rmdir()
    tree.output_data.rmdir()
    tree.output_data.write_text("a file in the place of the folder")
    assert save(project, tree)[0] == {}


def test_rights_of_files_and_links_between_them_survive(project: Project, tree: Tree) -> None:
    script = tree.model / "serve"
    script.write_text("#!/bin/sh")
    script.chmod(0o755)
    (tree.model / "latest").symlink_to("serve")
    folder = save(project, tree)[1]
    with tarfile.open(folder / "model.tar.gz") as opened:
        assert opened.getmember("serve").mode == 0o755
        assert opened.getmember("latest").linkname == "serve"


@pytest.fixture
def trees(tmp_path: Path) -> list[Tree]:
    """Those of three hosts."""
    trees = [Tree(tmp_path / f"algo-{number}") for number in (1, 2, 3)]
    for tree in trees:
        tree.model.mkdir(parents=True)
        tree.output_data.mkdir(parents=True)
    return trees


@reproduces("artifacts")
@pytest.mark.parametrize("compressed", [True, False])
def test_what_all_hosts_left_is_one_model(project: Project, trees: list[Tree], compressed: bool) -> None:
    for number, tree in enumerate(trees, start=1):
        (tree.model / "shards").mkdir()
        (tree.model / "shards" / f"{number}.bin").write_text(str(number))
    setting = ("ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", str(not compressed).lower())
    saved = save_all(project, trees, request_of(project, setting))
    assert saved.collisions == ()
    folder = project.s3 / "team/outputs" / JOB / "output"
    found = members(folder / "model.tar.gz") if compressed else snapshot(folder / "model")
    assert found == {"shards": None, "shards/1.bin": b"1", "shards/2.bin": b"2", "shards/3.bin": b"3"}
    assert sorted(saved.uris) == ["model"]


def test_of_files_with_the_same_name_the_first_hosts_is_kept_and_all_are_told(
    project: Project, trees: list[Tree]
) -> None:
    (trees[0].model / "a").write_text("of algo-1")
    (trees[2].model / "a").write_text("of algo-3")
    (trees[1].output_data / "curve").write_text("of algo-2")
    (trees[2].output_data / "curve").symlink_to("elsewhere")
    saved = save_all(project, trees)
    assert saved.collisions == ("model/a (algo-1, algo-3)", "output/curve (algo-2, algo-3)")
    folder = project.s3 / "team/outputs" / JOB / "output"
    assert members(folder / "model.tar.gz") == {"a": b"of algo-1"}
    assert members(folder / "output.tar.gz") == {"curve": b"of algo-2"}


def test_one_host_that_leaves_something_is_enough(project: Project, trees: list[Tree]) -> None:
    trees[0].model.rmdir()
    (trees[1].model / "a").write_text("1")
    assert sorted(save_all(project, trees).uris) == ["model"]


@pytest.mark.parametrize("first_is_file", [True, False])
def test_a_file_and_a_folder_with_the_same_name_collide_too(
    project: Project, trees: list[Tree], first_is_file: bool
) -> None:
    of_file, of_folder = (trees[0], trees[1]) if first_is_file else (trees[1], trees[0])
    (of_file.model / "a").write_text("a file")
    (of_folder.model / "a" / "deep").mkdir(parents=True)
    (of_folder.model / "a" / "deep" / "b").write_text("in a folder")
    assert save_all(project, trees).collisions == ("model/a (algo-1, algo-2)",)
    found = members(project.s3 / "team/outputs" / JOB / "output" / "model.tar.gz")
    assert found == (
        {"a": b"a file"} if first_is_file else {"a": None, "a/deep": None, "a/deep/b": b"in a folder"}
    )


# --- links, and what else is no file ---


UNCOMPRESSED = ("ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", "true")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the host that no program has."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "credentials").write_text("secret")
    return folder


def test_without_compression_only_links_within_the_folder_are_followed(
    project: Project, tree: Tree, outside: Path
) -> None:
    (tree.model / "epochs").mkdir()
    (tree.model / "epochs" / "3.pt").write_text("three")
    (tree.model / "latest.pt").symlink_to("epochs/3.pt")
    (tree.model / "a").symlink_to(outside / "credentials")
    (tree.model / "by-way-of-a").symlink_to("a")
    (tree.model / "folder").symlink_to(outside)
    (tree.model / "of-another-folder").symlink_to("../output/data/curve.csv")
    (tree.model / "dangling").symlink_to("nowhere")
    (tree.model / "loop").symlink_to("loop")
    os.mkfifo(tree.model / "fifo")
    (tree.model / "to-the-fifo").symlink_to("fifo")
    (tree.output_data / "curve.csv").write_text("1,2")
    folder = save(project, tree, request_of(project, UNCOMPRESSED))[1]
    model = {"epochs": None, "epochs/3.pt": b"three", "latest.pt": b"three"}
    assert snapshot(folder / "model") == model
    assert snapshot(folder / "data") == {"curve.csv": b"1,2"}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("part", ["model", "output", "output/data"])
def test_a_link_in_the_place_of_a_folder_is_not_followed(
    project: Project, tree: Tree, outside: Path, part: str, compressed: bool
) -> None:
    (outside / "data").mkdir()
    (outside / "data" / "key").write_text("secret")
    for name in ("model", "output"):
        (tree.base / name).rename(tree.base / f"{name}-away")
        (tree.base / name).mkdir()
    (tree.base / part).rmdir() if (tree.base / part).is_dir() else None
    (tree.base / part).symlink_to(outside)
    setting = ("ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", str(not compressed).lower())
    saved, folder = save(project, tree, request_of(project, setting))
    assert saved == {}
    assert not folder.exists()


def test_a_tree_behind_a_link_of_the_users_own_is_saved(project: Project, tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tree.model / "a").write_text("1")
    behind = Tree(tmp_path / "link" / tree.base.name)
    folder = save(project, behind, request_of(project, UNCOMPRESSED))[1]
    assert snapshot(folder / "model") == {"a": b"1"}


def test_without_compression_a_name_that_is_no_text_is_told_once_all_others_are_saved(
    project: Project, tree: Tree
) -> None:
    (tree.model / os.fsdecode(b"m-\xff")).write_text("no key")
    for name in ("a", "z"):
        (tree.model / name).write_text("1")
    (tree.output_data / "curve.csv").write_text("1,2")
    saved = save_all(project, [tree], request_of(project, UNCOMPRESSED))
    assert re.search(r"m-\\udcff.*not UTF-8", saved.problem)
    assert list(saved.uris) == ["output"]
    assert snapshot(project.s3 / "team/outputs" / JOB / "output/model") == {"a": b"1", "z": b"1"}


# --- what `download` is not going to unpack ---


def _link(to: str) -> Callable[[Path], None]:
    return lambda model: (model / "latest").symlink_to(to)


def _executable(model: Path, mode: int) -> None:
    (model / "program").write_text("x")
    (model / "program").chmod(mode)


def _files(model: Path, *names: str) -> None:
    for name in names:
        (model / name).touch()


_LEFT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to a file": (_link("epoch/3"), ""),
    "a link to nowhere": (_link("epoch/4"), ""),
    "a link by way of a folder": (_link("epoch/../epoch/3"), ""),
    "a link that is true in a container only": (
        _link("/opt/ml/model/epoch/3"),
        "'latest' is refused: it is a link",
    ),
    "a link out of the folder": (
        _link("../output/data"),
        "'latest' is refused: it is a link to '../output/data'",
    ),
    "a link to itself": (_link("latest"), "'latest' is refused: it is a link"),
    "a program": (lambda model: _executable(model, 0o755), ""),
    "a program with rights": (lambda model: _executable(model, 0o4755), "'program' is refused: it would run"),
    "a named pipe": (lambda model: os.mkfifo(model / "pipe"), "'pipe' is refused: it is neither a file"),
    "two spellings": (
        lambda model: _files(model, "Best", "best"),
        "'best' is refused: there is something else",
    ),
    "a name with a line break": (lambda model: _files(model, "a\nb"), "'a\\nb' is refused"),
}


@pytest.mark.parametrize("left", _LEFT)
def test_what_download_will_not_unpack_is_known_when_it_is_saved(
    project: Project, tree: Tree, tmp_path: Path, left: str
) -> None:
    make, reason = _LEFT[left]
    (tree.model / "epoch").mkdir()
    (tree.model / "epoch" / "3").write_text("weights")
    make(tree.model)
    saved = save_all(project, [tree])
    packed = project.s3 / saved.uris["model"].removeprefix("s3://")
    if not reason:
        assert saved.refusals == ()
        assert unpack(packed, tmp_path / "unpacked")
        return
    assert len(saved.refusals) == 1
    assert saved.refusals[0].startswith(reason)
    with pytest.raises(UnsafeError):
        unpack(packed, tmp_path / "unpacked")


def test_a_socket_is_not_packed_and_not_told(project: Project, tree: Tree, tmp_path: Path) -> None:
    (tree.model / "a").write_text("1")
    here = Path.cwd()
    os.chdir(tree.model)  # the name of a socket may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
            saved = save_all(project, [tree])
    finally:
        os.chdir(here)
    assert saved.refusals == ()
    unpack(project.s3 / saved.uris["model"].removeprefix("s3://"), tmp_path / "unpacked")
    assert snapshot(tmp_path / "unpacked") == {"a": b"1"}
