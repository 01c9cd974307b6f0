"""Rules between the fields of a job: each broken in every way that counts, and kept where it is nearly broken."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_launcher import rules, service_model
from sagemaker_launcher.job import Job
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.generated_configs import job_of

_ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
_CHANNEL = {"S3_URI": "s3://team/data/"}
_GROUP = {"INSTANCE_GROUP_NAME": "a", "INSTANCE_TYPE": "ml.m5.large"}
_FILES = {"FILE_SYSTEM_ID": "fs-01234567", "FILE_SYSTEM_TYPE": "EFS", "DIRECTORY_PATH": "/x"}
_VPC = {"SUBNETS": ["subnet-1"], "SECURITY_GROUP_IDS": ["sg-1"]}
_SPOT = {"USE_SPOT_INSTANCES": True}
_SAVED = {"CHECKPOINTS": "s3://team/checkpoints"}

Changes = dict[str, Any]


def _job(changes: Changes) -> Job:
    settings: Changes = {
        "EXPERIMENT_NAME": "team/tiny",
        "AWS": {"REGION": "us-east-1"},
        "S3": {"CONFIGS": "s3://team/experiments", "OUTPUTS": "s3://team/outputs"},
        "CHANNELS": {},
        "ESTIMATOR": {
            "IMAGE_URI": f"{_ECR}/tiny:1",
            "ROLE": "arn:aws:iam::123456789012:role/Name",
            "INSTANCE_TYPE": "ml.m5.large",
        },
        "TAGS": {},
        "SOURCE": {"DIR": ""},
    }
    for section, change in changes.items():
        if isinstance(change, dict):
            settings[section] = {**settings[section], **change}
        else:
            settings[section] = change
    return job_of(settings)


def _broken(changes: Changes) -> list[tuple[str, str]]:
    return [(violation.key, violation.message) for violation in rules.violations(_job(changes))]


def _estimator(**keys: Any) -> Changes:
    return {"ESTIMATOR": keys}


def _channel(**keys: Any) -> Changes:
    return {"CHANNELS": {"training": {**_CHANNEL, **keys}}}


def _metric(regex: str) -> Changes:
    return _estimator(METRIC_DEFINITIONS=[{"Name": "loss", "Regex": regex}])


@provokes(21, 23, 24, 25, 26, 38)
@reproduces("rules")
@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        # Names and tags
        ({"EXPERIMENT_NAME": ""}, "EXPERIMENT_NAME", "needs a name"),
        ({"EXPERIMENT_NAME": "my run"}, "EXPERIMENT_NAME", "letter or digit"),
        ({"EXPERIMENT_NAME": "x/" * 64 + "x"}, "EXPERIMENT_NAME", "longer than 128"),
        ({"TAGS": {"launcher:experiment": "x"}}, "TAGS", "are reserved"),
        ({"TAGS": {"aws:cost": "x"}}, "TAGS", "are reserved"),
        ({"TAGS": {f"t{n}": "x" for n in range(49)}}, "TAGS", "49 tags; at most 48"),
        # What this tool adds counts, too
        (
            {"CHANNELS": {f"c{n}": _CHANNEL for n in range(20)}},
            "CHANNELS",
            "20 channels; at most 19, since the service takes 20 and one is the training config's",
        ),
        (
            {
                "CHANNELS": {f"c{n}": _CHANNEL for n in range(19)},
                **_estimator(MODEL_URI="s3://team/model.tar.gz"),
            },
            "CHANNELS",
            "19 channels; at most 18, since the service takes 20 and the training config and MODEL_URI take one each",
        ),
        (
            _estimator(ENVIRONMENT={f"V{n}": "x" for n in range(99)}),
            "ESTIMATOR.ENVIRONMENT",
            "100 variables, the default PYTHONUNBUFFERED included; at most 99",
        ),
        # Region and role
        ({"AWS": {"REGION": ""}}, "AWS.REGION", "a region is needed"),
        ({"AWS": {"REGION": "useast1"}}, "AWS.REGION", "no region is called 'useast1'"),
        (_estimator(ROLE=""), "ESTIMATOR.ROLE", "not the full ARN"),
        (_estimator(ROLE="SageMakerRole"), "ESTIMATOR.ROLE", "'SageMakerRole'"),
        (
            _estimator(ROLE="arn:aws-cn:iam::123456789012:role/Name"),
            "ESTIMATOR.ROLE",
            "is of partition aws-cn, and us-east-1 is in aws",
        ),
        # Image
        (_estimator(IMAGE_URI=""), "ESTIMATOR.IMAGE_URI", "an image is needed"),
        (_estimator(IMAGE_URI=f"{_ECR}/tiny"), "ESTIMATOR.IMAGE_URI", "neither a tag nor a digest"),
        (_estimator(IMAGE_URI="-v"), "ESTIMATOR.IMAGE_URI", "not an image reference"),
        (_estimator(IMAGE_URI="python:3.12"), "ESTIMATOR.IMAGE_URI", "is not in ECR"),
        (
            _estimator(IMAGE_URI="python:3.12", TRAINING_REPOSITORY_ACCESS_MODE="Platform"),
            "ESTIMATOR.IMAGE_URI",
            "is not in ECR",
        ),
        (
            _estimator(IMAGE_URI=_ECR.replace("us-east-1", "eu-west-1") + "/tiny:1"),
            "ESTIMATOR.IMAGE_URI",
            "the image is in eu-west-1 and the job in us-east-1",
        ),
        (
            _estimator(IMAGE_URI=f"{_ECR}.cn/tiny:1"),
            "ESTIMATOR.IMAGE_URI",
            "registries of us-east-1 end in amazonaws.com, not in amazonaws.com.cn",
        ),
        # Places
        ({"S3": {"OUTPUTS": ""}}, "S3.OUTPUTS", "an S3 URI is needed"),
        ({"S3": {"OUTPUTS": "https://team.s3.amazonaws.com/x"}}, "S3.OUTPUTS", "has to start with s3://"),
        ({"S3": {"CHECKPOINTS": "s3://Team/x"}}, "S3.CHECKPOINTS", "illegal bucket name 'Team'"),
        (_estimator(MODEL_URI="model.tar.gz"), "ESTIMATOR.MODEL_URI", "has to start with s3://"),
        (
            _estimator(DEBUGGER_HOOK_CONFIG={"S3_OUTPUT_PATH": "/tmp"}),
            "ESTIMATOR.DEBUGGER_HOOK_CONFIG.S3_OUTPUT_PATH",
            "has to start with s3://",
        ),
        (
            _estimator(PROFILER_CONFIG={"S3_OUTPUT_PATH": "/tmp"}),
            "ESTIMATOR.PROFILER_CONFIG.S3_OUTPUT_PATH",
            "has to start with s3://",
        ),
        (
            _estimator(TENSORBOARD_OUTPUT_CONFIG={"S3_OUTPUT_PATH": "/tmp"}),
            "ESTIMATOR.TENSORBOARD_OUTPUT_CONFIG.S3_OUTPUT_PATH",
            "has to start with s3://",
        ),
        (
            _estimator(CHECKPOINT_LOCAL_PATH="/opt/ml/saved"),
            "ESTIMATOR.CHECKPOINT_LOCAL_PATH",
            "has no effect without S3.CHECKPOINTS",
        ),
        # Spot and time limits
        (
            {"ESTIMATOR": {**_SPOT, "MAX_RUN": 100, "MAX_WAIT": 99}, "S3": _SAVED},
            "ESTIMATOR.MAX_WAIT",
            "99 s is less than MAX_RUN (100 s)",
        ),
        (_estimator(MAX_WAIT=100000), "ESTIMATOR.MAX_WAIT", "only for spot instances"),
        (_estimator(**_SPOT), "S3.CHECKPOINTS", "is needed with USE_SPOT_INSTANCES"),
        (_estimator(MAX_RUN=2419201), "ESTIMATOR.MAX_RUN", "longer than 28 days"),
        # Warm pools
        (
            {"ESTIMATOR": {**_SPOT, "KEEP_ALIVE_PERIOD_IN_SECONDS": 60}, "S3": _SAVED},
            "ESTIMATOR.KEEP_ALIVE_PERIOD_IN_SECONDS",
            "do not work with spot",
        ),
        (
            _estimator(INSTANCE_TYPE="", INSTANCE_GROUPS=[_GROUP], KEEP_ALIVE_PERIOD_IN_SECONDS=60),
            "ESTIMATOR.KEEP_ALIVE_PERIOD_IN_SECONDS",
            "do not work with INSTANCE_GROUPS",
        ),
        # Machines
        (_estimator(INSTANCE_TYPE=""), "ESTIMATOR.INSTANCE_TYPE", "an instance type is needed"),
        (_estimator(INSTANCE_COUNT=0), "ESTIMATOR.INSTANCE_COUNT", "at least 1 instance, not 0"),
        (_estimator(VOLUME_SIZE=0), "ESTIMATOR.VOLUME_SIZE", "at least 1 GiB, not 0"),
        (_estimator(INSTANCE_GROUPS=[_GROUP]), "ESTIMATOR.INSTANCE_GROUPS", "not both"),
        (
            _estimator(INSTANCE_TYPE="", INSTANCE_GROUPS=[_GROUP, _GROUP]),
            "ESTIMATOR.INSTANCE_GROUPS",
            "two groups are called 'a'",
        ),
        *(
            (
                _estimator(
                    INSTANCE_TYPE="",
                    INSTANCE_GROUPS=[
                        {**_GROUP, "INSTANCE_GROUP_NAME": "b"},
                        {**_GROUP, "INSTANCE_COUNT": count},
                    ],
                ),
                "ESTIMATOR.INSTANCE_GROUPS[1].INSTANCE_COUNT",
                f"at least 1 instance, not {count}",
            )
            for count in (0, -1)
        ),
        *(
            (
                _estimator(INSTANCE_TYPE=kind, VOLUME_KMS_KEY="alias/key"),
                "ESTIMATOR.VOLUME_KMS_KEY",
                f"{kind} has its own disks",
            )
            for kind in (
                "ml.g4dn.xlarge",
                "ml.p4d.24xlarge",
                "ml.g5.xlarge",
                "ml.p5.48xlarge",
                "ml.r5d.large",
            )
        ),
        # Network
        (_estimator(SUBNETS=["subnet-1"]), "ESTIMATOR.SECURITY_GROUP_IDS", "SUBNETS need"),
        (_estimator(SECURITY_GROUP_IDS=["sg-1"]), "ESTIMATOR.SUBNETS", "SECURITY_GROUP_IDS need"),
        (
            _estimator(IMAGE_URI="python:3", TRAINING_REPOSITORY_ACCESS_MODE="Vpc"),
            "ESTIMATOR.TRAINING_REPOSITORY_ACCESS_MODE",
            "Vpc needs SUBNETS",
        ),
        (
            _estimator(
                TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN="arn:aws:lambda:us-east-1:123456789012:function:x"
            ),
            "ESTIMATOR.TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN",
            "needs TRAINING_REPOSITORY_ACCESS_MODE",
        ),
        # Channels
        ({"CHANNELS": {"config": "s3://team/x"}}, "CHANNELS.config", "belongs to the training config"),
        ({"CHANNELS": {"..": "s3://team/x"}}, "CHANNELS...", "is no name for a channel"),
        ({"CHANNELS": {".": "s3://team/x"}}, "CHANNELS..", "is no name for a channel"),
        (
            _estimator(MODEL_URI="s3://team/m", MODEL_CHANNEL_NAME=".."),
            "ESTIMATOR.MODEL_CHANNEL_NAME",
            "'..' is no name for a channel",
        ),
        ({"CHANNELS": {"training": ""}}, "CHANNELS.training", "an S3 URI is needed"),
        ({"CHANNELS": {"training": "s3://team//x"}}, "CHANNELS.training", "an empty part"),
        (
            {"CHANNELS": {"model": "s3://team/x"}, "ESTIMATOR": {"MODEL_URI": "s3://team/m"}},
            "ESTIMATOR.MODEL_CHANNEL_NAME",
            "already called 'model'",
        ),
        (
            _estimator(MODEL_URI="s3://team/m", MODEL_CHANNEL_NAME="config"),
            "ESTIMATOR.MODEL_CHANNEL_NAME",
            "already called 'config'",
        ),
        (
            _channel(INSTANCE_GROUPS=["b"]),
            "CHANNELS.training.INSTANCE_GROUPS",
            "no instance group is called 'b'",
        ),
        (
            _channel(INPUT_MODE="FastFile", S3_URI="s3://team/data"),
            "CHANNELS.training",
            "end the URI with a slash",
        ),
        (
            _channel(INPUT_MODE="FastFile", S3_DATA_TYPE="ManifestFile"),
            "CHANNELS.training.INPUT_MODE",
            "S3Prefix only",
        ),
        (
            _channel(S3_DATA_TYPE="AugmentedManifestFile", ATTRIBUTE_NAMES=["x"]),
            "CHANNELS.training.INPUT_MODE",
            "Pipe mode only",
        ),
        (
            _channel(S3_DATA_TYPE="AugmentedManifestFile", INPUT_MODE="Pipe"),
            "CHANNELS.training.ATTRIBUTE_NAMES",
            "needs them",
        ),
        (
            _channel(COMPRESSION="Gzip"),
            "CHANNELS.training.COMPRESSION",
            "in Pipe mode only, not in File mode",
        ),
        # File systems
        ({"CHANNELS": {"training": _FILES}}, "CHANNELS.training", "needs ESTIMATOR.SUBNETS"),
        (
            {"CHANNELS": {"training": {**_FILES, **_CHANNEL}}, "ESTIMATOR": _VPC},
            "CHANNELS.training",
            "either S3_URI or FILE_SYSTEM_ID",
        ),
        (
            {"CHANNELS": {"training": _FILES}, "ESTIMATOR": {**_VPC, "INPUT_MODE": "FastFile"}},
            "CHANNELS.training.INPUT_MODE",
            "File mode only",
        ),
        *(
            (
                {"CHANNELS": {"training": {**_FILES, key: value}}, "ESTIMATOR": _VPC},
                f"CHANNELS.training.{key}",
                "has no effect on a file system",
            )
            for key, value in {
                "DISTRIBUTION": "ShardedByS3Key",
                "S3_DATA_TYPE": "ManifestFile",
                "COMPRESSION": "None",
                "RECORD_WRAPPING": "RecordIO",
                "ATTRIBUTE_NAMES": ["x"],
                "SHUFFLE_SEED": 1,
            }.items()
        ),
        # Metrics
        (_metric("loss=([0-9"), "ESTIMATOR.METRIC_DEFINITIONS[0].Regex", "not a regular expression"),
        (_metric("loss=[0-9.]+"), "ESTIMATOR.METRIC_DEFINITIONS[0].Regex", "has no group"),
        (_metric("loss=(?:[0-9.]+)"), "ESTIMATOR.METRIC_DEFINITIONS[0].Regex", "has no group"),
        (_metric("(a{99999999999})"), "ESTIMATOR.METRIC_DEFINITIONS[0].Regex", "not a regular expression"),
        (_metric("(" * 5000), "ESTIMATOR.METRIC_DEFINITIONS[0].Regex", "not a regular expression"),
        # Debugger and profiler
        (
            {
                "AWS": {"REGION": "eu-south-2"},
                "ESTIMATOR": {
                    "IMAGE_URI": _ECR.replace("us-east-1", "eu-south-2") + "/tiny:1",
                    "DEBUGGER_HOOK_CONFIG": {"S3_OUTPUT_PATH": "s3://team/x"},
                },
            },
            "ESTIMATOR.DEBUGGER_HOOK_CONFIG",
            "eu-south-2 has no SageMaker Debugger",
        ),
        (
            {
                "AWS": {"REGION": "eu-south-2"},
                "ESTIMATOR": {
                    "IMAGE_URI": _ECR.replace("us-east-1", "eu-south-2") + "/tiny:1",
                    "PROFILER_CONFIG": {"S3_OUTPUT_PATH": "s3://team/x"},
                },
            },
            "ESTIMATOR.PROFILER_CONFIG",
            "and no profiler",
        ),
        (
            _estimator(INSTANCE_TYPE="ml.trn1.2xlarge", PROFILER_CONFIG={"S3_OUTPUT_PATH": "s3://team/x"}),
            "ESTIMATOR.PROFILER_CONFIG",
            "does not work on Trainium",
        ),
        (
            _estimator(
                PROFILER_CONFIG={"S3_OUTPUT_PATH": "s3://team/x", "SYSTEM_MONITOR_INTERVAL_MILLIS": 300}
            ),
            "ESTIMATOR.PROFILER_CONFIG.SYSTEM_MONITOR_INTERVAL_MILLIS",
            "300 ms is none of 100, 200, 500",
        ),
    ],
)
def test_a_broken_rule_names_the_key_and_what_is_wrong(changes: Changes, key: str, message: str) -> None:
    broken = _broken(changes)
    assert [found for found, _ in broken] == [key]
    assert message in broken[0][1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"TAGS": {f"t{n}": "" for n in range(48)}},
        {"TAGS": {"launcher": "x", "awsome": "x"}},
        {"ESTIMATOR": {**_SPOT, "MAX_RUN": 100, "MAX_WAIT": 100}, "S3": _SAVED},
        {"ESTIMATOR": _SPOT, "S3": _SAVED},
        {"ESTIMATOR": {"CHECKPOINT_LOCAL_PATH": "/opt/ml/saved"}, "S3": _SAVED},
        _estimator(MAX_RUN=2419200),
        _estimator(KEEP_ALIVE_PERIOD_IN_SECONDS=3600),
        _estimator(INSTANCE_TYPE="", INSTANCE_GROUPS=[_GROUP, {**_GROUP, "INSTANCE_GROUP_NAME": "b"}]),
        _estimator(VOLUME_KMS_KEY="alias/key"),
        _estimator(IMAGE_URI="python:3", TRAINING_REPOSITORY_ACCESS_MODE="Vpc", **_VPC),
        _estimator(INSTANCE_TYPE="ml.trn1.2xlarge"),
        {"CHANNELS": {"...": "s3://team/x", "a..b": "s3://team/x"}},
        {"CHANNELS": {"model": "s3://team/x"}},
        {"CHANNELS": {f"c{n}": _CHANNEL for n in range(19)}},
        _estimator(ENVIRONMENT={f"V{n}": "x" for n in range(98)}),
        {"CHANNELS": {"training": _FILES}, "ESTIMATOR": _VPC},
        {
            "CHANNELS": {"training": {**_FILES, "INPUT_MODE": "File"}},
            "ESTIMATOR": {**_VPC, "INPUT_MODE": "FastFile"},
        },
        _channel(INPUT_MODE="FastFile"),
        _channel(INPUT_MODE="Pipe", COMPRESSION="Gzip"),
        _channel(INPUT_MODE="Pipe", S3_DATA_TYPE="AugmentedManifestFile", ATTRIBUTE_NAMES=["x"]),
        _metric("loss=([0-9.e+-]+)"),
        _metric("a(b)(c)"),
    ],
)
def test_what_is_nearly_wrong_breaks_no_rule(changes: Changes) -> None:
    assert _broken(changes) == []


@provokes(21, 24)
@pytest.mark.parametrize(
    ("changes", "suggestion"),
    [
        ({"EXPERIMENT_NAME": "my run/né"}, "my-run/n"),
        ({"AWS": {"REGION": "useast1"}}, "us-east-1"),
        (_channel(INPUT_MODE="FastFile", S3_URI="s3://team/data"), "s3://team/data/"),
        (
            _estimator(ROLE="arn:aws-cn:iam::123456789012:role/Name"),
            "arn:aws:iam::123456789012:role/Name",
        ),
    ],
)
def test_what_was_meant_is_suggested_where_it_can_be_known(changes: Changes, suggestion: str) -> None:
    [violation, *_] = rules.violations(_job(changes))
    assert violation.suggestion == suggestion


@provokes(24, 25)
@pytest.mark.parametrize(
    ("region", "partition", "suffix"),
    [
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("us-iso-east-1", "aws-iso", "c2s.ic.gov"),
        ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ("ap-southeast-99", "aws", "amazonaws.com"),  # opened after this botocore was made
    ],
)
def test_every_partition_wants_roles_and_registries_of_its_own(
    region: str, partition: str, suffix: str
) -> None:
    registry = f"123456789012.dkr.ecr.{region}."
    role = f"arn:{partition}:iam::123456789012:role/Name"
    good = {"AWS": {"REGION": region}, "ESTIMATOR": {"ROLE": role, "IMAGE_URI": f"{registry}{suffix}/tiny:1"}}
    assert _broken(good) == []
    foreign = f"{registry}{'amazonaws.com' if suffix != 'amazonaws.com' else 'amazonaws.com.cn'}/tiny:1"
    wrong = {
        "AWS": {"REGION": region},
        "ESTIMATOR": {"ROLE": "arn:aws-x:iam::123456789012:role/Name", "IMAGE_URI": foreign},
    }
    assert [key for key, _ in _broken(wrong)] == ["ESTIMATOR.ROLE", "ESTIMATOR.IMAGE_URI"]


def test_all_broken_rules_are_told_at_once() -> None:
    changes = {
        "EXPERIMENT_NAME": "",
        "AWS": {"REGION": ""},
        "S3": {"OUTPUTS": ""},
        "CHANNELS": {"a": "", "b": "x"},
        "ESTIMATOR": {"IMAGE_URI": "", "ROLE": "", "INSTANCE_TYPE": "", "SUBNETS": ["x"]},
    }
    assert [key for key, _ in _broken(changes)] == [
        "EXPERIMENT_NAME",
        "AWS.REGION",
        "ESTIMATOR.ROLE",
        "ESTIMATOR.IMAGE_URI",
        "S3.OUTPUTS",
        "ESTIMATOR.INSTANCE_TYPE",
        "ESTIMATOR.SECURITY_GROUP_IDS",
        "CHANNELS.a",
        "CHANNELS.b",
    ]


def test_every_known_instance_type_is_told_apart_by_its_disks() -> None:
    own = {
        kind.split(".")[1]
        for kind in service_model.instance_types()
        if _broken(_estimator(INSTANCE_TYPE=kind, VOLUME_KMS_KEY="k"))
    }
    assert {
        "g4dn",
        "p3dn",
        "p4d",
        "p4de",
        "r5d",
        "g5",
        "g6",
        "g6e",
        "p5",
        "p5e",
        "p5en",
        "trn1",
        "trn1n",
    } == own
