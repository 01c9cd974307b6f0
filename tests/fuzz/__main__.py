"""`make fuzz`: makes inputs by the ten thousand, prints what became of them, and keeps those that showed something wrong."""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from .course import Failure, Tally, prepare
from .subject import Subject, written
from .subjects import SUBJECTS, run_share

_SHARES = 16  # of a subject's inputs, so that no process is idle at the end
_KINDS_SHOWN = 12
_FOLDER = Path("fuzz-failures")


def main() -> int:
    """Runs everything, and gives the exit code: 1 when something is wrong."""
    options = _options()
    subjects = [subject for subject in SUBJECTS if options.only in ("", subject.name)]
    print(f"the same inputs again: make fuzz OPTIONS='--seed {options.seed}'", flush=True)
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-home-") as home:
        # A fresh process, since one that was forked off would have what this one imports.
        pool = ProcessPoolExecutor(options.workers, get_context("spawn"), prepare, (Path(home),))
        with pool:
            for subject in subjects:
                start = time.monotonic()
                count = subject.sample if options.sample else round(subject.count * options.percent / 100)
                tally = _run_all(pool, subject, options.seed, max(1, count))
                _print(subject, tally, time.monotonic() - start)
                failures += tally.failures
    for failure in failures:
        _keep(failure, options.seed)
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**9), help="the random numbers' beginning"
    )
    parser.add_argument("--percent", type=float, default=100.0, help="of the inputs to make")
    parser.add_argument("--sample", action="store_true", help="only the few that the tests make")
    parser.add_argument(
        "--only", default="", help="one of: " + ", ".join(subject.name for subject in SUBJECTS)
    )
    parser.add_argument("--workers", type=int, default=2, help="processes")
    return parser.parse_args()


def _run_all(pool: ProcessPoolExecutor, subject: Subject, seed: int, count: int) -> Tally:
    shares = [range(start, count, _SHARES) for start in range(min(_SHARES, count))]
    total = Tally()
    for tally in pool.map(partial(run_share, subject.name, seed), shares):
        total.add(tally)
    return total


def _print(subject: Subject, tally: Tally, took_s: float) -> None:
    accepted, total = tally.verdicts.pop("accepted", 0), tally.verdicts.total()
    print(
        f"\n{subject.name}: {accepted + total:,} inputs in {took_s:.0f} s, {accepted:,} accepted, {total:,} refused;"
        f" slowest {tally.slowest_s:.3f} s of {subject.limit_s:g} s, {tally.memory_kib / 1024:.0f} MiB"
    )
    for line in _kinds(tally):
        print(line, flush=True)


def _kinds(tally: Tally) -> Iterator[str]:
    found = tally.verdicts.most_common()
    for kind, count in found[:_KINDS_SHOWN]:
        yield f"{count:9,}  {kind}"
    rest = found[_KINDS_SHOWN:]
    if rest:
        yield f"{sum(count for _, count in rest):9,}  of {len(rest)} other kinds"


def _keep(failure: Failure, seed: int) -> None:
    _FOLDER.mkdir(exist_ok=True)
    path = _FOLDER / f"{failure.subject}-{seed}-{failure.number}.json"
    path.write_text(written(failure.pieces), "ascii")
    print(f"\n{failure.subject} {failure.number}, kept in {path}:\n{failure.story}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
