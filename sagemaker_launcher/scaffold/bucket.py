"""Commands that make a safe bucket, for a person to read and run: this tool itself never creates one. Pure."""

from __future__ import annotations

import json
import shlex

from sagemaker_launcher.scaffold.questions import regional_bucket

_UPLOAD_DAYS = 7
_FIRST_REGION = "us-east-1"  # the one that takes no LocationConstraint: API_CreateBucket.html


def bucket_commands(bucket: str, *, account: str, region: str, kms_key: str = "") -> tuple[str, ...]:
    """AWS CLI commands that create a bucket and harden it.

    Each names the owner, so that none changes somebody else's bucket of this name. Every command repeated does no harm;
    but the first says that the bucket exists.

    Args:
        bucket: Its name.
        account: Its owner.
        region: Where it is.
        kms_key: The key that encrypts its objects; empty: S3's own.
    """
    own = bucket.endswith(regional_bucket("", account, region))
    place = "" if region == _FIRST_REGION else f"LocationConstraint={region}"
    encryption = (
        {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kms_key} if kms_key else {"SSEAlgorithm": "AES256"}
    )
    aborted = {"DaysAfterInitiation": _UPLOAD_DAYS}
    rule = {
        "ID": "incomplete-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": aborted,
    }
    public = ",".join(
        f"{name}=true"
        for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    )
    where = ("--bucket", bucket, "--region", region)
    owned = (*where, "--expected-bucket-owner", account)
    return (
        _aws(
            "create-bucket",
            *where,
            *(("--bucket-namespace", "account-regional") if own else ()),
            *(("--create-bucket-configuration", place) if place else ()),
        ),
        _aws("put-public-access-block", *owned, "--public-access-block-configuration", public),
        _aws("put-bucket-versioning", *owned, "--versioning-configuration", "Status=Enabled"),
        _aws(
            "put-bucket-encryption",
            *owned,
            "--server-side-encryption-configuration",
            json.dumps({"Rules": [{"ApplyServerSideEncryptionByDefault": encryption}]}),
        ),
        _aws(
            "put-bucket-lifecycle-configuration",
            *owned,
            "--lifecycle-configuration",
            json.dumps({"Rules": [rule]}),
        ),
    )


def _aws(*words: str) -> str:
    return shlex.join(("aws", "s3api", *words))
