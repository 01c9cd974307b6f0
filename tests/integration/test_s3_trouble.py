"""What S3, the network in between and the user's own login can do wrong, one by one."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sagemaker_launcher.archive.experiments import read_experiment
from sagemaker_launcher.archive.fetching import Fetching
from sagemaker_launcher.aws import Aws, aws_errors
from sagemaker_launcher.credential_program import CredentialProgram
from sagemaker_launcher.errors import (
    AccessDeniedError,
    CredentialsError,
    IntegrityError,
    UnavailableError,
    UnsafeError,
)
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.patience import Patience
from sagemaker_launcher.quick_s3.access import Access
from sagemaker_launcher.quick_s3.signing import Keys
from sagemaker_launcher.quick_s3.storage import QuickStorage
from sagemaker_launcher.s3_storage import S3Storage
from sagemaker_launcher.storage import FolderStorage, Storage
from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.integration.storages import storage_at
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.clients import sealed_client
from tests.servers.faults import RecordedRequest
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer
from tests.stand_in import Listener, rehearse

REGION = "us-east-1"


@pytest.fixture
def storage(s3: SeaweedServer, proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Storage]:
    yield from storage_at(proxy.url, s3.admin, monkeypatch)


@pytest.fixture
def place(tmp_path: Path) -> S3Uri:
    """An object of this test alone."""
    return S3Uri("team", f"trouble/{tmp_path.parent.name}-{tmp_path.name}")


def every(_: RecordedRequest) -> bool:
    return True


# --- patience ---


@provokes(46, 49)
def test_a_long_silence_is_told_on_stderr_and_outlasted(
    storage: S3Storage, proxy: RecordingProxy, place: S3Uri, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.fail(every, "hang", seconds=5.5)
    storage.create(place, b"data")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "note: S3 PutObject: no answer for 5 s; still trying\n")


@provokes(46, 49)
def test_each_moment_is_told_once_with_the_last_trouble_and_nothing_after_the_answer(
    storage: S3Storage, proxy: RecordingProxy, place: S3Uri
) -> None:
    told: list[str] = []
    Patience(told.append, (0.3, 0.9)).watch(storage._client)
    proxy.fail(every, "slow_down", times=1)
    proxy.fail(every, "hang", seconds=2.5)
    storage.create(place, b"data")
    assert len(told) == 2
    assert re.fullmatch(r"S3 PutObject: SlowDown for 0\.[39] s; still trying", told[-1])
    storage.create(place / "another", b"data")
    time.sleep(0.5)
    assert len(told) == 2


@provokes(49)
def test_a_server_that_never_says_anything_is_given_up(
    s3: SeaweedServer, proxy: RecordingProxy, place: S3Uri
) -> None:
    client = sealed_client("s3", proxy.url, s3.admin, read_timeout_s=0.3)
    proxy.fail(every, "hang", times=9, seconds=30)
    with pytest.raises(UnavailableError, match="Read timeout"), aws_errors("read"):
        client.get_object(Bucket=place.bucket, Key=place.key)


# --- no way to AWS ---


class _Silent(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nobody needs it on stderr."""


