"""The KMS keys: there, enabled, in the right region, for encryption, and for the role to use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sagemaker_launcher.aws import asked
from sagemaker_launcher.errors import ExitCode, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.permissions import Wish, may
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World

_NAME = "keys"
_VOLUME, _OUTPUT = "ESTIMATOR.VOLUME_KMS_KEY", "ESTIMATOR.OUTPUT_KMS_KEY"
# https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html, CreateTrainingJob: what the role needs.
_ACTIONS = {_VOLUME: ("kms:CreateGrant",), _OUTPUT: ("kms:Encrypt", "kms:GenerateDataKey")}
_USE, _KIND = "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"


def key_check(subject: Subject, world: World) -> Check:
    """Every key of the job."""
    keys = {_VOLUME: subject.job.machines.volume_kms_key, _OUTPUT: subject.job.output_kms_key}
    return Check(_NAME, tuple(partial(_key, subject, world, name, key) for name, key in keys.items() if key))


def _key(subject: Subject, world: World, name: str, key: str) -> Iterator[Finding]:
    """https://docs.aws.amazon.com/kms/latest/APIReference/API_DescribeKey.html."""
    region = key.split(":")[3] if key.startswith("arn:") else subject.job.region
    if region != subject.job.region:
        message = f"{name}: {key} is in {region}, and the job in {subject.job.region}"
        yield failed(_NAME, message, f"use a key of {subject.job.region}", ExitCode.CONFIG, "wrong_region")
        return
    try:
        answer = asked(world.client("kms").describe_key, "KeyMetadata", f"look up {name}, {key}", KeyId=key)
    except NotFoundError:
        fix = f"create it, or correct {name}"
        yield failed(_NAME, f"{name}: there is no key {key}", fix, ExitCode.NOT_FOUND, "key_not_found")
        return
    found = answer["KeyMetadata"]
    use, kind = found.get("KeyUsage", _USE), found.get("KeySpec", _KIND)
    if found.get("KeyState") != "Enabled":
        message, fix = f"{name}: {key} is {found.get('KeyState')}", "enable the key, or use another one"
        yield failed(_NAME, message, fix, ExitCode.ACCESS_DENIED, "key_disabled")
    elif (use, kind) != (_USE, _KIND):
        message = f"{name}: {key} is for {use} ({kind})"
        yield failed(_NAME, message, "use a symmetric key for encryption", ExitCode.CONFIG, "key_unfit")
    else:
        yield Finding(_NAME, "ok", f"{name}: {key} is enabled")
        yield from _usable(subject, world, name, found["Arn"])


def _usable(subject: Subject, world: World, name: str, arn: str) -> Iterator[Finding]:
    """Whether the role may use a key, as far as IAM knows."""
    role = subject.job.role
    wish = Wish(f"use {name}", _ACTIONS[name], (arn,), elsewhere="the key's own policy")
    try:
        yield from may(world, _NAME, role, f"the role {role.rpartition('/')[2]}", wish)
    except LauncherError as error:
        yield Finding(_NAME, "unknown", error.message)
