"""Rules between the fields of a job that only the service enforces, after minutes; here they are checked first. Pure.

Sources: the documentation strings of the botocore model sagemaker/2017-07-24 and the pages named at each rule, all below
https://docs.aws.amazon.com/sagemaker/latest/dg/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sagemaker_launcher import service_model
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.job import CONFIG_CHANNEL, CONFIG_SHA256_VARIABLE, Channel, Job
from sagemaker_launcher.naming import ImageUri, RoleArn, S3Uri, experiment_name_problem, legal_experiment_name
from sagemaker_launcher.rehearsal.metrics import compiled
from sagemaker_launcher.spelling import nearest

# The model's pattern of ChannelName takes them.
_OTHER_FOLDERS = (".", "..")
_NO_CHANNEL = "is no name for a channel: its data would lie in another channel's folder"
_ACCOUNT = re.compile("[0-9]{12}")
_TAGS_MAX = 48  # the service allows 50, and this tool adds two
_TAG_VALUE_MAX = 256
# Instance families whose disks are part of the machine, so that no volume key can be used: the `d` families, and those
# that the SDK lists (sagemaker/utils.py, volume_size_supported).
_LOCAL_DISK = re.compile(r"ml\.(?:[a-z0-9-]*d[a-z0-9-]*|g5[a-z]*|g6[a-z]*|p5[a-z]*|trn1[a-z]*)\.")
_RESERVED_TAGS = ("launcher:", "aws:")
# Regions without SageMaker Debugger and its profiler (sagemaker/fw_utils.py): the Estimator refuses both there.
_WITHOUT_DEBUGGER = frozenset(
    (
        "ap-south-2",
        "ap-southeast-3",
        "ap-southeast-4",
        "eu-central-2",
        "eu-south-2",
        "me-central-1",
        "us-gov-east-1",
        "us-iso-east-1",
        "us-isob-east-1",
    )
)
_MAX_RUN_S = 28 * 24 * 3600  # StoppingCondition in the model
_PROFILER_INTERVALS_MS = (100, 200, 500, 1000, 5000, 60000)


@frozen
class Violation:
    """A broken rule: the config key to change, what is wrong, and the value that was probably meant."""

    key: str
    message: str
    suggestion: str = ""


def has_local_disk(instance_type: str) -> bool:
    """Whether an instance's disk is part of the machine, so that VOLUME_SIZE says nothing about it."""
    return _LOCAL_DISK.match(instance_type) is not None


def violations(job: Job) -> tuple[Violation, ...]:
    """Every rule that a job breaks."""
    return tuple(violation for rule in _RULES for violation in rule(job))


def _names(job: Job) -> Iterator[Violation]:
    problem = experiment_name_problem(job.experiment_name)
    if problem:
        yield Violation("EXPERIMENT_NAME", problem, legal_experiment_name(job.experiment_name))
    for key in job.tags:
        if key.startswith(_RESERVED_TAGS):
            yield Violation("TAGS", f"tag {key!r}: names that start with launcher: or aws: are reserved")
    if len(job.tags) > _TAGS_MAX:
        yield Violation(
            "TAGS", f"{len(job.tags)} tags; at most {_TAGS_MAX}, since the service takes 50 and two are ours"
        )
    folder = next(channel for channel in job.channels if channel.name == CONFIG_CHANNEL).s3_uri.rpartition(
        "/"
    )[0]
    if len(folder) >= _TAG_VALUE_MAX:
        yield Violation(
            "S3.CONFIGS",
            f"the experiment's folder has {len(folder) + 1} characters, and the job's tag that names it takes "
            f"{_TAG_VALUE_MAX}; shorten S3.CONFIGS or EXPERIMENT_NAME",
        )
    refused = sorted({character for character in folder if not _can_be_in_a_tag(character)})
    if refused:
        yield Violation(
            "S3.CONFIGS",
            f"the experiment's folder is also the value of a tag of the job, which cannot have {' '.join(map(repr, refused))} in"
            " it; letters, digits, spaces and _ . : / = + - @ can be",
        )


