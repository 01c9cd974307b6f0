"""Signature Version 4 of requests to S3 that have no body. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib  # noqa: TID253 - hmac needs it in any case
import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

from sagemaker_launcher.frozen import frozen

_ALGORITHM = "AWS4-HMAC-SHA256"
_NO_BODY = hashlib.sha256(b"").hexdigest()


@frozen
class Keys:
    """Credentials: the token is empty for those that last, the account when they do not say it."""

    access: str
    secret: str
    token: str = ""
    account: str = ""


def target_of(path: str, query: Mapping[str, str]) -> str:
    """Path and query as they are sent and signed; the path is not encoded yet and begins with a slash."""
    pairs = sorted((quote(name, "~"), quote(value, "~")) for name, value in query.items())
    words = "&".join(f"{name}={value}" for name, value in pairs)
    return f"{quote(path, '/~')}?{words}" if words else quote(path, "/~")


def signed(
    target: str, host: str, headers: Mapping[str, str], keys: Keys, region: str, now: datetime
) -> dict[str, str]:
    """The headers of a GET.

    Args:
        target: What `target_of` gives.
        host: The host, with the port unless it is the usual one.
        headers: Further headers, which are signed as well; their names in lower case.
        keys: Who asks.
        region: Where the bucket is.
        now: The present, in UTC.
    """
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    token = {"x-amz-security-token": keys.token} if keys.token else {}
    sent = {**headers, **token, "host": host, "x-amz-content-sha256": _NO_BODY, "x-amz-date": moment}
    path, _, query = target.partition("?")
    lines = "".join(f"{name}:{sent[name].strip()}\n" for name in sorted(sent))
    names = ";".join(sorted(sent))
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    request = _hash(f"GET\n{path}\n{query}\n{lines}\n{names}\n{_NO_BODY}")
    signature = _mac(
        _signing_key(keys.secret, moment[:8], region), f"{_ALGORITHM}\n{moment}\n{scope}\n{request}"
    )
    credential = f"{_ALGORITHM} Credential={keys.access}/{scope}, SignedHeaders={names}, "
    return {**sent, "authorization": f"{credential}Signature={signature.hex()}"}


@lru_cache(maxsize=4)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = _mac(key, word)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
