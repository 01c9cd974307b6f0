"""Mistakes in the settings of AWS's own tools, and credentials that have ended: told in a sentence, whatever command meets them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import ConfigError, CredentialsError, JobStillRunningError
from sagemaker_launcher.jobs import jobs
from sagemaker_launcher.jobs.contact import Contact
from tests.commands import CommandLine
from tests.events_heard import Heard
from tests.fault_rows import provokes
from tests.terminals import on_terminal

REGION = "us-east-1"
ROLE = "role_arn = arn:aws:iam::123456789012:role/Engineer\n"
KEYS = "aws_access_key_id = KEY\naws_secret_access_key = SECRET\n"
SSO = "sso_account_id = 123456789012\nsso_role_name = Engineer\n"
PAST = "2020-01-01T00:00:00Z"
NOBODY = "http://127.0.0.1:9"
ON_NOBODY = {
    "AWS_ACCESS_KEY_ID": "KEY",
    "AWS_SECRET_ACCESS_KEY": "SECRET",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ENDPOINT_URL": NOBODY,
}


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables, on top of keys for an AWS where nobody listens."""

    def set_them(**values: str) -> None:
        for name, value in {**ON_NOBODY, **values}.items():
            monkeypatch.setenv(name, value)

    return set_them


@pytest.fixture
def by_profile(cli: CommandLine) -> Callable[[bytes], CommandLine]:
    """The command line of somebody whose config file has the profile `team`."""

    def make(config: bytes) -> CommandLine:
        file = cli.folder / "aws-config"
        file.write_bytes(config)
        environment = {"AWS_CONFIG_FILE": str(file), "AWS_PROFILE": "team", "AWS_ENDPOINT_URL": NOBODY}
        return CommandLine(cli.folder, {**cli.environment, **environment, "AWS_DEFAULT_REGION": REGION})

    return make


# --- credentials that have ended ---


@provokes(29)
def test_exported_credentials_whose_end_has_come_are_told_with_how_to_log_in(cli: CommandLine) -> None:
    ended = {**ON_NOBODY, "AWS_CREDENTIAL_EXPIRATION": PAST}
    for words in (("status", "by-hand"), ("list", "--archive", "s3://team/experiments")):
        done = cli(*words, "--json", env=ended)
        assert (done.code, done.json["error"]["code"]) == (4, "credentials_refused"), done.err
        assert done.json["error"]["hint"].startswith("log in")
    examined = cli("doctor", "--docker", "no-such-docker", "--json", env=ended)
    assert examined.code == 4, examined.err
    [account] = (check for check in examined.json["checks"] if check["group"] == "account")
    assert (account["name"], account["verdict"]) == ("key", "failed")


@provokes(32)
@pytest.mark.parametrize("attended", [True, False])
def test_credentials_that_end_while_a_job_is_followed_have_to_be_exported_anew(
    variables: Callable[..., None], attended: bool
) -> None:
    variables(AWS_CREDENTIAL_EXPIRATION=PAST)
    contact = Contact(Aws(REGION), Heard(), waits_for_login=attended)
    with pytest.raises(JobStillRunningError, match="contact is lost, and the job goes on") as caught:
        contact.ask(lambda: jobs.describe(contact.sagemaker(), "by-hand"))
    assert "export new ones" in caught.value.hint


# --- settings ---


@provokes(28)
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AWS_CREDENTIAL_EXPIRATION", "some day", "some day"),
        ("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00", "offset-naive"),
        ("AWS_ENDPOINT_URL", "garbage", "Invalid endpoint: garbage"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "foo", "STS regional endpoints option foo is invalid"),
        ("AWS_DEFAULTS_MODE", "foo", "invalid defaults mode: foo"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "foo", "but got foo"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "foo", "invalid literal for int"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "foo", "Metadata endpoint: foo"),
    ],
)
def test_a_variable_that_botocore_cannot_use_is_told_with_its_value(
    variables: Callable[..., None], name: str, value: str, told: str
) -> None:
    variables(**{name: value})
    with pytest.raises(CredentialsError) as caught:
        jobs.describe(Aws(REGION).single_attempt_client("sagemaker"), "by-hand")
    assert told in caught.value.message
    assert (caught.value.code, "AWS_" in caught.value.hint) == ("aws_settings", True)