def _counts(job: Job) -> Iterator[Violation]:
    """The model's InputDataConfig and TrainingEnvironmentMap, which hold what this tool adds, too."""
    shapes = service_model.shapes()
    most, given = shapes["InputDataConfig"]["max"], len(job.channels) - 1
    ours = 2 if job.model_uri else 1
    if given + ours > most:
        whose = (
            "the training config and MODEL_URI take one each"
            if job.model_uri
            else "one is the training config's"
        )
        yield Violation(
            "CHANNELS", f"{given} channels; at most {most - ours}, since the service takes {most} and {whose}"
        )
    most, given = shapes["TrainingEnvironmentMap"]["max"], len(job.environment) - 1
    if given + 1 > most:
        yield Violation(
            "ESTIMATOR.ENVIRONMENT",
            f"{given} variables, the default PYTHONUNBUFFERED included; at most {most - 1}, since the service takes {most} "
            f"and {CONFIG_SHA256_VARIABLE} is ours",
        )


def _can_be_in_a_tag(character: str) -> bool:
    """The model's TagValue."""
    if character.isascii():
        return character.isalnum() or character in " _.:/=+-@"
    from unicodedata import category  # noqa: PLC0415 - few archives have such names

    return category(character)[0] in "LZN"


def _region(job: Job) -> Iterator[Violation]:
    partition = service_model.partition_of(job.region)
    if not job.region:
        yield Violation("AWS.REGION", "a region is needed, such as us-east-1")
    elif partition is None:
        near = nearest(job.region, service_model.known_regions())
        yield Violation("AWS.REGION", f"no region is called {job.region!r}", *near)
    try:
        role = RoleArn.parse(job.role)
    except ValueError as error:
        given = f": {job.role!r}" if job.role else ""
        yield Violation("ESTIMATOR.ROLE", f"{error}, such as arn:aws:iam::123456789012:role/Name{given}")
        return
    if job.account and not _ACCOUNT.fullmatch(job.account):
        yield Violation("AWS.ACCOUNT", f"an account's number has 12 digits: {job.account!r}")
    elif job.account and role.account != job.account:
        yield Violation("ESTIMATOR.ROLE", f"is of account {role.account}, and AWS.ACCOUNT is {job.account}")
    if partition and role.partition != partition[0]:
        yield Violation(
            "ESTIMATOR.ROLE",
            f"is of partition {role.partition}, and {job.region} is in {partition[0]}",
            job.role.replace(f"arn:{role.partition}:", f"arn:{partition[0]}:", 1),
        )


def _image(job: Job) -> Iterator[Violation]:
    key = "ESTIMATOR.IMAGE_URI"
    if not job.image.uri:
        yield Violation(
            key, "an image is needed, such as 123456789012.dkr.ecr.us-east-1.amazonaws.com/name:tag"
        )
        return
    try:
        image = ImageUri.parse(job.image.uri)
    except ValueError as error:
        yield Violation(key, f"{error}: {job.image.uri!r}")
        return
    if not image.region:
        if job.image.repository_access_mode != "Vpc":
            yield Violation(
                key,
                f"{job.image.uri!r} is not in ECR; a private registry needs TRAINING_REPOSITORY_ACCESS_MODE: Vpc",
            )
        return
    partition = service_model.partition_of(image.region)
    if partition and image.suffix != partition[1]:
        yield Violation(key, f"registries of {image.region} end in {partition[1]}, not in {image.suffix}")
    if service_model.partition_of(job.region) and image.region != job.region:
        yield Violation(
            key, f"the image is in {image.region} and the job in {job.region}; copy it to the job's region"
        )


