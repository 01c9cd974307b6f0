"""A job as AWS remembers it: what tells whose it is, and how it stands. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.result import JobResult


@frozen
class RecalledJob:
    """A job on AWS.

    Attributes:
        arn: Its ARN.
        created_at: When (ISO 8601, UTC).
        tags: Its tags; `manifest.SEAL_TAG` is the hash of the manifest that it was started with.
        result: How it stands.
    """

    arn: str
    created_at: str
    tags: Mapping[str, str]
    result: JobResult


# Asks AWS for the job of a name in a region. Raises NotFoundError when AWS knows none.
Recall = Callable[[str, str], RecalledJob]