@pytest.fixture
def foreign_certificate(tmp_path: Path) -> Iterator[str]:
    """The address of a server whose certificate nobody knows, as a company's proxy has one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "both.pem"
    both.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    with HTTPServer(("127.0.0.1", 0), _Silent) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()


@provokes(50)
def test_a_certificate_of_somebody_else_is_named_with_where_to_put_ones_own(
    foreign_certificate: str, monkeypatch: pytest.MonkeyPatch, place: S3Uri
) -> None:
    [storage] = storage_at(foreign_certificate, ("key", "secret"), monkeypatch)
    with pytest.raises(UnavailableError, match="SSL validation failed") as caught:
        storage.read(place, 10)
    assert foreign_certificate in caught.value.message
    assert "AWS_CA_BUNDLE" in caught.value.hint


@provokes(50)
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://s3.example.com"])
def test_a_proxy_that_wants_a_login_is_named(monkeypatch: pytest.MonkeyPatch, place: S3Uri, url: str) -> None:
    with RecordingProxy() as company:
        for name, value in company.environment().items():
            monkeypatch.setenv(name, value)
        company.fail_with(every, 407, "407", "Proxy Authentication Required", times=9)
        [storage] = storage_at(url, ("key", "secret"), monkeypatch)
        with pytest.raises(UnavailableError, match="proxy") as caught:
            storage.read(place, 10)
    assert "HTTPS_PROXY" in caught.value.hint


@provokes(50)
def test_a_host_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, place: S3Uri) -> None:
    [storage] = storage_at("http://no-such-host.invalid", ("key", "secret"), monkeypatch)
    with pytest.raises(UnavailableError, match=r"no-such-host\.invalid"):
        storage.read(place, 10)


# --- what arrives ---


@provokes(53)
def test_an_upload_that_arrives_damaged_is_sent_once_more(
    storage: S3Storage, proxy: RecordingProxy, s3: SeaweedServer, place: S3Uri
) -> None:
    proxy.fail(every, "corrupt")
    storage.create(place, b"data that counts")
    assert len(proxy.requests) == 2
    assert s3.client().get_object(Bucket=place.bucket, Key=place.key)["Body"].read() == b"data that counts"


@provokes(53)
def test_a_network_that_changes_data_starts_no_job(
    aws_cli: CommandLine, project: Project, aws: AwsServer, proxy: RecordingProxy
) -> None:
    proxy.fail(lambda request: request.path.endswith("/request.json"), "corrupt", times=9)
    done = aws_cli("launch", project.config, "--json", env={"AWS_ENDPOINT_URL_S3": proxy.url})
    assert (done.code, done.json["error"]["code"]) == (13, "damaged_upload")
    assert not aws.calls("CreateTrainingJob")


@provokes(54)
def test_a_conflicting_write_is_tried_again(storage: S3Storage, proxy: RecordingProxy, place: S3Uri) -> None:
    proxy.fail_with(every, 409, "ConditionalRequestConflict", times=2)
    storage.create(place, b"data")
    assert storage.read(place, 10) == b"data"


@provokes(54)
def test_a_write_that_always_conflicts_is_given_up_after_a_while(
    storage: S3Storage, proxy: RecordingProxy, place: S3Uri
) -> None:
    proxy.fail_with(every, 409, "ConditionalRequestConflict", times=9)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="a conflicting write again and again"):
        storage.create(place, b"data")
    assert [request.method for request in proxy.requests] == ["PUT"] * 5
    assert 3 < time.monotonic() - began < 9


@provokes(57)
def test_a_key_that_cannot_be_used_is_named_with_the_permissions_for_it(
    storage: S3Storage, proxy: RecordingProxy, place: S3Uri
) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    proxy.fail_with(every, 400, "KMS.DisabledException", f"{key} is disabled.")
    with pytest.raises(AccessDeniedError, match=key) as caught:
        storage.create(place, b"data")
    assert "kms:GenerateDataKey" in caught.value.hint


@provokes(58)
def test_an_object_in_glacier_comes_with_the_way_to_bring_it_back(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = aws.client("s3", region=REGION)
    client.create_bucket(Bucket="team")
    client.put_object(Bucket="team", Key="cold", Body=b"data", StorageClass="GLACIER")
    [storage] = storage_at(aws.endpoint_url, aws.credentials, monkeypatch)
    with (tmp_path / "file").open("wb") as file:
        for look in (
            lambda: storage.read(S3Uri("team", "cold"), 10),
            lambda: storage.download(S3Uri("team", "cold"), file),
        ):
            with pytest.raises(UnavailableError) as caught:
                look()
            assert caught.value.code == "object_in_glacier"
            assert "aws s3api restore-object" in caught.value.hint


@provokes(41)
def test_an_upload_without_permission_is_told_in_those_words(
    s3: SeaweedServer, monkeypatch: pytest.MonkeyPatch, place: S3Uri, tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(b"data")
    [storage] = storage_at(s3.endpoint_url, s3.reader, monkeypatch)
    with pytest.raises(AccessDeniedError, match=f"cannot upload {place}"):
        storage.upload(tmp_path / "model", place)


HOSTILE = ("../escaped", "/absolute", "a//b", "C:\\x", "nul\0", "esc\x1b[2J", "x" * 300, "aux/../../y")


@provokes(80)
def test_hostile_keys_that_a_bucket_really_has_are_refused(
    aws: AwsServer, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = rehearse(project).request["TrainingJobName"]
    found = read_experiment(FolderStorage(project.s3), S3Uri("team", f"experiments/team/tiny/{job}/"))
    client = aws.client("s3", region=REGION)
    client.create_bucket(Bucket="team")
    prefix = f"outputs/{job}/output/model/"
    client.put_object(Bucket="team", Key=f"{prefix}harmless", Body=b"data")
    [storage] = storage_at(aws.endpoint_url, aws.credentials, monkeypatch)
    for name in HOSTILE:
        client.put_object(Bucket="team", Key=prefix + name, Body=b"data")
        with pytest.raises(UnsafeError) as caught:
            Fetching(storage, found, tmp_path / "to", Listener()).fetch(("model",))
        assert caught.value.exit_code == 14
        client.delete_object(Bucket="team", Key=prefix + name)
    assert not (tmp_path / "to").exists()
    Fetching(storage, found, tmp_path / "to", Listener()).fetch(("model",))
    assert (tmp_path / "to/model/harmless").read_bytes() == b"data"


@provokes(78)
def test_a_deleted_file_is_named_with_the_command_that_finds_its_versions(
    s3: SeaweedServer, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, client = s3.create_bucket("with-versions", versioned=True), s3.client()
    job = rehearse(project).request["TrainingJobName"]
    folder = S3Uri(bucket, f"experiments/team/tiny/{job}/")
    for path in (project.s3 / "team" / folder.key).glob("*.*"):
        client.put_object(Bucket=bucket, Key=folder.key + path.name, Body=path.read_bytes())
    [storage] = storage_at(s3.endpoint_url, s3.admin, monkeypatch)
    assert read_experiment(storage, folder).result
    client.delete_object(Bucket=bucket, Key=f"{folder.key}request.json")
    with pytest.raises(IntegrityError, match=r"request\.json was deleted") as caught:
        read_experiment(storage, folder)
    command = re.search(r"aws s3api list-object-versions --bucket (\S+) --prefix (\S+)", caught.value.hint)
    assert command
    versions = client.list_object_versions(Bucket=command[1], Prefix=command[2])
    assert [marker["Key"] for marker in versions["DeleteMarkers"]] == [f"{folder.key}request.json"]
    assert f"{folder.key}request.json" in {version["Key"] for version in versions["Versions"]}


# --- a program for credentials ---


@pytest.fixture
def with_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A script that a profile asks for credentials."""
    script = tmp_path / "log in"
    (tmp_path / "config").write_text(f'[default]\ncredential_process = {sys.executable} "{script}"\n')
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return script


