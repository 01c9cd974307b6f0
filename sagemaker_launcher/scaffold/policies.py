"""The least that IAM has to allow, for exactly the places, the image and the role of one SageMaker config. Pure.

Sources, below https://docs.aws.amazon.com/: sagemaker/latest/dg/api-permissions-reference.html and sagemaker-roles.html,
AmazonECR/latest/userguide/image-push-iam.html, and the service authorization reference for what takes no resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import datetime, timezone
from typing import Any

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import ImageUri, RoleArn, S3Uri, job_name

Document = dict[str, Any]
_VERSION = "2012-10-17"
_SERVICE = "sagemaker.amazonaws.com"
_TAIL = len("-YYYYMMDD-hhmmss-token0")  # of a job's name, see `naming.job_name`


@frozen
class Statement:
    """What is allowed, on what, and what for.

    Attributes:
        name: The statement's Sid.
        purpose: What for, in a few words.
    """

    name: str
    purpose: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def document(self) -> Document:
        """As IAM reads it."""
        return {
            "Sid": self.name,
            "Effect": "Allow",
            "Action": list(self.actions),
            "Resource": list(dict.fromkeys(self.resources)),
            **({"Condition": dict(self.condition)} if self.condition else {}),
        }


@frozen
class Policy:
    """A policy for one kind of principal.

    Attributes:
        name: A word for files and commands.
        purpose: Who gets it.
        statements: Empty for the trust policy, which has `trust` instead.
        trust: The document of a trust policy.
    """

    name: str
    purpose: str
    statements: tuple[Statement, ...] = ()
    trust: Document = field(default_factory=dict)

    @property
    def document(self) -> Document:
        """As IAM reads it."""
        return self.trust or {
            "Version": _VERSION,
            "Statement": [statement.document for statement in self.statements],
        }


def policies(config: Mapping[str, Any]) -> tuple[Policy, ...]:
    """The policies that the jobs of a config need.

    Args:
        config: A complete SageMaker config without problems, such as `config.Configs.sagemaker`.
    """
    needs = _Needs.of(config)
    return (
        Policy("launcher", "whoever launches and watches jobs", tuple(_launcher(needs))),
        Policy("execution-role", "the role that jobs have", tuple(_role(needs))),
        Policy("trust", "the same role: SageMaker alone may take it", trust=_trust(needs)),
        *_builder(needs),
    )


def missing(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What the policies cannot know, one sentence each."""
    found = []
    for name, channel in config["CHANNELS"].items():
        if channel["FILE_SYSTEM_ID"]:
            found.append(
                f"CHANNELS.{name} is a file system: its own policy and security groups have to let the role in"
            )
        elif channel["S3_DATA_TYPE"] != "S3Prefix":
            found.append(f"CHANNELS.{name} is a manifest: add s3:GetObject on the places that it lists")
    return tuple(found)


@frozen
class _Needs:
    """A config, taken apart for IAM."""

    config: Mapping[str, Any]
    partition: str
    account: str
    region: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> _Needs:
        role = RoleArn.parse(config["ESTIMATOR"]["ROLE"])
        return cls(config, role.partition, role.account, config["AWS"]["REGION"])

    def arn(self, service: str, resource: str, *, account: str = "") -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{account or self.account}:{resource}"

    def bucket(self, uri: S3Uri) -> str:
        return f"arn:{self.partition}:s3:::{uri.bucket}"

    def objects(self, uri: S3Uri) -> str:
        """Everything that begins as the URI does."""
        return f"{self.bucket(uri)}/{_literal(uri.key)}*"

    @property
    def jobs(self) -> str:
        """The jobs of the project: those whose experiments have the same first part."""
        first = self.config["EXPERIMENT_NAME"].partition("/")[0]
        name = job_name(first, datetime.fromtimestamp(0, timezone.utc), "token0")
        return self.arn("sagemaker", f"training-job/{name[:-_TAIL]}-*")

    @property
    def archive(self) -> S3Uri:
        return S3Uri.parse(self.config["S3"]["CONFIGS"]).folder

    @property
    def outputs(self) -> tuple[S3Uri, ...]:
        """Where a job writes, checkpoints aside."""
        estimator = self.config["ESTIMATOR"]
        observers = ("DEBUGGER_HOOK_CONFIG", "PROFILER_CONFIG", "TENSORBOARD_OUTPUT_CONFIG")
        uris = (self.config["S3"]["OUTPUTS"], *(estimator[key]["S3_OUTPUT_PATH"] for key in observers))
        return tuple(S3Uri.parse(uri).folder for uri in uris if uri)

    @property
    def checkpoints(self) -> tuple[S3Uri, ...]:
        uri = self.config["S3"]["CHECKPOINTS"]
        return (S3Uri.parse(uri).folder,) if uri else ()

    @property
    def data(self) -> tuple[S3Uri, ...]:
        """What a job reads, its config aside; a prefix matches as text."""
        uris = [channel["S3_URI"] for channel in self.config["CHANNELS"].values()]
        return tuple(S3Uri.parse(uri) for uri in (*uris, self.config["ESTIMATOR"]["MODEL_URI"]) if uri)

    @property
    def manifests(self) -> tuple[str, ...]:
        """The channels' lists of objects."""
        listed = [
            channel["S3_URI"]
            for channel in self.config["CHANNELS"].values()
            if channel["S3_URI"] and channel["S3_DATA_TYPE"] != "S3Prefix"
        ]
        return tuple(f"{self.bucket(uri)}/{_literal(uri.key)}" for uri in map(S3Uri.parse, listed))

    @property
    def buckets(self) -> tuple[str, ...]:
        places = (self.archive, *self.outputs, *self.checkpoints, *self.data)
        return tuple(dict.fromkeys(self.bucket(place) for place in places))

    @property
    def repository(self) -> str:
        """The image's repository in ECR; empty when it is elsewhere."""
        image = ImageUri.parse(self.config["ESTIMATOR"]["IMAGE_URI"])
        if not image.region:
            return ""
        return f"arn:{self.partition}:ecr:{image.region}:{image.account}:repository/{image.repository}"

    def keys(self, *names: str) -> Iterator[Statement]:
        """The KMS keys under these keys of ESTIMATOR, as a statement that lacks its actions."""
        values = dict.fromkeys(self.config["ESTIMATOR"][name] for name in names)
        for number, key in enumerate(filter(None, values)):
            owner, _, name = key.rpartition(":")  # only an ARN has an owner: partition, region and account
            alias = name if name.startswith("alias/") else ""
            resource = f"key/{'*' if alias else name.removeprefix('key/')}"
            arn = f"{owner}:{resource}" if owner else self.arn("kms", resource)
            # A policy names keys and never aliases:
            # https://docs.aws.amazon.com/kms/latest/developerguide/alias-authorization.html
            # StringEquals reads variables, which need a `$`; SageMaker takes no key that has one.
            condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}} if alias else {}
            yield Statement(f"Key{number or ''}", "", (), (arn,), condition)


