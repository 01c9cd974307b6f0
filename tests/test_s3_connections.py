"""Connections of our own to S3: kept when an answer was read, and closed for good when it was not."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from sagemaker_launcher.quick_s3.connections import Connections


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(403 if self.path == "/closing" else 200)
        self.send_header("Content-Length", "5")
        if self.path == "/closing":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as there
        del format, args


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.mark.parametrize("target", ["/closing", "/kept"])
def test_an_answer_that_nobody_reads_leaves_no_socket_open(server: ThreadingHTTPServer, target: str) -> None:
    connections = Connections(f"http://127.0.0.1:{server.server_port}", None, 5, 5)
    answer = connections.get(target, {})
    answer.close()
    cycle: list[object] = [answer]  # as an error and its traceback make one
    cycle.append(cycle)
    del answer, cycle
    gc.collect()  # what is open now is a warning, and so an error
    again = connections.get("/kept", {})
    assert again.read(10) == b"hello"
    assert again.read(10) == b""
    again.close()
