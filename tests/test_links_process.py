"""Programs on the process target that leave links and pipes behind: nothing of the user's is saved through them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import launch, local, rehearse, snapshot

PRELUDE = """\
import os, pathlib, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
model, data, checkpoints = base / "model", base / "output" / "data", base / "checkpoints"
"""
LEAVES = """\
for folder in (model, data, checkpoints):
    (folder / "epoch-3").write_text("three")
    (folder / "latest").symlink_to("epoch-3")
    (folder / "key").symlink_to({secret!r})
    (folder / "folder").symlink_to({folder!r})
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
time.sleep(1.5)  # in which checkpoints are saved
"""
SAVED = {"epoch-3": b"three", "latest": b"three"}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's."""
    (tmp_path / "aws").mkdir()
    file = tmp_path / "aws" / "credentials"
    file.write_text("aws_secret_access_key = secret")
    return file


@pytest.fixture
def careless(project: Project, secret: Path) -> Project:
    """A job whose program leaves links in all of its folders."""
    project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"}, ESTIMATOR={"DISABLE_OUTPUT_COMPRESSION": True})
    project.program(PRELUDE + LEAVES.format(secret=str(secret), folder=str(secret.parent)))
    return project


@provokes(127)
def test_links_and_pipes_neither_leak_nor_fail_the_job(careless: Project) -> None:
    done = rehearse(careless)
    assert (done.result.status, done.result.failure_reason) == ("Completed", "")
    checkpoints = local(careless, done.request["CheckpointConfig"]["S3Uri"])
    folders = [local(careless, uri) for uri in done.result.artifacts.values()]
    assert [snapshot(folder) for folder in (checkpoints, *folders)] == [SAVED, SAVED, SAVED]


def test_a_checkpoint_whose_name_s3_cannot_have_fails_the_job_with_its_name_and_saves_the_others(
    project: Project,
) -> None:
    project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"})
    project.program(
        PRELUDE + "for name in (b'epoch-\\xff', b'a', b'z'):\n"
        "    pathlib.Path(checkpoints, os.fsdecode(name)).write_text('x')\n(model / 'm').write_text('x')\n"
    )
    done = rehearse(project)
    assert done.result.status == "Failed"
    assert "Artifact upload failed: 1 files cannot be saved" in done.result.failure_reason
    assert r"epoch-\udcff" in done.result.failure_reason
    assert snapshot(local(project, done.request["CheckpointConfig"]["S3Uri"])) == {"a": b"x", "z": b"x"}


@provokes(127)
def test_a_model_of_any_depth_is_saved(cli: CommandLine, project: Project) -> None:
    project.program(
        "import os\nos.chdir(os.path.join(os.environ['SAGEMAKER_BASE_DIR'], 'model'))\n"
        "for _ in range(1200):\n    os.mkdir('a')\n    os.chdir('a')\nopen('m', 'w').close()\n"
    )
    done = launch(cli, project)
    assert (done.code, done.has_traceback) == (0, False), done.err
    with tarfile.open(local(project, done.json["result"]["artifacts"]["model"])) as packed:
        assert max(map(len, packed.getnames())) == 2 * 1200 + 1
