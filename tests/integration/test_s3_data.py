"""Data from a real S3 server: fetched whole, fetched once, and on a bad network."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import (
    AccessDeniedError,
    CredentialsError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
)
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import Placed, placed_objects
from sagemaker_launcher.s3_storage import S3Storage
from sagemaker_launcher.storage import appearing
from tests.fault_rows import provokes
from tests.integration.storages import ACCOUNT, storage_at
from tests.servers.faults import Kind, RecordedRequest
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer
from tests.stand_in import snapshot

BUCKET = "team"


@pytest.fixture
def storage(s3: SeaweedServer, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Storage]:
    monkeypatch.setenv("AWS_ACCOUNT_ID", ACCOUNT)
    yield from storage_at(proxy.url, s3.admin, monkeypatch)


@pytest.fixture
def prefix(tmp_path: Path) -> S3Uri:
    """A prefix of this test alone."""
    return S3Uri(BUCKET, f"data/{tmp_path.parent.name}-{tmp_path.name}/")


def put(s3: SeaweedServer, prefix: S3Uri, **files: bytes) -> None:
    client = s3.client()
    for name, data in files.items():
        client.put_object(Bucket=prefix.bucket, Key=prefix.key + name, Body=data)
    client.close()


def gets(proxy: RecordingProxy) -> list[RecordedRequest]:
    """The requests for objects, not those for lists."""
    return [request for request in proxy.requests if "list-type" not in request.path]


def is_get(request: RecordedRequest) -> bool:
    return "list-type" not in request.path


def fetched(storage: S3Storage, prefix: S3Uri, folder: Path) -> dict[str, bytes | None]:
    objects = placed_objects(prefix, storage)
    cache = DataCache(folder / "cache", storage)
    cache.fetch(objects)
    cache.link(objects, folder / "tree")
    return snapshot(folder / "tree")


def test_each_object_costs_one_request_and_none_the_second_time(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    files = {f"f{number}": os.urandom(number * 50_000) for number in range(30)}
    put(s3, prefix, **files)
    assert fetched(storage, prefix, tmp_path) == files
    assert sorted({request.operation for request in gets(proxy)}) == sorted(
        f"GET /{BUCKET}/{prefix.key}{name}" for name in files
    )
    assert len(gets(proxy)) == len(files)
    proxy.reset()
    objects = placed_objects(prefix, storage)
    DataCache(tmp_path / "cache", storage).fetch(objects)
    assert gets(proxy) == []


def test_only_an_object_with_another_etag_is_fetched_again(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    put(s3, prefix, a=b"one", b=b"two")
    fetched(storage, prefix, tmp_path / "first")
    (tmp_path / "first" / "cache").rename(tmp_path / "cache")
    put(s3, prefix, a=b"new")
    proxy.reset()
    assert fetched(storage, prefix, tmp_path) == {"a": b"new", "b": b"two"}
    assert [request.operation for request in gets(proxy)] == [f"GET /{BUCKET}/{prefix.key}a"]


@pytest.mark.parametrize("name", ["a b", "é", "a+b", "100%", "a?b=c&d", "a#b", "'; --", "x=y", "~!*()"])
def test_strange_names_are_signed_as_s3_expects(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path, name: str
) -> None:
    put(s3, prefix, **{name: b"data"})
    assert fetched(storage, prefix, tmp_path) == {name: b"data"}
    assert len(gets(proxy)) == 1


@provokes(42)
def test_every_request_names_the_account_that_has_to_own_the_bucket(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    put(s3, prefix, a=b"one")
    for owners, owner in (({}, "123456789012"), ({BUCKET: "999999999999"}, "999999999999")):
        proxy.reset()
        owned = S3Storage(storage._aws, owners)
        assert fetched(owned, prefix, tmp_path / owner) == {"a": b"one"}
        large = tmp_path / "large"
        large.write_bytes(bytes(9 * 2**20))  # in parts
        owned.upload(large, prefix / "large")
        owned.create(prefix / owner, b"new")
        owned.delete(prefix / owner)
        owned._client.close()
        assert {request.method for request in proxy.requests} == {"GET", "PUT", "POST", "DELETE"}
        assert {request.headers["x-amz-expected-bucket-owner"] for request in proxy.requests} == {owner}
        s3.client().delete_object(Bucket=prefix.bucket, Key=f"{prefix.key}large")


def test_without_credentials_it_says_so(
    proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    some = Placed(prefix / "a", 1, '"tag"', "a")
    with pytest.raises(CredentialsError, match="Unable to locate credentials"):
        DataCache(tmp_path / "cache", S3Storage(Aws("us-east-1"))).fetch([some])


@provokes(52)
@pytest.mark.parametrize("kind", ["truncate", "reset", "drop", "slow_down", "internal_error"])
def test_a_download_that_breaks_off_is_taken_up_again(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path, kind: Kind
) -> None:
    files = {"small": os.urandom(10_000), "large": os.urandom(5_000_000)}
    put(s3, prefix, **files)
    objects = placed_objects(prefix, storage)
    proxy.fail(is_get, kind, times=2)
    DataCache(tmp_path / "cache", storage).fetch(objects)
    DataCache(tmp_path / "cache", storage).link(objects, tmp_path / "tree")
    assert snapshot(tmp_path / "tree") == files


@provokes(52)
def test_what_has_come_is_not_asked_for_again(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    data = os.urandom(3_000_000)
    put(s3, prefix, a=data)
    proxy.fail(is_get, "truncate", times=5)
    assert fetched(storage, prefix, tmp_path) == {"a": data}
    starts = [request.headers.get("range", "") for request in gets(proxy)]
    assert len(starts) == 6
    assert starts[0] == ""
    assert starts[1] == "bytes=1500000-"
    assert all(request.headers.get("if-match") for request in gets(proxy))


@provokes(52)
def test_a_network_that_stays_bad_is_told_with_the_object(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    put(s3, prefix, a=b"one")
    objects = placed_objects(prefix, storage)
    proxy.fail(is_get, "reset", times=1000)
    with pytest.raises(UnavailableError, match=f"cannot download s3://{BUCKET}/{prefix.key}a"):
        DataCache(tmp_path / "cache", storage).fetch(objects)
    assert not list((tmp_path / "cache" / "incoming").iterdir())


@provokes(51)
def test_the_login_page_of_a_network_is_no_data(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    put(s3, prefix, a=b"one")
    objects = placed_objects(prefix, storage)
    proxy.fail(is_get, "html", times=1000)
    with pytest.raises(UnavailableError, match="what answered is not S3"):
        DataCache(tmp_path / "cache", storage).fetch(objects)


class _LoginPage(BaseHTTPRequestHandler):
    """Answers everything in pieces, as pages that are made on demand come, and so without a length."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"6\r\n<html>\r\n0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@provokes(51)
