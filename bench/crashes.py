"""Launches many experiments at once, kills some of them with -9, and repairs: `python -m bench.crashes [NUMBER [PROCESSES]]`.

Nothing may be lost or mixed, and nothing may stay unsettled.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.commands import CommandLine, clean_environment
from tests.project import Project
from tests.stand_in import ARCHIVE

NUMBER, PROCESSES = 1000, 32
KILLED = 0.05  # of the launches
LONGEST_S = 3.0  # of a launch that is going to be killed
KILL_CODE = -9
PLACE = ("--archive", ARCHIVE)


def one(cli: CommandLine, project: Project, number: int) -> str:
    """Launches an experiment whose seed is its number; gives its name, or nothing when it was killed."""
    words = ("--on", "process", "--s3-root", project.s3, "--train", "SEED", str(number), "--json")
    process = cli.start("launch", project.config, *words)
    if random.random() < KILLED:
        time.sleep(random.uniform(0, LONGEST_S))
        process.kill()
    out, err = process.communicate()
    if process.returncode == KILL_CODE:
        return ""
    if process.returncode:
        sys.exit(err)
    document = json.loads(out)
    name: str = document["job_name"]
    folder = project.s3 / document["experiment"].removeprefix("s3://")
    if f"SEED: {number}\n" not in (folder / "training_config.yaml").read_text():
        sys.exit(f"{name} has another experiment's config")
    return name


def main(number: int, processes: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        (folder / "home").mkdir()
        project = Project.create(folder / "project")
        cli = CommandLine(project.folder, clean_environment(folder / "home"))
        with ThreadPoolExecutor(processes) as pool:
            names = set(filter(None, pool.map(lambda seed: one(cli, project, seed), range(number))))
        place = ("--s3-root", project.s3, *PLACE)
        repaired = cli("doctor", "--repair", *place, "--json")
        verdicts = Counter(check["verdict"] for check in repaired.json["checks"])
        listed = cli("list", *place, "--limit", "1000", "--json").json["experiments"]
        lost = names - {line["job_name"] for line in listed if line["status"] == "Completed"}
        states = Counter(line["state"] for line in listed)
        unsettled = set(states) - {"finished", "not started", "abandoned"}
        print(f"{number} launches, {number - len(names)} killed: {dict(states)}, repaired: {dict(verdicts)}")
        if lost or unsettled:
            sys.exit(f"lost: {sorted(lost)}, unsettled: {sorted(unsettled)}")
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [NUMBER, PROCESSES][len(given) :]))
