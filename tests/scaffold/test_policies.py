"""The IAM policies: valid, no wider than the config, and wide enough for what its jobs do."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import settings as examples
from moto.iam.access_control import IAMPolicyStatement, PermissionResult

from sagemaker_launcher import config, strict_yaml
from sagemaker_launcher.coercion import merge
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.scaffold.bucket import bucket_commands
from sagemaker_launcher.scaffold.policies import Policy, missing, policies
from sagemaker_launcher.scaffold.questions import regional_bucket
from tests import aws_command, generated_configs
from tests.commands import CommandLine
from tests.project import Project, settings
from tests.servers.aws import AwsServer

ACCOUNT = "123456789012"
# Actions that no resource can narrow, by the service authorization reference.
WITHOUT_RESOURCE = {
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "pricing:GetProducts",
    "sagemaker:ListTrainingJobs",
    "servicequotas:GetServiceQuota",
    "servicequotas:ListServiceQuotas",
}
WITHOUT_RESOURCE_PREFIXES = ("ec2:", "ssmmessages:")
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def merged(document: dict[str, Any]) -> dict[str, Any]:
    found = merge(
        config.sagemaker_schema(), strict_yaml.parse(strict_yaml.dump(document), "x.yaml"), "x.yaml"
    )
    assert not found.problems
    return found.values


def made(document: dict[str, Any]) -> dict[str, Policy]:
    return {policy.name: policy for policy in policies(merged(document))}


def allows(policy: Policy, action: str, resource: str, **context: str) -> bool:
    """Whether moto's reading of IAM allows it."""
    return any(
        IAMPolicyStatement(statement).is_action_permitted(action, resource, None, context)
        is PermissionResult.PERMITTED
        for statement in policy.document["Statement"]
    )


@pytest.fixture
def example() -> dict[str, Any]:
    document = settings()
    document["S3"]["CHECKPOINTS"] = "s3://team/checkpoints"
    return document


def test_the_launcher_may_do_its_work_in_its_places_and_nowhere_else(example: dict[str, Any]) -> None:
    launcher = made(example)["launcher"]
    role = example["ESTIMATOR"]["ROLE"]
    jobs = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job"
    handed = {"iam:PassedToService": "sagemaker.amazonaws.com"}
    assert allows(launcher, "sagemaker:CreateTrainingJob", f"{jobs}/team-tiny-20260101-000000-abcdef")
    assert not allows(launcher, "sagemaker:CreateTrainingJob", f"{jobs}/teams-20260101-000000-abcdef")
    assert not allows(launcher, "sagemaker:StopTrainingJob", f"{jobs.replace('us-', 'eu-')}/team-tiny-2026")
    assert allows(launcher, "iam:PassRole", role, **handed)
    assert not allows(launcher, "iam:PassRole", role, **{"iam:PassedToService": "ec2.amazonaws.com"})
    assert not allows(launcher, "iam:PassRole", f"{role}2", **handed)
    assert allows(launcher, "s3:PutObject", "arn:aws:s3:::team/experiments/team/tiny/x/manifest.json")
    assert not allows(launcher, "s3:PutObject", "arn:aws:s3:::team/experiments2/x")
    assert not allows(launcher, "s3:PutObject", "arn:aws:s3:::team/outputs/x")
    assert not allows(launcher, "s3:DeleteObject", "arn:aws:s3:::team/experiments/x")
    assert allows(launcher, "s3:GetObject", "arn:aws:s3:::team/outputs/x/output/model.tar.gz")
    assert not allows(launcher, "s3:GetObject", "arn:aws:s3:::team/data/train/a.csv")


