"""An HTTP proxy that remembers every request and can behave like a bad network."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from .faults import Answer, Fault, Kind, RecordedRequest, error_answer, fault, make_answer
from .http_wire import Head, read_body, read_head, read_response

if TYPE_CHECKING:
    from typing_extensions import Self

Match: TypeAlias = Callable[[RecordedRequest], bool]
_BUFFER_BYTES = 2**20
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NO_FAULT = Fault(forward=True)


@dataclass
class _Armed:
    match: Match
    fault: Fault
    times: int


class RecordingProxy:
    """A proxy on loopback that lives as long as the `with` block.

    Without `upstream` it is a forward proxy for HTTP_PROXY and HTTPS_PROXY: plain requests to loopback are
    forwarded; what would leave the machine, and every CONNECT, is remembered and refused with 403.

    Args:
        upstream: The URL of a server to stand in front of, for clients that take an endpoint URL. The Host
            header stays as it was sent, so signatures stay valid.

    Attributes:
        url: Where it listens.
        latency: Seconds that every request waits before anything happens to it.
    """

    def __init__(self, upstream: str = "") -> None:
        self.url = ""
        self.latency = 0.0
        self._upstream = upstream
        self._requests: list[RecordedRequest] = []
        self._armed: list[_Armed] = []
        self._loop: asyncio.AbstractEventLoop
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request since the start or the last reset, in the order of their arrival."""
        return list(self._requests)

    def calls(self, operation: str) -> list[RecordedRequest]:
        """The requests for one operation, in order."""
        return [request for request in self.requests if request.operation == operation]

    def hosts(self) -> set[str]:
        """Every `host:port` that a client wanted to reach."""
        return {request.host for request in self.requests}

    def environment(self) -> dict[str, str]:
        """The variables that make a child process use this forward proxy for everything."""
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        return {**dict.fromkeys(names, self.url), "NO_PROXY": "", "no_proxy": ""}

    def fail(self, match: Match, kind: Kind, *, times: int = 1, seconds: float = 60.0) -> None:
        """Does that fault to the next requests that match.

        Args:
            match: Is this a request to spoil?
            kind: See `faults.fault`.
            times: How many requests.
            seconds: How long a `hang` is.
        """
        self._armed.append(_Armed(match, fault(kind, seconds), times))

    def fail_with(
        self,
        match: Match,
        status: int,
        code: str,
        message: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        forward: bool = False,
    ) -> None:
        """Answers the next requests that match with an AWS error; the server gets them too when `forward` is true."""
        spoil = Fault(forward, answer=lambda request: error_answer(request, status, code, message, headers))
        self._armed.append(_Armed(match, spoil, times))

    def answer_with(
        self,
        match: Match,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        status: int = HTTPStatus.OK,
        times: int = 1,
    ) -> None:
        """Answers the next requests that match with that, and the server gets none of them."""
        spoil = Fault(answer=lambda request: make_answer(request, status, headers or {}, body))
        self._armed.append(_Armed(match, spoil, times))

    def reset(self) -> None:
        """Forgets the requests, the faults and the latency."""
        self.latency = 0.0
        self._armed.clear()
        self._requests.clear()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_BUFFER_BYTES)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not left to start_server, which complains about every connection that is still open at the end.
        task = self._loop.create_task(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await read_head(reader)) is not None:
                if not await self._exchange(head, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client has gone, as clients do.
        finally:
            writer.close()

    async def _exchange(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Takes one request and answers it; False when the connection is over."""
        if head.get("expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        raw_body, body = await read_body(reader, head)
        request = self._request(head, body)
        self._requests.append(request)
        await asyncio.sleep(self.latency)
        spoil = self._take_fault(request)
        sent = _corrupted(raw_body) if spoil.corrupt else raw_body
        answer = await self._forward(request, head, sent) if spoil.forward else None
        await asyncio.sleep(spoil.wait_s)
        if spoil.answer is not None:
            answer = spoil.answer(request)
        if spoil.ending == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if answer is None or spoil.ending == "close":
            return False
        truncated = spoil.ending == "truncate"
        request.status = answer.status
        writer.write(answer.head + (answer.body[: len(answer.body) // 2] if truncated else answer.body))
        await writer.drain()
        return not truncated and request.method != "CONNECT" and head.get("connection").lower() != "close"

    def _request(self, head: Head, body: bytes) -> RecordedRequest:
        method, target, _ = head.start.split(" ", 2)
        if method == "CONNECT":
            return RecordedRequest(method, target, target, "", head.headers(), body)
        url = target if "://" in target else f"http://{head.get('host')}{target}"
        # Not urlsplit: S3 keys may begin with slashes, and every byte of the path is signed.
        authority, slash, rest = url.partition("://")[2].partition("/")
        host = authority if authority.rpartition(":")[2].isdigit() else f"{authority}:80"
        return RecordedRequest(method, url, host, slash + rest or "/", head.headers(), body)

    def _take_fault(self, request: RecordedRequest) -> Fault:
        for armed in self._armed:
            if armed.times and armed.match(request):
                armed.times -= 1
                return armed.fault
        return _NO_FAULT

    async def _forward(self, request: RecordedRequest, head: Head, raw_body: bytes) -> Answer:
        target = urlsplit(self._upstream or request.url)
        if request.method == "CONNECT" or not _is_loopback(target.hostname or ""):
            return make_answer(request, HTTPStatus.FORBIDDEN, {}, b"nothing leaves this machine")
        try:
            reader, writer = await asyncio.open_connection(
                target.hostname, target.port or 80, limit=_BUFFER_BYTES
            )
        except OSError as error:
            return make_answer(request, HTTPStatus.BAD_GATEWAY, {}, str(error).encode())
        try:
            start = f"{request.method} {request.path} HTTP/1.1"
            writer.write(head.forwarded(start, ("Connection", "close")) + raw_body)
            await writer.drain()
            response, status, body = await read_response(reader, request.method)
        finally:
            writer.close()
        return Answer(status, response.forwarded("HTTP/1.1" + response.start[len("HTTP/1.x") :]), body)


def _corrupted(body: bytes) -> bytes:
    """A body with another bit in its middle, where no framing of a body with a length can be."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
