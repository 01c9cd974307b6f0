"""A gate in front of a WSGI application that remembers every AWS request and can answer in its place."""

from __future__ import annotations

import io
import json
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.test import run_wsgi_app

from .wire_errors import error_message

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SCOPE = re.compile(r"Credential=[^/]+/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")


@dataclass(frozen=True)
class ApiRequest:
    """One request as the server received it.

    Attributes:
        service: From the signature, such as `sagemaker`; empty when the request is not signed.
        region: From the signature too.
        operation: Such as `CreateTrainingJob`; for REST services method and path, such as `PUT /bucket/key`.
        params: The decoded JSON or form parameters; empty for REST services.
        headers: Names in lower case.
        at: When it came, on the monotonic clock.
    """

    service: str
    region: str
    operation: str
    method: str
    path: str
    params: dict[str, Any]
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    at: float = field(default_factory=time.monotonic)


@dataclass
class Failure:
    """What to do instead of answering; an empty code closes the connection without an answer."""

    operation: str
    code: str
    message: str
    status: int
    times: int
    after: bool


Answer = Callable[[ApiRequest, str], "tuple[dict[str, str], bytes] | None"]


class RecordingGate:
    """Lets requests through to an application and remembers them, except where a failure was ordered.

    Args:
        application: What answers.
        answer: Answers a request, with the server's URL, in the place of the application, or gives None.
    """

    def __init__(self, application: WSGIApplication, answer: Answer) -> None:
        self._application = application
        self._answer = answer
        self._lock = Lock()
        self.requests: list[ApiRequest] = []
        self.failures: list[Failure] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request; the signature is WSGI's."""
        request = _read(environ)
        with self._lock:
            self.requests.append(request)
            failure = self._next_failure(request.operation)
        if failure is None:
            own = self._answer(request, f"http://{environ['HTTP_HOST']}")
            if own is None:
                return self._application(environ, start_response)
            start_response("200 OK", [*own[0].items(), ("Content-Length", str(len(own[1])))])
            return [own[1]]
        if failure.after:
            run_wsgi_app(self._application, environ, buffered=True)
        if not failure.code:
            # Werkzeug gives up silently on a broken connection, and with the socket shut the client sees it too.
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        headers, body = error_message(request.headers, failure.code, failure.message)
        headers["Content-Length"] = str(len(body))
        start_response(f"{failure.status} {HTTP_STATUS_CODES[failure.status]}", list(headers.items()))
        return [body]

    def _next_failure(self, operation: str) -> Failure | None:
        for failure in self.failures:
            if failure.operation == operation and failure.times:
                failure.times -= 1
                return failure
        return None


def _read(environ: WSGIEnvironment) -> ApiRequest:
    body = _take_body(environ)
    headers = {
        key.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for key, value in environ.items()
        if key.startswith("HTTP_") or key in {"CONTENT_TYPE", "CONTENT_LENGTH"}
    }
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    scope = _SCOPE.search(headers.get("authorization", ""))
    service, region = (scope["service"], scope["region"]) if scope else ("", "")
    operation, params = f"{method} {path}", {}
    target = headers.get("x-amz-target", "")
    if target:
        operation, params = target.rpartition(".")[2], json.loads(body or b"{}")
    elif headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        params = dict(parse_qsl(body.decode()))
        operation = params.get("Action", operation)
    return ApiRequest(service, region, operation, method, path, params, headers, body)


def _take_body(environ: WSGIEnvironment) -> bytes:
    """The whole body, which stays readable for the application behind."""
    stream = environ["wsgi.input"]
    chunked = environ.get("wsgi.input_terminated", False)
    body: bytes = stream.read() if chunked else stream.read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    environ["wsgi.input_terminated"] = True
    return body
