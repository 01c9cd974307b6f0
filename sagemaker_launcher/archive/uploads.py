"""Uploads in parts that nobody has finished: S3 keeps their parts, which nobody sees and somebody pays for, until they are given up.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone

from sagemaker_launcher.errors import AccessDeniedError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import Storage, Upload

# No upload of ours takes as long, nor does one of SageMaker's when a job has ended.
_OLD = timedelta(days=1)


def unfinished_uploads(
    storage: Storage, prefixes: Iterable[S3Uri], *, change: bool, now: datetime | None = None
) -> Iterator[Finding]:
    """Looks for uploads below some prefixes.

    Args:
        storage: Where they are.
        prefixes: Nothing is done elsewhere.
        change: Whether to give up those that began more than a day ago, or only to tell of them.
        now: The present.

    Returns:
        One finding each: `ok` for what may still go on or was given up, `warning` for what could be given up. One that is
        `unknown` for each prefix that nobody may look at.

    Raises:
        LauncherError: S3 cannot be asked at all.
    """
    present = now or datetime.now(timezone.utc)
    seen: set[Upload] = set()
    for prefix in prefixes:
        try:
            for upload in storage.uploads(prefix):
                if upload not in seen:
                    seen.add(upload)
                    yield _judged(storage, upload, present - upload.began_at, change=change)
        except (AccessDeniedError, NotFoundError) as error:
            yield Finding("uploads", "unknown", error.message, error.hint)


def _judged(storage: Storage, upload: Upload, age: timedelta, *, change: bool) -> Finding:
    shown = f"{upload.uri}, begun {_shown(age)} ago"
    if age < _OLD:
        return Finding("uploads", "ok", f"{shown}: it may still go on")
    if not change:
        return Finding(
            "uploads", "warning", f"{shown}: unfinished, and its parts cost", "doctor --repair gives it up"
        )
    storage.abort(upload)
    return Finding("uploads", "ok", f"given up: {shown}")


def _shown(age: timedelta) -> str:
    if age.days:
        return f"{age.days} d"
    hours, seconds = divmod(age.seconds, 3600)
    return f"{hours} h" if hours else f"{seconds // 60} min"
