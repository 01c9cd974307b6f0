"""Times `list` and `show` among ever more experiments, on a real S3 server: `python -m bench.history [NUMBER...]`.

The experiments are written as this tool writes them, but for their folders, which only `show` reads; the newest is real.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from bench.pairs import ROOT
from sagemaker_launcher.archive.headline import Headline, key_of
from sagemaker_launcher.archive.manifest import Author, Intent, to_bytes
from sagemaker_launcher.naming import job_name, newest_first
from tests.commands import SCRIPT, clean_environment
from tests.project import Project
from tests.servers.clients import sealed_client
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer
from tests.stand_in import rehearse

NUMBERS = (100, 10_000)  # 100,000 take a quarter of an hour to write
RUNS = 5
BUCKET = "team"
APART = timedelta(minutes=10)  # one experiment and the next
WRITERS = 4


@dataclass(frozen=True)
class Filling:
    """A range of experiments to write."""

    endpoint: str
    keys: tuple[str, str]
    root: str
    numbers: range
    now: datetime


def objects_of(root: str, number: int, now: datetime) -> dict[str, bytes]:
    """The index entry and the headline of an experiment of the past."""
    second = now - (number + 1) * APART
    experiment = f"digits/try-{number % 50}"
    name = job_name(experiment, second, f"{number:06d}"[-6:])
    created = second.isoformat(timespec="milliseconds")
    intent = Intent(name, experiment, "aws", created, Author(f"user-{number % 7}", "laptop", 1), "0" * 64)
    stem = f"{newest_first(second)}-{name}"
    metrics = {"validation:accuracy": 0.5 + (number * 7919 % 10_000) / 20_000, "loss": 1 / (number + 1)}
    changed = {"SOLVER.BASE_LR": str(number % 10 / 10), "SEED": str(number)}
    headline = Headline(
        *(experiment, created, f"user-{number % 7}", "aws", "Completed", 60 + number % 7000, 60),
        *("1 x ml.m5.large", bool(number % 2), metrics, changed),
    )
    place = f"{root}/_headlines/"
    return {
        f"{root}/_index/{stem}.json": to_bytes(intent),
        f"{place}{key_of(stem, headline, len(place))}": to_bytes(headline),
    }


def fill(filling: Filling) -> None:
    client = sealed_client("s3", filling.endpoint, filling.keys)
    for number in filling.numbers:
        for key, data in objects_of(filling.root, number, filling.now).items():
            client.put_object(Bucket=BUCKET, Key=key, Body=data)


@dataclass(frozen=True)
class Archive:
    """An archive of so many experiments on the server."""

    server: SeaweedServer
    root: str
    environment: Mapping[str, str]

    def fill(self, number: int, now: datetime) -> None:
        """Writes the experiments, several at a time."""
        parts = [
            Filling(
                self.server.endpoint_url, self.server.admin, self.root, range(first, number, WRITERS), now
            )
            for first in range(WRITERS)
        ]
        with ProcessPoolExecutor(WRITERS) as pool:
            list(pool.map(fill, parts))

    def put_newest(self, folder: Path) -> None:
        """Rehearses an experiment, and moves it here."""
        project = Project.create(folder)
        rehearse(project, ("S3.CONFIGS", f"s3://{BUCKET}/{self.root}"))
        client = self.server.client()
        for path in (project.s3 / BUCKET / self.root).rglob("*"):
            if path.is_file():
                key = path.relative_to(project.s3 / BUCKET).as_posix()
                client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())

    def run(self, words: Sequence[str], *, cold: bool = False) -> float:
        """How long a command takes on this archive, with or without what this machine already knows of it."""
        cache = Path(self.environment["SAGEMAKER_LAUNCHER_CACHE"])
        if cold:
            shutil.rmtree(cache, ignore_errors=True)
        command = [sys.executable, str(SCRIPT), *words, "--archive", f"s3://{BUCKET}/{self.root}"]
        start = time.perf_counter()
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, check=False)
        taken = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{command} failed:\n{done.stderr.decode()}")
        return taken

    def requests(self, words: Sequence[str]) -> int:
        """How many requests a command makes."""
        with RecordingProxy(self.server.endpoint_url) as proxy:
            Archive(self.server, self.root, {**self.environment, "AWS_ENDPOINT_URL_S3": proxy.url}).run(words)
            return len(proxy.requests)


def measure(archive: Archive, number: int) -> None:
    for words, aim in (
        (["list"], "as at 100, and 0.25 s"),
        (["show", "@latest"], "as at 100"),
    ):
        archive.run(words)
        taken = statistics.median(archive.run(words) for _ in range(RUNS))
        print(
            f"{' '.join(words):<32} {number:>7,} experiments {taken:6.3f} s, {archive.requests(words)} requests  (aim: {aim})",
            flush=True,
        )
    best = ["list", "--sort", "validation:accuracy"]
    cold = statistics.median(archive.run(best, cold=True) for _ in range(3))
    warm = statistics.median(archive.run(best) for _ in range(RUNS))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(
        f"{' '.join(best):<32} {number:>7,} experiments {cold:6.3f} s cold, {warm:.3f} s warm, at most {peak} MB"
        "  (aim at 10,000: 3 s and 0.5 s)",
        flush=True,
    )


def main(numbers: Sequence[int]) -> None:
    reason = SeaweedServer.available()
    if reason:
        print(f"list and show: left out, {reason}")
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        (folder / "weed").mkdir()
        (folder / "home").mkdir()
        with SeaweedServer(folder / "weed") as server:
            server.create_bucket(BUCKET)
            key, secret = server.admin
            environment = clean_environment(
                folder / "home",
                AWS_ENDPOINT_URL_S3=server.endpoint_url,
                AWS_ACCESS_KEY_ID=key,
                AWS_SECRET_ACCESS_KEY=secret,
                AWS_REGION="us-east-1",
                SAGEMAKER_LAUNCHER_CACHE=str(folder / "cache"),
            )
            os.environ["SAGEMAKER_LAUNCHER_CACHE"] = str(folder / "rehearsals")
            for number in numbers:
                archive = Archive(server, f"archive-{number}", environment)
                archive.fill(number, datetime.now(timezone.utc))
                archive.put_newest(folder / f"project-{number}")
                measure(archive, number)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or NUMBERS)