def _places(job: Job) -> Iterator[Violation]:
    needed = {"S3.OUTPUTS": job.outputs_uri}
    optional = {
        "S3.CHECKPOINTS": job.checkpoints_uri,
        "ESTIMATOR.MODEL_URI": job.model_uri,
        "ESTIMATOR.DEBUGGER_HOOK_CONFIG.S3_OUTPUT_PATH": job.debugger_hook.s3_output_path
        if job.debugger_hook
        else "",
        "ESTIMATOR.PROFILER_CONFIG.S3_OUTPUT_PATH": job.profiler.s3_output_path if job.profiler else "",
        "ESTIMATOR.TENSORBOARD_OUTPUT_CONFIG.S3_OUTPUT_PATH": job.tensorboard.s3_output_path
        if job.tensorboard
        else "",
    }
    for key, uri in {**needed, **{key: uri for key, uri in optional.items() if uri}}.items():
        yield from s3_uri_violations(key, uri)
    if job.checkpoint_local_path and not job.checkpoints_uri:
        yield Violation("ESTIMATOR.CHECKPOINT_LOCAL_PATH", "has no effect without S3.CHECKPOINTS")


def s3_uri_violations(key: str, uri: str) -> Iterator[Violation]:
    """What is wrong with the S3 URI under a config key."""
    try:
        S3Uri.parse(uri)
    except ValueError as error:
        yield Violation(
            key, f"{error}: {uri!r}" if uri else "an S3 URI is needed, such as s3://bucket/prefix"
        )


def _spot(job: Job) -> Iterator[Violation]:
    """model-managed-spot-training.html; CreateTrainingJob's StoppingCondition."""
    limits = job.limits
    if limits.spot and limits.max_wait_s < limits.max_run_s:
        yield Violation(
            "ESTIMATOR.MAX_WAIT",
            f"{limits.max_wait_s} s is less than MAX_RUN ({limits.max_run_s} s): it covers waiting and running",
        )
    if limits.max_wait_s and not limits.spot:
        yield Violation(
            "ESTIMATOR.MAX_WAIT", "is only for spot instances; remove it or set USE_SPOT_INSTANCES: true"
        )
    if limits.spot and not job.checkpoints_uri:
        yield Violation(
            "S3.CHECKPOINTS",
            "is needed with USE_SPOT_INSTANCES: without it every interruption starts from zero",
        )


def _warm_pool(job: Job) -> Iterator[Violation]:
    """train-warm-pools.html."""
    if not job.machines.keep_alive_s:
        return
    key = "ESTIMATOR.KEEP_ALIVE_PERIOD_IN_SECONDS"
    if job.limits.spot:
        yield Violation(key, "warm pools do not work with spot instances")
    if job.machines.groups:
        yield Violation(key, "warm pools do not work with INSTANCE_GROUPS")


def _machines(job: Job) -> Iterator[Violation]:
    machines = job.machines
    if machines.groups and machines.instance_type:
        yield Violation(
            "ESTIMATOR.INSTANCE_GROUPS", "either groups or INSTANCE_TYPE and INSTANCE_COUNT, not both"
        )
    if not machines.groups and not machines.instance_type:
        yield Violation("ESTIMATOR.INSTANCE_TYPE", "an instance type is needed, such as ml.m5.xlarge")
    # The model allows 0, for jobs that have no machines of their own.
    counts = {
        f"ESTIMATOR.INSTANCE_GROUPS[{index}].INSTANCE_COUNT": group.instance_count
        for index, group in enumerate(machines.groups)
    } or {"ESTIMATOR.INSTANCE_COUNT": machines.instance_count}
    for key, count in counts.items():
        if count < 1:
            yield Violation(key, f"at least 1 instance, not {count}")
    if job.limits.max_run_s > _MAX_RUN_S:
        yield Violation(
            "ESTIMATOR.MAX_RUN", f"{job.limits.max_run_s} s is longer than 28 days ({_MAX_RUN_S} s)"
        )
    if machines.volume_gb < 1:
        yield Violation("ESTIMATOR.VOLUME_SIZE", f"at least 1 GiB, not {machines.volume_gb}")
    names = [group.name for group in machines.groups]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Violation("ESTIMATOR.INSTANCE_GROUPS", f"two groups are called {name!r}")
    for instance_type in machines.instance_types:
        if machines.volume_kms_key and has_local_disk(instance_type):
            yield Violation(
                "ESTIMATOR.VOLUME_KMS_KEY", f"{instance_type} has its own disks, which take no volume key"
            )


