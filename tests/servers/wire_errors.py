"""Errors as AWS writes them on the wire: JSON, query or S3, whichever the request speaks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from xml.sax.saxutils import escape

_REQUEST_ID = "11111111-2222-3333-4444-555555555555"


def error_message(
    request_headers: Mapping[str, str], code: str, message: str
) -> tuple[dict[str, str], bytes]:
    """The headers and body that report an error.

    Args:
        request_headers: Of the request that failed, names in lower case; they tell its protocol.
        code: Such as `SlowDown`.
        message: The text for people.
    """
    if "x-amz-target" in request_headers:
        body = json.dumps({"__type": code, "message": message})
        return {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": _REQUEST_ID}, body.encode()
    details = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if request_headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type>{details}</Error>"
            f"<RequestId>{_REQUEST_ID}</RequestId></ErrorResponse>"
        )
        return {"Content-Type": "text/xml", "x-amzn-RequestId": _REQUEST_ID}, body.encode()
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{details}<RequestId>{_REQUEST_ID}</RequestId>'
        "<HostId>test</HostId></Error>"
    )
    return {"Content-Type": "application/xml", "x-amz-request-id": _REQUEST_ID}, body.encode()
