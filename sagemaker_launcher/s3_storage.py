"""Objects in S3 itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header

from sagemaker_launcher.aws import Aws, aws_errors
from sagemaker_launcher.errors import ConflictError, IntegrityError, UnavailableError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import StoredObject, too_large

_READ_ATTEMPTS = 3
_CONFLICT_ATTEMPTS = 3


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
            # The login page of a network answers 200 to everything.
            raise UnavailableError(
                f"cannot write {uri}: what answered is not S3", hint="log in to this network first"
            )

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

    def download(self, uri: S3Uri, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        incomplete = path.with_name(secrets.token_hex(8))
        with aws_errors(f"download {uri}"):
            self._client.download_file(uri.bucket, uri.key, str(incomplete))
        incomplete.replace(path)

    def upload(self, path: Path, uri: S3Uri) -> None:
        with aws_errors(f"upload {uri}"):
            self._client.upload_file(str(path), uri.bucket, uri.key)

    def delete(self, uri: S3Uri) -> None:
        with aws_errors(f"delete {uri}"):
            self._client.delete_object(Bucket=uri.bucket, Key=uri.key)


def _demand(owner: str) -> Callable[..., dict[str, Any]]:
    """Adds the owner to every request, so that it can be forgotten nowhere."""
    return lambda params, **_: {**params, "ExpectedBucketOwner": owner}


class _ConcurrentWriteError(Exception):
    """S3 asks to repeat a conditional write, since another one of the same key was under way."""
