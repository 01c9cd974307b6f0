"""Times `list` and `show` among ever more experiments, on a real S3 server: `python -m bench.history [NUMBER...]`.

The experiments are written as this tool writes them, but for most of their folders, which only `show` reads; the newest is real.
"""

from __future__ import annotations

import http.client
import os
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
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench.pairs import ROOT
from sagemaker_launcher.archive.experiments import INTENT
from sagemaker_launcher.archive.headline import Headline, key_of
from sagemaker_launcher.archive.manifest import Author, Intent, to_bytes
from sagemaker_launcher.naming import job_name, newest_first
from tests.commands import SCRIPT, clean_environment
from tests.project import Project
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer
from tests.stand_in import rehearse

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
    """The index entry, the reservation and the headline of an experiment of the past."""
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
        f"{root}/{experiment}/{name}/{INTENT}": to_bytes(intent),
        f"{place}{key_of(stem, headline, len(place))}": to_bytes(headline),
    }


def fill(filling: Filling) -> None:
    """Writes with requests of its own: a client takes ten times as long to make one as the server to answer it."""
    connection = http.client.HTTPConnection(urlsplit(filling.endpoint).netloc)
    signer = S3SigV4Auth(Credentials(*filling.keys), "s3", "us-east-1")
    for number in filling.numbers:
        for key, data in objects_of(filling.root, number, filling.now).items():
            request = AWSRequest("PUT", f"{filling.endpoint}/{BUCKET}/{quote(key)}", data=data)
            signer.add_auth(request)
            connection.request("PUT", f"/{BUCKET}/{quote(key)}", data, dict(request.headers.items()))
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.client.OK:
                raise RuntimeError(f"{key}: {answer.status}")


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    cpu: float
    megabytes: int


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

    def run(self, words: Sequence[str], *, cold: bool = False) -> Cost:
        """What a command costs on this archive, with or without what this machine already knows of it."""
        cache = Path(self.environment["SAGEMAKER_LAUNCHER_CACHE"])
        if cold:
            shutil.rmtree(cache, ignore_errors=True)
        command = [sys.executable, str(SCRIPT), *words, "--archive", f"s3://{BUCKET}/{self.root}"]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{command} failed")
        return Cost(taken, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024)

    def requests(self, words: Sequence[str]) -> int:
        """How many requests a command makes."""
        with RecordingProxy(self.server.endpoint_url) as proxy:
            Archive(self.server, self.root, {**self.environment, "AWS_ENDPOINT_URL_S3": proxy.url}).run(words)
            return len(proxy.requests)


def measure(archives: Mapping[int, Archive], words: Sequence[str], aim: str, *, cold: bool = False) -> None:
    """Prints the medians of runs on archives of several sizes that follow each other."""
    costs: dict[int, list[Cost]] = {number: [] for number in archives}
    for turn in range(RUNS + 1):
        for number, archive in archives.items():
            cost = archive.run(words, cold=cold)
            if turn:  # the first fills the caches
                costs[number].append(cost)
    for number, archive in archives.items():
        wall, cpu = (
            statistics.median(side)
            for side in zip(*((one.seconds, one.cpu) for one in costs[number]), strict=True)
        )
        print(
            f"{' '.join(words) + (', cold' if cold else ''):<40} {number:>7,} experiments: {wall:6.3f} s, {cpu:.3f} s of a processor,"
            f" {max(one.megabytes for one in costs[number])} MB, {archive.requests(words)} requests  (aim: {aim})",
            flush=True,
        )


def measure_all(archives: Mapping[int, Archive]) -> None:
    measure(archives, ["list"], "0.25 s, and 1.3 times what 100 take")
    measure(archives, ["show", "@latest"], "1.3 times what 100 take")
    measure(archives, ["list", "--experiment", "team"], "as few as there are of the name")
    best = ["list", "--sort", "validation:accuracy"]
    measure(archives, best, "at 10,000: 3 s", cold=True)
    measure(archives, best, "at 10,000: 0.5 s")


def history(numbers: Sequence[int]) -> None:
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
                AWS_ACCOUNT_ID="123456789012",
                SAGEMAKER_LAUNCHER_CACHE=str(folder / "cache"),
            )
            os.environ["SAGEMAKER_LAUNCHER_CACHE"] = str(folder / "rehearsals")
            archives = {number: Archive(server, f"archive-{number}", environment) for number in numbers}
            for number, archive in archives.items():
                archive.fill(number, datetime.now(timezone.utc))
                archive.put_newest(folder / f"project-{number}")
            measure_all(archives)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    history([int(word) for word in sys.argv[1:]] or (100, 10_000))
