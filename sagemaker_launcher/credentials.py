"""Whether this machine may have AWS credentials, told without boto3, which takes longer to import than most commands take."""

from __future__ import annotations

import os
from pathlib import Path

# https://docs.aws.amazon.com/boto3/latest/guide/credentials.html: what boto3 looks at, in the variables and the home.
_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}


def may_exist() -> bool:
    """Whether it is worth asking boto3 for credentials."""
    if any(os.environ.get(name) for name in _VARIABLES):
        return True
    places = (Path(os.environ.get(name) or usual).expanduser() for name, usual in _FILES.items())
    if any(os.path.isfile(path) for path in places):  # noqa: PTH113 - botocore's own test, which never raises
        return True
    return on_ec2() and os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true"


def on_ec2() -> bool:
    """Whether this machine is an EC2 instance, whose metadata service may hold the credentials.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
    """
    try:
        return "Amazon EC2" in Path("/sys/class/dmi/id/sys_vendor").read_text("ascii", "replace")
    except OSError:
        return False
