"""Storages as their users have them, by the variables of a login."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.s3_storage import S3Storage

REGION = "us-east-1"
ACCOUNT = "123456789012"


def storage_at(url: str, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Storage]:
    """S3 at a URL, for whoever has the keys."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys[1])
    storage = S3Storage(Aws(REGION), dict.fromkeys(("team", "with-versions"), ACCOUNT))
    yield storage
    storage._client.close()
