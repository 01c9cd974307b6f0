"""boto3 clients for the test servers that know nothing of the machine they run on."""

from __future__ import annotations

import os
from functools import cache
from typing import Any, TypeAlias

import boto3
import botocore.session
from botocore.config import Config

REGION = "eu-west-1"
Client: TypeAlias = Any  # boto3 makes its clients at run time


def sealed_client(
    service: str,
    endpoint_url: str,
    credentials: tuple[str, str],
    *,
    region: str = REGION,
    proxies: dict[str, str] | None = None,
    read_timeout_s: float = 30,
) -> Client:
    """A client with exactly these settings: no config file, profile, proxy or retry of the machine has a say.

    Args:
        service: As boto3 calls it, such as `s3`.
        endpoint_url: Where the server listens.
        credentials: Access key and secret key.
        region: The region to sign for.
        proxies: Proxy URL by scheme; none when not given.
        read_timeout_s: Seconds without a byte until the client gives up.
    """
    config = Config(
        s3={"addressing_style": "path"},
        proxies=proxies or {},
        retries={"total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=read_timeout_s,
        max_pool_connections=32,
    )
    access_key, secret_key = credentials
    return _session().client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )


@cache
def _session() -> boto3.Session:
    """One session for all clients, because reading SageMaker's model takes 0.4 s."""
    variables = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    return boto3.Session(botocore_session=botocore.session.Session(session_vars=variables))