def _literal(text: str) -> str:
    """What a config says, as a part of a Resource that means this text alone: no wildcards, and no variables.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html, special characters
    """
    return re.sub(r"[*?$]", r"${\g<0>}", text)


def _launcher(needs: _Needs) -> Iterator[Statement]:
    yield Statement(
        "Jobs",
        "start, tag, watch and stop the jobs of this project",
        (
            "sagemaker:CreateTrainingJob",
            "sagemaker:AddTags",
            "sagemaker:ListTags",
            "sagemaker:DescribeTrainingJob",
            "sagemaker:StopTrainingJob",
        ),
        (needs.jobs,),
    )
    yield Statement(
        "PassRole",
        "hand the execution role to jobs, and to nothing else",
        ("iam:PassRole",),
        (needs.config["ESTIMATOR"]["ROLE"],),
        {"StringEquals": {"iam:PassedToService": _SERVICE}},
    )
    yield Statement(
        "Archive",
        "archive configs and results, and read those of others",
        ("s3:GetObject", "s3:PutObject"),
        (needs.objects(needs.archive),),
    )
    results = (*needs.outputs, *needs.checkpoints)
    yield Statement(
        "Results", "download what jobs have left", ("s3:GetObject",), tuple(map(needs.objects, results))
    )
    yield Statement(
        "Buckets",
        "list the archive; see that channels have data, and that the buckets are in the region and not public",
        (
            "s3:ListBucket",
            "s3:ListBucketMultipartUploads",
            "s3:GetBucketPublicAccessBlock",
            "s3:GetBucketPolicyStatus",
            "s3:GetBucketAcl",
            "s3:GetBucketVersioning",
            "s3:GetEncryptionConfiguration",
            "s3:GetLifecycleConfiguration",
        ),
        needs.buckets,
    )
    yield Statement(
        "Logs",
        "read the logs of jobs",
        ("logs:DescribeLogStreams", "logs:GetLogEvents"),
        (needs.arn("logs", "log-group:/aws/sagemaker/TrainingJobs:*"),),
    )
    yield Statement(
        "CheckRole",
        "see, before a launch, that the role trusts SageMaker and may do what a job does",
        ("iam:GetRole", "iam:SimulatePrincipalPolicy"),
        (needs.config["ESTIMATOR"]["ROLE"],),
    )
    yield Statement(
        "CheckOneself",
        "see, before a launch, what one may do oneself; add the ARN of a role that people log in with",
        ("iam:GetRole", "iam:SimulatePrincipalPolicy"),
        (f"arn:{needs.partition}:iam::{needs.account}:user/${{aws:username}}",),
    )
    if needs.manifests:
        yield Statement(
            "CheckManifests",
            "see, before a launch, that manifests list what exists",
            ("s3:GetObject",),
            needs.manifests,
        )
    if needs.repository:
        yield Statement(
            "CheckImage",
            "see, before a launch, that the image exists and is one that SageMaker takes",
            ("ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
            (needs.repository,),
        )
    for key in needs.keys("VOLUME_KMS_KEY", "OUTPUT_KMS_KEY"):
        yield Statement(
            f"Check{key.name}",
            "see, before a launch, that the key can be used",
            ("kms:DescribeKey",),
            key.resources,
            key.condition,
        )
    for key in needs.keys("OUTPUT_KMS_KEY"):
        yield Statement(
            f"Output{key.name}",
            "read and write what is encrypted with the key",
            ("kms:Decrypt", "kms:GenerateDataKey"),
            key.resources,
            key.condition,
        )
    for key in needs.keys("VOLUME_KMS_KEY"):
        yield Statement(
            f"Volume{key.name}",
            "let SageMaker encrypt disks",
            ("kms:CreateGrant",),
            key.resources,
            key.condition,
        )
    in_vpc = (
        ("ec2:DescribeSubnets", "ec2:DescribeSecurityGroups") if needs.config["ESTIMATOR"]["SUBNETS"] else ()
    )
    yield Statement(
        "Everywhere",
        "list jobs; ask for quotas and prices, which no resource can name",
        (
            "sagemaker:ListTrainingJobs",
            "servicequotas:GetServiceQuota",
            "servicequotas:ListServiceQuotas",
            "pricing:GetProducts",
            *in_vpc,
        ),
        ("*",),
    )


def _role(needs: _Needs) -> Iterator[Statement]:
    estimator = needs.config["ESTIMATOR"]
    yield Statement(
        "Read",
        "read the data and the archived configs",
        ("s3:GetObject",),
        tuple(map(needs.objects, (needs.archive, *needs.data))),
    )
    yield Statement(
        "Write",
        "save models and outputs",
        ("s3:PutObject", "s3:AbortMultipartUpload"),
        tuple(map(needs.objects, needs.outputs)),
    )
    if needs.checkpoints:
        yield Statement(
            "Checkpoints",
            "save checkpoints, delete old ones, and go on from them",
            ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
            tuple(map(needs.objects, needs.checkpoints)),
        )
    yield Statement("Buckets", "find the data", ("s3:ListBucket", "s3:GetBucketLocation"), needs.buckets)
    if needs.repository:
        yield Statement(
            "Image",
            "pull the image",
            ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"),
            (needs.repository,),
        )
    yield Statement(
        "Everywhere",
        "log in to ECR, and write metrics",
        ("ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"),
        ("*",),
    )
    yield Statement(
        "Logs",
        "write the logs of jobs",
        ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"),
        (needs.arn("logs", "log-group:/aws/sagemaker/TrainingJobs*"),),
    )
    for key in needs.keys("OUTPUT_KMS_KEY"):
        yield Statement(
            f"Output{key.name}",
            "encrypt outputs",
            ("kms:Encrypt", "kms:GenerateDataKey", "kms:Decrypt"),
            key.resources,
            key.condition,
        )
    for key in needs.keys("VOLUME_KMS_KEY"):
        yield Statement(
            f"Volume{key.name}", "encrypt disks", ("kms:CreateGrant",), key.resources, key.condition
        )
    if estimator["SUBNETS"]:
        yield Statement("Network", "join the VPC", _VPC_ACTIONS, ("*",))
    function = estimator["TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN"]
    if function:
        yield Statement(
            "RegistryPassword",
            "ask for the registry's password",
            ("lambda:InvokeFunction",),
            (_literal(function),),
        )
    if estimator["ENABLE_REMOTE_DEBUG"]:
        yield Statement("RemoteDebug", "let you into the running container", _SSM_ACTIONS, ("*",))


_VPC_ACTIONS = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeVpcs",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeSubnets",
    "ec2:DescribeSecurityGroups",
)
# https://docs.aws.amazon.com/sagemaker/latest/dg/train-remote-debugging.html
_SSM_ACTIONS = (
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
)


def _trust(needs: _Needs) -> Document:
    """SageMaker alone, and for jobs of this account alone.

    https://docs.aws.amazon.com/sagemaker/latest/dg/security-confused-deputy-prevention.html
    """
    statement = {
        "Sid": "SageMaker",
        "Effect": "Allow",
        "Principal": {"Service": _SERVICE},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": needs.account}},
    }
    if needs.config["ESTIMATOR"]["ENABLE_SESSION_TAG_CHAINING"]:
        statement["Action"] = ["sts:AssumeRole", "sts:TagSession"]
    return {"Version": _VERSION, "Statement": [statement]}


def _builder(needs: _Needs) -> Iterator[Policy]:
    image = ImageUri.parse(needs.config["ESTIMATOR"]["IMAGE_URI"])
    if image.account != needs.account:
        return  # somebody else builds it
    push = Statement(
        "Push",
        "create the repository, and push images to it",
        (
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:CreateRepository",
            "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart",
        ),
        (needs.repository,),
    )
    login = Statement("Login", "log in to ECR", ("ecr:GetAuthorizationToken",), ("*",))
    yield Policy("image-builder", "whoever runs build_and_push.sh --create-repository", (push, login))