def test_the_role_may_do_what_a_job_does_in_its_places_and_nowhere_else(example: dict[str, Any]) -> None:
    example["CHANNELS"]["text"] = "s3://other/data/te"  # a prefix matches as text
    role = made(example)["execution-role"]
    for action, resource in (
        ("s3:GetObject", "arn:aws:s3:::team/data/train/a.csv"),
        ("s3:GetObject", "arn:aws:s3:::other/data/test/a.csv"),
        ("s3:GetObject", "arn:aws:s3:::team/experiments/team/tiny/x/training_config.yaml"),
        ("s3:ListBucket", "arn:aws:s3:::other"),
        ("s3:PutObject", "arn:aws:s3:::team/outputs/x/output/model.tar.gz"),
        ("s3:DeleteObject", "arn:aws:s3:::team/checkpoints/x/1.npz"),
        ("ecr:BatchGetImage", f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/sagemaker-tiny"),
        (
            "logs:PutLogEvents",
            f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs:log-stream:x",
        ),
        ("logs:CreateLogGroup", f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs"),
    ):
        assert allows(role, action, resource), (action, resource)
    for action, resource in (
        ("s3:PutObject", "arn:aws:s3:::team/experiments/team/tiny/x/manifest.json"),
        ("s3:PutObject", "arn:aws:s3:::team/data/train/a.csv"),
        ("s3:DeleteObject", "arn:aws:s3:::team/outputs/x"),
        ("s3:GetObject", "arn:aws:s3:::other/else"),
        ("ecr:PutImage", f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/sagemaker-tiny"),
        ("kms:Decrypt", KEY),
        ("ec2:CreateNetworkInterface", "*"),
        ("iam:PassRole", example["ESTIMATOR"]["ROLE"]),
    ):
        assert not allows(role, action, resource), (action, resource)


def test_only_sagemaker_may_take_the_role_and_only_for_this_account(example: dict[str, Any]) -> None:
    [statement] = made(example)["trust"].document["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert statement["Action"] == "sts:AssumeRole"


def test_keys_a_vpc_and_an_image_of_others_change_what_is_allowed(example: dict[str, Any]) -> None:
    example["ESTIMATOR"] |= {
        "VOLUME_KMS_KEY": KEY,
        "OUTPUT_KMS_KEY": "alias/team",
        "SUBNETS": ["subnet-1"],
        "SECURITY_GROUP_IDS": ["sg-1"],
        "IMAGE_URI": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.8.0-cpu-py312",
    }
    found = made(example)
    assert set(found) == {"launcher", "execution-role", "trust"}  # nobody here builds that image
    launcher, role = found["launcher"], found["execution-role"]
    assert allows(launcher, "kms:CreateGrant", KEY)
    assert allows(role, "kms:CreateGrant", KEY)
    assert allows(role, "ec2:CreateNetworkInterface", "*")
    assert allows(launcher, "ec2:DescribeSubnets", "*")
    assert allows(role, "ecr:BatchGetImage", "arn:aws:ecr:us-east-1:763104351884:repository/pytorch-training")
    [aliased] = [line for line in role.document["Statement"] if "kms:GenerateDataKey" in line["Action"]]
    assert aliased["Resource"] == [f"arn:aws:kms:us-east-1:{ACCOUNT}:key/*"]
    assert aliased["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/team"}}


@pytest.mark.parametrize(
    "owner",
    [
        "arn:aws:kms:us-east-1:999999999999",
        f"arn:aws:kms:eu-west-1:{ACCOUNT}",
        f"arn:aws-cn:kms:cn-north-1:{ACCOUNT}",
    ],
)
def test_an_alias_means_keys_of_its_own_account_and_region(example: dict[str, Any], owner: str) -> None:
    example["ESTIMATOR"] |= {
        "VOLUME_KMS_KEY": f"{owner}:alias/shared",
        "OUTPUT_KMS_KEY": f"{owner}:key/mrk-1",
    }
    for policy in (made(example)["launcher"], made(example)["execution-role"]):
        [volume] = [line for line in policy.document["Statement"] if line["Sid"] == "VolumeKey"]
        assert volume["Resource"] == [f"{owner}:key/*"]
        assert volume["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/shared"}}
        [output] = [line for line in policy.document["Statement"] if line["Sid"] == "OutputKey"]
        assert output["Resource"] == [f"{owner}:key/mrk-1"]
        assert "Condition" not in output


def test_a_key_that_is_no_arn_is_of_the_own_account_and_region(example: dict[str, Any]) -> None:
    example["ESTIMATOR"]["VOLUME_KMS_KEY"] = "1234abcd-12ab-34cd-56ef-1234567890ab"
    assert allows(made(example)["execution-role"], "kms:CreateGrant", KEY)


def matches(resource: str, arn: str) -> bool:
    """Whether IAM takes a Resource for an ARN; moto knows neither `?` nor what `${...}` escapes."""
    parts = re.split(r"(\$\{[*?$]\}|[*?])", resource)
    meaning = {"*": ".*", "?": "."}
    literal = (part[2] if part.startswith("${") else part for part in parts)
    pattern = "".join(meaning.get(part) or re.escape(text) for part, text in zip(parts, literal, strict=True))
    return re.fullmatch(pattern, arn) is not None


@pytest.mark.parametrize("mark", ["*", "?", "$", "${aws:username}", "${*}"])
def test_what_iam_reads_as_wildcards_and_variables_means_itself_in_a_config(
    example: dict[str, Any], mark: str
) -> None:
    example["S3"] = {name: f"s3://team/{name}/a{mark}b" for name in ("CONFIGS", "OUTPUTS", "CHECKPOINTS")}
    example["CHANNELS"] = {
        "training": f"s3://team/data/a{mark}b",
        "listed": {"S3_URI": f"s3://team/list/a{mark}b", "S3_DATA_TYPE": "ManifestFile"},
    }
    function = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:function/a"
    example["ESTIMATOR"] |= {
        "MODEL_URI": f"s3://team/model/a{mark}b",
        "DEBUGGER_HOOK_CONFIG": {"S3_OUTPUT_PATH": f"s3://team/tensors/a{mark}b"},
        "TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN": f"{function}{mark}b",
    }
    found = made(example)
    resources = {
        resource
        for policy in (found["launcher"], found["execution-role"])
        for statement in policy.document["Statement"]
        for resource in statement["Resource"]
        if "/a" in resource.partition(":::team")[2] or resource.startswith(function)
    }
    escaped = re.sub(r"[*?$]", r"${\g<0>}", mark)
    folders = {f"arn:aws:s3:::team/{name}/a" for name in ("CONFIGS", "OUTPUTS", "CHECKPOINTS", "tensors")}
    prefixes = {f"arn:aws:s3:::team/{name}/a" for name in ("data", "list", "model")}
    assert resources == {
        *(f"{start}{escaped}b/*" for start in folders),
        *(f"{start}{escaped}b*" for start in prefixes),
        f"arn:aws:s3:::team/list/a{escaped}b",  # the manifest itself, for whoever launches
        f"{function}{escaped}b",
    }
    for start in (*folders, *prefixes, function):
        below = "" if start == function else "/c"
        assert any(matches(resource, f"{start}{mark}b{below}") for resource in resources), start
        for other in ("", "x", "secret", "{"):
            assert not any(matches(resource, f"{start}{other}b{below}") for resource in resources), start
    mine = [line for line in found["launcher"].document["Statement"] if line["Sid"] == "CheckOneself"]
    assert mine[0]["Resource"] == [f"arn:aws:iam::{ACCOUNT}:user/${{aws:username}}"]  # this one is a variable


def test_what_cannot_be_known_is_said(example: dict[str, Any]) -> None:
    example["CHANNELS"]["listed"] = {"S3_URI": "s3://team/list.json", "S3_DATA_TYPE": "ManifestFile"}
    example["CHANNELS"]["shared"] = {"FILE_SYSTEM_ID": "fs-12345678", "FILE_SYSTEM_TYPE": "EFS"}
    listed, shared = missing(merged(example))
    assert "CHANNELS.listed is a manifest" in listed
    assert "CHANNELS.shared is a file system" in shared


@examples(deadline=None, max_examples=20, phases=generated_configs.WITHOUT_SHRINKING)
@given(generated_configs.settings())
def test_no_policy_of_any_config_is_wider_than_the_config(document: dict[str, Any]) -> None:
    values = merged(document)
    partition = values["ESTIMATOR"]["ROLE"].split(":")[1]
    uris = {uri for uri in places_of(document) if uri}
    buckets = {f"arn:{partition}:s3:::{S3Uri.parse(uri).bucket}" for uri in uris}
    objects = tuple(
        f"arn:{partition}:s3:::{S3Uri.parse(uri).bucket}/{S3Uri.parse(uri).key.removesuffix('/')}"
        for uri in uris
    )
    for policy in policies(values):
        document = json.loads(json.dumps(policy.document))
        assert document["Version"] == "2012-10-17"
        assert len(json.dumps(document, separators=(",", ":"))) < 10_240  # of a role's inline policies
        names = [statement["Sid"] for statement in document["Statement"]]
        assert len(set(names)) == len(names)
        for statement in document["Statement"]:
            assert re.fullmatch("[A-Za-z0-9]+", statement["Sid"])
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action]
            for resource in statement.get("Resource", ()):
                if resource == "*":
                    assert not [
                        action
                        for action in actions
                        if action not in WITHOUT_RESOURCE and not action.startswith(WITHOUT_RESOURCE_PREFIXES)
                    ]
                    continue
                assert resource.startswith(f"arn:{partition}:")
                if ":s3:::" in resource:
                    assert resource in buckets or resource.startswith(objects)
                    assert ("/" in resource) is any(
                        "Object" in action or action.endswith("Upload") for action in actions
                    )


def places_of(document: dict[str, Any]) -> Iterator[str]:
    """Every S3 URI that a config has under its own keys."""
    yield from document["S3"].values()
    for channel in document["CHANNELS"].values():
        yield channel if isinstance(channel, str) else channel.get("S3_URI", "")
    estimator = document["ESTIMATOR"]
    yield estimator["MODEL_URI"]
    for observer in ("DEBUGGER_HOOK_CONFIG", "PROFILER_CONFIG", "TENSORBOARD_OUTPUT_CONFIG"):
        yield estimator.get(observer, {}).get("S3_OUTPUT_PATH", "")


def test_the_policies_of_a_config_are_printed_and_written(cli: CommandLine, project: Project) -> None:
    shown = cli("init", "--policies", project.config)
    assert shown.code == 0, shown.err
    documents = [
        json.loads(text) for text in re.findall(r'^\{"Version.*?^\]\}$', shown.out, re.MULTILINE | re.DOTALL)
    ]
    written = cli("init", "--policies", project.config, "--write-policies", "--json")
    answer = written.json
    files = {Path(name).stem: json.loads((project.folder / name).read_bytes()) for name in answer["files"]}
    assert sorted(files.values(), key=str) == sorted(documents, key=str)
    assert files == {name: policy["document"] for name, policy in answer["policies"].items()}
    for policy in answer["policies"].values():
        sids = {statement["Sid"] for statement in policy["document"]["Statement"]}
        assert set(policy["statements"]) == sids or policy["statements"] == {}
    again = cli("init", "--policies", project.config, "--write-policies", "--json")
    assert again.code == 7
    assert "iam/launcher.json" in again.json["error"]["message"]
    assert "iam/trust.json" in again.json["error"]["message"]


def test_the_commands_for_a_bucket_make_one_that_is_private_versioned_and_encrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region = "eu-central-1"
    bucket = regional_bucket("training", ACCOUNT, region)
    with AwsServer() as server:
        access, secret = server.credentials
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        for command in bucket_commands(bucket, account=ACCOUNT, region=region, kms_key=KEY):
            program, *words = shlex.split(command)
            assert program == "aws"
            aws_command.main(*words)
        s3 = boto3.client("s3", region)
        block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert len(block) == 4
        assert all(block.values())
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        [rule] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == KEY
        [rule] = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 7
        assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == region
        created = next(request for request in server.requests if request.method == "PUT")
        assert created.headers["x-amz-bucket-namespace"] == "account-regional"


def test_a_bucket_that_others_could_have_taken_is_asked_for_in_no_namespace_and_always_with_its_owner() -> (
    None
):
    commands = bucket_commands("team", account=ACCOUNT, region="us-east-1")
    assert commands[0] == "aws s3api create-bucket --bucket team --region us-east-1"
    assert "AES256" in commands[3]
    for command in commands[1:]:
        words = shlex.split(command)
        assert words[words.index("--expected-bucket-owner") + 1] == ACCOUNT
