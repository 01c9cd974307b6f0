"""Listings and small objects of S3 over plain HTTP requests; what does not succeed at once is left to boto3's client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timezone
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree as ET

from sagemaker_launcher import __version__
from sagemaker_launcher.errors import UnavailableError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.quick_s3.access import Access
from sagemaker_launcher.quick_s3.connections import Connections
from sagemaker_launcher.quick_s3.signing import signed, target_of
from sagemaker_launcher.storage import (
    S3_CONCURRENCY,
    Check,
    Storage,
    StoredObject,
    Upload,
    no_check,
    too_large,
)

_TIMEOUT_S = 5.0
_PAGE, _PAGE_BYTES = 1000, 16 * 1024 * 1024  # objects, bytes
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_FOLDER = f"{_NAMESPACE}CommonPrefixes/{_NAMESPACE}Prefix"


class QuickStorage:
    """S3 behind the `Storage` interface, for commands that only look.

    The client of boto3 knows how to wait, where a bucket has moved to, and what every error is called. So from the first
    answer on that is not the wanted one, it is asked for everything.

    Args:
        access: How S3 is reached.
        make_full: Makes the storage that does the rest.
        owners: The accounts of buckets that belong to others, by bucket.
    """

    concurrency = S3_CONCURRENCY

    def __init__(self, access: Access, make_full: Callable[[], Storage], owners: Mapping[str, str]) -> None:
        self._requests: _Requests | None = _Requests(access, owners)
        self._make_full = make_full

    @cached_property
    def _full(self) -> Storage:
        return self._make_full()

    def read(self, uri: S3Uri, limit: int) -> bytes:
        """See Storage."""
        data = self._get(uri.bucket, target_of(f"/{uri.bucket}/{uri.key}", {}), limit, "ETag")
        if data is None:
            return self._full.read(uri, limit)
        if len(data) > limit:
            raise too_large(uri, limit)
        return data

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        """See Storage."""
        query = {"prefix": prefix.key, "max-keys": str(min(limit or _PAGE, _PAGE))}
        last, left = "", limit
        for answer in self._pages(prefix.bucket, query):
            if answer is None:
                # From the beginning, since a token is the client's own that got it.
                yield from (item for item in self._full.list(prefix, limit) if item.uri.key > last)
                return
            found = answer.objects[:left] if limit else answer.objects
            yield from found
            left -= len(found)
            if limit and left <= 0:
                return
            last = found[-1].uri.key if found else last

    def folders(self, folder: S3Uri) -> Iterator[S3Uri]:
        """See Storage."""
        last = ""
        for answer in self._pages(folder.bucket, {"prefix": folder.key, "delimiter": "/"}):
            if answer is None:
                yield from (found for found in self._full.folders(folder) if found.key > last)
                return
            yield from answer.folders
            last = answer.folders[-1].key if answer.folders else last

    def _pages(self, bucket: str, query: Mapping[str, str]) -> Iterator[_Page | None]:
        """The answers to ListObjectsV2, one after the other; None at last when boto3 has to go on."""
        words = {"list-type": "2", "encoding-type": "url", **query}
        while True:
            body = self._get(bucket, target_of(f"/{bucket}", words), _PAGE_BYTES, "Content-Type")
            page = _read_page(body, bucket) if body is not None else None
            yield page
            if page is None or not page.next_token:
                return
            words["continuation-token"] = page.next_token

    def create(self, uri: S3Uri, data: bytes) -> None:
        """See Storage."""
        self._full.create(uri, data)

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
        """See Storage."""
        self._full.download(uri, file, tag, check)

    def upload(self, path: Path, uri: S3Uri) -> None:
        """See Storage."""
        self._full.upload(path, uri)

    def delete(self, uri: S3Uri) -> None:
        """See Storage."""
        self._full.delete(uri)

    def uploads(self, prefix: S3Uri) -> Iterator[Upload]:
        """See Storage."""
        return self._full.uploads(prefix)

    def abort(self, upload: Upload) -> None:
        """See Storage."""
        self._full.abort(upload)

    def abort_uploads(self, prefix: S3Uri) -> int:
        """See Storage."""
        return self._full.abort_uploads(prefix)

    def _get(self, bucket: str, target: str, limit: int, header: str) -> bytes | None:
        """The body of an answer that has a header, or one byte more than the limit of it; None when boto3 has to ask."""
        data = self._requests.get(bucket, target, limit, header) if self._requests else None
        if data is None:
            self._requests = None
        return data


class _Requests:
    """GETs over connections that are kept; several threads may ask at once."""

    def __init__(self, access: Access, owners: Mapping[str, str]) -> None:
        self._access = access
        self._owners = owners
        place = urlsplit(access.endpoint)
        self._host = place.netloc.removesuffix(_USUAL_PORTS[place.scheme])
        self._connections = Connections(access.endpoint, None, _TIMEOUT_S, _TIMEOUT_S)

    def get(self, bucket: str, target: str, limit: int, header: str) -> bytes | None:
        """See QuickStorage."""
        headers = {
            "user-agent": f"sagemaker-launcher/{__version__}",
            "x-amz-expected-bucket-owner": self._owners.get(bucket) or self._access.account,
        }
        now = datetime.now(timezone.utc)
        headers = signed(target, self._host, headers, self._access.keys, self._access.region, now)
        try:
            with closing(self._connections.get(target, headers)) as answer:
                data = answer.read(limit + 1)
                answer.read(1)  # the end, which only another reading finds when an answer comes in pieces
        except UnavailableError:
            return None
        return data if answer.status == HTTPStatus.OK and header in answer.headers else None


@frozen
class _Page:
    """An answer to ListObjectsV2; the token is empty on the last.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    """

    objects: list[StoredObject]
    folders: list[S3Uri]
    next_token: str


def _read_page(body: bytes, bucket: str) -> _Page | None:
    """None for what is no such answer: what logs a network in answers 200 to everything."""
    try:
        answer = ET.fromstring(body)  # noqa: S314 - as botocore does; expat itself refuses what would swell
        if answer.tag != f"{_NAMESPACE}ListBucketResult":
            return None
        return _Page(
            [_object(bucket, item) for item in answer.iterfind(f"{_NAMESPACE}Contents")],
            [S3Uri(bucket, unquote_plus(item.text or "")) for item in answer.iterfind(_FOLDER)],
            answer.findtext(f"{_NAMESPACE}NextContinuationToken", ""),
        )
    except (ET.ParseError, KeyError, ValueError):
        return None


def _object(bucket: str, item: ET.Element) -> StoredObject:
    values = {part.tag: part.text or "" for part in item}
    key = unquote_plus(values[f"{_NAMESPACE}Key"])
    return StoredObject(S3Uri(bucket, key), int(values[f"{_NAMESPACE}Size"]), values[f"{_NAMESPACE}ETag"])
