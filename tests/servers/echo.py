"""A web server that says what it heard, to see what a proxy makes of a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def echo_server() -> Iterator[str]:
    """Its URL; it answers with the request as JSON: `line`, `headers` (names in lower case), `body`.

    The path chooses the framing of the answer: `/chunked`, `/until-close`, or any other for Content-Length.
    """
    with _EchoServer(("127.0.0.1", 0), _Echo) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Echo(BaseHTTPRequestHandler):
    """Answers with the request it got, as JSON."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        chunked = self.headers["Transfer-Encoding"] == "chunked"
        body = self._chunks() if chunked else self.rfile.read(int(self.headers["Content-Length"] or 0))
        headers = {key.lower(): value for key, value in self.headers.items()}
        echo = json.dumps({"line": self.requestline, "headers": headers, "body": body.decode()}).encode()
        self.send_response(200)
        if self.path == "/until-close":
            self.close_connection = True
        elif self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            echo = b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (echo[:5], len(echo) - 5, echo[5:])
        else:
            self.send_header("Content-Length", str(len(echo)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(echo)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_PUT = do_HEAD = do_POST = _answer  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nobody reads it."""


class _EchoServer(ThreadingHTTPServer):
    # With the default of 5, a burst of connections waits a second for its second chance.
    request_queue_size = 64
