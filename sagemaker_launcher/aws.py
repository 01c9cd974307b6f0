"""The one place that makes AWS sessions and clients, and turns botocore's exceptions into ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from threading import Lock, RLock
from traceback import walk_tb
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions
from botocore.config import Config
from botocore.credentials import ProcessProvider
from botocore.parsers import ResponseParserError
from botocore.session import get_session
from botocore.utils import parse_timestamp

from sagemaker_launcher import __version__, credentials
from sagemaker_launcher.credential_program import CredentialProgram
from sagemaker_launcher.errors import (
    AccessDeniedError,
    CapacityError,
    ConfigError,
    ConflictError,
    CredentialsError,
    IntegrityError,
    LauncherError,
    NotFoundError,
    Problem,
    UnavailableError,
)
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.known_accounts import keep_account, recalled_account
from sagemaker_launcher.patience import Patience

_SERVER_ERROR = 500
_PROXY_LOGIN = 407
_LOG_IN = "log in, for example with `aws sso login` or `aws configure`, and check AWS.PROFILE in the config"
_NETWORK = (
    "check the network, the proxy (HTTPS_PROXY) and the certificates (AWS_CA_BUNDLE), then run the same again"
)
_BUSY = "AWS is busy; run the same again in a while"
_NO_DOCUMENT = (
    "AWS is busy, or this network answers in its place: log in to the network, check the proxy (HTTPS_PROXY), and run the"
    " same again"
)
_SETTINGS = (
    "correct it in ~/.aws/config, in ~/.aws/credentials or in the variables whose names begin with AWS_"
)
_REGION = "set AWS.REGION in the config, --region, AWS_DEFAULT_REGION, or `region` in ~/.aws/config"
_EXPIRED = (
    "log in again, for example with `aws sso login`; exported credentials have to be exported anew, with their"
    " AWS_CREDENTIAL_EXPIRATION"
)
_TYPE_CODE = "run the same on a terminal and type the code, or log in first and use a profile that needs none"
_DENIED = "ask the account's administrator for this permission"
_GLACIER = (
    "it lies in an archive of S3: bring it back with `aws s3api restore-object`, which takes minutes to hours, and run"
    " the same again"
)
_KEY_REFUSED = "the bucket's objects are encrypted with that key: enable it, or ask for kms:GenerateDataKey and kms:Decrypt"
_DAMAGED = "what arrived is not what was sent: something on the way changes data; try another network"
_CLOCK = "set the clock of this machine: AWS refuses requests that are more than some minutes off"
_CLOCK_TOLERANCE = timedelta(minutes=5)
# What AWS says to a signature that is too old or too new, and also to a wrong one.
_REFUSED_SIGNATURES = {
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_KEY_LENGTH = 16  # https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html
# What botocore calls the places that credentials come from, where that is no word for people.
_SOURCES = {
    "env": "from the environment",
    "shared-credentials-file": "from the file of credentials",
    "config-file": "from AWS's config file",
    "custom-process": "from the profile's program",
    "sso": "from a login of SSO",
    "iam-role": "of this machine's role",
    "container-role": "of this container's role",
}
# For what a launch can do without: nobody waits long for it.
_QUICK = {"retries": {"total_max_attempts": 1}, "connect_timeout": 2, "read_timeout": 3}
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
DAMAGED_CODES = frozenset(("BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"))
# What comes of settings that botocore does not check, such as a number that is none, or a file that is not there; and where in
# botocore, 1.44.5, settings are read: nothing of a request is looked at there.
_UNCHECKED = (AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)
_SETTINGS_READERS = {"botocore.args", "botocore.configprovider", "botocore.credentials", "botocore.tokens"}
# What botocore itself asks, to get credentials by a profile: no answer to it tells anything of what was asked for.
_LOGINS = {
    "AssumeRole",
    "AssumeRoleWithWebIdentity",
    "CreateOAuth2Token",
    "CreateToken",
    "GetRoleCredentials",
}
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
        "NoSuchEntity",
        "NoSuchKey",
        "NoSuchResourceException",
        "NoSuchUpload",
        "NotFound",
        "NotFoundException",
        "ImageNotFoundException",
        "InvalidGroup.NotFound",
        "InvalidGroupId.Malformed",
        "InvalidSubnetID.NotFound",
        "RepositoryNotFoundException",
        "ResourceNotFound",
        "ResourceNotFoundException",
    ),
    **_codes(
        (CapacityError, "ask for a higher quota in the Service Quotas console", "quota"),
        "ResourceLimitExceeded",
    ),
    **_codes((ConflictError, "", "name_taken"), "ResourceInUse"),
    **_codes((UnavailableError, _GLACIER, "object_in_glacier"), "InvalidObjectState"),
    **_codes((IntegrityError, _DAMAGED, "damaged_upload"), *DAMAGED_CODES),
    **_codes(
        (UnavailableError, _BUSY, "aws_busy"),
        "InternalError",
        "InternalFailure",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    ),
}


def _raised(meaning: _Meaning, *kinds: type[Exception]) -> dict[type[Exception], _Meaning]:
    return dict.fromkeys(kinds, meaning)


# What the exceptions of botocore 1.44.5 mean that are no answer of AWS. What else it says of a request's parameters, such as
# ParamValidationError, is a bug of this tool.
_FAILURES: dict[type[Exception], _Meaning] = {
    **_raised(
        (CredentialsError, _LOG_IN, "no_credentials"),
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.ProfileNotFound,
    ),
    **_raised(
        (CredentialsError, _LOG_IN, "login_needed"),
        exceptions.CredentialRetrievalError,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
        exceptions.LoginError,
    ),
    **_raised(
        (CredentialsError, _SETTINGS, "aws_settings"),
        exceptions.ConfigNotFound,
        exceptions.ConfigParseError,
        exceptions.EndpointProviderError,
        exceptions.EndpointVariantError,
        exceptions.InvalidChecksumConfigError,
        exceptions.InvalidConfigError,
        exceptions.InvalidDefaultsMode,
        exceptions.InvalidEndpointConfigurationError,
        exceptions.InvalidEndpointDiscoveryConfigurationError,
        exceptions.InvalidIMDSEndpointError,
        exceptions.InvalidIMDSEndpointModeError,
        exceptions.InvalidProxiesConfigError,
        exceptions.InvalidRetryConfigurationError,
        exceptions.InvalidS3AddressingStyleError,
        exceptions.InvalidS3UsEast1RegionalEndpointConfigError,
        exceptions.InvalidSTSRegionalEndpointsConfigError,
        exceptions.MissingDependencyException,
        exceptions.RefreshWithMFAUnsupportedError,
        exceptions.UnknownCredentialError,
        exceptions.UnknownEndpointError,
        exceptions.UnknownSignatureVersionError,
        exceptions.UnsupportedS3ConfigurationError,
    ),
    **_raised(
        (UnavailableError, _NETWORK, ""),
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.IncompleteReadError,
        exceptions.FlexibleChecksumError,
    ),
}
_REGIONS = (exceptions.NoRegionError, exceptions.InvalidRegionError, exceptions.UnknownRegionError)
# Retries and time limits, so that a dead network is reported after seconds and not after minutes.
_CLIENT_CONFIG = {
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "connect_timeout": 5,
    "read_timeout": 60,
    "tcp_keepalive": True,
    "max_pool_connections": 32,
    "user_agent_extra": f"sagemaker-launcher/{__version__}",
}


# A check that gets no answer is better told soon than waited for.
_CHECK_CONFIG = {
    **_CLIENT_CONFIG,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "connect_timeout": 3,
    "read_timeout": 5,
}


@frozen
class Identity:
    """Who AWS says we are.

    Attributes:
        account: The account's number.
        arn: Of the user, or of the role's session.
        clock_lead: How far the clock of this machine is ahead of AWS's; negative when it is behind.
    """

    account: str
    arn: str
    clock_lead: timedelta = timedelta(0)


class Aws:
    """Sessions and clients of one region and profile.

    Args:
        region: The region; empty: what the environment or the profile says.
        profile: The profile; empty: the usual credential chain.
        account: The account that everything has to belong to; empty: that of the credentials.
    """

    def __init__(self, region: str = "", profile: str = "", account: str = "") -> None:
        self._region = region
        self._profile = profile
        self._account = account
        self._identity: Identity | None = None
        self._asking = Lock()
        self._patience = Patience()
        self._making = RLock()  # boto3 sessions make one client at a time

    @cached_property
    def session(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        """The boto3 session. Raises CredentialsError when there is no such profile."""
        if not credentials.on_ec2():
            # Without credentials boto3 asks the EC2 metadata service many times and waits for each answer.
            os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
        with aws_errors("read the AWS profile"):
            core = get_session()
            core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
            session = boto3.Session(
                botocore_session=core, region_name=self._region or None, profile_name=self._profile or None
            )
            program = ProcessProvider(core.profile or "default", lambda: core.full_config, CredentialProgram)
            core.get_component("credential_provider").insert_before(program.METHOD, program)
            return session

    def has_credentials(self) -> bool:
        """Whether boto3 finds any. Raises CredentialsError when there is no such profile, or one that cannot be used."""
        with aws_errors("read your credentials"):
            return self.session.get_credentials() is not None

    def credential_variables(self) -> dict[str, str]:
        """The credentials as the variables that AWS's tools read. Raises CredentialsError when there are none."""
        found = self._credentials()
        with aws_errors("read your credentials"):
            frozen = found.get_frozen_credentials()
        variables = {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        return variables | ({"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {})

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client with this tool's time limits and retries."""
        client = self._client(service, _CLIENT_CONFIG)
        self._patience.watch(client)
        return client

    def check_client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client that gives up soon, for questions whose answer may stay unknown."""
        return self._client(service, _CHECK_CONFIG)

    def _client(self, service: str, config: dict[str, Any]) -> Any:  # noqa: ANN401 - boto3 is untyped
        with self._making, aws_errors(f"make a client for {service}"):
            region = self.session.region_name or ("us-east-1" if service == "s3" else None)
            return self.session.client(service, region_name=region, config=Config(**config))

    def price_list_client(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client of the Price List API, which answers in few regions for all, and gives up soon.

        Raises:
            UnavailableError: This part of AWS has none.
        """
        with self._making, aws_errors("make a client for the price list"):
            here = self.session.region_name or "us-east-1"
            partition = self.session.get_partition_for_region(here)
            regions = sorted(self.session.get_available_regions("pricing", partition), reverse=True)
            if not regions:
                raise UnavailableError(f"there is no Price List API for {here}")
            near = [region for region in regions if region[:2] == here[:2]]
            config = Config(**{**_CLIENT_CONFIG, **_QUICK})
            return self.session.client("pricing", region_name=(near or regions)[0], config=config)

    def single_attempt_client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client that never repeats a call, for calls that are not idempotent and whose answer is checked."""
        return self._client(service, {**_CLIENT_CONFIG, "retries": {"total_max_attempts": 1}})

    def renew(self) -> None:
        """Makes a new session, which reads the credentials again; clients of the old one keep the old ones."""
        with self._making:
            self.__dict__.pop("session", None)

    @property
    def identity(self) -> Identity:
        """Who we are, asked of STS once. Raises CredentialsError and the other errors of `aws_errors`."""
        with self._asking:
            if self._identity is None:
                answer = asked(self.client("sts").get_caller_identity, "Account", "ask AWS who you are")
                lead = _clock_lead(answer) or timedelta(0)
                self._identity = Identity(answer["Account"], answer["Arn"], lead)
            return self._identity

    @property
    def credentials_end(self) -> datetime | None:
        """When the credentials end without anything here that renews them; None when that is not known to happen.

        Raises:
            CredentialsError: There are none.
        """
        found = self._credentials()
        if found.method != "env":  # botocore renews all others that it knows the end of
            return None
        end: datetime | None = getattr(found, "_expiry_time", None)  # AWS_CREDENTIAL_EXPIRATION
        return end

    @property
    def region(self) -> str:
        """The region, from wherever it comes; empty when none is known. Raises CredentialsError for an unusable profile."""
        with aws_errors("read the AWS profile"):
            return self.session.region_name or ""

    @property
    def key_shown(self) -> str:
        """Which access key is used, too little of it to use it, and where it comes from. Raises CredentialsError when there is none."""
        found = self._credentials()
        with aws_errors("read your credentials"):
            key = found.get_frozen_credentials().access_key
        shown = f"{key[:4]}...{key[-4:]}" if len(key) >= _KEY_LENGTH else "..."
        return f"{shown}, {_SOURCES.get(found.method, found.method)}"

    @cached_property
    def account(self) -> str:
        """The account that has to own what we read and write: the config's, or else that of the credentials.

        STS is asked only when neither the credentials nor the user's cache know it: an access key belongs to one account
        for ever. Raises the errors of `aws_errors`.
        """
        if self._account:
            return self._account
        found = self._credentials()
        with aws_errors("read your credentials"):
            frozen = found.get_frozen_credentials()
        if frozen.account_id:
            return str(frozen.account_id)
        key = frozen.access_key
        return recalled_account(key) or keep_account(key, self.identity.account)

    def _credentials(self) -> Any:  # noqa: ANN401 - botocore is untyped
        with self._making, aws_errors("read your credentials"):
            found = self.session.get_credentials()
            if found is None:
                raise exceptions.NoCredentialsError
            return found


def _clock_lead(answer: Mapping[str, Any]) -> timedelta | None:
    """How far this machine's clock is ahead of the one that dated an answer; None when that bears no date."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return datetime.now(timezone.utc) - parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None


def clock_problem(lead: timedelta) -> str:
    """What is wrong with the clock of this machine; an empty text when it is right enough for AWS."""
    if abs(lead) <= _CLOCK_TOLERANCE:
        return ""
    hours, minutes = divmod(round(abs(lead).total_seconds() / 60), 60)
    amount = " ".join(filter(None, [f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]))
    return f"the clock of this machine is {amount} {'ahead' if lead > timedelta(0) else 'behind'}"


def _timestamp(value: object) -> datetime:
    """Reads a time of an answer. botocore's own way takes more of a long listing's time than all the rest."""
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value.replace("Z", "+00:00"))
    moment: datetime = parse_timestamp(value)
    return moment


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Turns what botocore raises inside the block into this tool's errors.

    Args:
        action: What was being done, to complete "cannot ...".

    Raises:
        CredentialsError: No credentials, wrong or expired ones, or a mistake in the settings that they come from.
        AccessDeniedError: The credentials do not allow it.
        NotFoundError: The bucket, object or resource does not exist.
        CapacityError: A quota is used up.
        ConflictError: The name is taken.
        UnavailableError: No answer, a damaged one, or AWS is busy after all retries; what answered is not AWS; an object has
            to be restored first.
        IntegrityError: What was sent arrived damaged.
        ConfigError: The service refuses the request's content, or there is no such region.
    """
    try:
        yield
    except exceptions.ClientError as error:
        raise _client_error(error, action) from error
    except S3UploadFailedError as error:
        # boto3 hides AWS's answer in an exception of its own.
        if not isinstance(error.__context__, exceptions.ClientError):
            raise
        raise _client_error(error.__context__, action) from error.__context__
    except _REGIONS as error:
        text = "no region is known" if isinstance(error, exceptions.NoRegionError) else error
        raise ConfigError([Problem("AWS.REGION", f"cannot {action}: {text}")], hint=_REGION) from error
    except (exceptions.BotoCoreError, ResponseParserError, *_UNCHECKED) as error:
        meant = _meant_by(error, action)
        if meant is None:
            raise
        raise meant from error


def _meant_by(error: Exception, action: str) -> LauncherError | None:
    """What an exception means that is no answer of AWS; None for a bug."""
    for known in type(error).__mro__:
        if known in _FAILURES:
            kind, hint, word = _FAILURES[known]
            return kind(f"cannot {action}: {error}", hint=hint, code=word)
    passed = {frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)}
    if "botocore.parsers" in passed:
        return not_aws(action)  # it takes any XML document for an answer of AWS, and fails on its parts
    return None if passed.isdisjoint(_SETTINGS_READERS) else _wrong_setting(error, action)


def _wrong_setting(error: Exception, action: str) -> CredentialsError:
    """What a mistake in the settings comes to where botocore does not look for it."""
    if isinstance(error, EOFError):
        text = "the profile wants the code of an MFA device, and nobody typed it"
        return CredentialsError(f"cannot {action}: {text}", hint=_TYPE_CODE, code="login_needed")
    if isinstance(error, RuntimeError):  # `RefreshableCredentials` has no other
        return CredentialsError(f"cannot {action}: {error}", hint=_EXPIRED, code="credentials_refused")
    text = f"a setting of AWS cannot be used: {error}"
    return CredentialsError(f"cannot {action}: {text}", hint=_SETTINGS, code="aws_settings")


def answered(answer: dict[str, Any], member: str, action: str) -> dict[str, Any]:
    """An answer of AWS that is one: the login page of a network answers 200 to everything.

    Args:
        answer: What botocore made of it.
        member: What every answer to this request has; empty where that is nothing but AWS's number of the request.
        action: What was being done, to complete "cannot ...".

    Raises:
        UnavailableError: It is none, or was cut off.
    """
    if member not in answer if member else "RequestId" not in answer["ResponseMetadata"]:
        raise not_aws(action)
    return answer


def not_aws(action: str, who: str = "AWS") -> UnavailableError:
    """The login page of a network answers 200 to everything."""
    return UnavailableError(
        f"cannot {action}: what answered is not {who}",
        hint="log in to this network first, or check the proxy (HTTPS_PROXY)",
    )


@frozen
class Refusal:
    """What AWS answered instead of what it was asked for.

    Attributes:
        operation: What was asked, such as `DescribeTrainingJob`; with a profile it may be a question for credentials.
        code: AWS's own.
        headers: By names in lower case.
    """

    operation: str
    code: str
    headers: Mapping[str, str]

    @classmethod
    def behind(cls, error: LauncherError) -> Refusal:
        """The answer behind one of this tool's errors; an empty one when none came."""
        response = getattr(error.__cause__, "response", None) or {}
        code = str(response.get("Error", {}).get("Code", ""))
        return cls(
            getattr(error.__cause__, "operation_name", ""),
            code,
            response.get("ResponseMetadata", {}).get("HTTPHeaders", {}),
        )


def asked(
    operation: Callable[..., dict[str, Any]],
    member: str,
    action: str,
    **parameters: Any,  # noqa: ANN401 - those of any operation
) -> dict[str, Any]:
    """Asks AWS something.

    Args:
        operation: A method of a client.
        member: What every answer has; see `answered`.
        action: What is being done, to complete "cannot ...".
        **parameters: The operation's.

    Raises:
        UnavailableError: What answered is not AWS; and the other errors of `aws_errors`.
    """
    with aws_errors(action):
        return answered(operation(**parameters), member, action)


def _client_error(error: exceptions.ClientError, action: str) -> LauncherError:
    found = _without_document(error, action) or _answer(error, action)
    if error.operation_name in _LOGINS and isinstance(found, (ConfigError, NotFoundError)):
        return CredentialsError(found.message, hint=_SETTINGS, code="aws_settings")
    return found


def _without_document(error: exceptions.ClientError, action: str) -> LauncherError | None:
    """What is known of an error without a document of AWS's own; None when there is one, or none is to be expected.

    botocore then takes the status for the code. AWS itself leaves the document out with HEAD alone: what else has none is of
    something on the way, and tells nothing of what was asked for.
    """
    details, status = error.response.get("Error", {}), _status(error)
    if status == _PROXY_LOGIN:
        return UnavailableError(f"cannot {action}: {status}: the proxy wants a login", hint=_NETWORK)
    if details.get("Code", "") not in {"", str(status)} or error.operation_name.startswith("Head"):
        return None
    if status >= _SERVER_ERROR:
        return UnavailableError(f"cannot {action}: {status}: {details.get('Message', '')}", hint=_NO_DOCUMENT)
    return not_aws(f"{action}: {status}")


def _answer(error: exceptions.ClientError, action: str) -> LauncherError:
    """What AWS has answered."""
    details = error.response.get("Error", {})
    code, text = str(details.get("Code", "")), str(details.get("Message", ""))
    message = f"cannot {action}: {code}: {text}"
    wrong_clock = clock_problem(_clock_lead(error.response) or timedelta(0))
    if wrong_clock and code in _REFUSED_SIGNATURES:
        return CredentialsError(f"{wrong_clock}: {message}", hint=_CLOCK, code="clock_skew")
    if code in _ERRORS:
        kind, hint, word = _ERRORS[code]
        return kind(message, hint=hint, code=word)
    if code.startswith("KMS."):
        return AccessDeniedError(message, hint=_KEY_REFUSED, code="key_refused")
    if _status(error) >= _SERVER_ERROR:
        return UnavailableError(message, hint=_BUSY)
    return ConfigError([Problem(f"cannot {action}", f"{code}: {text}")], code="refused_by_aws")


def _status(error: exceptions.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
