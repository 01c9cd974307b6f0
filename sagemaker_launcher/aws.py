"""The one place that makes AWS sessions and clients, and turns botocore's exceptions into ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.session import get_session
from botocore.utils import parse_timestamp

from sagemaker_launcher import __version__
from sagemaker_launcher.errors import (
    AccessDeniedError,
    CapacityError,
    ConfigError,
    ConflictError,
    CredentialsError,
    LauncherError,
    NotFoundError,
    Problem,
    UnavailableError,
)

_SERVER_ERROR = 500
_LOG_IN = "log in, for example with `aws sso login` or `aws configure`, and check AWS.PROFILE in the config"
_NETWORK = (
    "check the network, the proxy (HTTPS_PROXY) and the certificates (AWS_CA_BUNDLE), then run the same again"
)
_BUSY = "AWS is busy; run the same again in a while"
_DENIED = "ask the account's administrator for this permission"
_CLOCK = "the clock of this machine is wrong: AWS refuses requests that are more than some minutes off"
_Meaning = tuple[type[LauncherError], str, str]


def _codes(meaning: _Meaning, *codes: str) -> dict[str, _Meaning]:
    return dict.fromkeys(codes, meaning)


# What AWS's error codes mean to a user: the kind of error, the hint, and the word for programs.
_ERRORS: dict[str, _Meaning] = {
    **_codes(
        (CredentialsError, _LOG_IN, "credentials_refused"),
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ),
    **_codes((CredentialsError, _CLOCK, "clock_skew"), "RequestTimeTooSkewed"),
    **_codes(
        (AccessDeniedError, _DENIED, "access_denied"),
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "UnauthorizedOperation",
    ),
    **_codes((NotFoundError, "create the bucket, or correct its name", "bucket_not_found"), "NoSuchBucket"),
    **_codes(
        (NotFoundError, "", "not_found"),
        "404",
        "NoSuchKey",
        "NotFound",
        "ResourceNotFound",
        "ResourceNotFoundException",
    ),
    **_codes(
        (CapacityError, "ask for a higher quota in the Service Quotas console", "quota"),
        "ResourceLimitExceeded",
    ),
    **_codes((ConflictError, "", "name_taken"), "ResourceInUse"),
    **_codes(
        (UnavailableError, _BUSY, "aws_busy"),
        "InternalError",
        "InternalFailure",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    ),
}
# Retries and time limits, so that a dead network is reported after seconds and not after minutes.
_CLIENT_CONFIG = {
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "connect_timeout": 5,
    "read_timeout": 60,
    "tcp_keepalive": True,
    "max_pool_connections": 32,
    "user_agent_extra": f"sagemaker-launcher/{__version__}",
}


@dataclass(frozen=True)
class Identity:
    """Who AWS says we are."""

    account: str
    arn: str


class Aws:
    """Sessions and clients of one region and profile.

    Args:
        region: The region; empty: what the environment or the profile says.
        profile: The profile; empty: the usual credential chain.
    """

    def __init__(self, region: str = "", profile: str = "") -> None:
        self._region = region
        self._profile = profile

    @cached_property
    def session(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        """The boto3 session. Raises CredentialsError when there is no such profile."""
        if not _on_ec2():
            # Without credentials boto3 asks the EC2 metadata service many times and waits for each answer.
            os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
        with aws_errors("read the AWS profile"):
            core = get_session()
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
            return boto3.Session(
                botocore_session=core, region_name=self._region or None, profile_name=self._profile or None
            )

    def credential_variables(self) -> dict[str, str]:
        """The credentials as the variables that AWS's tools read. Raises CredentialsError when there are none."""
        with aws_errors("read your credentials"):
            credentials = self.session.get_credentials()
            if credentials is None:
                raise exceptions.NoCredentialsError
            frozen = credentials.get_frozen_credentials()
        variables = {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        return variables | ({"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {})

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client with this tool's time limits and retries."""
        region = self.session.region_name or ("us-east-1" if service == "s3" else None)
        with aws_errors(f"make a client for {service}"):
            return self.session.client(service, region_name=region, config=Config(**_CLIENT_CONFIG))

    def single_attempt_client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client that never repeats a call, for calls that are not idempotent and whose answer is checked."""
        config = {**_CLIENT_CONFIG, "retries": {"total_max_attempts": 1}}
        with aws_errors(f"make a client for {service}"):
            return self.session.client(service, config=Config(**config))

    def renewed(self) -> Aws:
        """The same region and profile with a new session, which reads the credentials again."""
        return Aws(self._region, self._profile)

    @cached_property
    def identity(self) -> Identity:
        """Who we are, asked of STS once. Raises CredentialsError and the other errors of `aws_errors`."""
        with aws_errors("ask AWS who you are"):
            answer = self.client("sts").get_caller_identity()
        return Identity(answer["Account"], answer["Arn"])


def _timestamp(value: object) -> datetime:
    """Reads a time of an answer. botocore's own way takes more of a long listing's time than all the rest."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value.replace("Z", "+00:00"))
    moment: datetime = parse_timestamp(value)
    return moment


def _on_ec2() -> bool:
    """Whether this machine is an EC2 instance, whose metadata service may hold the credentials.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
    """
    try:
        return "Amazon EC2" in Path("/sys/class/dmi/id/sys_vendor").read_text("ascii", "replace")
    except OSError:
        return False


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Turns what botocore raises inside the block into this tool's errors.

    Args:
        action: What was being done, to complete "cannot ...".

    Raises:
        CredentialsError: No credentials, or wrong or expired ones.
        AccessDeniedError: The credentials do not allow it.
        NotFoundError: The bucket, object or resource does not exist.
        CapacityError: A quota is used up.
        ConflictError: The name is taken.
        UnavailableError: No answer, a damaged one, or AWS is busy after all retries.
        ConfigError: The service refuses the request's content.
    """
    try:
        yield
    except exceptions.ClientError as error:
        raise _client_error(error, action) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
    ) as error:
        raise CredentialsError(f"cannot {action}: {error}", hint=_LOG_IN, code="no_credentials") from error
    except (
        exceptions.CredentialRetrievalError,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
        exceptions.LoginError,
    ) as error:
        raise CredentialsError(f"cannot {action}: {error}", hint=_LOG_IN, code="login_needed") from error
    except exceptions.NoRegionError as error:
        problem = Problem("AWS.REGION", f"cannot {action}: no region is known")
        raise ConfigError([problem], hint="set AWS.REGION in the config, or AWS_DEFAULT_REGION") from error
    except (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
    ) as error:
        raise UnavailableError(f"cannot {action}: {error}", hint=_NETWORK) from error


def answered(answer: dict[str, Any], member: str, action: str) -> dict[str, Any]:
    """An answer of AWS that is one: the login page of a network answers 200 to everything.

    Args:
        answer: What botocore made of it.
        member: What every answer to this request has.
        action: What was being done, to complete "cannot ...".

    Raises:
        UnavailableError: It is none, or was cut off.
    """
    if member not in answer:
        raise UnavailableError(
            f"cannot {action}: what answered is not AWS", hint="log in to this network first"
        )
    return answer


def _client_error(error: exceptions.ClientError, action: str) -> LauncherError:
    details = error.response.get("Error", {})
    code, text = str(details.get("Code", "")), str(details.get("Message", ""))
    message = f"cannot {action}: {code}: {text}"
    if code in _ERRORS:
        kind, hint, word = _ERRORS[code]
        return kind(message, hint=hint, code=word)
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= _SERVER_ERROR:
        return UnavailableError(message, hint=_BUSY)
    return ConfigError([Problem(f"cannot {action}", f"{code}: {text}")], code="refused_by_aws")
