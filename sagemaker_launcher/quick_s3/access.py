"""Who asks S3, and where, as far as the environment and the files of `aws configure` say it plainly.

What is not plain is boto3's: roles, SSO, processes, proxies, certificates, endpoints and settings of other kinds. So only what
is known here is let pass, and whatever else there is makes the answer None.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.known_accounts import recalled_account
from sagemaker_launcher.quick_s3.signing import Keys

# https://docs.aws.amazon.com/boto3/latest/guide/configuration.html: variables that boto3 reads, or that change nothing here.
_VARIABLES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCOUNT_ID",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_OUTPUT",
    "AWS_DEFAULT_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PAGER",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
}
_PLAIN_SETTINGS = {"region", "output", "cli_pager"}
_KEY_SETTINGS = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_account_id"}
# The names that the AWS library takes from the system when no variable has them.
_PROXY_SYSTEMS = {"darwin", "win32"}
# The partition `aws` of botocore's partitions.json; others have other domains.
_REGION = re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-\w+-\d+", re.ASCII)
_Section = Mapping[str, str]


@frozen
class Access:
    """How S3 is reached.

    Attributes:
        endpoint: Scheme and host, nothing more.
        keys: Who asks.
        region: What requests are signed for.
        account: Who has to own the buckets, unless it is said of one that it is somebody else's.
    """

    endpoint: str
    keys: Keys
    region: str
    account: str


def plain_access(
    region: str, profile: str, account: str, variables: Mapping[str, str] = os.environ
) -> Access | None:
    """What boto3 would find, or None where only boto3 can say that.

    Args:
        region: The region that a config names; may be empty.
        profile: The profile that a config names; may be empty.
        account: The account that a config names; may be empty: that of the keys, if it is known without asking.
        variables: The environment.
    """
    named = profile or variables.get("AWS_DEFAULT_PROFILE") or variables.get("AWS_PROFILE") or ""
    has_keys = "AWS_ACCESS_KEY_ID" in variables
    if sys.platform in _PROXY_SYSTEMS or not _is_plain(variables) or (has_keys and named and not profile):
        return None
    section = named or "default"
    settings = _section(_file(variables, "AWS_CONFIG_FILE", "config"), f"profile {section}", section)
    if settings is None or not settings.keys() <= _PLAIN_SETTINGS:
        return None
    from_file = named or not has_keys
    stored = _file(variables, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
    keys = _stored_keys(stored, section) if from_file else _keys(variables)
    place = region or variables.get("AWS_DEFAULT_REGION") or settings.get("region") or "us-east-1"
    given = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL")
    endpoint = given or (f"https://s3.{place}.amazonaws.com" if _REGION.fullmatch(place) else "")
    if not keys or not _is_bare(endpoint):
        return None
    owner = account or keys.account or recalled_account(keys.access)
    return Access(endpoint, keys, place, owner) if owner else None


def _is_plain(variables: Mapping[str, str]) -> bool:
    return all(
        name in _VARIABLES or name.startswith("AWS_ENDPOINT_URL_")
        for name, value in variables.items()
        if value
        and (name.startswith("AWS_") or name == "REQUESTS_CA_BUNDLE" or name.lower().endswith("_proxy"))
    )


def _is_bare(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and parts.path in {"", "/"}


def _keys(variables: Mapping[str, str]) -> Keys | None:
    access, secret = variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret:
        return None
    return Keys(access, secret, variables.get("AWS_SESSION_TOKEN", ""), variables.get("AWS_ACCOUNT_ID", ""))


def _stored_keys(path: Path, profile: str) -> Keys | None:
    stored = _section(path, profile)
    if not stored or not stored.keys() <= _KEY_SETTINGS:
        return None
    return _keys({name.upper(): value for name, value in stored.items()})


def _file(variables: Mapping[str, str], variable: str, usual: str) -> Path:
    return Path(variables.get(variable) or f"~/.aws/{usual}").expanduser()


def _section(path: Path, *names: str) -> _Section | None:
    """The settings of the first section that a file has of some; empty without a file or section, None for a file that is no such one."""
    if not os.path.isfile(path):  # noqa: PTH113 - botocore's own test, which never raises
        return {}
    import configparser  # noqa: PLC0415 - few have such files in a container

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, ValueError, configparser.Error):
        return None
    return next((dict(parser.items(name)) for name in names if parser.has_section(name)), {})
