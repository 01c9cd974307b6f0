"""An ordinary user's launches: containers write as root, and all that they leave belongs to the user nevertheless."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.docker.launching import Desk, OrdinaryUser, ended, read_until, wait_until
from tests.fault_rows import provokes
from tests.fidelity import reproduces

# What only root may read: files, folders, and a folder in which nobody else may look.
SECRETIVE = """
os.umask(0o077)
def leave(folder):
    (folder / "closed").mkdir()
    for path in (folder / "file", folder / "closed" / "file"): path.write_text("of root"); path.chmod(0o600)
"""


@pytest.fixture
def folder(users_folder: Path) -> Path:
    return users_folder


@pytest.fixture
def desk(users_desk: Desk) -> Desk:
    return users_desk


def of_others(folder: Path) -> list[str]:
    """What does not belong to the ordinary user."""
    return [str(path) for path in folder.rglob("*") if path.lstat().st_uid != OrdinaryUser.UID]


@provokes(115)
def test_everything_that_a_launch_leaves_belongs_to_the_user(desk: Desk, folder: Path) -> None:
    desk.program(
        SECRETIVE
        + "for part in (model, data, base / 'input/data/training', base / 'code'): leave(part)\n"
        + "(base / 'output/failure').write_text('of root'); (base / 'output/failure').chmod(0o600)\n"
        + "tell(identifier=identifier, uid=os.getuid()); sys.exit(3)"
    )
    done = desk.launch()
    assert done.code == 10, done.done.err
    assert done.told()["uid"] == 0
    assert done.result["failure_reason"] == "AlgorithmError: of root, exit code: 3"
    assert sorted(done.result["artifacts"]) == ["model", "output"]
    assert not [note for note in done.notes if "belong" in note]
    assert of_others(folder) == []
    assert desk.left(done.told()["identifier"]) == []
    assert list((folder / "temporary").iterdir()) == []


@reproduces("checkpoints", "docker")
def test_checkpoints_that_only_root_may_read_are_saved_while_the_program_runs(
    desk: Desk, folder: Path
) -> None:
    desk.project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"})
    desk.program(
        SECRETIVE
        + "leave(base / 'checkpoints')\ntell(identifier=identifier)\nwhile not (model / 'go').exists(): time.sleep(0.05)"
    )
    stored = desk.path("s3://team/checkpoints")
    with desk.launching() as process:
        before = read_until(process, "identifier")
        # The program waits: only what is copied while it runs can come here.
        wait_until(lambda: len(list(stored.glob("*/closed/file"))) == 1, "the copies of the checkpoints")
        next((desk.cache / "rehearsals").glob("*/attempt-1/algo-1/opt/ml/model")).joinpath("go").touch()
        done = ended(process, before)
    assert done.code == 0, done.done.err
    names = sorted(path.relative_to(stored).parts[1:] for path in stored.rglob("file"))
    assert names == [("closed", "file"), ("file",)]
    assert of_others(folder) == []


@provokes(115, 117)
def test_nothing_of_root_stays_after_ctrl_c(desk: Desk, folder: Path) -> None:
    desk.program(
        SECRETIVE
        + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nleave(model)\ntell(identifier=identifier)\ntime.sleep(100)"
    )
    with desk.launching() as process:
        before = read_until(process, "identifier")
        identifier = desk.identifier()
        process.send_signal(signal.SIGINT)
        done = ended(process, before)
    assert done.code == 130, done.done.err
    assert len(list(desk.project.s3.glob("team/outputs/*/output/model.tar.gz"))) == 1
    assert desk.left(identifier) == []
    assert of_others(folder) == []


def test_the_next_launch_removes_roots_files_of_a_killed_one(desk: Desk, folder: Path) -> None:
    desk.program(
        SECRETIVE
        + "for part in (model, base / 'code'): leave(part)\ntell(identifier=identifier)\ntime.sleep(100)"
    )
    with desk.launching() as process:
        read_until(process, "identifier")
        identifier = desk.identifier()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert of_others(folder)
    desk.program("tell(identifier=identifier)")
    os.chown(desk.project.folder / "code" / "main.py", OrdinaryUser.UID, OrdinaryUser.UID)
    done = desk.launch()
    assert done.code == 0, done.done.err
    assert desk.left(identifier) == desk.left(done.told()["identifier"]) == []
    assert of_others(folder) == []
