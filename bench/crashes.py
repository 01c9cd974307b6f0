"""Launches many experiments at once, kills some of them with -9, and repairs: `python -m bench.crashes [NUMBER [PROCESSES]]`.

Nothing may be lost or mixed, and nothing may stay unsettled. Each process launches one experiment after the other, through the
command line's own entry; a killed one is followed by another.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Timer

from tests.commands import ROOT, CommandLine, clean_environment
from tests.project import Project
from tests.stand_in import ARCHIVE

NUMBER, PROCESSES = 1000, 32
KILLED = 20  # one launch of so many, unless it is faster than its killer
PLACE = ("--archive", ARCHIVE)
WORKER = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from sagemaker_launcher.cli import main
for number in sys.stdin:
    print("done", main([*sys.argv[1:], "--train", "SEED", number.strip()]), flush=True)
"""


class Worker:
    """A process that launches experiments of a project, one at a time."""

    def __init__(self, project: Project, environment: Mapping[str, str]) -> None:
        words = ("launch", str(project.config), "--on", "process", "--s3-root", str(project.s3), "--json")
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *words],
            cwd=project.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def launch(self, number: int, kill_after: float | None) -> str:
        """Launches an experiment whose seed is a number; gives its answer in JSON, or nothing when it was killed meanwhile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # the last kill came a moment too late for the last launch
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
        killer = Timer(kill_after, self._process.kill) if kill_after is not None else None
        if killer:
            killer.start()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith("done "):
                break
            lines.append(line)
        else:
            return ""
        if killer:
            killer.cancel()
        return "".join(lines)

    def end(self) -> None:
        with suppress(BrokenPipeError):
            self._process.communicate()


@dataclass(frozen=True)
class Tally:
    """The names of the experiments whose launch said that it was done, how many were killed, and how long each took."""

    names: set[str]
    killed: int
    seconds: float


def launch_all(project: Project, environment: Mapping[str, str], number: int, processes: int) -> Tally:
    waiting: SimpleQueue[int] = SimpleQueue()
    for seed in range(number):
        waiting.put(seed)

    def work(_: int) -> list[str]:
        names: list[str] = []
        worker = Worker(project, environment)
        lasted = 1.0  # seconds, of the last launch that was let be
        with suppress(Empty):
            while True:
                seed = waiting.get_nowait()
                start = time.monotonic()
                answer = worker.launch(seed, random.uniform(0, lasted) if seed % KILLED == 0 else None)
                if answer:
                    lasted = time.monotonic() - start
                    names.append(checked(project, answer, seed))
                else:
                    names.append("")
                    worker.end()
                    worker = Worker(project, environment)
        worker.end()
        return names

    start = time.monotonic()
    with ThreadPoolExecutor(processes) as pool:
        done = [name for names in pool.map(work, range(processes)) for name in names]
    assert len(done) == number
    return Tally(set(filter(None, done)), done.count(""), time.monotonic() - start)


def checked(project: Project, answer: str, seed: int) -> str:
    """The name of an experiment that has been launched, and has its own config."""
    document = json.loads(answer)
    if "job_name" not in document:
        sys.exit(f"launch {seed} failed: {answer}")
    name: str = document["job_name"]
    folder = project.s3 / document["experiment"].removeprefix("s3://")
    if f"SEED: {seed}\n" not in (folder / "training_config.yaml").read_text():
        sys.exit(f"{name} has another experiment's config")
    return name


def crashes(number: int, processes: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        (folder / "home").mkdir()
        project = Project.create(folder / "project")
        environment = clean_environment(folder / "home")
        cli = CommandLine(project.folder, environment)
        tally = launch_all(project, environment, number, processes)
        place = ("--s3-root", project.s3, *PLACE)
        repaired = cli("doctor", "--repair", *place, "--json")
        verdicts = Counter(check["verdict"] for check in repaired.json["checks"])
        listed = cli("list", *place, "--limit", "1000", "--json").json["experiments"]
        lost = tally.names - {line["job_name"] for line in listed if line["status"] == "Completed"}
        states = Counter(line["state"] for line in listed)
        unsettled = set(states) - {"finished", "not started", "abandoned"}
        print(
            f"{number} launches by {processes} processes in {tally.seconds:.0f} s, {tally.killed} killed: "
            f"{dict(states)}, repaired: {dict(verdicts)}  (aim: none lost, none mixed, none unsettled)",
            flush=True,
        )
        if lost or unsettled:
            sys.exit(f"lost: {sorted(lost)}, unsettled: {sorted(unsettled)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    crashes(*(given + [NUMBER, PROCESSES][len(given) :]))