@provokes(37)
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('the VPN is down')", "the VPN is down"),
        ("print('Log in first!')", "wrote no JSON object"),
        ("print('[]')", "wrote no JSON object"),
        ("print('{}')", "Unsupported version"),
        ("print('{\"Version\": 1}')", "Missing required key"),
        ("import sys; sys.stderr.buffer.write(bytes([255])); sys.exit(3)", "\ufffd"),
    ],
)
def test_a_program_for_credentials_that_fails_is_told_in_its_words(
    with_program: Path, program: str, words: str
) -> None:
    with_program.write_text(program)
    with pytest.raises(CredentialsError, match=words) as caught:
        _ = Aws(REGION).identity
    assert (caught.value.exit_code, caught.value.code) == (4, "login_needed")


@provokes(37)
def test_a_program_for_credentials_that_is_not_there_is_named(with_program: Path) -> None:
    config = with_program.parent / "config"
    config.write_text("[profile team]\ncredential_process = log-in-of-nobody --now\n")
    with pytest.raises(CredentialsError, match="log-in-of-nobody --now: cannot be started: No such file"):
        _ = Aws(REGION, "team").identity


def test_a_program_for_credentials_gives_them(with_program: Path) -> None:
    with_program.write_text(
        'print(\'{"Version": 1, "AccessKeyId": "KEY", "SecretAccessKey": "SECRET", "SessionToken": "T"}\')'
    )
    assert Aws(REGION).credential_variables() == {
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_SESSION_TOKEN": "T",
    }


@provokes(37)
def test_a_program_for_credentials_that_never_ends_is_killed() -> None:
    start = time.monotonic()
    command = [sys.executable, "-c", "import time; time.sleep(100)"]
    with CredentialProgram(command, limit_s=0.5, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        with pytest.raises(CredentialsError, match=r"has not ended within 0\.5 s"):
            program.communicate()
        program.wait(60)
    assert time.monotonic() - start < 60


# --- half a login ---


@provokes(28)
def test_half_of_the_credentials_are_told_with_the_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    with pytest.raises(CredentialsError, match="AWS_SECRET_ACCESS_KEY"):
        _ = Aws(REGION).identity


_SSO = """\
[profile team]
sso_session = company
sso_account_id = 123456789012
sso_role_name = Engineer
region = us-east-1
[sso-session company]
sso_region = us-east-1
sso_start_url = https://company.awsapps.com/start
"""


@provokes(30)
@pytest.mark.parametrize("cached", ["", "{}", '{"accessToken": "x", "expiresAt": "2020-01-01T00:00:00Z"}'])
def test_a_login_of_sso_that_is_missing_spoiled_or_expired_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cached: str
) -> None:
    (tmp_path / "config").write_text(_SSO)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if cached:
        cache = Path.home() / ".aws/sso/cache"
        cache.mkdir(parents=True)
        (cache / f"{hashlib.sha1(b'company').hexdigest()}.json").write_text(cached)
    with pytest.raises(CredentialsError) as caught:
        _ = Aws(REGION, "team").identity
    assert (caught.value.exit_code, caught.value.code) == (4, "login_needed")
    assert "aws sso login" in caught.value.hint