@provokes(28)
@pytest.mark.parametrize(
    ("config", "told"),
    [
        (f"[profile team]\n{SSO}sso_session = s\n", 'sso-session does not exist: "s"'),
        (f"[profile team]\n{SSO}", "missing required configuration: sso_start_url, sso_region"),
        (f"[profile team]\n{ROLE}source_profile = nobody\n", 'The source_profile "nobody"'),
        (f"[profile team]\n{ROLE}credential_source = nowhere\n", 'The credential source "nowhere"'),
        (
            f"[profile team]\n{ROLE}source_profile = b\n[profile b]\n{ROLE}source_profile = team\n",
            "Infinite loop",
        ),
        (f"[profile team]\n{ROLE}web_identity_token_file = /nowhere\n", "'/nowhere'"),
        (f"[profile team]\n{KEYS}s3 = path\n", "a setting of AWS cannot be used"),
        ("[profile team\n", "aws-config"),
        ("[profile team]\nregion = us-\xe9\n", "aws-config"),
    ],
)
def test_a_mistake_in_the_config_file_is_told_in_one_document(
    by_profile: Callable[[bytes], CommandLine], config: str, told: str
) -> None:
    done = by_profile(config.encode("latin-1"))("list", "--archive", "s3://team/experiments", "--json")
    assert (done.code, done.json["error"]["code"]) == (4, "aws_settings"), done.err
    assert told in done.json["error"]["message"]
    assert "~/.aws/config" in done.json["error"]["hint"]


@provokes(28)
def test_the_doctor_tells_a_mistake_in_the_config_file_and_goes_on(
    by_profile: Callable[[bytes], CommandLine],
) -> None:
    for config in (b"[profile team\n", f"[profile team]\n{ROLE}source_profile = nobody\n".encode()):
        words = ("doctor", "--archive", "s3://team/experiments", "--docker", "no-such-docker", "--json")
        done = by_profile(config)(*words)
        groups = {check["group"]: check["verdict"] for check in done.json["checks"]}
        assert (done.code, groups["account"]) == (4, "failed"), done.err
        assert {"python", "machine", "experiments", "uploads"} <= groups.keys()


@provokes(38)
def test_a_region_that_cannot_be_one_is_a_mistake_of_the_configs(
    cli: CommandLine, variables: Callable[..., None]
) -> None:
    named = cli("status", "by-hand", "--region", "us_east_1", "--json", env=ON_NOBODY)
    assert (named.code, "us_east_1" in named.json["error"]["message"]) == (3, True)
    variables(AWS_DEFAULT_REGION="us_east_1")
    with pytest.raises(ConfigError, match="us_east_1") as caught:
        Aws().client("sagemaker")
    assert "AWS_DEFAULT_REGION" in caught.value.hint


# --- somebody who does not answer ---

MFA = f"[profile team]\n{ROLE}source_profile = keys\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n[profile keys]\n{KEYS}"


@provokes(28)
def test_a_code_that_nobody_types_is_told(by_profile: Callable[[bytes], CommandLine]) -> None:
    cli = by_profile(MFA.encode())
    done = cli("status", "by-hand", "--json")
    assert (done.code, done.json["error"]["code"]) == (4, "login_needed"), done.err
    assert "nobody typed it" in done.json["error"]["message"]
    with on_terminal(cli.command("status", "by-hand"), cli.folder, cli.environment) as terminal:
        terminal.until("Enter MFA code")
        terminal.type("\x04")
        terminal.until("nobody typed it")
    assert terminal.process.returncode == 4
