"""Signed S3 traffic passes through the proxy in both of its modes, from this process and from others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from boto3.s3.transfer import TransferConfig

from .clients import sealed_client
from .proxy import RecordingProxy
from .seaweed import SeaweedServer
from .sockets import spy_environment

pytestmark = pytest.mark.skipif(bool(SeaweedServer.available()), reason=SeaweedServer.available())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with SeaweedServer(tmp_path_factory.mktemp("seaweed")) as server:
        server.create_bucket("team")
        yield server


def test_signatures_stay_valid_behind_a_reverse_proxy(store: SeaweedServer, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(12 * 2**20))
    with RecordingProxy(store.endpoint_url) as proxy:
        client = sealed_client("s3", proxy.url, store.admin)
        client.put_object(Bucket="team", Key="a b/ü#1?.txt", Body=b"x", IfNoneMatch="*")
        parts = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20)
        client.upload_file(str(big), "team", "big", Config=parts)
        client.download_file("team", "big", str(tmp_path / "copy"))

        assert client.list_objects_v2(Bucket="team", Prefix="a b/")["Contents"][0]["Key"] == "a b/ü#1?.txt"
        assert (tmp_path / "copy").read_bytes() == big.read_bytes()
        uploads = [each for each in proxy.requests if "partNumber=" in each.path]
        assert sorted(len(each.body) for each in uploads) == [2 * 2**20, 5 * 2**20, 5 * 2**20]
        assert proxy.requests[0].headers["if-none-match"] == "*"


def test_signatures_stay_valid_behind_a_forward_proxy(store: SeaweedServer) -> None:
    with RecordingProxy() as proxy:
        client = sealed_client("s3", store.endpoint_url, store.admin, proxies={"http": proxy.url})
        client.put_object(Bucket="team", Key="k", Body=b"x", ExpectedBucketOwner="123456789012")

        (seen,) = proxy.requests
    assert seen.url == f"{store.endpoint_url}/team/k"
    assert seen.headers["x-amz-expected-bucket-owner"] == "123456789012"
    assert seen.status == 200


def test_a_child_process_is_watched_from_both_sides(store: SeaweedServer, tmp_path: Path) -> None:
    variables, contacts = spy_environment(tmp_path)
    script = (
        "import boto3, botocore\n"
        "boto3.client('s3').put_object(Bucket='team', Key='child', Body=b'x')\n"
        "try: boto3.client('sts', endpoint_url='https://sts.eu-west-1.amazonaws.com').get_caller_identity()\n"
        "except botocore.exceptions.ProxyConnectionError: pass"
    )
    with RecordingProxy() as proxy:
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": store.endpoint_url,
            "AWS_ACCESS_KEY_ID": store.admin[0],
            "AWS_SECRET_ACCESS_KEY": store.admin[1],
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_MAX_ATTEMPTS": "1",
            **proxy.environment(),
            **variables,
        }
        subprocess.run([sys.executable, "-c", script], env=environment, check=True)
        proxy_port = int(proxy.url.rpartition(":")[2])

    assert [(each.method, each.status) for each in proxy.requests] == [("PUT", 200), ("CONNECT", 403)]
    assert "sts.eu-west-1.amazonaws.com:443" in proxy.hosts()
    assert {each.port for each in contacts() if each.event == "socket.connect"} == {proxy_port}
    assert not any(each.leaves_the_machine for each in contacts())
