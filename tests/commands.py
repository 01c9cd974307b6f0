"""Runs the command line as a user does: a process of its own, with nothing of this machine's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "run_sagemaker_job.py"


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.err + self.out


class Started(subprocess.Popen[str]):
    """A command that runs; when the test that waits for it fails, it is killed with all that it started."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind:
            # Popen would wait for its end, which may be an hour away.
            with suppress(psutil.NoSuchProcess):
                launcher = psutil.Process(self.pid)
                for process in (launcher, *launcher.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
        super().__exit__(kind, error, trace)


def clean_environment(home: Path, **extra: str) -> dict[str, str]:
    """Variables of a fresh machine: no AWS, an empty HOME; the machine's certificates stay."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
    # A metadata service would be asked for credentials otherwise, which takes seconds where there is none.
    return {**kept, "HOME": str(home), "LANG": "C.UTF-8", "AWS_EC2_METADATA_DISABLED": "true", **extra}


@dataclass(frozen=True)
class CommandLine:
    """The command line in one working directory, with one set of variables."""

    folder: Path
    environment: Mapping[str, str]

    def __call__(
        self, *words: str | Path, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> Finished:
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Started:
        """Starts a command and comes back at once; the caller waits for it or ends it."""
        return Started(
            self.command(*words),
            cwd=self.folder,
            env={**self.environment, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def command(*words: str | Path) -> Sequence[str]:
        return [sys.executable, str(SCRIPT), *map(str, words)]


def newest(cli: CommandLine) -> dict[str, Any]:
    """The experiment of the tests' archive in S3 that was launched last; a list orders those of one second by name."""
    listed = cli("list", "--archive", "s3://team/experiments", "--limit", "50", "--json").json["experiments"]
    latest: dict[str, Any] = max(listed, key=lambda line: line["created_at"])
    return latest
