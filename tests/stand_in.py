"""Launches on the stand-in folder: through the command line, or in this process where only the result counts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sagemaker_launcher import config
from sagemaker_launcher import launch as story
from sagemaker_launcher.checkout import CheckoutReader
from sagemaker_launcher.coercion import Override
from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.rehearsal import Rehearsal
from sagemaker_launcher.rehearsal.terms import Terms
from sagemaker_launcher.request import Request, create_training_job_request
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import Check, FolderStorage, Storage, StoredObject, no_check
from sagemaker_launcher.targets.process import ProcessOptions, ProcessTarget
from tests.commands import CommandLine, Finished
from tests.project import Project

ARCHIVE = "s3://team/experiments"


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, and every folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def nothing_written(folder: Path) -> Iterator[None]:
    """Fails when the block leaves anything in a folder, or changes or removes anything."""
    before = snapshot(folder)
    yield
    assert snapshot(folder) == before


def local(project: Project, uri: str) -> Path:
    """The place of an object or a prefix in the stand-in folder."""
    return project.s3 / uri.removeprefix("s3://").removesuffix("/")


def rehearsal(project: Project, *words: str) -> tuple[str, ...]:
    """The words of a rehearsal's command line."""
    return ("launch", str(project.config), "--on", "process", "--s3-root", str(project.s3), *words)


def launch(cli: CommandLine, project: Project, *words: str, **variables: str) -> Finished:
    """Rehearses a project through the command line, and asks for JSON."""
    return cli(*rehearsal(project, "--json", *words), env=variables)


def document(folder: Path, name: str) -> Any:
    """A JSON file of an experiment."""
    return json.loads((folder / name).read_text())


class Full(FolderStorage):
    """A disk on which there is no more room for certain objects."""

    def __init__(self, folder: Path, *names: str) -> None:
        super().__init__(folder)
        self._names = names

    def create(self, uri: S3Uri, data: bytes) -> None:
        if uri.name in self._names:
            raise EnvironmentProblemError(f"cannot reach {uri}: no space left on device")
        super().create(uri, data)


class Listing(FolderStorage):
    """An S3 that holds keys which no file system can have."""

    def __init__(self, folder: Path, *keys: str) -> None:
        super().__init__(folder)
        self._keys = keys

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        assert not limit
        return (
            StoredObject(S3Uri(prefix.bucket, key), 1, "tag")
            for key in self._keys
            if key.startswith(prefix.key)
        )


class Counting(FolderStorage):
    """A folder that remembers what was asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.listed = 0
        self.downloaded: list[str] = []

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        for item in super().list(prefix, limit):
            self.listed += 1
            yield item

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
        self.downloaded.append(uri.key)
        super().download(uri, file, tag, check)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to take note of its end does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it has just ended, or this system has no such files
        return not Path("/proc/self/stat").exists()


@dataclass
class Listener:
    """Remembers what a launch tells, and when each line of the log came (seconds of a monotonic clock)."""

    phases: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def phase(self, name: str, message: str = "") -> None:  # noqa: ARG002 - the interface of Events
        self.phases.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def log(self, host: str, line: str) -> None:
        self.hosts.append(host)
        self.lines.append(line)
        self.times.append(time.monotonic())

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002 - as above
        yield lambda _: None

    def lines_of(self, host: str) -> list[str]:
        """The log of one host."""
        return [line for name, line in zip(self.hosts, self.lines, strict=True) if name == host]


@dataclass(frozen=True)
class Rehearsed:
    """What a launch in this process came to."""

    request: Request
    result: JobResult
    events: Listener


GRACE = Terms(grace_s=5)


def rehearse(
    project: Project, *settings: tuple[str, str], storage: Storage | None = None, terms: Terms = GRACE
) -> Rehearsed:
    """Launches on the process target from within this process, which takes milliseconds instead of half a second."""
    overrides = tuple(Override("--set", key, value) for key, value in settings)
    plan = story.plan(project.config, overrides, target="process", command=("test",))
    storage, events = storage or FolderStorage(project.s3), Listener()
    target = ProcessTarget(plan.configs.source, Rehearsal(storage, terms), ProcessOptions())
    checkout = CheckoutReader(project.folder)
    outcome = story.execute(
        plan, story.Surroundings(target, storage, lambda: None, lambda _: None, checkout, events, "launcher")
    )
    return Rehearsed(plan.request, outcome.result, events)


def request_of(project: Project, *settings: tuple[str, str]) -> Request:
    """The request that a project's config makes."""
    overrides = tuple(Override("--set", key, value) for key, value in settings)
    return create_training_job_request(
        config.load(project.config, overrides).job("tiny-20260102-030405-abcdef")
    )
