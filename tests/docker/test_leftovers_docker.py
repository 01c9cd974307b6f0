"""What containers leave that no ordinary user can read, look into or remove: it is saved all the same, or missed aloud."""

from __future__ import annotations

import os
import shutil
import signal
import tarfile
from pathlib import Path

import pytest

from tests.docker.launching import CODE, Desk, read_until
from tests.servers.engine import Engine

CLOSE = """
def close(folder):
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_text("kept")
    (folder / "closed").chmod(0)
"""
# The second is longer than any path may be; both are more than Python's own functions can remove, or look through.
DEPTHS = pytest.mark.parametrize(("levels", "name"), [(1200, "d"), (25, "d" * 200)], ids=["deep", "long"])
DIG = """
def dig(folder, levels, name):
    os.chdir(folder)
    for _ in range(levels):
        os.mkdir(name)
        os.chdir(name)
    pathlib.Path("file").touch()
"""
NO_CHOWN = f'RUN rm /bin/chown\nENTRYPOINT ["python3", "{CODE}/main.py"]'
NEITHER = f'RUN rm /bin/chown && mv /usr/bin/python3 /usr/bin/snake\nENTRYPOINT ["snake", "{CODE}/main.py"]'


@pytest.fixture
def folder(users_folder: Path) -> Path:
    return users_folder


@pytest.fixture
def desk(users_desk: Desk) -> Desk:
    return users_desk


def packed(desk: Desk, uri: str) -> dict[str, int]:
    """The modes of what a tarball has, by name."""
    with tarfile.open(desk.path(uri)) as tar:
        return {member.name: member.mode for member in tar.getmembers()}


def abandon(desk: Desk) -> str:
    """Kills a launch when its program says so; gives the identifier of what it leaves."""
    with desk.launching() as process:
        read_until(process, "identifier")
        identifier = desk.identifier()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return identifier


def test_folders_that_the_program_closed_to_everybody_are_saved(desk: Desk) -> None:
    desk.project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"})
    desk.program(
        CLOSE
        + "for part in (model, data, base / 'checkpoints'): close(part)\n"
        + "(model / 'mine').write_text('x'); (model / 'mine').chmod(0o600); (model / 'all').mkdir(0o755)\n"
        + "(base / 'output/failure').write_text('because'); (base / 'output').chmod(0)\n"
        + "tell(identifier=identifier); sys.exit(3)"
    )
    done = desk.launch()
    assert done.result["failure_reason"] == "AlgorithmError: because, exit code: 3", done.done.err
    assert "closed/file" in packed(desk, done.result["artifacts"]["output"])
    model = packed(desk, done.result["artifacts"]["model"])
    assert sorted(model) == ["all", "closed", "closed/file", "mine"]
    assert (model["mine"], model["all"]) == (
        0o600,
        0o755,
    )  # what could be read anyway is as the program left it
    place = desk.path(done.answer["request"]["CheckpointConfig"]["S3Uri"])
    assert (place / "closed" / "file").read_text() == "kept"
    assert desk.left(done.told()["identifier"]) == []


@DEPTHS
def test_what_is_too_deep_for_paths_is_removed(desk: Desk, levels: int, name: str) -> None:
    desk.program(
        f"{DIG}dig(base / 'input/data/training', {levels}, {name!r}); dig(base / 'code', {levels}, {name!r})\n"
        "(model / 'm').touch(); tell(identifier=identifier)"
    )
    done = desk.launch()
    assert done.code == 0, done.done.err
    assert desk.left(done.told()["identifier"]) == []


@DEPTHS
def test_what_is_too_deep_of_a_killed_launch_harms_no_later_one(desk: Desk, levels: int, name: str) -> None:
    desk.program(f"{DIG}dig(model, {levels}, {name!r}); tell(identifier=identifier); time.sleep(100)")
    identifier = abandon(desk)
    desk.program("tell(identifier=identifier)")
    done = desk.launch()
    assert done.code == 0, done.done.err
    assert desk.left(identifier) == desk.left(done.told()["identifier"]) == []


def test_without_chown_in_the_image_python_does_it(desk: Desk, engine: Engine) -> None:
    desk.program(f"{CLOSE}close(model); (model / 'link').symlink_to('/etc'); tell(identifier=identifier)")
    done = desk.launch("--image", engine.build("no-chown", NO_CHOWN))
    assert done.code == 0, done.done.err
    assert "closed/file" in packed(desk, done.result["artifacts"]["model"])
    assert not [note for note in done.notes if "belong" in note]
    assert desk.left(done.told()["identifier"]) == []


def test_what_nobody_can_give_to_the_user_is_missed_aloud(desk: Desk, engine: Engine) -> None:
    image = engine.build("neither", NEITHER)
    desk.program(f"{CLOSE}close(model); tell(identifier=identifier)")
    done = desk.launch("--image", image)
    assert (done.code, done.error["code"]) == (15, "foreign_files")
    assert "model/closed cannot be saved" in done.error["message"]
    assert "chown" in done.error["message"]
    assert "into the image" in done.error["hint"]
    [result] = desk.project.s3.glob("team/experiments/team/tiny/*/result.json")
    assert '"failure_reason": "InternalServerError: ' in result.read_text()
    [folder] = (desk.cache / "rehearsals").glob("*/")
    told = desk.cli("doctor", "--repair").out
    assert f"a killed rehearsal: {folder}" in told
    assert "chown" in told
    assert f"sudo rm -rf {folder}" in told
    assert "does not answer" not in told
    # It stops nobody, and is gone as soon as it can be.
    desk.program("(model / 'm').write_text('x')")
    done = desk.launch()
    assert done.code == 0, done.done.err
    [note] = [note for note in done.notes if "an earlier rehearsal" in note]
    assert f"{folder} cannot be removed" in note
    shutil.rmtree(folder)
    assert "a killed rehearsal" not in desk.launch().done.err
    assert list((desk.cache / "rehearsals").iterdir()) == []


def test_files_that_stay_roots_but_can_be_read_are_saved_with_a_note(desk: Desk, engine: Engine) -> None:
    desk.program("(model / 'm').write_text('x'); tell(identifier=identifier)")
    done = desk.launch("--image", engine.build("neither", NEITHER))
    assert done.code == 0, done.done.err
    assert sorted(packed(desk, done.result["artifacts"]["model"])) == ["m"]
    assert [note for note in done.notes if "do not belong to you" in note and "chown" in note]
    assert desk.left(done.told()["identifier"]) == []
