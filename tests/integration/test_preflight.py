"""`check` and the checks of `launch --on aws`, on an AWS that lacks one thing at a time; nothing is ever written."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sagemaker_launcher.preflight import CHECKS
from tests.commands import CommandLine, Finished, clean_environment
from tests.fault_rows import provokes
from tests.project import Project
from tests.servers.account import DOCKER_MANIFEST, OCI_INDEX
from tests.servers.aws import AwsServer
from tests.servers.faults import RecordedRequest
from tests.servers.proxy import RecordingProxy

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/SageMakerExecutionRole"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tiny"
CACHE = "SAGEMAKER_LAUNCHER_CACHE"
SAMPLES = 'LOG_SAMPLES = ["epoch=1 loss=1e-05"]\n'


@dataclass(frozen=True)
class Office:
    """An account on which moto plays S3, too, behind a proxy that can spoil what it says."""

    project: Project
    cli: CommandLine
    aws: AwsServer
    proxy: RecordingProxy

    def check(self, *words: str | Path) -> Finished:
        return self.cli("check", self.project.config, "--json", *words)

    def launch(self, *words: str | Path) -> Finished:
        return self.cli("launch", self.project.config, "--detach", "--json", *words)

    def s3(self) -> Any:
        return self.aws.client("s3", region=REGION)

    def put(self, key: str, data: bytes = b"1,2\n", bucket: str = "team") -> None:
        self.s3().put_object(Bucket=bucket, Key=key, Body=data)

    def objects(self) -> list[str]:
        return [item["Key"] for item in self.s3().list_objects_v2(Bucket="team").get("Contents", ())]


@pytest.fixture(scope="module")
def proxy(running_aws: AwsServer) -> Iterator[RecordingProxy]:
    with RecordingProxy(upstream=running_aws.endpoint_url) as running:
        yield running


@pytest.fixture
def office(project: Project, home: Path, aws: AwsServer, proxy: RecordingProxy) -> Office:
    proxy.reset()
    environment = clean_environment(
        home,
        AWS_ENDPOINT_URL=proxy.url,
        AWS_ACCESS_KEY_ID="TESTACCESSKEY",
        AWS_SECRET_ACCESS_KEY="secret",
    )
    schema = project.folder / "code" / "config.py"
    schema.write_text(schema.read_text() + SAMPLES)
    office = Office(project, CommandLine(project.folder, environment), aws, proxy)
    office.s3().create_bucket(Bucket="team")
    office.put("data/train/a.csv")
    return office


Silence = Callable[[], tuple[Finished, float]]


@pytest.fixture(scope="module", autouse=True)
def silence(running_aws: AwsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silence]:
    """A check that only STS answers, begun before all tests, since it takes long; gives its end and its time."""
    project = Project.create(tmp_path_factory.mktemp("silence") / "project")
    with RecordingProxy(upstream=running_aws.endpoint_url) as proxy:
        proxy.fail(lambda request: "/sts/" not in request.headers.get("authorization", ""), "hang", times=999)
        keys = {"AWS_ACCESS_KEY_ID": "SILENT", "AWS_SECRET_ACCESS_KEY": "secret"}
        environment = clean_environment(project.folder, AWS_ENDPOINT_URL=proxy.url, **keys)
        start = time.monotonic()
        process = CommandLine(project.folder, environment).start("check", project.config, "--json")
        ends: list[tuple[Finished, float]] = []

        def wait() -> None:
            out, err = process.communicate()
            ends.append((Finished(process.returncode, out, err), time.monotonic() - start))

        waiting = Thread(target=wait)
        waiting.start()

        def end() -> tuple[Finished, float]:
            waiting.join()
            return ends[0]

        yield end
        process.kill()
        waiting.join()


def caller(name: str, service: str = "iam") -> bytes:
    """The answer of STS to somebody with another ARN."""
    arn = f"arn:aws:{service}::{AwsServer.account}:{name}"
    return (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<Arn>{arn}</Arn><UserId>A</UserId><Account>{AwsServer.account}</Account>"
        "</GetCallerIdentityResult></GetCallerIdentityResponse>"
    ).encode()


def found(done: Finished, name: str, verdict: str = "failed") -> list[str]:
    """The messages and fixes of a check's findings."""
    checks = done.json["checks"]
    return [
        f"{one['message']} {one['fix']}" for one in checks if (one["name"], one["verdict"]) == (name, verdict)
    ]


