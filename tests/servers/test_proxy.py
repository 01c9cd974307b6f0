"""The proxy passes HTTP on unharmed, and remembers all of it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TypeAlias
from urllib.parse import urlsplit

import pytest

from .echo import echo_server
from .proxy import RecordingProxy

Connect: TypeAlias = Callable[[RecordingProxy], http.client.HTTPConnection]


@pytest.fixture(scope="module")
def echo_url() -> Iterator[str]:
    with echo_server() as url:
        yield url


@pytest.fixture
def forward() -> Iterator[RecordingProxy]:
    with RecordingProxy() as proxy:
        yield proxy


@pytest.fixture
def reverse(echo_url: str) -> Iterator[RecordingProxy]:
    with RecordingProxy(echo_url) as proxy:
        yield proxy


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as opened:

        def open_connection(proxy: RecordingProxy) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=5)
            return opened.enter_context(closing(connection))

        yield open_connection


def test_a_forward_proxy_passes_a_request_on_as_it_was_sent(
    connect: Connect, forward: RecordingProxy, echo_url: str
) -> None:
    connection = connect(forward)
    connection.request(
        "PUT", f"{echo_url}//a/%2e?x=1&y=%20", b"content", {"X-Amz-Date": "now", "Proxy-Connection": "x"}
    )

    echo = json.loads(connection.getresponse().read())

    assert echo["line"] == "PUT //a/%2e?x=1&y=%20 HTTP/1.1"
    assert echo["body"] == "content"
    assert echo["headers"]["host"] == urlsplit(echo_url).netloc
    assert echo["headers"]["x-amz-date"] == "now"
    assert "proxy-connection" not in echo["headers"]
    (seen,) = forward.requests
    assert (seen.method, seen.url, seen.path) == ("PUT", f"{echo_url}//a/%2e?x=1&y=%20", "//a/%2e?x=1&y=%20")
    assert (seen.body, seen.status, seen.headers["x-amz-date"]) == (b"content", 200, "now")
    assert forward.hosts() == {urlsplit(echo_url).netloc}


def test_a_reverse_proxy_keeps_the_host_that_was_signed(connect: Connect, reverse: RecordingProxy) -> None:
    connection = connect(reverse)
    connection.request("GET", "/key")

    echo = json.loads(connection.getresponse().read())

    assert echo["headers"]["host"] == urlsplit(reverse.url).netloc
    assert reverse.requests[0].url == f"{reverse.url}/key"


def test_one_connection_carries_many_requests(connect: Connect, reverse: RecordingProxy) -> None:
    connection = connect(reverse)
    for number in range(3):
        connection.request("GET", f"/{number}")
        local = connection.sock.getsockname()
        assert connection.getresponse().read()
        assert connection.sock.getsockname() == local

    assert [each.path for each in reverse.requests] == ["/0", "/1", "/2"]


@pytest.mark.parametrize("path", ["/until-close", "/chunked", "/plain"])
def test_answers_of_every_framing_arrive_whole(connect: Connect, reverse: RecordingProxy, path: str) -> None:
    connection = connect(reverse)
    for _ in range(2):
        connection.request("GET", path)
        assert json.loads(connection.getresponse().read())["line"] == f"GET {path} HTTP/1.1"


def test_an_answer_to_head_has_a_length_and_no_body(connect: Connect, reverse: RecordingProxy) -> None:
    connection = connect(reverse)
    connection.request("HEAD", "/key")
    response = connection.getresponse()

    assert int(response.headers["Content-Length"]) > 0
    assert response.read() == b""
    connection.request("GET", "/after")
    assert connection.getresponse().status == 200


def test_a_chunked_body_is_passed_on_in_chunks_and_remembered_whole(
    connect: Connect, reverse: RecordingProxy
) -> None:
    connection = connect(reverse)
    connection.request("POST", "/", iter([b"one ", b"two"]), encode_chunked=True)

    echo = json.loads(connection.getresponse().read())

    assert (echo["body"], echo["headers"]["transfer-encoding"]) == ("one two", "chunked")
    assert reverse.requests[0].body == b"one two"


def test_a_client_that_waits_for_100_continue_gets_it(reverse: RecordingProxy) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(reverse.url).port or 0), timeout=5) as client:
        client.sendall(b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        answer = client.recv(10_000)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert reverse.requests[0].body == b"body"


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_connect_is_refused_and_remembered(
    connect: Connect, request: pytest.FixtureRequest, mode: str
) -> None:
    proxy: RecordingProxy = request.getfixturevalue(mode)
    connection = connect(proxy)
    connection.set_tunnel("sagemaker.eu-west-1.amazonaws.com", 443)

    with pytest.raises(OSError, match="403"):
        connection.request("GET", "/")

    (seen,) = proxy.requests
    assert (seen.method, seen.host, seen.status) == ("CONNECT", "sagemaker.eu-west-1.amazonaws.com:443", 403)


@pytest.mark.parametrize("host", ["169.254.169.254", "example.invalid", "192.0.2.1:8080"])
def test_a_request_that_would_leave_the_machine_is_refused_and_remembered(
    connect: Connect, forward: RecordingProxy, host: str
) -> None:
    connection = connect(forward)
    connection.request("GET", f"http://{host}/latest/meta-data")

    assert connection.getresponse().status == 403
    assert forward.hosts() == {host if ":" in host else f"{host}:80"}


def test_a_dead_upstream_is_a_bad_gateway(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with RecordingProxy(f"http://127.0.0.1:{port}") as proxy:
        connection = connect(proxy)
        connection.request("GET", "/")

        assert connection.getresponse().status == 502


def test_latency_delays_every_request_and_does_not_queue_them(
    connect: Connect, reverse: RecordingProxy
) -> None:
    def get(_: int) -> None:
        connection = connect(reverse)
        connection.request("GET", "/")
        connection.getresponse().read()

    reverse.latency = 3
    begin = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(get, range(10)))

    assert 3 <= time.monotonic() - begin < 20
    assert len(reverse.requests) == 10


def test_the_proxy_ends_although_clients_are_connected(connect: Connect, echo_url: str) -> None:
    with RecordingProxy(echo_url) as proxy:
        proxy.latency = 60
        connection = connect(proxy)
        connection.request("GET", "/")
        while not proxy.requests:
            time.sleep(0.01)
        begin = time.monotonic()

    assert time.monotonic() - begin < 30
    with pytest.raises(ConnectionRefusedError):
        connect(proxy).request("GET", "/")
