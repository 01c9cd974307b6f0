"""A job's log in CloudWatch: every line once, in the order of their times over all hosts.

https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sagemaker_launcher.aws import answered, aws_errors
from sagemaker_launcher.clock import Stopwatch
from sagemaker_launcher.comeback import LOG_GROUP
from sagemaker_launcher.errors import ConfigError, NotFoundError
from sagemaker_launcher.frozen import frozen

_PAGE_MAX = 10_000  # events; API_GetLogEvents
_LATE_S = 15.0  # after a job's end, no lines are expected any more
_ACTION = "read the job's log"


@frozen
class LogLine:
    """A line: when it was written (milliseconds since 1970), on which host, and what it says."""

    at_ms: int
    host: str
    text: str


class JobLog:
    """The job's log streams, one per host and start.

    Args:
        client: Gives a client of CloudWatch Logs; it may be another one each time.
        job_name: The job.
        hosts: The hosts whose lines are wanted; empty: all.
        since_ms: The time before which no line is wanted, in milliseconds since 1970.
    """

    def __init__(
        self, client: Callable[[], Any], job_name: str, *, hosts: Collection[str] = (), since_ms: int = 0
    ) -> None:
        self._client = client
        self._prefix = f"{job_name}/"
        self._hosts = frozenset(hosts)
        self._since_ms = since_ms
        self._streams: dict[str, _Stream] = {}
        self._latest_ms = int(time.time() * 1000)

    @property
    def streams(self) -> int:
        """How many streams the last look found; each costs a request or two per look."""
        return len(self._streams)

    def look(self, *, last: bool = False) -> Iterator[LogLine]:
        """What has come since the last look.

        With several hosts, what is newer than all that was known before waits for the next look, since CloudWatch may
        have lines of other hosts by then that were written earlier.

        What was read and not taken when an error ends a look comes with the next one.

        Args:
            last: There will be no further look, so nothing waits.

        Raises:
            LauncherError: As `aws_errors` says. A log that does not exist yet is no error.
        """
        self._find_streams()
        streams = list(self._streams.values())
        until_ms = None if last or len(streams) == 1 else self._latest_ms
        for stream in streams:
            stream.at_end = False
        while True:
            for stream in streams:
                stream.fill(self._client)
                self._latest_ms = max(self._latest_ms, stream.latest_ms)
            ready = [stream for stream in streams if stream.waiting]
            if not ready:
                return
            first = min(ready, key=lambda stream: stream.waiting[0].at_ms)
            if until_ms is not None and first.waiting[0].at_ms > until_ms:
                return
            yield first.waiting.popleft()

    def start_at_tail(self, count: int) -> None:
        """Leaves out all but the last lines of what there is now; to be called before the first look."""
        self._find_streams()
        for stream in self._streams.values():
            stream.start_at_tail(self._client(), count)
        surplus = sum(len(stream.waiting) for stream in self._streams.values()) - count
        for _ in range(surplus):
            ready = (stream for stream in self._streams.values() if stream.waiting)
            min(ready, key=lambda stream: stream.waiting[0].at_ms).waiting.popleft()

    def _find_streams(self) -> None:
        try:
            with aws_errors(_ACTION):
                pages = (
                    self._client()
                    .get_paginator("describe_log_streams")
                    .paginate(logGroupName=LOG_GROUP, logStreamNamePrefix=self._prefix)
                )
                found = [answered(page, "logStreams", _ACTION)["logStreams"] for page in pages]
        except NotFoundError:
            return  # the log group appears with the first line of the account's first job
        for name in (stream["logStreamName"] for page in found for stream in page):
            host = name.removeprefix(self._prefix).rpartition("-")[0]
            if name not in self._streams and (not self._hosts or host in self._hosts):
                self._streams[name] = _Stream(name, host, self._since_ms)


def last_lines(client: Any, job_name: str, count: int, ended_at: str) -> list[LogLine]:  # noqa: ANN401 - boto3 is untyped
    """The end of a log. That of a job which has just ended may not be there yet, and is waited for.

    Args:
        client: A client of CloudWatch Logs.
        job_name: The job.
        count: How many lines at most.
        ended_at: When the job ended (ISO 8601); empty when it has not.
    """
    patience_s = 0.0
    if ended_at:
        ago_s = time.time() - datetime.fromisoformat(ended_at).timestamp()
        patience_s = min(max(_LATE_S - ago_s, 0.0), _LATE_S)
    waiting = Stopwatch()
    while True:
        log = JobLog(lambda: client, job_name)
        log.start_at_tail(count)
        lines = list(log.look(last=True))
        if lines or waiting.seconds >= patience_s:
            return lines[-count:]
        time.sleep(1.0)


@dataclass
class _Stream:
    """How far one stream has been read.

    Attributes:
        start_ms: No earlier event is asked for.
        token: Where the next page begins; empty at the start.
        waiting: Lines that were read and not taken.
        at_end: Whether this look has come to the end.
        latest_ms: The time of the last event that was read.
        at_latest: The texts of that very time.
    """

    name: str
    host: str
    start_ms: int
    token: str = ""
    waiting: deque[LogLine] = field(default_factory=deque)
    at_end: bool = False
    latest_ms: int = 0
    at_latest: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)

    def fill(self, client: Callable[[], Any]) -> None:
        """Reads pages until a line waits, or there is no more."""
        while not self.waiting and not self.at_end:
            try:
                page = self._page(client(), {"nextToken": self.token} if self.token else {}, from_head=True)
            except ConfigError:
                if not self.token:
                    raise
                # A token lives for a day. What was already read of the last moment is known, and left out.
                self.token, self.start_ms, self.known = "", self.latest_ms, Counter(self.at_latest)
                continue
            except NotFoundError:
                self.at_end = True  # deleted meanwhile
                return
            # The end is where the token stays the same; pages may be empty before it (API_GetLogEvents).
            self.at_end = page["nextForwardToken"] == self.token
            self.token = page["nextForwardToken"]
            self.waiting.extend(self._lines(page["events"]))

    def start_at_tail(self, client: Any, count: int) -> None:  # noqa: ANN401 - boto3 is untyped
        """Reads the last lines, and goes on after them; whatever was read before is forgotten."""
        # When a request for another stream fails, all streams start once more.
        self.waiting.clear()
        self.latest_ms, self.at_latest = 0, Counter()
        page = self._page(client, {"limit": min(max(count, 1), _PAGE_MAX)}, from_head=False)
        self.token, events, token = page["nextForwardToken"], page["events"], ""
        while len(events) < count and page["nextBackwardToken"] != token:
            token = page["nextBackwardToken"]
            page = self._page(client, {"nextToken": token}, from_head=False)
            events = page["events"] + events
        self.waiting.extend(self._lines(events[max(len(events) - count, 0) :]))

    def _page(self, client: Any, position: dict[str, Any], *, from_head: bool) -> dict[str, Any]:  # noqa: ANN401 - boto3 is untyped
        start = {"startTime": self.start_ms} if self.start_ms else {}
        with aws_errors(_ACTION):
            page = client.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=self.name, startFromHead=from_head, **start, **position
            )
        return answered(page, "nextForwardToken", _ACTION)

    def _lines(self, events: list[dict[str, Any]]) -> Iterator[LogLine]:
        for event in events:
            at_ms, text = event["timestamp"], event["message"]
            if at_ms > self.latest_ms:
                self.latest_ms, self.at_latest = at_ms, Counter()
            if at_ms == self.latest_ms:
                self.at_latest[text] += 1
            if at_ms == self.start_ms and self.known[text]:
                self.known[text] -= 1
                # It was counted when it was first read.
                self.at_latest[text] -= at_ms == self.latest_ms
                continue
            yield LogLine(at_ms, self.host, text)
