"""Folders of rehearsals: gone with their rehearsal, and with the next one when their launcher was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.rehearsal.leftovers import BASE_VARIABLE, clear
from sagemaker_launcher.rehearsal.workspace import Workspace, planned_workspace, remove_tree, workspace
from tests.commands import ROOT
from tests.stand_in import is_running, snapshot

HOLDER = """\
import os, sys, time
from pathlib import Path
from sagemaker_launcher.rehearsal.workspace import planned_workspace, workspace
with workspace(planned_workspace(Path(sys.argv[1]), {"engine-of": "nobody"}), lambda _: None, print) as space:
    (space.folder / "data").write_text("of a live one")
    print(space.folder, flush=True)
    time.sleep(60)
"""
ordinary_user = pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")


@contextmanager
def launcher(cache: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a workspace; gives it and its folder."""
    command = [sys.executable, "-c", HOLDER, str(cache)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def nothing(_: Workspace) -> None:
    """Nothing runs."""


def never(told: str) -> None:
    """Nothing may be left."""
    raise AssertionError(told)


def test_a_workspace_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with workspace(planned_workspace(tmp_path, {}), nothing, never) as space:
        assert space.folder.stat().st_mode & 0o777 == 0o700
        (space.folder / "deep").mkdir()
        (space.folder / "deep" / "file").write_text("x")
    assert snapshot(tmp_path) == {"rehearsals": None}


def test_a_workspace_is_gone_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), workspace(planned_workspace(tmp_path, {}), nothing, never):
        raise KeyError
    assert snapshot(tmp_path) == {"rehearsals": None}


def test_what_is_write_protected_is_removed_and_what_it_links_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    outside.chmod(0o500)
    inside = tmp_path / "inside"
    (inside / "deep" / "deeper").mkdir(parents=True)
    (inside / "deep" / "deeper" / "file").write_text("x")
    (inside / "link").symlink_to(outside)
    (inside / "deep" / "deeper").chmod(0)
    (inside / "deep").chmod(0o400)
    remove_tree(inside)
    assert not inside.exists()
    assert outside.stat().st_mode & 0o777 == 0o500
    assert snapshot(outside) == {"file": b"x"}


def test_the_folder_of_a_live_launcher_is_left_alone(tmp_path: Path) -> None:
    with launcher(tmp_path) as (_, theirs):
        cleared: list[Workspace] = []
        for _ in range(3):
            with workspace(planned_workspace(tmp_path, {}), cleared.append, never) as ours:
                assert ours.folder != theirs
        assert [space.folder == theirs for space in cleared] == [False] * 3
        assert snapshot(theirs) == {"data": b"of a live one"}


def test_the_folder_of_a_killed_launcher_is_removed_by_the_next_one_which_gets_its_facts(
    tmp_path: Path,
) -> None:
    with launcher(tmp_path) as (process, theirs):
        process.kill()
        process.wait()
        assert theirs.is_dir()
        cleared: list[Workspace] = []
        with workspace(planned_workspace(tmp_path, {}), cleared.append, never) as ours:
            assert [(space.folder, space.facts) for space in cleared] == [(theirs, {"engine-of": "nobody"})]
            assert not theirs.exists()
            assert sorted(snapshot(tmp_path / "rehearsals")) == [
                ours.identifier,
                f"{ours.identifier}.lock",
            ]


def test_what_a_workspace_leaves_is_told(tmp_path: Path) -> None:
    def unreachable(_: Workspace) -> None:
        raise EnvironmentProblemError("the engine does not answer", hint="start it")

    for error in (None, KeyError()):
        told: list[str] = []
        with (
            suppress(KeyError),
            workspace(planned_workspace(tmp_path, {}), unreachable, told.append) as space,
        ):
            if error:
                raise error
        assert told == [f"this rehearsal leaves {space.folder}: the engine does not answer; start it"]
        assert space.folder.is_dir()


def test_what_cannot_be_ended_now_is_left_for_a_later_one(tmp_path: Path) -> None:
    def unreachable(space: Workspace) -> None:
        if "engine-of" in space.facts:
            raise EnvironmentProblemError("the engine does not answer")

    with launcher(tmp_path) as (process, theirs):
        process.kill()
        process.wait()
        with workspace(planned_workspace(tmp_path, {}), unreachable, never):
            assert theirs.is_dir()
        with workspace(planned_workspace(tmp_path, {}), nothing, never):
            assert not theirs.exists()


@pytest.mark.parametrize("content", [b"", b'{"engine": "doc', b"[]", b"\xff\xfe", b"null"])
def test_a_lock_that_its_launcher_could_not_finish_does_no_harm(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rehearsals").mkdir()
    (tmp_path / "rehearsals" / "abandoned.lock").write_bytes(content)
    with workspace(planned_workspace(tmp_path, {}), clear, never):
        pass
    assert snapshot(tmp_path / "rehearsals") == {}


def test_a_place_that_takes_no_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "rehearsals").write_text("a file in the place of the folder")
    with (
        pytest.raises(EnvironmentProblemError, match="rehearsals"),
        workspace(planned_workspace(tmp_path, {}), nothing, never),
    ):
        pass


def test_many_at_once_never_remove_each_other(tmp_path: Path) -> None:
    text = (
        "import sys, time\nfrom pathlib import Path\n"
        "from sagemaker_launcher.rehearsal.workspace import planned_workspace, workspace\n"
        "for _ in range(30):\n"
        "    with workspace(planned_workspace(Path(sys.argv[1]), {}), lambda _: None, print) as space:\n"
        "        (space.folder / 'mine').write_text('x'); time.sleep(0.003)\n"
        "        assert (space.folder / 'mine').read_text() == 'x'\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", text, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert errors == [""] * 4
    assert snapshot(tmp_path / "rehearsals") == {}


def started(base: Path) -> subprocess.Popen[bytes]:
    """A process as a rehearsal's program starts it: in a session of its own."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    return subprocess.Popen(command, env={BASE_VARIABLE: str(base)}, start_new_session=True)


def test_processes_of_a_rehearsal_are_ended_and_those_of_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "aa"
    folder.mkdir()
    ours = started(folder / "attempt-1" / "algo-1" / "opt" / "ml")
    others = [started(tmp_path / "aab" / "opt" / "ml"), started(Path("/opt/ml")), started(tmp_path)]
    try:
        time.sleep(0.2)
        clear(Workspace("aa", folder, {}))
        assert ours.wait(60) == -signal.SIGKILL
        assert all(is_running(process.pid) for process in others)
    finally:
        for process in (ours, *others):
            process.kill()
            process.wait()
