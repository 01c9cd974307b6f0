"""What a job leaves: model and output, packed as the service packs them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sagemaker_launcher.rehearsal.artifacts import save_artifacts
from sagemaker_launcher.rehearsal.tree import Tree
from sagemaker_launcher.request import Request
from sagemaker_launcher.storage import FolderStorage
from tests.project import Project
from tests.stand_in import request_of, snapshot

JOB = "tiny-20260102-030405-abcdef"


@pytest.fixture
def tree(tmp_path: Path, project: Project) -> Tree:
    tree = Tree(tmp_path / "ml")
    tree.create(request_of(project))
    return tree


def save(project: Project, tree: Tree, request: Request | None = None) -> tuple[dict[str, str], Path]:
    """Saves, and gives what was said and the folder of the job's output."""
    saved = save_artifacts(request or request_of(project), tree, FolderStorage(project.s3))
    return saved, project.s3 / "team/outputs" / JOB / "output"


def members(tar: Path) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(tar.read_bytes()), mode="r:gz") as opened:
        files = ((member, opened.extractfile(member)) for member in opened)
        return {member.name: file.read() if file else None for member, file in files}


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
