"""Waiting for 200 jobs: how many requests a second that costs SageMaker, and how soon a job's end is known."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sagemaker_launcher.naming import job_name  # noqa: E402
from tests.commands import CommandLine, clean_environment  # noqa: E402
from tests.servers.aws import AwsServer  # noqa: E402
from tests.servers.proxy import RecordingProxy  # noqa: E402
from tests.servers.samples import training_request  # noqa: E402

JOBS = 200
ENDING_S = 60.0  # the time in which all of them end, one after the other
REGION = "us-east-1"
_ENDED = ("Completed", "Failed", "Stopped")


def waiting(count: int = JOBS, ending_s: float = ENDING_S) -> None:
    """Starts jobs among others, waits for them with one command, ends them at random moments, and prints the figures."""
    with (
        AwsServer() as aws,
        RecordingProxy(upstream=aws.endpoint_url) as proxy,
        tempfile.TemporaryDirectory() as folder,
    ):
        names = _make(aws, count)
        environment = clean_environment(
            Path(folder), AWS_ENDPOINT_URL=proxy.url, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret"
        )
        process = CommandLine(Path(folder), environment).start("wait", *names, "--region", REGION)
        known: dict[str, float] = {}
        reader = Thread(target=_read, args=(process, known), daemon=True)
        reader.start()
        ended = _end(aws, names, ending_s)
        reader.join()
        out, _ = process.communicate()
        delays = sorted(known[name] - ended[name] for name in names)
        requests = len(proxy.requests)
        made = [request.at for request in aws.requests][-requests:]
        listed, described = (len(proxy.calls(name)) for name in ("ListTrainingJobs", "DescribeTrainingJob"))
    print(
        f"waiting for {count} jobs: {listed} lists and {described} descriptions in {made[-1] - made[0]:.0f} s: "
        f"{(requests - 1) / (made[-1] - made[0]):.2f} requests a second (aim: at most 1)"
    )
    print(
        f"an end is known after {statistics.median(delays):.1f} s (median), {delays[-1]:.1f} s at most (aim: 10 s); "
        f"exit code {process.returncode}, {out.count('Completed')} completed",
        flush=True,
    )


def _make(aws: AwsServer, count: int) -> list[str]:
    client = aws.client("sagemaker", region=REGION)
    now = datetime.now(timezone.utc)
    names = [job_name("digits/sweep", now, f"{number:06d}") for number in range(count)]
    for name in [*names, *(f"somebody-elses-{number}" for number in range(count))]:
        client.create_training_job(**training_request(name))
    return names


def _read(process: subprocess.Popen[str], known: dict[str, float]) -> None:
    """Notes when the command says that a job has ended."""
    for line in process.stderr or ():
        status, _, name = line.strip().partition("  ")
        if status in _ENDED:
            known.setdefault(name, time.monotonic())


def _end(aws: AwsServer, names: list[str], ending_s: float) -> dict[str, float]:
    """Ends each job at a random moment; gives when."""
    time.sleep(8)  # the command has seen them all running
    moments = sorted((random.uniform(0, ending_s), name) for name in names)
    start, ended = time.monotonic(), {}
    for moment, name in moments:
        time.sleep(max(start + moment - time.monotonic(), 0.0))
        aws.finish(name)
        ended[name] = time.monotonic()
    return ended


if __name__ == "__main__":
    waiting(*map(int, sys.argv[1:2]))