def verdicts(done: Finished) -> dict[str, set[str]]:
    every: dict[str, set[str]] = {}
    for one in done.json["checks"]:
        every.setdefault(one["name"], set()).add(one["verdict"])
    return every


def to(path: str) -> Callable[[RecordedRequest], bool]:
    """Requests of S3 for a bucket, its settings and its objects."""
    return lambda request: request.path.startswith(path)


def action(name: str) -> Callable[[RecordedRequest], bool]:
    """Requests for an operation, in whatever protocol."""
    return lambda request: request.operation == name or f"Action={name}&" in request.body.decode("latin-1")


@provokes(42, 43)
def test_a_job_that_lacks_nothing_passes_every_check_which_changes_nothing(office: Office) -> None:
    before = office.objects()
    office.aws.requests.clear()
    done = office.check()
    assert done.code == 0, done.out + done.err
    assert all(verdict == {"ok"} for verdict in verdicts(done).values()), done.out
    assert list(verdicts(done)) == [
        "configs", "credentials", "account", "clock", "buckets", "public", "archive", "data", "role",
        "pass-role", "role-access", "image", "quota", "metrics",
    ]  # fmt: skip
    assert office.objects() == before
    asked = office.proxy.requests
    assert {request.method for request in asked if "x-amz-target" not in request.headers} <= {
        "GET",
        "HEAD",
        "POST",
    }
    to_s3 = [request for request in asked if request.path.startswith("/team")]
    assert len(to_s3) == 5
    assert {request.headers["x-amz-expected-bucket-owner"] for request in to_s3} == {office.aws.account}
    assert (done.json["valid"], done.json["exit"]) == (True, 0)
    assert f"{IMAGE}:1.0 is sha256:" in found(done, "image", "ok")[0]
    text = office.cli("check", office.project.config, "--skip-check", "quota")
    assert text.code == 0
    assert (
        "ok       data        channel training: 1 objects, 4 bytes under s3://team/data/train/\n" in text.out
    )
    assert " quota " not in text.out
    every = [word for name in CHECKS for word in ("--skip-check", name)]
    assert list(verdicts(office.check(*every))) == ["configs"]


@provokes(36, 39, 100, 103, 104)
def test_everything_that_is_missing_is_told_at_once_and_nothing_is_written(office: Office) -> None:
    office.aws.state.quotas["ml.m5.large for training job usage"] = 0
    office.put("data_old/x.csv")
    office.project.write(
        S3={"OUTPUTS": "s3://no-such-bucket/outputs"},
        CHANNELS={"training": "s3://team/data/none/", "raw": "s3://team/data"},
        ESTIMATOR={
            "IMAGE_URI": f"{IMAGE}:2.0",
            "ROLE": "arn:aws:iam::123456789012:role/service-role/SageMakerExecutionRole",
            "SUBNETS": ["subnet-12345678"],
            "SECURITY_GROUP_IDS": ["sg-12345678"],
            "OUTPUT_KMS_KEY": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "METRIC_DEFINITIONS": [{"Name": "loss", "Regex": "lost=([0-9]+)"}],
        },
    )
    before = office.objects()
    done = office.launch()
    assert done.code == 6
    error = done.json["error"]
    assert (error["code"], error["exit"]) == ("bucket_not_found", 6)
    assert done.err.count("metrics: loss: 'lost=([0-9]+)' matches no line") == 1
    assert "data: channel raw: s3://team/data also matches s3://team/data_old/" in done.err
    wanted = {
        "there is no bucket s3://no-such-bucket (S3.OUTPUTS)",
        "no objects under s3://team/data/none/",
        f"ECR has no image {IMAGE}:2.0",
        "there is no role arn:aws:iam::123456789012:role/service-role/SageMakerExecutionRole",
        "ml.m5.large for training job usage: 0 instances, and the job needs 1",
        "subnet-12345678",
        "sg-12345678",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
    }
    assert {text for text in wanted if text not in error["message"]} == set()
    assert f"ESTIMATOR.ROLE: {ROLE}" in error["hint"]
    fixes = ("create it, or correct ESTIMATOR.OUTPUT_KMS_KEY", "correct ESTIMATOR.SUBNETS")
    assert [fix in error["hint"] for fix in fixes] == [True, True]
    assert "--skip-check buckets --skip-check data" in error["hint"]
    assert office.objects() == before
    assert not office.aws.calls("CreateTrainingJob")


