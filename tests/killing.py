"""Commands that are killed at a moment of their own, and what is left of them afterwards."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagemaker_launcher.archive.experiments import Archive
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import FolderStorage, Storage
from tests.commands import Finished, clean_environment
from tests.project import Project
from tests.stand_in import ARCHIVE, snapshot
from tests.warm import Warm, WarmProcess

if TYPE_CHECKING:
    from typing_extensions import Self

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
# The moments at which a launch can be made to wait, and what the list says of it when it is killed there.
MOMENTS = {
    "planned": None,
    "prepared": None,
    "indexed": "interrupted",
    "reserved": "interrupted",
    "uploaded": "interrupted",
    "sealed": "not confirmed",
    "started": "not confirmed",
    "recorded": "started",
}
# What a job that was asked for is recorded as before the signal counts.
SHIELDED = {"started": "started", "creating": "started"}
# What the repair makes of a rehearsal that nobody goes on with.
REPAIRED = {"interrupted": "not started", "not confirmed": "not started", "started": "abandoned"}
WRITES_MUCH = """\
import os, pathlib
base = pathlib.Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
with (base / "model" / "m").open("wb") as file:
    for _ in range(16):
        file.write(os.urandom(2**20))
"""
every_signal = pytest.mark.parametrize("number", SIGNALS, ids=[number.name for number in SIGNALS])
# A terminal that is closed does the same as SIGTERM, by the same way: it is seen where it happens most.
every_end = pytest.mark.parametrize(
    "number", [*SIGNALS, signal.SIGHUP], ids=[number.name for number in (*SIGNALS, signal.SIGHUP)]
)


@dataclass
class Desk:
    """Somebody with a project, a place that is S3, and commands that are killed.

    Attributes:
        warm: Where processes come from.
        project: The project.
        home: The user's home.
        variables: What the commands have in their environment.
        where: The words that say where S3 is.
        storage: The same S3.
        archive: Where the project's experiments go.
    """

    warm: Warm
    project: Project
    home: Path
    variables: dict[str, str]
    where: tuple[str, ...]
    storage: Storage
    archive: str

    @classmethod
    def at_folder(cls, warm: Warm, project: Project, home: Path, variables: Mapping[str, str]) -> Self:
        """Somebody whose S3 is a folder; `variables` come on top of those of a fresh machine."""
        temporary = home / "temporary"
        temporary.mkdir(exist_ok=True)
        everything = clean_environment(home, TMPDIR=str(temporary), **variables)
        where = ("--s3-root", str(project.s3))
        return cls(warm, project, home, everything, where, FolderStorage(project.s3), ARCHIVE)

    def start(self, *words: str | Path, **variables: str) -> WarmProcess:
        env = {**self.variables, **variables}
        return self.warm.start(*words, folder=self.project.folder, env=env)

    def run(self, *words: str | Path) -> Finished:
        done = self.start(*words).ended()
        assert not done.has_traceback, done.err
        return done

    def listed(self) -> list[str]:
        """What `list` says, newest first."""
        listed = self.run("list", "--archive", self.archive, "--json", *self.where)
        assert listed.code == 0, listed.err
        return [experiment["state"] for experiment in listed.json["experiments"]]

    def states(self) -> list[str]:
        """The same, read in this process in no time."""
        archive = Archive(self.storage, S3Uri.parse(self.archive))
        return [summary.state.value for summary in archive.read_summaries(list(archive.entries()))]

    def repaired(self) -> list[str]:
        """How far everything came, once `doctor --repair` has looked at it."""
        done = self.run("doctor", "--repair", "--archive", self.archive, "--json", *self.where)
        assert done.code == 0, done.err
        # Other tests have containers of their own on the same engine, and homes of their own.
        told = [check for check in done.json["checks"] if "which is another user's" not in check["message"]]
        assert {check["verdict"] for check in told} == {"ok"}, done.json
        return self.states()

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "sagemaker-launcher"

    def leftovers(self) -> list[str]:
        """Files that are nobody's any more."""
        folders = [
            *(Path(self.variables["TMPDIR"]), self.project.s3 / ".incomplete", self.cache / "rehearsals"),
            *(self.cache / "data" / "incoming", self.cache / "incomplete"),
        ]
        return [f"{folder}/{name}" for folder in folders if folder.exists() for name in snapshot(folder)]


def told(process: WarmProcess, number: int) -> Finished:
    """How a command ends by a signal."""
    process.send_signal(number)
    done = process.ended()
    assert done.code == (-number if number == signal.SIGKILL else 128 + number), done.err
    assert not done.has_traceback, done.err
    return done


def stopped_at(desk: Desk, moment: str, number: int, *words: str | Path) -> Finished:
    """How a command ends by a signal at one of the moments at which it waits."""
    process = desk.start(*words, SAGEMAKER_LAUNCHER_TEST_PAUSE_AT=moment)
    process.read_until(f"paused at {moment}")
    return told(process, number)


def expected(moment: str, number: int) -> list[str]:
    """What the list says after a signal at a moment."""
    state = MOMENTS[moment] if number == signal.SIGKILL else SHIELDED.get(moment, MOMENTS[moment])
    return [state] if state else []