def _vpc(job: Job) -> Iterator[Violation]:
    """train-vpc.html; docker-containers-adapt-your-own-private-registry.html."""
    network, image = job.network, job.image
    if network.subnets and not network.security_group_ids:
        yield Violation("ESTIMATOR.SECURITY_GROUP_IDS", "SUBNETS need SECURITY_GROUP_IDS")
    if network.security_group_ids and not network.subnets:
        yield Violation("ESTIMATOR.SUBNETS", "SECURITY_GROUP_IDS need SUBNETS")
    if image.repository_access_mode == "Vpc" and not network.subnets:
        yield Violation(
            "ESTIMATOR.TRAINING_REPOSITORY_ACCESS_MODE", "Vpc needs SUBNETS and SECURITY_GROUP_IDS"
        )
    if image.credentials_provider_arn and not image.repository_access_mode:
        yield Violation(
            "ESTIMATOR.TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN",
            "needs TRAINING_REPOSITORY_ACCESS_MODE: Vpc",
        )


def _channels(job: Job) -> Iterator[Violation]:
    groups = {group.name for group in job.machines.groups}
    data = [channel for channel in job.channels if channel.name != CONFIG_CHANNEL]
    if len(job.channels) - len(data) > 1:
        yield Violation(
            f"CHANNELS.{CONFIG_CHANNEL}", "this name belongs to the training config's own channel"
        )
    if job.model_uri and job.model_channel_name in {channel.name for channel in job.channels}:
        yield Violation(
            "ESTIMATOR.MODEL_CHANNEL_NAME", f"a channel is already called {job.model_channel_name!r}"
        )
    if job.model_uri and job.model_channel_name in _OTHER_FOLDERS:
        yield Violation("ESTIMATOR.MODEL_CHANNEL_NAME", f"{job.model_channel_name!r} {_NO_CHANNEL}")
    for channel in data:
        key = f"CHANNELS.{channel.name}"
        if channel.name in _OTHER_FOLDERS:
            yield Violation(key, f"{channel.name!r} {_NO_CHANNEL}")
        yield from _file_system(channel, job, key) if channel.file_system else _s3_channel(channel, job, key)
        yield from _bucket_owner(channel, job, key)
        for name in sorted(set(channel.instance_groups) - groups):
            yield Violation(f"{key}.INSTANCE_GROUPS", f"no instance group is called {name!r}")


def _bucket_owner(channel: Channel, job: Job, key: str) -> Iterator[Violation]:
    """A bucket has one owner, and what is written goes to buckets of the job's own account."""
    owner, place = channel.bucket_owner, f"{key}.BUCKET_OWNER"
    if not owner:
        return
    if not _ACCOUNT.fullmatch(owner):
        yield Violation(place, f"an account's number has 12 digits: {owner!r}")
        return
    if channel.file_system:
        yield Violation(place, "is for data in S3 and has no effect on a file system")
        return
    bucket = _bucket(channel.s3_uri)
    ours = {
        **{f"CHANNELS.{other.name}": other.s3_uri for other in job.channels if other.bucket_owner != owner},
        "S3.OUTPUTS": job.outputs_uri,
        "S3.CHECKPOINTS": job.checkpoints_uri,
    }
    for other, uri in ours.items():
        if bucket and _bucket(uri) == bucket:
            name = "S3.CONFIGS" if other == f"CHANNELS.{CONFIG_CHANNEL}" else other
            yield Violation(place, f"{name} is in the same bucket and does not belong to account {owner}")


def _bucket(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0] if uri.startswith("s3://") else ""


