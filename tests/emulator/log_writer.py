"""The log of a job in CloudWatch: a stream per host and attempt, which appears with its first line."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass

from moto.logs.models import LogsBackend

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_GROUP_LOCK = threading.Lock()


@dataclass(frozen=True)
class _Event:
    """A line, when it was written (seconds since 1970), and when it is to be seen."""

    stream: str
    written_at: float
    due_at: float
    text: str


class LogWriter:
    """Writes the log of one job.

    Args:
        logs: moto's CloudWatch Logs of the job's region.
        job_name: The job.
        delay_s: So much later each line can be read.
    """

    def __init__(self, logs: LogsBackend, job_name: str, delay_s: float = 0.0) -> None:
        self._logs = logs
        self._job_name = job_name
        self._delay_s = delay_s
        self._attempt_at = 0
        self._late: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        if delay_s:
            threading.Thread(target=self._write_late, name=f"late log of {job_name}", daemon=True).start()

    def begin_attempt(self, at: float) -> None:
        """From now on all hosts write to new streams: their containers are new ones."""
        self._attempt_at = max(int(at), self._attempt_at + 1)

    def write(self, host: str, at: float, text: str) -> None:
        """Writes a line; one without a character is no event."""
        if not text:
            return
        stream = f"{self._job_name}/{host}-{self._attempt_at}"
        event = _Event(stream, at, at + self._delay_s, text)
        if self._delay_s:
            self._late.put(event)
        else:
            self._put(event)

    def close(self) -> None:
        """No more lines will come; late ones still do."""
        self._late.put(None)

    def _write_late(self) -> None:
        while event := self._late.get():
            time.sleep(max(0.0, event.due_at - time.time()))
            self._put(event)

    def _put(self, event: _Event) -> None:
        with _GROUP_LOCK:
            self._logs.ensure_log_group(LOG_GROUP)
            self._logs.ensure_log_stream(LOG_GROUP, event.stream)
            line = {"timestamp": int(event.written_at * 1000), "message": event.text}
            self._logs.put_log_events(LOG_GROUP, event.stream, [line])
