"""What a bad network and a busy AWS do to requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from .http_wire import encode_head
from .wire_errors import error_message

Kind: TypeAlias = Literal[
    "reset",
    "drop",
    "hang",
    "slow",
    "corrupt",
    "truncate",
    "html",
    "internal_error",
    "slow_down",
    "throttled",
    "expired_token",
]


@dataclass
class RecordedRequest:
    """One request as the proxy received it.

    Attributes:
        url: The absolute URL; for CONNECT `host:port`.
        host: `host:port` that the client wanted to reach.
        path: With the query.
        headers: Names in lower case.
        body: Without chunk framing.
        status: Of the answer that the client got; None when it got none (yet).
    """

    method: str
    url: str
    host: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int | None = None

    @property
    def operation(self) -> str:
        """The API operation such as `CreateTrainingJob`; for REST services method and path without the query."""
        target = self.headers.get("x-amz-target", "")
        return target.rpartition(".")[2] if target else f"{self.method} {urlsplit(self.path).path}"


@dataclass(frozen=True)
class Answer:
    """A response with its body as it goes over the wire."""

    status: int
    head: bytes
    body: bytes


@dataclass(frozen=True)
class Fault:
    """What to do with a request instead of forwarding it and returning the answer.

    Attributes:
        forward: The server gets the request all the same.
        corrupt: One bit of the body is another one when it gets there.
        wait_s: Silence before the end.
        ending: `answer` sends one, `truncate` half of one; `close` and `reset` end the connection.
        answer: Makes the answer; without it the server's own is taken.
    """

    forward: bool = False
    corrupt: bool = False
    wait_s: float = 0.0
    ending: Literal["answer", "truncate", "close", "reset"] = "answer"
    answer: Callable[[RecordedRequest], Answer] | None = None


def fault(kind: Kind, seconds: float) -> Fault:
    """The fault of that name.

    Args:
        kind: `reset` breaks the connection before anything is forwarded; `drop` forwards and never answers; `hang`
            says nothing for a while; `slow` forwards and answers after a while; `corrupt` changes the request's body on its way; `truncate` loses half of the answer's body; `html` is a captive portal;
            the others are AWS's own errors in the words of the request's protocol.
        seconds: How long a `hang` is.
    """
    plain = {
        "reset": Fault(ending="reset"),
        "drop": Fault(forward=True, ending="close"),
        "slow": Fault(forward=True, wait_s=seconds),
        "hang": Fault(wait_s=seconds, ending="close"),
        "corrupt": Fault(forward=True, corrupt=True),
        "truncate": Fault(forward=True, ending="truncate"),
        "html": Fault(answer=_captive_portal),
    }
    return plain.get(kind) or Fault(answer=lambda request: _aws_error(request, kind))


def make_answer(request: RecordedRequest, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """A response to that request; an answer to HEAD has no body."""
    body = b"" if request.method == "HEAD" else body
    fields = [*headers.items(), ("Content-Length", str(len(body)))]
    return Answer(status, encode_head(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", fields), body)


def error_answer(
    request: RecordedRequest, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """An AWS error in the words of the request's protocol."""
    own_headers, body = error_message(request.headers, code, message)
    return make_answer(request, status, {**own_headers, **(headers or {})}, body)


def _captive_portal(request: RecordedRequest) -> Answer:
    page = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please log in to use this network.</body></html>"
    return make_answer(request, HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"}, page)


def _aws_error(request: RecordedRequest, kind: Kind) -> Answer:
    has_target = "x-amz-target" in request.headers
    errors = {
        "internal_error": (
            500,
            "InternalFailure" if has_target else "InternalError",
            "We encountered an internal error.",
        ),
        "slow_down": (
            503,
            "ServiceUnavailable" if has_target else "SlowDown",
            "Please reduce your request rate.",
        ),
        "throttled": (400, "ThrottlingException", "Rate exceeded"),
        "expired_token": (
            400,
            "ExpiredTokenException" if has_target else "ExpiredToken",
            "The security token included in the request is expired",
        ),
    }
    return error_answer(request, *errors[kind])
