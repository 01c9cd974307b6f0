"""A training job as this tool understands it: frozen, typed, and independent of where it will run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagemaker_launcher.frozen import frozen

CONFIG_CHANNEL = "config"
CONFIG_SHA256_VARIABLE = "TRAINING_CONFIG_SHA256"
TRAINING_CONFIG_FILE = "training_config.yaml"


@frozen
class Image:
    """The container image and how it is started."""

    uri: str
    entry_point: tuple[str, ...]
    arguments: tuple[str, ...]
    repository_access_mode: str
    credentials_provider_arn: str


@frozen
class InstanceGroup:
    """Machines of one kind in a job of several kinds."""

    name: str
    instance_type: str
    instance_count: int


@frozen
class Placement:
    """How many instances of the job go to one UltraServer."""

    ultra_server_id: str
    instance_count: int


@frozen
class Machines:
    """What the job runs on; either a type and a count, or groups."""

    instance_type: str
    instance_count: int
    groups: tuple[InstanceGroup, ...]
    volume_gb: int
    volume_kms_key: str
    keep_alive_s: int
    training_plan: str
    multiple_jobs_per_ultra_server: bool
    placements: tuple[Placement, ...]

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Every instance type that the job asks for."""
        return tuple(group.instance_type for group in self.groups) or (self.instance_type,)

    @property
    def host_count(self) -> int:
        """How many machines there are."""
        return sum(group.instance_count for group in self.groups) if self.groups else self.instance_count


@frozen
class Limits:
    """When the service ends or repeats the job; zero means not given."""

    max_run_s: int
    max_wait_s: int
    spot: bool
    max_retry_attempts: int


@frozen
class FileSystem:
    """An EFS or FSx for Lustre folder."""

    file_system_id: str
    file_system_type: str
    directory_path: str
    access_mode: str


@frozen
class Channel:
    """One input channel; empty texts and zero mean not given.

    Attributes:
        bucket_owner: The account that has to own the bucket; empty: the job's. The request has no place for it.
    """

    name: str
    s3_uri: str
    input_mode: str = ""
    distribution: str = "FullyReplicated"
    s3_data_type: str = "S3Prefix"
    content_type: str = ""
    compression: str = ""
    record_wrapping: str = ""
    attribute_names: tuple[str, ...] = ()
    instance_groups: tuple[str, ...] = ()
    shuffle_seed: int = 0
    file_system: FileSystem | None = None
    bucket_owner: str = ""


@frozen
class Metric:
    """A number that is read from the log: the first group of `regex`."""

    name: str
    regex: str


@frozen
class Network:
    """The job's network."""

    subnets: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    isolated: bool
    encrypt_between_containers: bool


@frozen
class DebuggerHook:
    """SageMaker Debugger's hook."""

    s3_output_path: str
    local_path: str
    parameters: Mapping[str, str]


@frozen
class Profiler:
    """SageMaker's system profiler."""

    s3_output_path: str
    interval_ms: int


@frozen
class TensorBoard:
    """TensorBoard files that are uploaded while the job runs."""

    s3_output_path: str
    local_path: str


@frozen
class Job:
    """All that is known of a job before it starts. `request` and `estimator` both build on this and nothing else.

    Attributes:
        account: The only account that the job may be started in; empty: any.
    """

    name: str
    experiment_name: str
    account: str
    region: str
    role: str
    image: Image
    machines: Machines
    limits: Limits
    input_mode: str
    channels: tuple[Channel, ...]
    model_uri: str
    model_channel_name: str
    outputs_uri: str
    output_kms_key: str
    compress_output: bool
    checkpoints_uri: str
    checkpoint_local_path: str
    hyperparameters: Mapping[str, str]
    environment: Mapping[str, str]
    metrics: tuple[Metric, ...]
    metrics_time_series: bool
    network: Network
    tags: Mapping[str, str]
    infra_check: bool
    remote_debug: bool
    session_tag_chaining: bool
    debugger_hook: DebuggerHook | None
    profiler: Profiler | None
    tensorboard: TensorBoard | None


