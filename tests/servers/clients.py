"""boto3 clients for the test servers that know nothing of the machine they run on."""

from __future__ import annotations

import os
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

REGION = "eu-west-1"


def sealed_client(
    service: str,
    endpoint_url: str,
    credentials: tuple[str, str],
    *,
    region: str = REGION,
    proxies: dict[str, str] | None = None,
) -> Any:  # noqa: ANN401 - boto3 is untyped
    """A client with exactly these settings: no config file, profile, proxy or retry of the machine has a say.

    Args:
        service: As boto3 calls it, such as `s3`.
        endpoint_url: Where the server listens.
        credentials: Access key and secret key.
        region: The region to sign for.
        proxies: Proxy URL by scheme; none when not given.
    """
    variables = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    config = Config(
        s3={"addressing_style": "path"},
        proxies=proxies or {},
        retries={"total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=32,
    )
    access_key, secret_key = credentials
    session = boto3.Session(botocore_session=botocore.session.Session(session_vars=variables))
    return session.client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )
