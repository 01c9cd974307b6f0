"""`doctor` with an account: what the checks of a job say, and uploads in parts that nobody has finished."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from sagemaker_launcher.archive.uploads import unfinished_uploads
from sagemaker_launcher.aws import Aws
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.s3_storage import S3Storage
from tests.commands import CommandLine, Finished
from tests.fault_rows import provokes
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.seaweed import SeaweedServer

NO_DOCKER = ("--docker", "no-such-docker", "--json")


def group(done: Finished, name: str) -> list[Any]:
    return [check for check in done.json["checks"] if check["group"] == name]


def verdicts(checks: list[Any]) -> list[tuple[str, str]]:
    return [(check["name"], check["verdict"]) for check in checks]


@pytest.fixture
def place(project: Project) -> str:
    """An archive of this test's own."""
    place = f"s3://team/{secrets.token_hex(4)}"
    project.write(S3={"CONFIGS": f"{place}/experiments", "OUTPUTS": f"{place}/outputs"})
    return place


def begin(s3: SeaweedServer, uri: str) -> str:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    upload: str = s3.client().create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    return upload


def unfinished(s3: SeaweedServer, place: str) -> set[str]:
    prefix = place.removeprefix("s3://team/")
    listed = s3.client().list_multipart_uploads(Bucket="team", Prefix=f"{prefix}/")
    return {f"s3://team/{item['Key']}" for item in listed.get("Uploads", ())}


def test_the_account_is_told_as_check_tells_it(
    aws_cli: CommandLine, project: Project, place: str, s3: SeaweedServer
) -> None:
    done = aws_cli("doctor", project.config, *NO_DOCKER)
    checked = aws_cli("check", project.config, "--json")
    key, *account = group(done, "account")
    assert (key["name"], key["verdict"]) == ("key", "ok")
    assert verdicts(account) == verdicts(group(checked, "job"))
    assert {"buckets", "role", "image", "quota"} <= {name for name, _ in verdicts(account)}
    assert done.code == checked.code
    [uploads] = group(done, "uploads")
    assert uploads["message"] == f"none is unfinished below {place}/experiments/ and {place}/outputs/"
    assert not [secret for secret in s3.admin if secret in done.out]
    alone = aws_cli("doctor", *NO_DOCKER, env={"AWS_DEFAULT_REGION": "us-east-1"})
    assert alone.code == 0
    assert verdicts(group(alone, "account")) == [
        (name, "ok") for name in ("key", "region", "credentials", "account")
    ]
    assert ("region", "warning") in verdicts(group(aws_cli("doctor", *NO_DOCKER), "account"))


@provokes(60)
def test_unfinished_uploads_are_told_and_only_old_ones_of_ours_are_given_up(
    aws_cli: CommandLine,
    project: Project,
    place: str,
    s3: SeaweedServer,
    aws_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = {f"{place}/experiments/x/blob", f"{place}/outputs/job/output/model.tar.gz"}
    theirs = {f"{place}/experiments_of_others/x", f"{place}/data/raw.tar"}
    for uri in ours | theirs:
        begin(s3, uri)
    done = aws_cli("doctor", "--repair", project.config, *NO_DOCKER)
    assert done.code == 0, done.out
    told = group(done, "uploads")
    assert {check["message"].partition(",")[0] for check in told} == ours
    assert all(check["message"].endswith("begun 0 min ago: it may still go on") for check in told)
    assert unfinished(s3, place) == ours | theirs

    for name, value in aws_environment.items():
        monkeypatch.setenv(name, value)
    storage = S3Storage(Aws("us-east-1"))
    prefixes = [S3Uri.parse(f"{place}/{name}/") for name in ("experiments", "outputs", "outputs")]
    later = datetime.now(timezone.utc) + timedelta(days=3, minutes=1)
    found = list(unfinished_uploads(storage, prefixes, change=False, now=later))
    assert {(one.verdict, one.message) for one in found} == {
        ("warning", f"{uri}, begun 3 d ago: unfinished, and its parts cost") for uri in ours
    }
    assert {one.fix for one in found} == {"doctor --repair gives it up"}
    assert unfinished(s3, place) == ours | theirs
    given_up = list(unfinished_uploads(storage, prefixes, change=True, now=later))
    assert {(one.verdict, one.message) for one in given_up} == {
        ("ok", f"given up: {uri}, begun 3 d ago") for uri in ours
    }
    assert unfinished(s3, place) == theirs
    away = aws_cli("doctor", project.config, *NO_DOCKER, env={"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"})
    assert verdicts(group(away, "uploads")) == [("uploads", "unknown")]


def test_an_upload_that_has_ended_meanwhile_is_no_error(
    aws: AwsServer, aws_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws_environment.items():
        if name != "AWS_ENDPOINT_URL_S3":
            monkeypatch.setenv(name, value)
    client = aws.client("s3", region="us-east-1")
    client.create_bucket(Bucket="team")
    client.create_multipart_upload(Bucket="team", Key="x/large")
    storage = S3Storage(Aws("us-east-1"))
    [upload] = storage.uploads(S3Uri.parse("s3://team/x/"))
    storage.abort(upload)
    storage.abort(upload)
    assert not list(storage.uploads(S3Uri.parse("s3://team/x/")))


@provokes(45)
def test_how_the_buckets_are_kept_is_told_and_stops_nothing(
    aws_cli: CommandLine, project: Project, aws: AwsServer
) -> None:
    # moto takes the part of S3 here, since it knows all these settings.
    s3 = aws.client("s3", region="us-east-1")
    s3.create_bucket(Bucket="team")
    s3.put_object(Bucket="team", Key="data/train/a.csv", Body=b"1")
    environment = {"AWS_ENDPOINT_URL_S3": aws.endpoint_url}
    s3.delete_bucket_encryption(Bucket="team")
    done = aws_cli("doctor", project.config, *NO_DOCKER, env=environment)
    found = group(done, "buckets")
    names = ("bucket-versions", "bucket-encryption", "bucket-expiry")
    assert verdicts(found) == [(name, "warning") for name in names]
    assert all(check["fix"] for check in found)
    assert done.code == 0, done.out

    s3.put_bucket_versioning(Bucket="team", VersioningConfiguration={"Status": "Enabled"})
    usual = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket="team", ServerSideEncryptionConfiguration={"Rules": [usual]})
    rule = {
        "ID": "uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    s3.put_bucket_lifecycle_configuration(Bucket="team", LifecycleConfiguration={"Rules": [rule]})
    again = group(aws_cli("doctor", project.config, *NO_DOCKER, env=environment), "buckets")
    assert verdicts(again) == [(name, "ok") for name in names]
