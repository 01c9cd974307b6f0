"""Requests of our own to S3: signed as botocore signs them, over connections that are kept."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sagemaker_launcher.errors import UnavailableError
from sagemaker_launcher.quick_s3.connections import Connections
from sagemaker_launcher.quick_s3.signing import Keys, signed, target_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
HOST = "s3.us-east-1.amazonaws.com"


def by_botocore(target: str, headers: dict[str, str], keys: Keys, region: str, now: datetime) -> str:
    """The header Authorization as botocore makes it."""
    request = AWSRequest("GET", f"http://{HOST}{target}", dict(headers))
    request.context["timestamp"] = now.strftime("%Y%m%dT%H%M%SZ")
    auth = S3SigV4Auth(Credentials(keys.access, keys.secret, keys.token or None), "s3", region)
    auth._modify_request_before_signing(request)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    auth._inject_signature_to_request(request, auth.signature(text, request))
    return str(request.headers["Authorization"])


@settings(deadline=None, max_examples=50)
@given(
    key=TEXTS,
    query=st.dictionaries(TEXTS, TEXTS, max_size=3),
    keys=st.builds(Keys, VISIBLE, VISIBLE, st.just("") | VISIBLE),
    headers=st.fixed_dictionaries(
        {},
        optional={"range": st.just("bytes=5-"), "if-match": VISIBLE, "x-amz-expected-bucket-owner": VISIBLE},
    ),
    now=st.integers(1_700_000_000, 1_900_000_000).map(
        lambda second: datetime.fromtimestamp(second, timezone.utc)
    ),
)
@example("a/../b//c /~*'()!%2F+é#?&=", {}, Keys("A", "s"), {}, datetime(2026, 1, 1, tzinfo=timezone.utc))
def test_a_request_is_signed_as_botocore_signs_it(
    key: str, query: dict[str, str], keys: Keys, headers: dict[str, str], now: datetime
) -> None:
    target = target_of(f"/bucket/{key}", query)
    ours = signed(target, HOST, headers, keys, "us-east-1", now)
    assert ours["authorization"] == by_botocore(target, headers, keys, "us-east-1", now)


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[int]]]:
    """A server that gives these answers one after the other, then hangs up; with the number of each request's connection."""
    seen: list[int] = []
    waiting = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for number in range(len(answers) + 1):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while waiting and connection.recv(65536):
                        seen.append(number)
                        answer = waiting.pop(0)
                        connection.sendall(answer)
                        if b"Length: 9" in answer:
                            break

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", seen


GOOD = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 2\r\n\r\nab"
SHORT = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 9\r\n\r\nab"


def test_a_connection_whose_answer_was_read_to_its_end_is_used_again() -> None:
    with answering(GOOD, GOOD, GOOD) as (place, seen):
        connections = Connections(place, None, 5, 5)
        for whole in (True, False, True):
            answer = connections.get("/x", {})
            assert answer.read(1 if not whole else 10)
            assert not whole or answer.read(10) == b""
            answer.close()
        assert seen == [0, 0, 1]


def test_a_body_that_breaks_off_is_no_end() -> None:
    with answering(SHORT) as (place, _):
        answer = Connections(place, None, 5, 5).get("/x", {})
        assert answer.read(10) == b"ab"
        with pytest.raises(UnavailableError, match="broke off"):
            answer.read(10)
        answer.close()


def test_nobody_who_answers_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UnavailableError, match="does not answer"):
        Connections(place, None, 5, 5).get("/x", {})
