"""How the buckets that are written to are kept: whether what is lost can be had back, and what is forgotten goes away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sagemaker_launcher.aws import Refusal, asked
from sagemaker_launcher.errors import AccessDeniedError, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.preflight.world import World

# What S3 answers where a setting was never made.
_NEVER_MADE = {"NoSuchLifecycleConfiguration", "ServerSideEncryptionConfigurationNotFoundError"}
_ENABLED = "Enabled"
_VERSIONS, _ENCRYPTION, _EXPIRY = "bucket-versions", "bucket-encryption", "bucket-expiry"


def bucket_findings(world: World, buckets: Iterable[str]) -> Iterator[Finding]:
    """What each bucket could be kept better with; nothing of it stops a job.

    Args:
        world: Whom to ask.
        buckets: Names of our own buckets.

    Raises:
        LauncherError: S3 cannot be asked at all.
    """
    for bucket in buckets:
        for name, look in _LOOKS.items():
            try:
                yield look(world, bucket)
            except (AccessDeniedError, NotFoundError) as error:
                yield Finding(name, "unknown", error.message, error.hint)


def _versions(world: World, bucket: str) -> Finding:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html: no status, if it never had any."""
    if _setting(world, bucket, "get_bucket_versioning").get("Status") == _ENABLED:
        return Finding(_VERSIONS, "ok", f"s3://{bucket} keeps versions of its objects")
    return Finding(
        _VERSIONS,
        "warning",
        f"s3://{bucket} keeps no versions: what somebody overwrites or deletes is gone",
        f"aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled",
    )


def _encryption(world: World, bucket: str) -> Finding:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketEncryption.html."""
    settings = _setting(world, bucket, "get_bucket_encryption").get("ServerSideEncryptionConfiguration", {})
    usual = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in settings.get("Rules", ())]
    kinds = [one["SSEAlgorithm"] for one in usual if "SSEAlgorithm" in one]
    if kinds:
        return Finding(_ENCRYPTION, "ok", f"s3://{bucket} encrypts its objects ({', '.join(kinds)})")
    return Finding(
        _ENCRYPTION,
        "warning",
        f"s3://{bucket} has no encryption of its own choice",
        f"aws s3api put-bucket-encryption --bucket {bucket} --server-side-encryption-configuration "
        """'{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}'""",
    )


def _expiry(world: World, bucket: str) -> Finding:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html."""
    for rule in _setting(world, bucket, "get_bucket_lifecycle_configuration").get("Rules", ()):
        days = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
        if rule.get("Status") == _ENABLED and days:
            return Finding(_EXPIRY, "ok", f"s3://{bucket} drops unfinished uploads after {days} days")
    return Finding(
        _EXPIRY,
        "warning",
        f"s3://{bucket} keeps the parts of unfinished uploads for ever, and they are billed",
        "add a rule with AbortIncompleteMultipartUpload to the bucket's lifecycle configuration",
    )


def _setting(world: World, bucket: str, operation: str) -> dict[str, Any]:
    """A setting of a bucket; an empty one when it was never made."""
    ask = getattr(world.client("s3"), operation)
    try:
        return asked(ask, "", f"ask how s3://{bucket} is kept", Bucket=bucket)
    except LauncherError as error:
        if Refusal.behind(error).code in _NEVER_MADE:
            return {}
        raise


_LOOKS = {_VERSIONS: _versions, _ENCRYPTION: _encryption, _EXPIRY: _expiry}
