"""What the archive alone knows of a job: how a rehearsal stands, and what its log says."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Collection, Iterator
from itertools import chain

from sagemaker_launcher.archive.experiments import LOGS, read_experiment
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.result import IN_PROGRESS, JobResult
from sagemaker_launcher.storage import Storage

_LOGS_MAX = 1000  # files; a rehearsal leaves one per host and attempt
# Before the dot, once per attempt in the same second: so logs are named in archives of earlier versions.
_AGAIN = "-again"


def result_of(storage: Storage, folder: S3Uri) -> JobResult:
    """How a rehearsal ended; one without a result is taken for running. Raises the errors of `read_experiment`."""
    return read_experiment(storage, folder).result or JobResult(IN_PROGRESS)


def log_lines(
    storage: Storage, folder: S3Uri, hosts: Collection[str] = (), tail: int | None = None
) -> Iterator[tuple[str, str]]:
    """The log of a rehearsal: host and text of each line, one stream after the other, in the order of their starts.

    Args:
        storage: Where the archive is.
        folder: The experiment's folder, ending in a slash.
        hosts: The hosts whose lines are wanted; empty: all.
        tail: How many lines at the end are wanted; None: all.
    """
    files = [item.uri for item in storage.list((folder / LOGS).folder, _LOGS_MAX)]
    wanted = [uri for uri in files if not hosts or _host(uri) in hosts]
    ordered = sorted(wanted, key=_order)
    lines = chain.from_iterable(_read(storage, uri) for uri in ordered)
    return lines if tail is None else iter(deque(lines, tail))


def _read(storage: Storage, uri: S3Uri) -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryFile() as file:
        storage.download(uri, file)
        file.seek(0)
        for line in file:
            yield _host(uri), line.decode("utf-8", "replace").rstrip("\n")


def _order(uri: S3Uri) -> tuple[str, int, str]:
    """By start; the names alone have attempts within one second the wrong way round, since a hyphen comes before a dot."""
    return _stem(uri).rpartition("-")[2], uri.name.count(_AGAIN), uri.name


def _host(uri: S3Uri) -> str:
    """A log file is named `<host>-<seconds since 1970>.log`."""
    return _stem(uri).rpartition("-")[0]


def _stem(uri: S3Uri) -> str:
    return uri.name.removesuffix(".log").replace(_AGAIN, "")
