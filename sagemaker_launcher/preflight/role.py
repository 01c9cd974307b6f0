"""The execution role: it exists, SageMaker may take it on, we may hand it over, and it may do what the job needs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sagemaker_launcher.errors import ExitCode, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.naming import ImageUri, RoleArn
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.permissions import Wish, may
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World

_SERVICE = "sagemaker.amazonaws.com"
_TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, '
    '"Action": "sts:AssumeRole"}]}'
)
_FULL_ACCESS = (
    "the policy AmazonSageMakerFullAccess covers only buckets with `sagemaker` in their names; others need a policy of"
    " their own"
)


def role_checks(subject: Subject, world: World) -> tuple[Check, ...]:
    """Everything about the execution role."""
    arn = subject.job.role
    wishes = _wishes(subject, world)
    return (
        Check("role", (lambda: _role(subject, world),)),
        Check(
            "pass-role",
            tuple(partial(_own_permission, world, wish) for wish in _own_wishes(subject, world)),
        ),
        Check(
            "role-access",
            tuple(partial(_access, world, arn, wish) for wish in wishes),
        ),
    )


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _role(subject: Subject, world: World) -> Iterator[Finding]:
    arn, account = subject.job.role, world.identity.account
    if RoleArn.parse(arn).account != account:
        yield failed(
            "role",
            f"{arn} belongs to another account than the job, {account}",
            f"use a role of account {account}",
            ExitCode.CONFIG,
            "foreign_role",
        )
        return
    try:
        found = world.role(_name(arn))
    except NotFoundError:
        yield failed(
            "role",
            f"there is no role {arn}",
            "create it, or correct ESTIMATOR.ROLE",
            ExitCode.NOT_FOUND,
            "role_not_found",
        )
        return
    if found["Arn"] != arn:
        fix = f"ESTIMATOR.ROLE: {found['Arn']}"
        yield failed("role", f"there is no role {arn}", fix, ExitCode.NOT_FOUND, "role_not_found")
    elif not _trusts(found.get("AssumeRolePolicyDocument")):
        yield failed(
            "role",
            f"{arn} does not let {_SERVICE} take it on",
            f"give it this trust policy: {_TRUST}",
            ExitCode.ACCESS_DENIED,
            "role_not_trusting",
        )
    else:
        yield Finding("role", "ok", f"{arn} exists and trusts {_SERVICE}")


def _trusts(policy: object) -> bool:
    """Whether a trust policy lets SageMaker take a role on; conditions of it are not looked at."""
    statements = policy.get("Statement", []) if isinstance(policy, dict) else []
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal", {})
        services = principal.get("Service", []) if isinstance(principal, dict) else principal
        actions = statement.get("Action", [])
        if (
            statement.get("Effect") == "Allow"
            and {_SERVICE, "*"} & set(_listed(services))
            and {"sts:assumerole", "sts:*", "*"} & {action.lower() for action in _listed(actions)}
        ):
            return True
    return False


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _own_wishes(subject: Subject, world: World) -> tuple[Wish, ...]:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/api-permissions-reference.html."""
    job = subject.job
    partition, account = world.partition, world.identity.account
    return (
        Wish(
            f"hand the role {_name(job.role)} to SageMaker",
            ("iam:PassRole",),
            (job.role,),
            {"iam:PassedToService": _SERVICE},
        ),
        Wish(
            "start and follow the job",
            ("sagemaker:CreateTrainingJob", "sagemaker:AddTags", "sagemaker:DescribeTrainingJob"),
            (f"arn:{partition}:sagemaker:{job.region}:{account}:training-job/{job.name}",),
        ),
    )


def _own_permission(world: World, wish: Wish) -> Iterator[Finding]:
    if world.principal:
        yield from may(world, "pass-role", world.principal, "you", wish)
    else:
        yield Finding("pass-role", "ok", f"the root user may {wish.what}")


def _access(world: World, arn: str, wish: Wish) -> Iterator[Finding]:
    try:
        yield from may(world, "role-access", arn, f"the role {_name(arn)}", wish)
    except NotFoundError:
        yield Finding("role-access", "unknown", f"IAM knows no role {arn}")


def _wishes(subject: Subject, world: World) -> Iterator[Wish]:
    """https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html, CreateTrainingJob."""
    job = subject.job
    partition, account = world.partition, world.identity.account
    places = list(subject.places())
    read = [place.uri for place in places if place.read]
    written = [place.uri for place in places if place.written and place.key != "S3.CONFIGS"]
    buckets = tuple(dict.fromkeys(world.bucket_arn(uri.bucket) for uri in read))
    yield Wish("list the buckets of its data", ("s3:ListBucket",), buckets, advice=_FULL_ACCESS)
    objects = tuple(dict.fromkeys(f"{world.bucket_arn(uri.bucket)}/{uri.key}*" for uri in read))
    yield Wish("read its data", ("s3:GetObject",), objects, advice=_FULL_ACCESS)
    objects = tuple(dict.fromkeys(f"{world.bucket_arn(uri.bucket)}/{uri.key}*" for uri in written))
    yield Wish("write what it leaves", ("s3:PutObject",), objects, advice=_FULL_ACCESS)
    image = ImageUri.parse(job.image.uri)
    if image.region:
        repository = f"arn:{partition}:ecr:{image.region}:{image.account}:repository/{image.repository}"
        actions = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")
        yield Wish("pull the image", actions, (repository,))
    logs = f"arn:{partition}:logs:{job.region}:{account}:log-group:/aws/sagemaker/TrainingJobs:log-stream:{job.name}/algo-1"
    yield Wish("keep a log", ("logs:CreateLogStream", "logs:PutLogEvents"), (logs,))
