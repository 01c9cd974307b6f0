"""The log of every host: shown as it comes, searched for metrics, and kept in a file like a stream of CloudWatch Logs.

https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sagemaker_launcher.events import Events
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.metrics import MetricReader
from sagemaker_launcher.rehearsal.program import OnLine

KeepLog = Callable[[Path], None]  # takes a file that is to be kept


class Logs:
    """The logs of a job.

    Args:
        folder: Where the files go.
        metrics: What gets every line.
        events: Who is told of every line.
    """

    def __init__(self, folder: Path, metrics: MetricReader, events: Events) -> None:
        self._folder = folder
        self._metrics = metrics
        self._events = events
        self._lock = threading.Lock()
        self._files: list[TextIO] = []

    def open(self, host: Host) -> OnLine:
        """Begins a new stream, named `<host>-<seconds since 1970>.log` as the service names its streams.

        Whoever sorts the names of a host's streams has its attempts in their order.

        Returns:
            What has to be called with each line, from any thread.
        """
        second = int(time.time())
        while (path := self._folder / f"{host.name}-{second}.log").exists():
            second += 1  # a new attempt within the same second; any addition to the name would be sorted before the dot
        file = path.open("w", encoding="utf-8", errors="replace")
        self._files.append(file)

        def on_line(line: str) -> None:
            # One line at a time: the last value of a metric is that of the line that was shown last.
            with self._lock:
                self._metrics.hear(line)
                if not file.closed:
                    with suppress(OSError):  # a full disk must not keep the program from going on
                        file.write(f"{line}\n")
                self._events.log(host.name, line)

        return on_line

    def close(self, keep: KeepLog) -> None:
        """Ends all streams, and hands their files on."""
        with self._lock:
            for file in self._files:
                with suppress(OSError):
                    file.close()
        for file in self._files:
            keep(Path(file.name))
