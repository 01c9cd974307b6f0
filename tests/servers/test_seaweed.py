"""The object store of the tests is as strict as S3 where the tool relies on it."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .clients import _session, sealed_client
from .seaweed import SeaweedServer

pytestmark = pytest.mark.skipif(bool(SeaweedServer.available()), reason=SeaweedServer.available())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("seaweed")) as running:
        running.create_bucket("team")
        yield running


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_what_is_put_can_be_got(server: SeaweedServer) -> None:
    client = server.client()
    client.put_object(Bucket="team", Key="a/b.txt", Body=b"content")

    assert client.get_object(Bucket="team", Key="a/b.txt")["Body"].read() == b"content"


def test_a_conditional_put_has_one_winner_among_many_threads(server: SeaweedServer) -> None:
    client = server.client()

    def put(number: int) -> str:
        try:
            client.put_object(Bucket="team", Key="reserved", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return str(number)

    with ThreadPoolExecutor(32) as pool:
        outcomes = Counter(pool.map(put, range(32)))

    winner = client.get_object(Bucket="team", Key="reserved")["Body"].read().decode()
    assert outcomes == {"PreconditionFailed": 31, winner: 1}


def test_a_wrong_secret_is_refused(server: SeaweedServer) -> None:
    client = sealed_client("s3", server.endpoint_url, (server.admin[0], "wrong"))

    with pytest.raises(ClientError) as error:
        client.list_objects_v2(Bucket="team")

    assert code_of(error) == "SignatureDoesNotMatch"


def test_the_reader_reads_and_cannot_write(server: SeaweedServer) -> None:
    server.client().put_object(Bucket="team", Key="shared", Body=b"x")
    reader = server.client("reader")

    assert reader.get_object(Bucket="team", Key="shared")["Body"].read() == b"x"
    with pytest.raises(ClientError) as error:
        reader.put_object(Bucket="team", Key="shared", Body=b"y")
    assert code_of(error) == "AccessDenied"


def test_a_missing_bucket_is_not_made_by_writing_to_it(server: SeaweedServer) -> None:
    with pytest.raises(ClientError) as error:
        server.client().put_object(Bucket="nobody-made-this", Key="k", Body=b"x")

    assert code_of(error) == "NoSuchBucket"


def test_a_wrong_checksum_is_refused(server: SeaweedServer) -> None:
    with pytest.raises(ClientError) as error:
        server.client().put_object(Bucket="team", Key="k", Body=b"x", ChecksumSHA256="A" * 43 + "=")

    assert code_of(error) == "BadDigest"


def test_a_versioned_bucket_keeps_what_was_overwritten(server: SeaweedServer) -> None:
    client = server.client()
    bucket = server.create_bucket("versioned", versioned=True)
    for body in (b"first", b"second"):
        client.put_object(Bucket=bucket, Key="k", Body=body)

    versions: list[dict[str, Any]] = client.list_object_versions(Bucket=bucket)["Versions"]

    assert [version["Size"] for version in versions] == [6, 5]


def test_clients_ignore_the_settings_of_the_machine(
    server: SeaweedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile\nbroken", encoding="utf-8")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    _session.cache_clear()
    assert server.client().head_bucket(Bucket="team")["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_the_server_is_ready_when_the_block_begins_and_gone_when_it_ends(tmp_path: Path) -> None:
    with SeaweedServer(tmp_path) as server:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(server.endpoint_url)
        bucket = server.create_bucket("fresh")
        server.client().put_object(Bucket=bucket, Key="k", Body=b"the very first write")
        begin = time.monotonic()

    assert time.monotonic() - begin < 30
    port = int(server.endpoint_url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    assert not list(Path("/tmp").glob(f"seaweedfs-*{port}.sock"))


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").write_text("not a folder", encoding="utf-8")

    with (
        pytest.raises(RuntimeError, match=r"weed ended with code [^0]\d*:\n(.|\n)*filerldb2"),
        SeaweedServer(tmp_path),
    ):
        pass
