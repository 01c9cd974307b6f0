"""Objects in S3 itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    NoCredentialsError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError
from botocore.handlers import add_expect_header
from botocore.response import StreamingBody
from botocore.utils import percent_encode

from sagemaker_launcher.aws import Aws, aws_errors
from sagemaker_launcher.errors import ConflictError, IntegrityError, UnavailableError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import Check, StoredObject, changed, no_check, too_large

_READ_ATTEMPTS = 3
_CONFLICT_ATTEMPTS = 3
_OK = {200, 206}
_CHUNK_BYTES = 2**20


class S3Storage:
    """S3 behind the `Storage` interface.

    Args:
        aws: Where clients come from.
        owner: Gives the account that has to own every bucket; None when any owner will do. S3 refuses requests to a
            bucket of somebody else (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html).
    """

    def __init__(self, aws: Aws, owner: Callable[[], str] | None = None) -> None:
        self._aws = aws
        self._owner = owner

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        client = self._aws.client("s3")
        # Objects of an archive are small: asking for permission to send the body doubles the time of each PUT.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        if self._owner:
            client.meta.events.register("provide-client-params.s3", _demand(self._owner()))
        return client

    def read(self, uri: S3Uri, limit: int) -> bytes:
        for attempt in range(1, _READ_ATTEMPTS + 1):
            with aws_errors(f"read {uri}"):
                answer = self._client.get_object(Bucket=uri.bucket, Key=uri.key)
            if answer["ContentLength"] > limit:
                break
            try:
                with aws_errors(f"read {uri}"):
                    # To the end: only then does botocore compare the length and the checksum.
                    data: bytes = answer["Body"].read()
                return data
            except UnavailableError:
                # botocore repeats requests, but not the reading of a body that breaks off.
                if attempt == _READ_ATTEMPTS:
                    raise
        raise too_large(uri, limit)

    def create(self, uri: S3Uri, data: bytes) -> None:
        """See Storage. https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html."""
        for attempt in range(1, _CONFLICT_ATTEMPTS + 1):
            try:
                with aws_errors(f"write {uri}"):
                    self._put_new(uri, data)
                return
            except ConflictError:
                if self._holds(uri, data):
                    return  # A repeated request met its own first try.
                raise
            except _ConcurrentWriteError:
                if attempt == _CONFLICT_ATTEMPTS:
                    raise UnavailableError(
                        f"cannot write {uri}: S3 reports a conflicting write again and again"
                    ) from None

    def _put_new(self, uri: S3Uri, data: bytes) -> None:
        try:
            answer = self._client.put_object(Bucket=uri.bucket, Key=uri.key, Body=data, IfNoneMatch="*")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in {"PreconditionFailed", "412"}:
                message = f"{uri} exists already, and nothing in the archive is ever replaced"
                raise ConflictError(message) from error
            if code == "ConditionalRequestConflict":
                raise _ConcurrentWriteError from error
            raise
        if "ETag" not in answer:
            raise _not_s3(f"write {uri}")

    def _holds(self, uri: S3Uri, data: bytes) -> bool:
        try:
            return self.read(uri, len(data)) == data
        except IntegrityError:
            return False  # larger

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=prefix.bucket,
            Prefix=prefix.key,
            PaginationConfig={"MaxItems": limit or None, "PageSize": min(limit or 1000, 1000)},
        )
        with aws_errors(f"list {prefix}"):
            for page in pages:
                for item in page.get("Contents", ()):
                    yield StoredObject(S3Uri(prefix.bucket, item["Key"]), item["Size"], item["ETag"])

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
        failures = 0
        while True:
            start = file.tell()
            try:
                with aws_errors(f"download {uri}"):
                    body, tag = self._body(uri, start, tag)
                    with closing(body):
                        _copy(body, file, check)
                return
            except UnavailableError:
                # What has come stays, and only the rest is asked for again: of the same object, says its tag.
                failures = 1 if file.tell() > start else failures + 1
                if failures == _READ_ATTEMPTS:
                    raise

    def _body(self, uri: S3Uri, start: int, tag: str) -> tuple[Any, str]:
        """An object from a byte on, and its tag.

        For many small objects the time of everybody who waits is the processor's, and get_object takes three times as
        much of it as a request of our own. So it only gets what did not succeed at once: it knows how to wait, where a
        bucket has moved to, and what every error is called.
        """
        conditions = {"Range": f"bytes={start}-"} if start else {}
        if tag:
            conditions["If-Match"] = tag
        with suppress(HTTPClientError, BotocoreConnectionError):
            # The client's own session has the proxies, the certificates and the time limits.
            session = self._client._endpoint.http_session  # noqa: SLF001 - there is no public way to it
            answer = session.send(self._signed_get(uri, conditions))
            if answer.status_code in _OK and "ETag" in answer.headers:
                return StreamingBody(answer.raw, answer.headers.get("Content-Length")), answer.headers["ETag"]
            answer.raw.close()
        return self._body_slowly(uri, {name.replace("-", ""): value for name, value in conditions.items()})

    def _signed_get(self, uri: S3Uri, headers: dict[str, str]) -> Any:  # noqa: ANN401 - botocore is untyped
        owner = {"x-amz-expected-bucket-owner": self._owner()} if self._owner else {}
        meta = self._client.meta
        url = f"{meta.endpoint_url}/{uri.bucket}/{percent_encode(uri.key, safe='/~')}"
        request = AWSRequest("GET", url, {**headers, **owner}, stream_output=True)
        credentials = self._aws.session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        S3SigV4Auth(credentials.get_frozen_credentials(), "s3", meta.region_name).add_auth(request)
        return request.prepare()

    def _body_slowly(self, uri: S3Uri, conditions: dict[str, str]) -> tuple[Any, str]:
        try:
            answer = self._client.get_object(Bucket=uri.bucket, Key=uri.key, **conditions)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"PreconditionFailed", "412"}:
                raise changed(uri) from error
            raise
        if "ETag" not in answer:
            answer["Body"].close()
            raise _not_s3(f"download {uri}")
        return answer["Body"], answer["ETag"]

    def upload(self, path: Path, uri: S3Uri) -> None:
        with aws_errors(f"upload {uri}"):
            self._client.upload_file(str(path), uri.bucket, uri.key)

    def delete(self, uri: S3Uri) -> None:
        with aws_errors(f"delete {uri}"):
            self._client.delete_object(Bucket=uri.bucket, Key=uri.key)


def _copy(body: Any, file: BinaryIO, check: Check) -> None:  # noqa: ANN401 - botocore is untyped
    """Copies to the end: only then does botocore compare the length and the checksum."""
    try:
        while chunk := body.read(_CHUNK_BYTES):
            check()
            file.write(chunk)
    except FlexibleChecksumError:
        file.seek(0)
        file.truncate()
        raise


def _not_s3(action: str) -> UnavailableError:
    """The login page of a network answers 200 to everything."""
    return UnavailableError(f"cannot {action}: what answered is not S3", hint="log in to this network first")


def _demand(owner: str) -> Callable[..., dict[str, Any]]:
    """Adds the owner to every request, so that it can be forgotten nowhere."""
    return lambda params, **_: {**params, "ExpectedBucketOwner": owner}


class _ConcurrentWriteError(Exception):
    """S3 asks to repeat a conditional write, since another one of the same key was under way."""