def bucket_owners(channels: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The accounts of buckets that belong to others, by bucket.

    Args:
        channels: CHANNELS of the merged config.
    """
    return {
        values["S3_URI"].removeprefix("s3://").partition("/")[0]: values["BUCKET_OWNER"]
        for values in channels.values()
        if values["BUCKET_OWNER"]
    }


def build_job(config: Mapping[str, Any], *, name: str, config_uri: str, config_sha256: str) -> Job:
    """Makes the job that a merged SageMaker config describes.

    Args:
        config: The merged tree of `defaults`, checked for types.
        name: The job's name.
        config_uri: The S3 URI of the archived training config, which becomes the `config` channel.
        config_sha256: Its SHA-256 in hex, which the container checks.
    """
    estimator = config["ESTIMATOR"]
    spot = estimator["USE_SPOT_INSTANCES"]
    channels = tuple(_channel(channel, values) for channel, values in config["CHANNELS"].items())
    checkpoints = config["S3"]["CHECKPOINTS"]
    return Job(
        name=name,
        experiment_name=config["EXPERIMENT_NAME"],
        account=config["AWS"]["ACCOUNT"],
        region=config["AWS"]["REGION"],
        role=estimator["ROLE"],
        image=Image(
            uri=estimator["IMAGE_URI"],
            entry_point=tuple(estimator["CONTAINER_ENTRY_POINT"]),
            arguments=tuple(estimator["CONTAINER_ARGUMENTS"]),
            repository_access_mode=estimator["TRAINING_REPOSITORY_ACCESS_MODE"],
            credentials_provider_arn=estimator["TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN"],
        ),
        machines=_machines(estimator),
        limits=Limits(
            max_run_s=estimator["MAX_RUN"],
            max_wait_s=estimator["MAX_WAIT"] or (estimator["MAX_RUN"] if spot else 0),
            spot=spot,
            max_retry_attempts=estimator["MAX_RETRY_ATTEMPTS"],
        ),
        input_mode=estimator["INPUT_MODE"],
        # The config is always a plain file, whatever mode the data channels have.
        channels=(*channels, Channel(CONFIG_CHANNEL, config_uri, input_mode="File")),
        model_uri=estimator["MODEL_URI"],
        model_channel_name=estimator["MODEL_CHANNEL_NAME"],
        outputs_uri=config["S3"]["OUTPUTS"].removesuffix("/"),
        output_kms_key=estimator["OUTPUT_KMS_KEY"],
        compress_output=not estimator["DISABLE_OUTPUT_COMPRESSION"],
        # One folder per job, closed by a slash: S3 prefixes match as text, and `a` would also restore `a2`.
        checkpoints_uri=f"{checkpoints.removesuffix('/')}/{name}/" if checkpoints else "",
        checkpoint_local_path=estimator["CHECKPOINT_LOCAL_PATH"],
        hyperparameters=dict(estimator["HYPERPARAMETERS"]),
        environment={**estimator["ENVIRONMENT"], CONFIG_SHA256_VARIABLE: config_sha256},
        metrics=tuple(Metric(metric["Name"], metric["Regex"]) for metric in estimator["METRIC_DEFINITIONS"]),
        metrics_time_series=estimator["ENABLE_SAGEMAKER_METRICS"],
        network=Network(
            subnets=tuple(estimator["SUBNETS"]),
            security_group_ids=tuple(estimator["SECURITY_GROUP_IDS"]),
            isolated=estimator["ENABLE_NETWORK_ISOLATION"],
            encrypt_between_containers=estimator["ENCRYPT_INTER_CONTAINER_TRAFFIC"],
        ),
        tags=dict(config["TAGS"]),
        infra_check=estimator["ENABLE_INFRA_CHECK"],
        remote_debug=estimator["ENABLE_REMOTE_DEBUG"],
        session_tag_chaining=estimator["ENABLE_SESSION_TAG_CHAINING"],
        debugger_hook=_debugger_hook(estimator["DEBUGGER_HOOK_CONFIG"]),
        profiler=_profiler(estimator["PROFILER_CONFIG"]),
        tensorboard=_tensorboard(estimator["TENSORBOARD_OUTPUT_CONFIG"]),
    )


def _machines(estimator: Mapping[str, Any]) -> Machines:
    placement = estimator["INSTANCE_PLACEMENT_CONFIG"]
    return Machines(
        instance_type=estimator["INSTANCE_TYPE"],
        instance_count=estimator["INSTANCE_COUNT"],
        groups=tuple(
            InstanceGroup(group["INSTANCE_GROUP_NAME"], group["INSTANCE_TYPE"], group["INSTANCE_COUNT"])
            for group in estimator["INSTANCE_GROUPS"]
        ),
        volume_gb=estimator["VOLUME_SIZE"],
        volume_kms_key=estimator["VOLUME_KMS_KEY"],
        keep_alive_s=estimator["KEEP_ALIVE_PERIOD_IN_SECONDS"],
        training_plan=estimator["TRAINING_PLAN"],
        multiple_jobs_per_ultra_server=placement["ENABLE_MULTIPLE_JOBS"],
        placements=tuple(
            Placement(item["ULTRA_SERVER_ID"], item["INSTANCE_COUNT"])
            for item in placement["PLACEMENT_SPECIFICATIONS"]
        ),
    )


def _channel(name: str, values: Mapping[str, Any]) -> Channel:
    file_system = FileSystem(
        file_system_id=values["FILE_SYSTEM_ID"],
        file_system_type=values["FILE_SYSTEM_TYPE"],
        directory_path=values["DIRECTORY_PATH"],
        access_mode=values["FILE_SYSTEM_ACCESS_MODE"],
    )
    return Channel(
        name=name,
        s3_uri=values["S3_URI"],
        input_mode=values["INPUT_MODE"],
        distribution=values["DISTRIBUTION"],
        s3_data_type=values["S3_DATA_TYPE"],
        content_type=values["CONTENT_TYPE"],
        compression=values["COMPRESSION"],
        record_wrapping=values["RECORD_WRAPPING"],
        attribute_names=tuple(values["ATTRIBUTE_NAMES"]),
        instance_groups=tuple(values["INSTANCE_GROUPS"]),
        shuffle_seed=values["SHUFFLE_SEED"],
        file_system=file_system if file_system.file_system_id else None,
        bucket_owner=values["BUCKET_OWNER"],
    )


def _debugger_hook(values: Mapping[str, Any]) -> DebuggerHook | None:
    if not values["S3_OUTPUT_PATH"]:
        return None
    return DebuggerHook(
        values["S3_OUTPUT_PATH"], values["CONTAINER_LOCAL_OUTPUT_PATH"], dict(values["HOOK_PARAMETERS"])
    )


def _profiler(values: Mapping[str, Any]) -> Profiler | None:
    if not values["S3_OUTPUT_PATH"]:
        return None
    return Profiler(values["S3_OUTPUT_PATH"], values["SYSTEM_MONITOR_INTERVAL_MILLIS"])


def _tensorboard(values: Mapping[str, Any]) -> TensorBoard | None:
    if not values["S3_OUTPUT_PATH"]:
        return None
    return TensorBoard(values["S3_OUTPUT_PATH"], values["CONTAINER_LOCAL_OUTPUT_PATH"])