@provokes(40, 42, 44)
def test_buckets_of_another_region_or_of_others_or_open_to_everybody_are_refused(office: Office) -> None:
    office.s3().create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    office.put("x/a", bucket="far")
    office.s3().create_bucket(Bucket="open")
    public = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::open/*"}
        ],
    }
    office.s3().put_bucket_policy(Bucket="open", Policy=json.dumps(public))
    office.s3().create_bucket(Bucket="loose", ACL="public-read")
    office.project.write(
        S3={"OUTPUTS": "s3://open/outputs", "CHECKPOINTS": "s3://theirs/checkpoints"},
        CHANNELS={
            "training": "s3://team/data/train/",
            "far": "s3://far/x/",
            "gone": "s3://moved/x/",
            "loose": "s3://loose/x/",
            "shared": "s3://shared/x/",
        },
    )
    moved = {"x-amz-bucket-region": "eu-central-1"}
    office.proxy.fail_with(to("/moved"), 301, "PermanentRedirect", headers=moved, times=99)
    for name in ("/theirs", "/shared"):
        office.proxy.fail_with(to(name), 403, "AccessDenied", "Access Denied", times=99)
    done = office.check()
    assert done.code == done.json["exit"] == 14, done.out + done.err
    told = "\n".join(found(done, "buckets"))
    assert "s3://far (CHANNELS.far) is in eu-west-1, and the job in us-east-1" in told
    assert "s3://moved (CHANNELS.gone) is in eu-central-1" in told
    assert "s3://theirs (S3.CHECKPOINTS) does not belong to account 123456789012" in told
    assert "s3://shared (CHANNELS.shared) does not belong to account 123456789012" in told
    assert "name the owner: CHANNELS.*.BUCKET_OWNER" in told
    [policy] = found(done, "public")
    assert policy.startswith(
        "the policy of s3://open opens it to the public aws s3api put-public-access-block"
    )
    [acl] = found(done, "public", "warning")  # nothing is written to it
    assert acl.startswith("the access control list of s3://loose opens it to the public")
    # IAM decides which of both a refusal means, and without IAM nobody knows.
    office.aws.state.denials.append(("*user/moto", "s3:ListBucket", "*", "implicitDeny"))
    blocks = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    office.s3().put_public_access_block(
        Bucket="open", PublicAccessBlockConfiguration=dict.fromkeys(blocks, True)
    )
    done = office.check()
    assert "s3://theirs (S3.CHECKPOINTS): you may not list it allow" in "\n".join(found(done, "buckets"))
    [shared] = found(done, "buckets", "unknown")  # only the role has to read it
    assert "s3://shared (CHANNELS.shared): you may not list it" in shared
    assert found(done, "public") == []
    assert "s3://open blocks all public access " in found(done, "public", "ok")
    office.proxy.fail_with(action("SimulatePrincipalPolicy"), 403, "AccessDenied", "no", times=99)
    done = office.check()
    assert "you may not list it, or it does not belong to account" in "\n".join(found(done, "buckets"))
    assert verdicts(done)["role-access"] == {"unknown"}
    assert verdicts(done)["archive"] == {"unknown"}


@provokes(36, 41)
def test_what_iam_denies_is_named_with_the_permission_and_the_trap_of_full_access(office: Office) -> None:
    denials = office.aws.state.denials
    office.aws.state.decisions_page = 1
    denials.append(("*user/moto", "iam:PassRole", "*", "explicitDeny"))
    denials.append((ROLE, "s3:GetObject", "arn:aws:s3:::team/data/*", "implicitDeny"))
    denials.append((ROLE, "s3:PutObject", "*/outputs/*", "implicitDeny"))
    denials.append((ROLE, "logs:PutLogEvents", "*", "implicitDeny"))
    denials.append(("*user/moto", "s3:PutObject", "*:team/experiments/team/tiny/*", "implicitDeny"))
    done = office.check()
    assert done.code == 5
    [archive] = found(done, "archive")
    assert "you may not write to s3://team/experiments allow s3:PutObject on arn:aws:s3:::team/" in archive
    [passing] = found(done, "pass-role")
    assert "you may not hand the role SageMakerExecutionRole to SageMaker" in passing
    assert f"remove the policy that denies iam:PassRole on {ROLE}" in passing
    reading, writing, logging = found(done, "role-access")
    assert "may not read its data" in reading
    assert "allow s3:GetObject on arn:aws:s3:::team/data/train/*" in reading
    assert "AmazonSageMakerFullAccess covers only buckets with `sagemaker` in their names" in reading
    assert "may not write what it leaves" in writing
    assert "if a bucket policy allows it, IAM does not see that: --skip-check role-access" in writing
    assert "logs:PutLogEvents" in logging
    lines = office.cli("check", office.project.config).out.splitlines()
    [line] = [number for number, text in enumerate(lines) if text.startswith("failed   pass-role ")]
    assert lines[line].endswith("you may not hand the role SageMakerExecutionRole to SageMaker")
    assert lines[line + 1].strip() == f"fix: remove the policy that denies iam:PassRole on {ROLE}"
    skipping = [word for name in ("archive", "pass-role", "role-access") for word in ("--skip-check", name)]
    assert office.check(*skipping).code == 0
    unknown = office.check("--skip-check", "roles")
    assert unknown.code == 2
    assert "'pass-role'" in unknown.json["error"]["message"]
    denials.clear()
    office.aws.state.add_role("Stranger", trust={"Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}}})
    stranger = office.check("--set", "ESTIMATOR.ROLE", "arn:aws:iam::123456789012:role/Stranger")
    assert stranger.code == 5
    assert '"Service": "sagemaker.amazonaws.com"' in found(stranger, "role")[0]


@provokes(29, 33, 34, 35)
def test_wrong_accounts_clocks_and_credentials_stop_everything_else(office: Office) -> None:
    wrong = office.launch(
        "--set",
        "AWS.ACCOUNT",
        "999999999999",
        "--set",
        "ESTIMATOR.ROLE",
        ROLE.replace("12345678901", "99999999999").replace("999999999992", "999999999999"),
    )
    assert wrong.code == 14
    assert wrong.json["error"]["code"] == "wrong_account"
    assert "account 123456789012, and AWS.ACCOUNT is 999999999999" in wrong.json["error"]["message"]
    assert not [request for request in office.proxy.requests if request.method == "PUT"]
    pinned = office.check("--set", "AWS.ACCOUNT", office.aws.account)
    assert pinned.code == 0
    assert "as AWS.ACCOUNT says" in found(pinned, "account", "ok")[0]
    late = datetime.now(timezone.utc) + timedelta(hours=3)
    skewed = {"Date": format_datetime(late, usegmt=True)}
    for code in ("SignatureDoesNotMatch", "RequestTimeTooSkewed"):
        office.proxy.fail_with(
            action("GetCallerIdentity"), 403, code, "Signature expired", headers=skewed, times=9
        )
        done = office.check()
        assert done.code == 4
        assert "the clock of this machine is 3 h behind" in found(done, "credentials")[0]
        office.proxy.reset()
    early = datetime.now(timezone.utc) - timedelta(minutes=7)
    office.proxy.answer_with(
        action("GetCallerIdentity"), caller("user/me"), {"Date": format_datetime(early, usegmt=True)}
    )
    done = office.check()
    assert (done.code, list(verdicts(done))) == (4, ["configs", "credentials", "account", "clock"])
    assert "the clock of this machine is 7 min ahead set it" in found(done, "clock")[0]
    for code in ("ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"):
        office.proxy.reset()
        office.proxy.fail_with(action("GetCallerIdentity"), 403, code, "no", times=9)
        done = office.check()
        assert done.code == 4
        assert list(verdicts(done)) == ["configs", "credentials"]
        assert "aws sso login" in found(done, "credentials")[0]
    office.proxy.fail_with(action("GetCallerIdentity"), 403, "ExpiredToken", "no", times=9)
    done = office.launch()
    assert (done.code, done.json["error"]["code"]) == (4, "credentials_refused")
    assert "aws sso login" in done.json["error"]["hint"]
    assert "--skip-check" not in done.json["error"]["hint"]
    office.proxy.reset()
    soon = datetime.now(timezone.utc) + timedelta(minutes=40)
    ending = office.cli(
        "check", office.project.config, "--json",
        env={"AWS_CREDENTIAL_EXPIRATION": soon.isoformat(), "AWS_SESSION_TOKEN": "token"},
    )  # fmt: skip
    assert ending.code == 0
    assert "it goes on without you" in found(ending, "credentials", "warning")[0]


def test_iam_is_asked_about_the_role_behind_a_session_and_never_about_the_root_user(office: Office) -> None:
    office.aws.state.denials.append(("*role/people/Dev", "iam:PassRole", "*", "implicitDeny"))
    office.aws.state.add_role("Dev", "/people/")
    office.proxy.answer_with(action("GetCallerIdentity"), caller("assumed-role/Dev/me", "sts"))
    done = office.check()
    assert (done.code, len(found(done, "pass-role"))) == (5, 1)
    office.proxy.answer_with(action("GetCallerIdentity"), caller("root"))
    done = office.check()
    assert done.code == 0
    assert "the root user may write to s3://team/experiments " in found(done, "archive", "ok")
    assert verdicts(done)["pass-role"] == {"ok"}
    office.proxy.answer_with(action("GetCallerIdentity"), caller("federated-user/me", "sts"))
    done = office.check()
    assert (done.code, verdicts(done)["pass-role"]) == (0, {"unknown"})
    nothing = (
        "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults/>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )
    office.proxy.answer_with(action("SimulatePrincipalPolicy"), nothing.encode(), times=99)
    silent = verdicts(office.check())
    assert silent["archive"] == silent["pass-role"] == silent["role-access"] == {"unknown"}


@provokes(57, 103)
def test_images_and_keys_and_networks_that_would_not_do(office: Office) -> None:
    state, ec2 = office.aws.state, office.aws.client("ec2", region=REGION)
    kms = office.aws.client("kms", region=REGION)
    made = kms.create_key()["KeyMetadata"]
    key = made["Arn"]
    kms.disable_key(KeyId=made["KeyId"])
    networks = [ec2.create_vpc(CidrBlock=f"10.{number}.0.0/16")["Vpc"]["VpcId"] for number in (1, 2)]
    subnet = ec2.create_subnet(VpcId=networks[0], CidrBlock="10.1.1.0/24")["Subnet"]["SubnetId"]
    groups = [
        ec2.create_security_group(GroupName="g", Description="d", VpcId=network)["GroupId"]
        for network in networks
    ]
    estimator = {"SUBNETS": [subnet], "SECURITY_GROUP_IDS": [groups[1]], "VOLUME_KMS_KEY": key}
    state.push("sagemaker-tiny", "arm", system="linux/arm64")
    office.project.write(ESTIMATOR={**estimator, "IMAGE_URI": f"{IMAGE}:arm"})
    done = office.check()
    assert done.code == 3
    [image] = found(done, "image")
    assert f"{IMAGE}:arm is built for linux/arm64, and instances are linux/amd64" in image
    assert f"--provenance=false --sbom=false --output type=image,name={IMAGE}:arm" in image
    grace = ("--set", "ESTIMATOR.INSTANCE_TYPE", "ml.p6e-gb200.36xlarge", "--skip-check", "quota")
    assert "for linux/arm64" in found(office.check(*grace), "image", "ok")[0]
    [image] = found(office.check(*grace, "--set", "ESTIMATOR.IMAGE_URI", f"{IMAGE}:1.0"), "image")
    assert f"{IMAGE}:1.0 is built for linux/amd64, and instances are linux/arm64" in image
    assert "docker buildx build --platform linux/arm64 " in image
    [network] = found(done, "network")
    assert f"{subnet} in {networks[0]}, {groups[1]} in {networks[1]}" in network
    assert f"{key} is Disabled" in found(done, "keys")[0]
    kms.enable_key(KeyId=made["KeyId"])
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    state.put_manifest("sagemaker-tiny", "index", index)
    office.project.write(
        ESTIMATOR={**estimator, "SECURITY_GROUP_IDS": [groups[0]], "IMAGE_URI": f"{IMAGE}:index"}
    )
    done = office.check()
    assert done.code == 3
    assert OCI_INDEX in found(done, "image")[0]
    assert verdicts(done)["network"] == verdicts(done)["keys"] == {"ok"}
    # A key's own policy can allow what IAM does not, and nothing what IAM denies.
    for decision, verdict in (("implicitDeny", "unknown"), ("explicitDeny", "failed")):
        state.denials.append((ROLE, "kms:CreateGrant", key, decision))
        done = office.check()
        assert verdicts(done)["keys"] == {"ok", verdict}
        assert "kms:CreateGrant" in found(done, "keys", verdict)[0]
        state.denials.clear()
    far = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    private = {"IMAGE_URI": "images.example.com/team/tiny:1.0", "TRAINING_REPOSITORY_ACCESS_MODE": "Vpc"}
    office.project.write(
        ESTIMATOR={**estimator, **private, "SECURITY_GROUP_IDS": [groups[0]], "OUTPUT_KMS_KEY": far}
    )
    done = office.check()
    assert (
        f"ESTIMATOR.OUTPUT_KMS_KEY: {far} is in eu-west-1, and the job in us-east-1" in found(done, "keys")[0]
    )
    assert "is not in ECR" in found(done, "image", "unknown")[0]
    # Who may not read manifests can still ask for the digest; without a configuration the processor is not known.
    office.proxy.fail_with(action("BatchGetImage"), 400, "AccessDeniedException", "no")
    digest = state.put_manifest(
        "sagemaker-tiny", "bare", {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": []}
    )
    office.project.write(ESTIMATOR={"IMAGE_URI": f"{IMAGE}:bare"})
    done = office.check()
    assert done.code == 0
    assert digest in found(done, "image", "unknown")[0]


@provokes(104)
def test_data_that_does_not_fit_or_is_no_manifest(office: Office) -> None:
    office.put("big/a")
    office.put("big/b")
    office.aws.state.swell("team", "big/a", 40 * 2**30)
    office.aws.state.swell("team", "big/b", 30 * 2**30)
    office.put("m/bad.json", b"[1]")
    office.put("m/lost.json", b'[{"prefix": "s3://team/data/"}, "none.csv"]')
    office.put("m/good.json", b'[{"prefix": "s3://team/data/"}, "train/a.csv"]')
    office.put("empty/", b"")
    manifest = {"S3_DATA_TYPE": "ManifestFile"}
    office.project.write(
        CHANNELS={
            "training": "s3://team/big/",
            "streamed": {"S3_URI": "s3://team/big/", "INPUT_MODE": "FastFile"},
            **{
                name: {"S3_URI": f"s3://team/m/{name}.json", **manifest}
                for name in ("bad", "lost", "good", "gone")
            },
            "marker": "s3://team/empty/",
        },
        ESTIMATOR={"VOLUME_SIZE": 60},
    )
    done = office.check()
    assert done.code == 3
    told = "\n".join(found(done, "data"))
    assert "70 GiB of data, and VOLUME_SIZE is 60 GiB raise ESTIMATOR.VOLUME_SIZE, or" in told
    assert "bad.json is no manifest: its first entry has to be" in told
    assert "lost.json names s3://team/data/none.csv, which does not exist" in told
    assert "there is no object s3://team/m/gone.json" in told
    assert "channel marker: no objects under s3://team/empty/" in told
    assert any("good.json names 1 objects" in text for text in found(done, "data", "ok"))
    tight = office.check("--set", "ESTIMATOR.VOLUME_SIZE", "75")
    assert "70 GiB of data, and VOLUME_SIZE is 75 GiB: little room" in found(tight, "data", "warning")[0]
    sharded = {"S3_URI": "s3://team/big/", "DISTRIBUTION": "ShardedByS3Key"}
    office.project.write(CHANNELS={"training": sharded}, ESTIMATOR={"VOLUME_SIZE": 60, "INSTANCE_COUNT": 2})
    assert verdicts(office.check())["data"] == {"ok"}
    office.project.write(ESTIMATOR={"MODEL_URI": "s3://team/models/none.tar.gz"})
    [model] = found(office.check(), "data")
    assert model.startswith("channel model: no objects under s3://team/models/none.tar.gz ")
    assert model.endswith(" correct ESTIMATOR.MODEL_URI")


@provokes(100)
def test_quotas_for_spot_and_warm_pools_and_run_times_and_types_that_a_region_lacks(
    office: Office, tmp_path: Path
) -> None:
    quotas = office.aws.state.quotas
    quotas["ml.m5.large for spot training job usage"] = 1
    quotas["ml.m5.large for training warm pool usage"] = 0
    quotas["Longest run time for a training job"] = 3600
    longer = ("--set", "ESTIMATOR.MAX_RUN", "7200")
    office.project.write(
        S3={"CHECKPOINTS": "s3://team/checkpoints"},
        ESTIMATOR={"USE_SPOT_INSTANCES": True, "MAX_RUN": 3600, "MAX_WAIT": 7200, "INSTANCE_COUNT": 2},
    )
    full = subprocess.run(  # a disk without room for what is learnt of quotas
        [
            "bash",
            "-c",
            'ulimit -f 0 && exec "$@"',
            "bash",
            *office.cli.command("check", office.project.config),
        ],
        cwd=office.cli.folder,
        env={**office.cli.environment, CACHE: str(tmp_path / "cache")},
        capture_output=True,
        check=False,
    )
    assert full.returncode == 8
    assert (
        list((tmp_path / "cache").rglob("quota-codes*"))
        == list((tmp_path / "cache" / "incomplete").iterdir())
        == []
    )
    spot = office.check()
    assert spot.code == 8
    [instances] = found(spot, "quota")
    assert (
        "ml.m5.large for spot training job usage: 1 instances, and the job needs 2 ask for more: "
        in instances
    )
    assert "us-east-1.console.aws.amazon.com/servicequotas/home/services/sagemaker/quotas/L-" in instances
    gov = [word for name in CHECKS if name != "quota" for word in ("--skip-check", name)]
    for key, value in {
        "AWS.REGION": "us-gov-west-1",
        "ESTIMATOR.ROLE": ROLE.replace("arn:aws:", "arn:aws-us-gov:"),
        "ESTIMATOR.IMAGE_URI": f"{IMAGE}:1.0".replace(REGION, "us-gov-west-1"),
    }.items():
        gov += ["--set", key, value]
    [instances] = found(office.check(*gov), "quota")
    assert "https://us-gov-west-1.console.amazonaws-us-gov.com/servicequotas/home/" in instances
    office.project.write(ESTIMATOR={"KEEP_ALIVE_PERIOD_IN_SECONDS": 600})
    pool, run = found(office.check(*longer), "quota")
    assert "ml.m5.large for training warm pool usage: 0 instances, and the job needs 1" in pool
    assert "Longest run time for a training job: 3,600 seconds, and the job needs 7,200" in run
    # The second time the codes are known, and the answers are the same.
    office.proxy.reset()
    assert found(office.check(*longer), "quota") == [pool, run]
    assert not office.proxy.calls("ListServiceQuotas")
    # A code that another region does not know, a type that no listing has, and prices that nobody tells.
    office.proxy.fail_with(action("GetServiceQuota"), 400, "NoSuchResourceException", "no", times=99)
    told = "\n".join(found(office.check(), "quota"))
    assert "no ml.m5.large: it is not offered there choose another ESTIMATOR.INSTANCE_TYPE" in told
    large = ("--set", "ESTIMATOR.INSTANCE_TYPE", "ml.p5.48xlarge")
    quotas["Longest run time for a training job"] = 86400
    lacking = office.check(*large)
    assert lacking.code == 3
    absent = "Service Quotas has no 'ml.p5.48xlarge for training job usage' in us-east-1"
    assert f"{absent}, and the price list no ml.p5.48xlarge" in "\n".join(found(lacking, "quota"))
    office.proxy.fail_with(action("GetProducts"), 400, "AccessDeniedException", "no", times=9)
    doubtful = office.check(*large)
    assert doubtful.code == 0
    assert f"{absent} " in found(doubtful, "quota", "unknown")


def test_who_may_ask_nothing_is_told_what_is_not_known_and_nothing_of_it_has_passed(office: Office) -> None:
    subnet, group = "subnet-12345678", "sg-12345678"
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    office.project.write(
        ESTIMATOR={"SUBNETS": [subnet], "SECURITY_GROUP_IDS": [group], "OUTPUT_KMS_KEY": key}
    )
    services = ("iam", "ecr", "servicequotas", "kms", "ec2")

    def denied(request: RecordedRequest) -> bool:
        scope = request.headers.get("authorization", "")
        return any(f"/{name}/aws4_request" in scope for name in services) or "?" in request.path

    office.proxy.fail_with(denied, 403, "AccessDenied", "no", times=999)
    done = office.check()
    assert done.code == 0, done.out
    passed = {"configs", "credentials", "account", "clock", "buckets", "metrics"}
    assert verdicts(done) == {
        name: {"ok"} if name in passed else {"unknown"} for name in ["configs", *CHECKS]
    }


def test_patterns_of_metrics_that_find_no_number_or_never_end_are_told(office: Office) -> None:
    schema = office.project.folder / "code" / "config.py"
    schema.write_text(schema.read_text().replace("epoch=1", f"epoch=1 auc=nan {'x' * 100}"))
    patterns = {"auc": r"auc=(\S+)", "endless": r"(x+x+)+y=(\d)", "loss": r"loss=(\S+)"}
    definitions = [{"Name": name, "Regex": pattern} for name, pattern in patterns.items()]
    office.project.write(ESTIMATOR={"METRIC_DEFINITIONS": definitions})
    done = office.check()
    assert done.code == 0, done.err
    nan, endless = found(done, "metrics", "warning")
    assert nan.startswith("auc: 'nan' in 'epoch=1 auc=nan xxx")
    assert r"endless: '(x+x+)+y=(\\d)' takes too long to search for in the lines of LOG_SAMPLES" in endless
    assert found(done, "metrics", "ok")[0].startswith("loss: 1e-05 in ")


@provokes(51)
def test_an_unreachable_s3_is_one_failure_and_other_silence_is_not_knowing(office: Office) -> None:
    office.project.write(S3={"OUTPUTS": "s3://second/outputs"})
    office.proxy.fail(lambda request: request.path.startswith(("/team", "/second")), "reset", times=999)
    done = office.launch()
    assert done.code == 9
    assert done.json["error"]["message"].count("\n") == 0
    assert not office.aws.calls("CreateTrainingJob")
    office.proxy.reset()
    office.project.write()
    silent = ("/iam/aws4_request", "/ecr/aws4_request", "/servicequotas/aws4_request")
    office.proxy.fail(
        lambda request: any(scope in request.headers.get("authorization", "") for scope in silent),
        "html",
        times=999,
    )
    done = office.launch()
    assert done.code == 0, done.err
    assert "note: image: not known: " in done.err
    assert "note: quota: not known: " in done.err
    assert "Checked  credentials, account, clock, buckets, public, data, metrics\n" in done.err


@provokes(103)
def test_a_tag_that_has_moved_is_refused_by_a_rerun_unless_it_is_allowed(office: Office) -> None:
    quotas = dict(office.aws.state.quotas)
    office.aws.state.quotas["ml.m5.large for training job usage"] = 0
    first = office.launch("--skip-check", "quota")
    assert first.code == 0, first.err
    office.aws.state.quotas.update(quotas)
    folder = first.json["experiment"]
    manifest = json.loads(
        office.s3().get_object(Bucket="team", Key=f"{folder[10:]}manifest.json")["Body"].read()
    )
    old = manifest["image_digest"]
    new = office.aws.state.push("sagemaker-tiny", word="another")
    assert old.startswith("sha256:")
    assert old != new
    before = office.objects()
    refused = office.cli("rerun", folder, "--detach", "--json")
    assert refused.code == 13
    assert (refused.json["error"]["code"], office.objects()) == ("image_moved", before)
    same = ("--set", "ESTIMATOR.IMAGE_URI", f"{IMAGE}@{old}")
    assert " ".join(same) in refused.json["error"]["hint"]
    assert verdicts(office.check(*same))["image"] == {"ok"}
    allowed = office.cli("rerun", folder, "--detach", "--json", "--allow-drift")
    assert allowed.code == 0, allowed.err
    assert {"area": "image", "name": f"{IMAGE}:1.0", "before": old, "after": new} in allowed.json[
        "differences"
    ]
    assert f"{IMAGE}:1.0 was {old}, and is {new} now" in allowed.err
    shown = [
        office.cli(*words, "--archive", "s3://team/experiments").code
        for words in (("list",), ("show", folder), ("verify", folder), ("doctor", "--repair"))
    ]
    assert shown == [0, 0, 0, 0]
    with_boto3 = office.cli("list", "--archive", "s3://team/experiments", env={"AWS_MAX_ATTEMPTS": "2"})
    assert with_boto3.code == 0
    office.cli("download", folder, "--to", "here")
    scopes = [request.headers.get("authorization", "") for request in office.proxy.requests]
    to_s3 = [
        request
        for request, scope in zip(office.proxy.requests, scopes, strict=True)
        if "/s3/aws4_request" in scope
    ]
    assert len(to_s3) > 40
    assert {request.headers.get("x-amz-expected-bucket-owner") for request in to_s3} == {office.aws.account}


@provokes(49)
def test_services_that_say_nothing_are_not_waited_for_long(silence: Silence) -> None:
    done, seconds = silence()
    assert seconds < 90
    assert done.code == 9
    [buckets] = found(done, "buckets")
    assert "s3://team" in buckets
    silent = set(CHECKS) - {"credentials", "account", "clock", "buckets", "metrics", "network", "keys"}
    assert {name: verdicts(done)[name] for name in silent} == {name: {"unknown"} for name in silent}
