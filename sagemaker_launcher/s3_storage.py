"""Objects in S3 itself."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime, timezone
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, FlexibleChecksumError, NoCredentialsError
from botocore.handlers import add_expect_header
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from sagemaker_launcher.aws import Aws, aws_errors, not_aws
from sagemaker_launcher.errors import ConflictError, IntegrityError, NotFoundError, UnavailableError
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.quick_s3.connections import Answer, Connections
from sagemaker_launcher.quick_s3.signing import Keys, signed, target_of
from sagemaker_launcher.storage import (
    S3_CONCURRENCY,
    Check,
    StoredObject,
    Upload,
    changed,
    no_check,
    too_large,
)

_READ_ATTEMPTS = 3
_CONFLICT_PAUSES_S = (0.2, 0.8, 2.0, 4.0)  # between attempts
_CHUNK_BYTES = 2**20
_USUAL_PORTS = {"http": ":80", "https": ":443"}


class _Body(Protocol):
    """The body of an answer, ours or botocore's."""

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""

    def close(self) -> None:
        """Gives the connection back."""


class S3Storage:
    """S3 behind the `Storage` interface.

    Args:
        aws: Where clients come from.
        owners: The accounts of buckets that belong to others, by bucket; all others have to be of our own. S3 refuses
            requests to a bucket of somebody else
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html).
    """

    concurrency = S3_CONCURRENCY

    def __init__(self, aws: Aws, owners: Mapping[str, str] | None = None) -> None:
        self._aws = aws
        self._owners = owners or {}
        self._made: tuple[Any, Any] = None, None  # a session, and its client

    @property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        """The client; another one once somebody has logged in again."""
        session, client = self._made
        if session is not self._aws.session:
            session, client = self._aws.session, self._aws.client("s3")
            # Objects of an archive are small: asking for permission to send the body doubles the time of each PUT.
            client.meta.events.unregister("before-call.s3", add_expect_header)
            self._made = session, demand_owner(client, self._owner)
        return client

    def _owner(self, bucket: str) -> str:
        return self._owners.get(bucket) or self._aws.account

    def read(self, uri: S3Uri, limit: int) -> bytes:
        for attempt in range(1, _READ_ATTEMPTS + 1):
            with aws_errors(f"read {uri}"):
                answer = self._client.get_object(Bucket=uri.bucket, Key=uri.key)
            if not {"ContentLength", "ETag"} <= answer.keys():
                answer["Body"].close()
                raise not_aws(f"read {uri}", "S3")
            if answer["ContentLength"] > limit:
                answer["Body"].close()
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
        for attempt, pause_s in enumerate((*_CONFLICT_PAUSES_S, None), 1):
            try:
                with aws_errors(f"write {uri}"):
                    self._put_new(uri, data)
                return
            except ConflictError:
                if self._holds(uri, data):
                    return  # A repeated request met its own first try.
                raise
            except IntegrityError:
                if attempt > 1:
                    raise  # damaged twice: the same would happen again
            except _ConcurrentWriteError:
                if pause_s is None:
                    raise UnavailableError(
                        f"cannot write {uri}: S3 reports a conflicting write again and again"
                    ) from None
                # Jitter: those who met each other must not come back together.
                time.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - no secret

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
            raise not_aws(f"write {uri}", "S3")

    def _holds(self, uri: S3Uri, data: bytes) -> bool:
        try:
            return self.read(uri, len(data)) == data
        except IntegrityError:
            return False  # larger

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        pages = self._pages(
            "list_objects_v2",
            f"list {prefix}",
            Bucket=prefix.bucket,
            Prefix=prefix.key,
            PaginationConfig={"MaxItems": limit or None, "PageSize": min(limit or 1000, 1000)},
        )
        for page in pages:
            for item in page.get("Contents", ()):
                yield StoredObject(S3Uri(prefix.bucket, item["Key"]), item["Size"], item["ETag"])

    def folders(self, folder: S3Uri) -> Iterator[S3Uri]:
        pages = self._pages(
            "list_objects_v2", f"list {folder}", Bucket=folder.bucket, Prefix=folder.key, Delimiter="/"
        )
        for page in pages:
            for item in page.get("CommonPrefixes", ()):
                yield S3Uri(folder.bucket, item["Prefix"])

    def _pages(self, operation: str, action: str, **parameters: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - those of any operation
        """The pages of a listing. botocore takes any XML document for one, that of a login page for an empty one.

        Every page of S3's has `IsTruncated`: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html and
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html.
        """
        with aws_errors(action):
            for page in self._client.get_paginator(operation).paginate(**parameters):
                if "IsTruncated" not in page:
                    raise not_aws(action, "S3")
                yield page

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
        failures, reached = 0, file.tell()
        while True:
            start = file.tell()
            try:
                with aws_errors(f"download {uri}"):
                    body, tag, is_whole = self._body(uri, start, tag)
                    with closing(body):
                        if is_whole:
                            _begin_anew(file)
                        _copy(body, file, check)
                return
            except UnavailableError:
                # What has come stays, and only the rest is asked for again: of the same object, says its tag.
                failures = 1 if file.tell() > reached else failures + 1
                reached = max(reached, file.tell())
                if failures == _READ_ATTEMPTS:
                    raise

    def _body(self, uri: S3Uri, start: int, tag: str) -> tuple[_Body, str, bool]:
        """An object from a byte on, its tag, and whether all of it comes although only the rest was asked for.

        For many small objects the time of everybody who waits is the processor's, and get_object takes five times as
        much of it as a request of our own. So it only gets what did not succeed at once: it knows how to wait, where a
        bucket has moved to, and what every error is called.
        """
        with suppress(UnavailableError):
            if self._connections:
                answer = self._ask(self._connections, uri, start, tag)
                wanted = HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK
                if answer.status == wanted and "ETag" in answer.headers:
                    return answer, answer.headers["ETag"], False
                answer.close()
        return self._body_slowly(uri, start, tag)

    def _ask(self, connections: Connections, uri: S3Uri, start: int, tag: str) -> Answer:
        credentials = self._aws.session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        frozen = credentials.get_frozen_credentials()
        headers = {
            "x-amz-expected-bucket-owner": self._owner(uri.bucket),
            **({"range": f"bytes={start}-"} if start else {}),
            **({"if-match": tag} if tag else {}),
        }
        endpoint = urlsplit(self._client.meta.endpoint_url)
        target = target_of(f"{endpoint.path.rstrip('/')}/{uri.bucket}/{uri.key}", {})
        host = endpoint.netloc.removesuffix(_USUAL_PORTS[endpoint.scheme])
        keys = Keys(frozen.access_key, frozen.secret_key, frozen.token or "")
        now, region = datetime.now(timezone.utc), self._client.meta.region_name
        return connections.get(target, signed(target, host, headers, keys, region, now))

    @cached_property
    def _connections(self) -> Connections | None:
        """Connections of our own, with the certificates and the time limits of the client's; None behind a proxy."""
        endpoint, limits = self._client.meta.endpoint_url, self._client.meta.config
        trusted = self._client._endpoint.http_session._verify  # noqa: SLF001 - there is no public way to it
        if not trusted or get_environ_proxies(endpoint):
            return None
        secure = endpoint.startswith("https:")
        context = ssl.create_default_context(cafile=get_cert_path(trusted)) if secure else None
        return Connections(endpoint, context, limits.connect_timeout, limits.read_timeout)

    def _body_slowly(self, uri: S3Uri, start: int, tag: str) -> tuple[_Body, str, bool]:
        conditions = {"Range": f"bytes={start}-"} if start else {}
        if tag:
            conditions["IfMatch"] = tag
        try:
            answer = self._client.get_object(Bucket=uri.bucket, Key=uri.key, **conditions)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"PreconditionFailed", "412"}:
                raise changed(uri) from error
            raise
        if "ETag" not in answer:
            answer["Body"].close()
            raise not_aws(f"download {uri}", "S3")
        # S3 itself gives the rest, but what answers in its name, or a proxy on the way, need not know of ranges.
        is_rest = answer["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.PARTIAL_CONTENT
        return answer["Body"], answer["ETag"], bool(start) and not is_rest

    def upload(self, path: Path, uri: S3Uri) -> None:
        with aws_errors(f"upload {uri}"):
            self._client.upload_file(str(path), uri.bucket, uri.key)

    def delete(self, uri: S3Uri) -> None:
        with aws_errors(f"delete {uri}"):
            self._client.delete_object(Bucket=uri.bucket, Key=uri.key)

    def uploads(self, prefix: S3Uri) -> Iterator[Upload]:
        """See Storage. https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html: their parts are billed."""
        action = f"list what was uploaded in part to {prefix}"
        for page in self._pages("list_multipart_uploads", action, Bucket=prefix.bucket, Prefix=prefix.key):
            for item in page.get("Uploads", ()):
                if item["Key"].startswith(prefix.key):
                    yield Upload(S3Uri(prefix.bucket, item["Key"]), item["UploadId"], item["Initiated"])

    def abort(self, upload: Upload) -> None:
        """See Storage. https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html."""
        uri = upload.uri
        with suppress(NotFoundError), aws_errors(f"give up what was uploaded in part to {uri}"):
            self._client.abort_multipart_upload(Bucket=uri.bucket, Key=uri.key, UploadId=upload.identifier)

    def abort_uploads(self, prefix: S3Uri) -> int:
        found = list(self.uploads(prefix))
        for upload in found:
            self.abort(upload)
        return len(found)


def _copy(body: _Body, file: BinaryIO, check: Check) -> None:
    """Copies to the end: only then does botocore compare the length and the checksum."""
    try:
        while chunk := body.read(_CHUNK_BYTES):
            check()
            file.write(chunk)
    except FlexibleChecksumError:
        _begin_anew(file)
        raise


def _begin_anew(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def demand_owner(client: Any, owner: Callable[[str], str]) -> Any:  # noqa: ANN401 - boto3 is untyped
    """Makes a client of S3 name the bucket's owner in every request, so that it can be forgotten nowhere.

    Args:
        client: The client, which is given back.
        owner: Gives the account that has to own a bucket.
    """

    def add(params: dict[str, Any], **_: object) -> dict[str, Any]:
        return {**params, "ExpectedBucketOwner": owner(params["Bucket"])}

    client.meta.events.register("provide-client-params.s3", add)
    return client


class _ConcurrentWriteError(Exception):
    """S3 asks to repeat a conditional write, since another one of the same key was under way."""
