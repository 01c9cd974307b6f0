"""As much of HTTP/1.1 as a proxy needs: heads, bodies with a length, and bodies in chunks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus

# What concerns one connection only; Expect too, because the proxy answers it itself.
_PER_CONNECTION = {"connection", "proxy-connection", "keep-alive", "proxy-authorization", "expect"}
_BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


@dataclass(frozen=True)
class Head:
    """A start line and header fields, in the order and case in which they came."""

    start: str
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The value of a field, by its name in lower case; empty when it is absent."""
        return next((value for key, value in self.fields if key.lower() == name), "")

    def headers(self) -> dict[str, str]:
        """The fields with their names in lower case."""
        return {key.lower(): value for key, value in self.fields}

    def forwarded(self, start: str, *extra: tuple[str, str]) -> bytes:
        """The head for the next connection: another start line, and none of this connection's own fields."""
        kept = [(key, value) for key, value in self.fields if key.lower() not in _PER_CONNECTION]
        return encode_head(start, [*kept, *extra])


def encode_head(start: str, fields: list[tuple[str, str]]) -> bytes:
    """A head as it goes over the wire."""
    lines = [start, *(f"{key}: {value}" for key, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head; None when the other side has closed the connection before sending one."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = block.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return Head(start, tuple((key, value.strip()) for key, _, value in fields))


async def read_body(reader: asyncio.StreamReader, head: Head) -> tuple[bytes, bytes]:
    """The body that follows a head, as it is on the wire and as it is meant.

    Raises:
        asyncio.IncompleteReadError: The other side closed the connection in the middle.
    """
    if head.get("transfer-encoding").lower() == "chunked":
        return await _read_chunks(reader)
    body = await reader.readexactly(int(head.get("content-length") or 0))
    return body, body


async def _read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    raw, plain = bytearray(), bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        raw += line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        chunk = await reader.readexactly(size + 2)
        raw += chunk
        plain += chunk[:-2]
    while line != b"\r\n":
        line = await reader.readuntil(b"\r\n")
        raw += line
    return bytes(raw), bytes(plain)


async def read_response(reader: asyncio.StreamReader, method: str) -> tuple[Head, int, bytes]:
    """The final response to a request: its head, its status and its body as it is on the wire.

    Raises:
        ConnectionError: The server closed the connection without answering.
    """
    while (head := await read_head(reader)) is not None:
        status = int(head.start.split()[1])
        if status < HTTPStatus.OK:
            continue
        if method == "HEAD" or status in _BODILESS:
            return head, status, b""
        if head.get("content-length") or head.get("transfer-encoding"):
            return head, status, (await read_body(reader, head))[0]
        body = await reader.read()
        return Head(head.start, (*head.fields, ("Content-Length", str(len(body))))), status, body
    raise ConnectionResetError("no response")
