"""The buckets: there, in the right region, ours, and not open to everybody; and whether the archive can be written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from sagemaker_launcher.aws import Refusal, asked
from sagemaker_launcher.errors import AccessDeniedError, ExitCode, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.permissions import Wish, may
from sagemaker_launcher.preflight.subject import Place, Subject
from sagemaker_launcher.preflight.world import World

_REGION_HEADER = "x-amz-bucket-region"
_EVERYBODY = ("/groups/global/AllUsers", "/groups/global/AuthenticatedUsers")
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def bucket_checks(subject: Subject, world: World) -> tuple[Check, ...]:
    """Everything about buckets, and writing to the archive."""
    buckets = subject.buckets()
    ours = {bucket: places for bucket, places in buckets.items() if not world.is_foreign(bucket)}
    return (
        Check(
            "buckets",
            tuple(partial(_bucket, subject, world, bucket, places) for bucket, places in buckets.items()),
        ),
        Check("public", tuple(partial(_public, world, bucket, places) for bucket, places in ours.items())),
        Check("archive", (lambda: _archive(subject, world),)),
    )


def _bucket(subject: Subject, world: World, bucket: str, places: tuple[Place, ...]) -> Iterator[Finding]:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html."""
    shown = f"s3://{bucket} ({', '.join(place.key for place in places)})"
    try:
        answer = asked(world.client("s3").head_bucket, "", f"look up {shown}", Bucket=bucket)
    except NotFoundError:
        yield failed(
            "buckets",
            f"there is no bucket {shown}",
            "create it, or correct its name",
            ExitCode.NOT_FOUND,
            "bucket_not_found",
        )
        return
    except LauncherError as error:
        region = Refusal.behind(error).headers.get(_REGION_HEADER, "")
        if region and region != subject.job.region:
            yield _wrong_region(shown, region, subject)
        elif isinstance(error, AccessDeniedError):
            yield _denied(world, bucket, places, shown)
        else:
            raise
        return
    region = answer.get("BucketRegion") or ""
    if region and region != subject.job.region:
        yield _wrong_region(shown, region, subject)
    elif region:
        yield Finding("buckets", "ok", f"{shown} in {region}, of account {world.owner(bucket)}")
    else:
        yield Finding("buckets", "unknown", f"{shown} exists, and the server does not say in which region")


def _wrong_region(shown: str, region: str, subject: Subject) -> Finding:
    """S3DataSource in the model of CreateTrainingJob: all buckets have to be in the region of the job."""
    return failed(
        "buckets",
        f"{shown} is in {region}, and the job in {subject.job.region}",
        f"run the job in {region}, or use a bucket of {subject.job.region}",
        ExitCode.CONFIG,
        "wrong_region",
    )


def _denied(world: World, bucket: str, places: tuple[Place, ...], shown: str) -> Finding:
    """S3 says the same to those who may not ask and about buckets of others; IAM knows which of both it is."""
    owner, arn = world.owner(bucket), world.bucket_arn(bucket)
    ours = not world.is_foreign(bucket)  # IAM says nothing about what other accounts allow
    allowed = _may_list(world, arn) if ours else None
    if allowed:
        return failed(
            "buckets",
            f"{shown} does not belong to account {owner}, or its own policy keeps you out: refused",
            "use a bucket of your own; for data of others, name the owner: CHANNELS.*.BUCKET_OWNER",
            ExitCode.UNSAFE,
            "foreign_bucket",
        )
    message, fix = f"{shown}: you may not list it", f"allow s3:ListBucket on {arn}"
    if allowed is None:
        message += f", or it does not belong to account {owner}"
        fix += "; for data of others, name the owner: CHANNELS.*.BUCKET_OWNER"
    if any(place.written for place in places):
        return failed("buckets", message, fix, ExitCode.ACCESS_DENIED, "access_denied")
    return Finding("buckets", "unknown", message, fix)  # only the role has to read it


def _may_list(world: World, arn: str) -> bool | None:
    """Whether IAM lets us list a bucket; None when it does not say."""
    wish = Wish("list it", ("s3:ListBucket",), (arn,))
    try:
        if not world.principal:
            return True
        return all(one.verdict == "ok" for one in may(world, "buckets", world.principal, "you", wish))
    except LauncherError:
        return None


def _public(world: World, bucket: str, places: tuple[Place, ...]) -> Iterator[Finding]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html."""
    try:
        yield _openness(world, bucket, places)
    except NotFoundError:
        return  # the check of the buckets tells


def _openness(world: World, bucket: str, places: tuple[Place, ...]) -> Finding:
    blocks = _setting(world, bucket, "get_public_access_block", "PublicAccessBlockConfiguration")
    if all(blocks.get(block) for block in _BLOCKS):
        return Finding("public", "ok", f"s3://{bucket} blocks all public access")
    openers = list(_openers(world, bucket, blocks))
    if not openers:
        return Finding("public", "ok", f"nothing opens s3://{bucket} to the public")
    fix = (
        f"aws s3api put-public-access-block --bucket {bucket} --public-access-block-configuration "
        + ",".join(f"{block}=true" for block in _BLOCKS)
    )
    message = f"{' and '.join(openers)} of s3://{bucket} opens it to the public"
    if any(place.written for place in places):
        return failed("public", message, fix, ExitCode.UNSAFE, "public_bucket")
    return Finding("public", "warning", message, fix)


def _openers(world: World, bucket: str, blocks: Mapping[str, bool]) -> Iterator[str]:
    """What lets everybody in. https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html: groups."""
    if not blocks.get("RestrictPublicBuckets"):
        policy = _setting(world, bucket, "get_bucket_policy_status", "PolicyStatus")
        if policy.get("IsPublic"):
            yield "the policy"
    if not blocks.get("IgnorePublicAcls"):
        grants = _setting(world, bucket, "get_bucket_acl", "Grants")
        if any(grant["Grantee"].get("URI", "").endswith(_EVERYBODY) for grant in grants):
            yield "the access control list"


def _setting(world: World, bucket: str, operation: str, member: str) -> Any:  # noqa: ANN401 - as boto3 has it
    """A setting of a bucket; an empty one when it was never made."""
    try:
        answer = asked(
            getattr(world.client("s3"), operation), member, f"ask who may reach s3://{bucket}", Bucket=bucket
        )
    except LauncherError as error:
        if Refusal.behind(error).code in {"NoSuchPublicAccessBlockConfiguration", "NoSuchBucketPolicy"}:
            return {}
        raise
    return answer[member]


def _archive(subject: Subject, world: World) -> Iterator[Finding]:
    """Nothing is written to find out: IAM is asked. In a launch, the reservation of the name proves it."""
    shown = f"write to {subject.archive}"
    if not world.principal:
        yield Finding("archive", "ok", f"the root user may {shown}")
        return
    objects = f"{world.bucket_arn(subject.archive.bucket)}/{subject.experiment.key}intent.json"
    wish = Wish(shown, ("s3:PutObject", "s3:GetObject"), (objects,))
    yield from may(world, "archive", world.principal, "you", wish)