@pytest.mark.parametrize("pieces", [True, False])
def test_the_login_page_of_a_network_is_no_document(
    s3: SeaweedServer, proxy: RecordingProxy, prefix: S3Uri, monkeypatch: pytest.MonkeyPatch, pieces: bool
) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", ACCOUNT)
    proxy.fail(is_get, "html", times=1000)
    with HTTPServer(("127.0.0.1", 0), _LoginPage) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}" if pieces else proxy.url
        for storage in storage_at(url, s3.admin, monkeypatch):
            with pytest.raises(UnavailableError) as refused:
                storage.read(prefix / "a", 1000)
        server.shutdown()
    assert refused.value.message == f"cannot read {prefix}a: what answered is not S3"
    assert "log in to this network" in refused.value.hint


def test_what_answers_with_the_whole_instead_of_the_rest_is_not_appended(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri
) -> None:
    data = os.urandom(10_000)
    put(s3, prefix, a=data)
    [item] = storage.list(prefix)
    proxy.fail(is_get, "truncate")
    proxy.answer_with(lambda request: "range" in request.headers, data, {"ETag": item.tag}, times=9)
    file = io.BytesIO()
    storage.download(item.uri, file, item.tag)
    assert file.getvalue() == data


class _BreaksOff(BaseHTTPRequestHandler):
    """Always answers with the whole, and always breaks off: further on and less far by turns."""

    asked = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10000")
        self.send_header("ETag", '"tag"')
        self.end_headers()
        type(self).asked += 1
        # The rest is asked for twice, since boto3's client has the last word.
        self.wfile.write(bytes(3000 - 1000 * (self.asked // 2 % 2)))

    def log_message(self, *_: object) -> None:
        """Nothing."""


@provokes(52)
def test_what_never_comes_further_is_given_up_although_it_begins_anew(
    s3: SeaweedServer, prefix: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", ACCOUNT)
    with HTTPServer(("127.0.0.1", 0), _BreaksOff) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        for storage in storage_at(f"http://127.0.0.1:{server.server_port}", s3.admin, monkeypatch):
            with pytest.raises(UnavailableError, match=f"cannot download {prefix}a"):
                storage.download(prefix / "a", io.BytesIO())
        server.shutdown()
    assert _BreaksOff.asked == 5


@provokes(51)
def test_a_login_page_instead_of_the_rest_leaves_what_has_come(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri
) -> None:
    data = os.urandom(10_000)
    put(s3, prefix, a=data)
    [item] = storage.list(prefix)
    proxy.fail(is_get, "truncate")
    proxy.fail(is_get, "html", times=9)
    file = io.BytesIO()
    with pytest.raises(UnavailableError, match="what answered is not S3"):
        storage.download(item.uri, file, item.tag)
    assert file.getvalue() == data[:5000]


@pytest.mark.parametrize("data", [b"two", b"longer"])
def test_an_object_that_is_replaced_after_it_was_listed_is_told(
    s3: SeaweedServer, storage: S3Storage, prefix: S3Uri, tmp_path: Path, data: bytes
) -> None:
    put(s3, prefix, a=b"one")
    objects = placed_objects(prefix, storage)
    put(s3, prefix, a=data)
    with pytest.raises(IntegrityError, match="was replaced after it was listed"):
        DataCache(tmp_path / "cache", storage).fetch(objects)


def test_an_object_that_is_replaced_while_it_comes_is_never_mixed_from_both(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    put(s3, prefix, a=b"1" * 3_000_000)
    proxy.fail(is_get, "truncate")

    def replace_once() -> None:
        if len(gets(proxy)) == 1:
            put(s3, prefix, a=b"2" * 3_000_000)

    with pytest.raises(IntegrityError, match="replaced"), appearing(tmp_path / "copy") as file:
        storage.download(prefix / "a", file, check=replace_once)
    assert not list(tmp_path.iterdir())


def test_an_object_that_is_gone_or_forbidden_is_told_in_those_words(
    s3: SeaweedServer, storage: S3Storage, proxy: RecordingProxy, prefix: S3Uri, tmp_path: Path
) -> None:
    gone = Placed(prefix / "gone", 1, '"tag"', "gone")
    with pytest.raises(NotFoundError, match=f"cannot download s3://{BUCKET}/{prefix.key}gone"):
        DataCache(tmp_path / "cache", storage).fetch([gone])
    put(s3, prefix, a=b"one")
    objects = placed_objects(prefix, storage)
    proxy.fail_with(is_get, 403, "AccessDenied", times=1000)
    with pytest.raises(AccessDeniedError, match=f"cannot download s3://{BUCKET}/{prefix.key}a"):
        DataCache(tmp_path / "cache", storage).fetch(objects)