# --- more than a page ---


@provokes(59)
def test_a_list_of_several_pages_names_each_object_once_while_others_write(
    storage: S3Storage, proxy: RecordingProxy, s3: SeaweedServer, place: S3Uri
) -> None:
    client = s3.client()
    keys = {f"{place.key}/{number:04}" for number in range(1100)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket="team", Key=key, Body=b"x"), keys))
    quick = QuickStorage(
        Access(proxy.url, Keys(*s3.admin, ""), REGION, AwsServer.account), lambda: storage, {}
    )
    looking: tuple[Storage, ...] = (storage, quick)
    for way in looking:
        first, gone = min(keys), sorted(keys)[1060]
        proxy.reset()
        assert [item.uri.key for item in way.list(place.folder, 1)] == [first]
        listing = way.list(place.folder)
        found = [next(listing).uri.key]
        early, late = (
            f"{first}-new",
            f"{sorted(keys)[1050]}-new",
        )  # on the page that has come, and on the next
        for key in (early, late):
            client.put_object(Bucket="team", Key=key, Body=b"x")
        client.delete_object(Bucket="team", Key=gone)
        found += [item.uri.key for item in listing]
        keys = keys - {gone} | {late}
        assert found == sorted(keys)
        assert len(proxy.requests) == 3
        keys |= {early}
    assert quick._requests


# --- what became of a job ---


@provokes(67)
def test_the_doctor_settles_nothing_with_the_credentials_of_another_account(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer
) -> None:
    archive = "s3://team/other-account"
    project.write(S3={"CONFIGS": archive, "OUTPUTS": "s3://team/outputs"})
    uri = aws_cli("launch", project.config, "--detach", "--json").json["experiment"]
    s3.client().delete_object(Bucket="team", Key=f"{uri.removeprefix('s3://team/')}launch.json")
    aws.reset()  # nobody knows the job, in no account
    words = ("doctor", "--repair", "--archive", archive, "--json")
    for account, verdict, told in (
        (
            "999999999999",
            "unknown",
            f"launched in the account {AwsServer.account}, and the one that is asked",
        ),
        (AwsServer.account, "ok", "settled: never started: AWS has no such job"),
    ):
        done = aws_cli(*words, env={"AWS_ACCOUNT_ID": account})
        [check] = (check for check in done.json["checks"] if check["group"] == "experiments")
        assert (check["verdict"], told in check["message"]) == (verdict, True), check


@provokes(77, 110)
def test_the_job_on_aws_tells_of_a_replaced_manifest_until_it_is_deleted_and_the_archive_stays_readable(
    aws_cli: CommandLine, project: Project, aws: AwsServer, s3: SeaweedServer
) -> None:
    aws.auto_complete = None
    started = aws_cli("launch", project.config, "--detach", "--json").json
    uri, job = started["experiment"], started["job_name"]
    key, client = uri.removeprefix("s3://team/"), s3.client()
    documents = {
        name: json.loads(client.get_object(Bucket="team", Key=key + name)["Body"].read())
        for name in ("manifest.json", "launch.json")
    }
    forged = json.dumps({**documents["manifest.json"], "command": ["somebody", "else's"]}).encode()
    sealed = {**documents["launch.json"], "manifest_sha256": hashlib.sha256(forged).hexdigest()}
    client.put_object(Bucket="team", Key=f"{key}manifest.json", Body=forged)
    client.put_object(Bucket="team", Key=f"{key}launch.json", Body=json.dumps(sealed).encode())
    verified = aws_cli("verify", uri, "--deep", "--json")
    verdicts = {check["name"]: check["verdict"] for check in verified.json["checks"]}
    assert verified.code == 13
    assert (verdicts["seal"], verdicts["job"]) == ("ok", "failed")
    aws.finish(job)
    aws.client("sagemaker", region=REGION).delete_training_job(TrainingJobName=job)
    gone = aws_cli("wait", uri, "--json")
    assert gone.code == 6
    shown = aws_cli("show", uri, "--json")
    assert (shown.code, shown.json["state"]) == (0, "started")
