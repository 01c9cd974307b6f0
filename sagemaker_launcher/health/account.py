"""Who AWS says we are, where no config asks for more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import ExitCode, LauncherError
from sagemaker_launcher.findings import Finding

_SOON = timedelta(hours=1)


def key_finding(aws: Aws) -> Finding:
    """Which access key is used and how long it is valid; asks AWS nothing, unless that is where the key comes from."""
    try:
        shown, end = aws.key_shown, aws.credentials_end
    except LauncherError as error:
        return _failed("key", error)
    if end is None:
        return Finding("key", "ok", f"{shown}; it does not end, or is renewed by itself")
    left = end - datetime.now(timezone.utc)
    told = f"{shown}; it {'ended' if left < timedelta(0) else 'ends'} at {end:%Y-%m-%d %H:%M} UTC"
    if left < _SOON:
        return Finding("key", "warning", told, "log in again")
    return Finding("key", "ok", told)


def account_findings(aws: Aws) -> Iterator[Finding]:
    """The region, and who AWS says we are; names as those of the checks of a job."""
    try:
        region = aws.region
        if not region:
            yield Finding(
                "region", "warning", "none is known", "set AWS.REGION in a config, or AWS_DEFAULT_REGION"
            )
            return
        yield Finding("region", "ok", region)
        identity = aws.identity
    except LauncherError as error:
        yield _failed("credentials", error)
        return
    yield Finding("credentials", "ok", identity.arn)
    yield Finding("account", "ok", f"{identity.account} in {region}")


def _failed(name: str, error: LauncherError) -> Finding:
    return Finding(name, "failed", error.message, error.hint, ExitCode(error.exit_code), error.code)
