"""Every fault of the proxy reaches a real client as the error it stands for, as often as ordered and no oftener."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from .aws import AwsServer
from .clients import Client, sealed_client
from .faults import Kind, RecordedRequest
from .proxy import RecordingProxy
from .samples import refusal, training_request


@pytest.fixture
def proxy(server: AwsServer) -> Iterator[RecordingProxy]:
    with RecordingProxy(server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def s3(server: AwsServer, proxy: RecordingProxy) -> Client:
    server.client("s3", region="us-east-1").create_bucket(Bucket="team")
    server.client("s3").put_object(Bucket="team", Key="k", Body=b"0123456789")
    return sealed_client("s3", proxy.url, server.credentials)


@pytest.fixture
def sagemaker(server: AwsServer, proxy: RecordingProxy) -> Client:
    return sealed_client("sagemaker", proxy.url, server.credentials)


def everything(_: RecordedRequest) -> bool:
    return True


def creations(request: RecordedRequest) -> bool:
    return request.operation == "CreateTrainingJob"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("internal_error", 500, "InternalError"),
        ("slow_down", 503, "SlowDown"),
        ("throttled", 400, "ThrottlingException"),
        ("expired_token", 400, "ExpiredToken"),
    ],
)
def test_s3_errors_are_s3s(proxy: RecordingProxy, s3: Client, kind: Kind, status: int, code: str) -> None:
    proxy.fail(everything, kind, times=2)

    assert refusal(s3.get_object, Bucket="team", Key="k")[:2] == (code, status)
    assert refusal(s3.list_objects_v2, Bucket="team")[:2] == (code, status)
    assert s3.get_object(Bucket="team", Key="k")["Body"].read() == b"0123456789"
    assert [each.status for each in proxy.requests] == [status, status, 200]


def test_an_error_for_a_head_request_has_no_body(proxy: RecordingProxy) -> None:
    proxy.fail(everything, "slow_down")
    with closing(HTTPConnection(urlsplit(proxy.url).netloc, timeout=5)) as connection:
        connection.request("HEAD", "/team/k")
        response = connection.getresponse()
        assert (response.status, response.read()) == (503, b"")
        connection.request("HEAD", "/nothing-is-left-of-a-body")
        assert connection.getresponse().status == 404


def test_a_reset_is_not_just_a_closed_connection(proxy: RecordingProxy) -> None:
    proxy.fail(everything, "reset")
    proxy.fail(everything, "drop")

    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port or 0), timeout=5) as client:
            client.sendall(b"GET /team HTTP/1.1\r\nHost: h\r\n\r\n")
            return client.recv(100)

    with pytest.raises(ConnectionResetError):
        answer()
    assert answer() == b""


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("internal_error", 500, "InternalFailure"),
        ("slow_down", 503, "ServiceUnavailable"),
        ("throttled", 400, "ThrottlingException"),
        ("expired_token", 400, "ExpiredTokenException"),
    ],
)
def test_sagemaker_errors_are_sagemakers(
    proxy: RecordingProxy, sagemaker: Client, kind: Kind, status: int, code: str
) -> None:
    proxy.fail(everything, kind)

    assert refusal(sagemaker.list_training_jobs)[:2] == (code, status)
    sagemaker.list_training_jobs()


def test_sts_errors_are_in_its_own_protocol(server: AwsServer, proxy: RecordingProxy) -> None:
    proxy.fail(everything, "expired_token")

    sts = sealed_client("sts", proxy.url, server.credentials)

    assert refusal(sts.get_caller_identity)[:2] == ("ExpiredToken", 400)


def test_a_fault_hits_only_what_it_was_made_for(proxy: RecordingProxy, sagemaker: Client) -> None:
    proxy.fail(creations, "throttled")

    sagemaker.list_training_jobs()
    assert refusal(sagemaker.create_training_job, **training_request())[:2] == ("ThrottlingException", 400)


def test_after_a_reset_the_server_knows_nothing(
    server: AwsServer, proxy: RecordingProxy, sagemaker: Client
) -> None:
    proxy.fail(creations, "reset")

    with pytest.raises(ConnectionClosedError):
        sagemaker.create_training_job(**training_request())

    assert server.calls("CreateTrainingJob") == []
    assert [each.status for each in proxy.calls("CreateTrainingJob")] == [None]


def test_after_a_dropped_answer_the_server_has_done_it(
    server: AwsServer, proxy: RecordingProxy, sagemaker: Client
) -> None:
    proxy.fail(creations, "drop")

    with pytest.raises(ConnectionClosedError):
        sagemaker.create_training_job(**training_request())

    assert server.created("digits-1") == training_request()


def test_a_hang_says_nothing_until_the_client_gives_up(server: AwsServer, proxy: RecordingProxy) -> None:
    proxy.fail(everything, "hang", seconds=120)
    impatient = sealed_client("sts", proxy.url, server.credentials, read_timeout_s=0.3)
    begin = time.monotonic()

    with pytest.raises(ReadTimeoutError):
        impatient.get_caller_identity()

    assert 0.3 <= time.monotonic() - begin < 60
    assert server.requests == []


def test_a_short_hang_ends_without_an_answer(proxy: RecordingProxy, sagemaker: Client) -> None:
    proxy.fail(everything, "hang", seconds=0.2)

    with pytest.raises(ConnectionClosedError):
        sagemaker.list_training_jobs()


def test_a_truncated_body_is_shorter_than_announced(proxy: RecordingProxy, s3: Client) -> None:
    proxy.fail(everything, "truncate")
    body = s3.get_object(Bucket="team", Key="k")["Body"]

    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        body.read()


def test_a_captive_portal_looks_like_success_to_boto3(
    server: AwsServer, proxy: RecordingProxy, s3: Client
) -> None:
    proxy.fail(everything, "html")

    answer = s3.put_object(Bucket="team", Key="never-stored", Body=b"x")

    assert answer["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "text/html; charset=utf-8"
    assert "ETag" not in answer
    assert refusal(server.client("s3").head_object, Bucket="team", Key="never-stored")[1] == 404


def test_any_error_of_aws_can_be_ordered(proxy: RecordingProxy, s3: Client) -> None:
    proxy.fail_with(
        everything, 403, "RequestTimeTooSkewed", "too late", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}
    )

    with pytest.raises(ClientError, match=r"RequestTimeTooSkewed.*too late") as error:
        s3.list_objects_v2(Bucket="team")

    assert error.value.response["ResponseMetadata"]["HTTPHeaders"]["date"].startswith("Thu, 01 Jan 1970")


def test_an_error_can_hide_that_the_request_was_executed(
    server: AwsServer, proxy: RecordingProxy, sagemaker: Client
) -> None:
    proxy.fail_with(creations, 500, "InternalFailure", forward=True)

    assert refusal(sagemaker.create_training_job, **training_request())[:2] == ("InternalFailure", 500)
    assert server.created("digits-1") == training_request()


def test_a_reset_proxy_is_well_behaved_again(proxy: RecordingProxy, sagemaker: Client) -> None:
    proxy.latency = 60
    proxy.fail(everything, "reset", times=100)

    proxy.reset()

    sagemaker.list_training_jobs()
    assert [each.operation for each in proxy.requests] == ["ListTrainingJobs"]