def _file_system(channel: Channel, job: Job, key: str) -> Iterator[Violation]:
    """your-algorithms-training-algo-running-container.html: EFS and FSx."""
    if channel.s3_uri:
        yield Violation(key, "either S3_URI or FILE_SYSTEM_ID, not both")
    if not job.network.subnets:
        yield Violation(key, "a file system needs ESTIMATOR.SUBNETS and SECURITY_GROUP_IDS")
    if (channel.input_mode or job.input_mode) != "File":
        yield Violation(f"{key}.INPUT_MODE", "a file system works in File mode only")
    for_s3 = {
        "DISTRIBUTION": channel.distribution != Channel.distribution,
        "S3_DATA_TYPE": channel.s3_data_type != Channel.s3_data_type,
        "COMPRESSION": channel.compression,
        "RECORD_WRAPPING": channel.record_wrapping,
        "ATTRIBUTE_NAMES": channel.attribute_names,
        "INSTANCE_GROUPS": channel.instance_groups,
        "SHUFFLE_SEED": channel.shuffle_seed,
    }
    for name, given in for_s3.items():
        if given:
            yield Violation(f"{key}.{name}", "is for data in S3 and has no effect on a file system")


def _s3_channel(channel: Channel, job: Job, key: str) -> Iterator[Violation]:
    """your-algorithms-training-algo-running-container.html; augmented-manifest.html; the model's S3DataSource."""
    mode = channel.input_mode or job.input_mode
    yield from s3_uri_violations(key, channel.s3_uri)
    if mode == "FastFile" and channel.s3_data_type != "S3Prefix":
        yield Violation(f"{key}.INPUT_MODE", "FastFile works with S3_DATA_TYPE: S3Prefix only")
    if mode == "FastFile" and channel.s3_data_type == "S3Prefix" and not channel.s3_uri.endswith("/"):
        yield Violation(key, "FastFile needs a whole folder; end the URI with a slash", f"{channel.s3_uri}/")
    if channel.s3_data_type == "AugmentedManifestFile":
        if mode != "Pipe":
            yield Violation(f"{key}.INPUT_MODE", "an augmented manifest works in Pipe mode only")
        if not channel.attribute_names:
            yield Violation(f"{key}.ATTRIBUTE_NAMES", "an augmented manifest needs them")
    if channel.compression == "Gzip" and mode != "Pipe":
        yield Violation(
            f"{key}.COMPRESSION", f"the service unpacks Gzip in Pipe mode only, not in {mode} mode"
        )


def _metrics(job: Job) -> Iterator[Violation]:
    """training-metrics.html: the first group of the expression is the number."""
    for index, metric in enumerate(job.metrics):
        key = f"ESTIMATOR.METRIC_DEFINITIONS[{index}].Regex"
        try:
            groups = compiled(metric.regex).groups
        except (re.error, OverflowError, RecursionError) as error:
            yield Violation(key, f"not a regular expression: {error}")
            continue
        if not groups:
            yield Violation(
                key,
                f"{metric.regex!r} has no group; put the number in parentheses, such as loss=([0-9.e+-]+)",
            )


def _observers(job: Job) -> Iterator[Violation]:
    """train-debugger.html; the model's ProfilerConfig; for Trainium, sagemaker/fw_utils.py."""
    without = f"{job.region} has no SageMaker Debugger"
    if job.debugger_hook and job.region in _WITHOUT_DEBUGGER:
        yield Violation("ESTIMATOR.DEBUGGER_HOOK_CONFIG", without)
    if job.profiler is None:
        return
    key = "ESTIMATOR.PROFILER_CONFIG"
    if job.region in _WITHOUT_DEBUGGER:
        yield Violation(key, f"{without} and no profiler")
    if any(instance_type.startswith("ml.trn") for instance_type in job.machines.instance_types):
        yield Violation(key, "the profiler does not work on Trainium instances")
    if job.profiler.interval_ms not in _PROFILER_INTERVALS_MS:
        choices = ", ".join(map(str, _PROFILER_INTERVALS_MS))
        message = f"{job.profiler.interval_ms} ms is none of {choices}"
        yield Violation(f"{key}.SYSTEM_MONITOR_INTERVAL_MILLIS", message)


_RULES: tuple[Callable[[Job], Iterator[Violation]], ...] = (
    _names,
    _counts,
    _region,
    _image,
    _places,
    _spot,
    _warm_pool,
    _machines,
    _vpc,
    _channels,
    _metrics,
    _observers,
)
