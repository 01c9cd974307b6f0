"""Entry point of the training container: trains, and reports a failure the way SageMaker reads it."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from job import Job

_DONE, _FAILED, _STOPPED = 0, 1, 128 + signal.SIGTERM
_SHA256_VARIABLE = "TRAINING_CONFIG_SHA256"


def main(arguments: Sequence[str]) -> int:
    """Runs the job that the environment describes.

    Returns:
        The exit code: 0 when the training is complete, 143 when SIGTERM ended it early, 1 when it failed.
    """
    # Before anything slow: PID 1 of a container does not get SIGTERM until it says what to do with it.
    stop_signals: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop_signals.append(number))
    job = Job(os.environ)
    try:
        job.failure_file.unlink(missing_ok=True)  # of an earlier run by hand in the same folder
        print(f"job={job.name} host={job.host()} python={sys.version.split()[0]}", flush=True)
        return _DONE if _run(job, arguments, lambda: bool(stop_signals)) else _STOPPED
    except Exception as error:  # noqa: BLE001 - whatever it was, SageMaker must get to know it
        _report(error, job.failure_file)
        return _FAILED


def _run(job: Job, arguments: Sequence[str], stopping: Callable[[], bool]) -> bool:
    # Imported late: the first line of the log does not wait for YAML, nor a config error for scikit-learn.
    import config  # noqa: PLC0415

    path = job.config_file()
    _verify(path, os.environ.get(_SHA256_VARIABLE, ""))
    cfg = config.load(path, job.hyperparameters(arguments))

    import train  # noqa: PLC0415

    return train.train(cfg, job, stopping)


def _verify(path: Path, expected: str) -> None:
    """Makes sure that the job reads the bytes that were archived for it."""
    if not expected:
        print(f"{_SHA256_VARIABLE} is not set: {path.name} was not checked", flush=True)
        return
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise ValueError(
            f"{path.name} is not the config of this job: its SHA-256 is {actual}, expected {expected}"
        )


def _report(error: Exception, failure_file: Path) -> None:
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    print(trace, file=sys.stderr, end="", flush=True)
    # The first 1,024 characters become the job's FailureReason: first what went wrong, then where.
    failure_file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = failure_file.with_name("failure.tmp")
    unfinished.write_text(f"{type(error).__name__}: {error}\n\n{trace}", "utf-8")
    unfinished.replace(failure_file)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
