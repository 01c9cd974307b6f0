"""Job -> CreateTrainingJob request: plain data, the same that the real Estimator would send. Pure.

Member names and nesting: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
"""

from __future__ import annotations

import re
from typing import Any

from sagemaker_launcher.job import Channel, Job, Machines

Request = dict[str, Any]

_MODEL_CONTENT_TYPE = "application/x-sagemaker-model"

# Which config key each part of the request comes from, so that a problem names what the user wrote. Longest match wins;
# [] stands for the index that the part has.
CONFIG_KEYS = {
    "TrainingJobName": "EXPERIMENT_NAME",
    "RoleArn": "ESTIMATOR.ROLE",
    "HyperParameters": "ESTIMATOR.HYPERPARAMETERS",
    "Environment": "ESTIMATOR.ENVIRONMENT",
    "Tags": "TAGS",
    "InputDataConfig": "CHANNELS",
    "OutputDataConfig.S3OutputPath": "S3.OUTPUTS",
    "OutputDataConfig.KmsKeyId": "ESTIMATOR.OUTPUT_KMS_KEY",
    "CheckpointConfig.S3Uri": "S3.CHECKPOINTS",
    "CheckpointConfig.LocalPath": "ESTIMATOR.CHECKPOINT_LOCAL_PATH",
    "AlgorithmSpecification.TrainingImage": "ESTIMATOR.IMAGE_URI",
    "AlgorithmSpecification.TrainingInputMode": "ESTIMATOR.INPUT_MODE",
    "AlgorithmSpecification.MetricDefinitions": "ESTIMATOR.METRIC_DEFINITIONS",
    "AlgorithmSpecification.MetricDefinitions.Name": "ESTIMATOR.METRIC_DEFINITIONS[].Name",
    "AlgorithmSpecification.MetricDefinitions.Regex": "ESTIMATOR.METRIC_DEFINITIONS[].Regex",
    "AlgorithmSpecification.ContainerEntrypoint": "ESTIMATOR.CONTAINER_ENTRY_POINT",
    "AlgorithmSpecification.ContainerArguments": "ESTIMATOR.CONTAINER_ARGUMENTS",
    "AlgorithmSpecification.TrainingImageConfig": "ESTIMATOR.TRAINING_REPOSITORY_ACCESS_MODE",
    "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAuthConfig": (
        "ESTIMATOR.TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN"
    ),
    "ResourceConfig.InstanceType": "ESTIMATOR.INSTANCE_TYPE",
    "ResourceConfig.InstanceCount": "ESTIMATOR.INSTANCE_COUNT",
    "ResourceConfig.InstanceGroups": "ESTIMATOR.INSTANCE_GROUPS",
    "ResourceConfig.InstanceGroups.InstanceGroupName": "ESTIMATOR.INSTANCE_GROUPS[].INSTANCE_GROUP_NAME",
    "ResourceConfig.InstanceGroups.InstanceType": "ESTIMATOR.INSTANCE_GROUPS[].INSTANCE_TYPE",
    "ResourceConfig.InstanceGroups.InstanceCount": "ESTIMATOR.INSTANCE_GROUPS[].INSTANCE_COUNT",
    "ResourceConfig.VolumeSizeInGB": "ESTIMATOR.VOLUME_SIZE",
    "ResourceConfig.VolumeKmsKeyId": "ESTIMATOR.VOLUME_KMS_KEY",
    "ResourceConfig.KeepAlivePeriodInSeconds": "ESTIMATOR.KEEP_ALIVE_PERIOD_IN_SECONDS",
    "ResourceConfig.TrainingPlanArn": "ESTIMATOR.TRAINING_PLAN",
    "ResourceConfig.InstancePlacementConfig": "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG",
    "ResourceConfig.InstancePlacementConfig.PlacementSpecifications": (
        "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS"
    ),
    "ResourceConfig.InstancePlacementConfig.PlacementSpecifications.UltraServerId": (
        "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS[].ULTRA_SERVER_ID"
    ),
    "ResourceConfig.InstancePlacementConfig.PlacementSpecifications.InstanceCount": (
        "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS[].INSTANCE_COUNT"
    ),
    "StoppingCondition.MaxRuntimeInSeconds": "ESTIMATOR.MAX_RUN",
    "StoppingCondition.MaxWaitTimeInSeconds": "ESTIMATOR.MAX_WAIT",
    "RetryStrategy": "ESTIMATOR.MAX_RETRY_ATTEMPTS",
    "VpcConfig.Subnets": "ESTIMATOR.SUBNETS",
    "VpcConfig.SecurityGroupIds": "ESTIMATOR.SECURITY_GROUP_IDS",
    "DebugHookConfig": "ESTIMATOR.DEBUGGER_HOOK_CONFIG",
    "DebugHookConfig.HookParameters": "ESTIMATOR.DEBUGGER_HOOK_CONFIG.HOOK_PARAMETERS",
    "ProfilerConfig": "ESTIMATOR.PROFILER_CONFIG",
    "TensorBoardOutputConfig": "ESTIMATOR.TENSORBOARD_OUTPUT_CONFIG",
}
# Parts whose names are the user's own, dots and brackets included; the config has the same ones.
_MAPPINGS = ("HyperParameters", "Environment", "DebugHookConfig.HookParameters")
# The same as CONFIG_KEYS within a channel.
_CHANNEL_KEYS = {
    "InputMode": "INPUT_MODE",
    "S3DataDistributionType": "DISTRIBUTION",
    "S3DataType": "S3_DATA_TYPE",
    "ContentType": "CONTENT_TYPE",
    "CompressionType": "COMPRESSION",
    "RecordWrapperType": "RECORD_WRAPPING",
    "AttributeNames": "ATTRIBUTE_NAMES",
    "InstanceGroupNames": "INSTANCE_GROUPS",
    "ShuffleConfig": "SHUFFLE_SEED",
    "FileSystemId": "FILE_SYSTEM_ID",
    "FileSystemType": "FILE_SYSTEM_TYPE",
    "FileSystemAccessMode": "FILE_SYSTEM_ACCESS_MODE",
    "DirectoryPath": "DIRECTORY_PATH",
}


def create_training_job_request(job: Job) -> Request:
    """Builds the request that starts `job`; members that are not given are left out, as the SDK leaves them out."""
    request: Request = {
        "TrainingJobName": job.name,
        "AlgorithmSpecification": _algorithm(job),
        "RoleArn": job.role,
        "InputDataConfig": [_channel(channel) for channel in _all_channels(job)],
        "OutputDataConfig": _given(
            S3OutputPath=job.outputs_uri,
            KmsKeyId=job.output_kms_key,
            CompressionType="" if job.compress_output else "NONE",
        ),
        "ResourceConfig": _resources(job.machines),
        "StoppingCondition": {
            "MaxRuntimeInSeconds": job.limits.max_run_s,
            **_given(MaxWaitTimeInSeconds=job.limits.max_wait_s),
        },
        "Environment": dict(job.environment),
    }
    return request | _given(
        HyperParameters=dict(job.hyperparameters),
        Tags=[{"Key": key, "Value": value} for key, value in job.tags.items()],
        VpcConfig=_given(
            SecurityGroupIds=list(job.network.security_group_ids), Subnets=list(job.network.subnets)
        ),
        CheckpointConfig=_given(S3Uri=job.checkpoints_uri, LocalPath=job.checkpoint_local_path),
        EnableManagedSpotTraining=job.limits.spot,
        EnableNetworkIsolation=job.network.isolated,
        EnableInterContainerTrafficEncryption=job.network.encrypt_between_containers,
        RetryStrategy=_given(MaximumRetryAttempts=job.limits.max_retry_attempts),
        InfraCheckConfig=_given(EnableInfraCheck=job.infra_check),
        RemoteDebugConfig=_given(EnableRemoteDebug=job.remote_debug),
        SessionChainingConfig=_given(EnableSessionTagChaining=job.session_tag_chaining),
        **_observers(job),
    )


def config_key(path: str, request: Request) -> str:
    """The config key that a path of a request comes from.

    Args:
        path: Such as `ResourceConfig.InstanceType` or `InputDataConfig[0].ContentType`.
        request: The request, which knows the channels' names.
    """
    parts = path.split(".")
    name, _, index = parts[0].rstrip("]").partition("[")
    if name == "InputDataConfig" and index:
        channel = request["InputDataConfig"][int(index)]
        if channel.get("ContentType") == _MODEL_CONTENT_TYPE:
            return "ESTIMATOR.MODEL_CHANNEL_NAME" if parts[-1] == "ChannelName" else "ESTIMATOR.MODEL_URI"
        members = [
            _CHANNEL_KEYS[part.partition("[")[0]]
            for part in parts[1:]
            if part.partition("[")[0] in _CHANNEL_KEYS
        ]
        return ".".join(["CHANNELS", channel["ChannelName"], *members])
    if name == "Tags" and index:
        return f"TAGS.{request['Tags'][int(index)]['Key']}"
    for mapping in _MAPPINGS:
        if path.startswith(f"{mapping}."):
            return CONFIG_KEYS[mapping] + path.removeprefix(mapping)
    names = [part.partition("[")[0] for part in parts]
    for length in range(len(names), 0, -1):
        known = CONFIG_KEYS.get(".".join(names[:length]))
        if known:
            return known.replace("[]", "".join(re.findall(r"\[\d+\]", path)[:1]))
    return path


def _given(**members: Any) -> Request:  # noqa: ANN401 - members of a request have every type
    """Drops what is not given: empty texts, lists and mappings, zero and False."""
    return {name: value for name, value in members.items() if value}


def _all_channels(job: Job) -> tuple[Channel, ...]:
    if not job.model_uri:
        return job.channels
    model = Channel(
        job.model_channel_name, job.model_uri, input_mode="File", content_type=_MODEL_CONTENT_TYPE
    )
    return (*job.channels, model)


def _algorithm(job: Job) -> Request:
    image = job.image
    return {"TrainingImage": image.uri, "TrainingInputMode": job.input_mode} | _given(
        MetricDefinitions=[{"Name": metric.name, "Regex": metric.regex} for metric in job.metrics],
        EnableSageMakerMetricsTimeSeries=job.metrics_time_series,
        ContainerEntrypoint=list(image.entry_point),
        ContainerArguments=list(image.arguments),
        TrainingImageConfig=_given(
            TrainingRepositoryAccessMode=image.repository_access_mode,
            TrainingRepositoryAuthConfig=_given(
                TrainingRepositoryCredentialsProviderArn=image.credentials_provider_arn
            ),
        ),
    )


def _channel(channel: Channel) -> Request:
    if channel.file_system:
        source = {
            "FileSystemDataSource": {
                "FileSystemId": channel.file_system.file_system_id,
                "FileSystemType": channel.file_system.file_system_type,
                "DirectoryPath": channel.file_system.directory_path,
                "FileSystemAccessMode": channel.file_system.access_mode,
            }
        }
    else:
        source = {
            "S3DataSource": {
                "S3DataType": channel.s3_data_type,
                "S3Uri": channel.s3_uri,
                "S3DataDistributionType": channel.distribution,
                **_given(
                    AttributeNames=list(channel.attribute_names),
                    InstanceGroupNames=list(channel.instance_groups),
                ),
            }
        }
    return {"ChannelName": channel.name, "DataSource": source} | _given(
        ContentType=channel.content_type,
        CompressionType=channel.compression,
        RecordWrapperType=channel.record_wrapping,
        InputMode=channel.input_mode,
        ShuffleConfig=_given(Seed=channel.shuffle_seed),
    )


def _resources(machines: Machines) -> Request:
    if machines.groups:
        kind: Request = {
            "InstanceGroups": [
                {
                    "InstanceGroupName": group.name,
                    "InstanceType": group.instance_type,
                    "InstanceCount": group.instance_count,
                }
                for group in machines.groups
            ]
        }
    else:
        kind = {"InstanceType": machines.instance_type, "InstanceCount": machines.instance_count}
    placement = _given(
        EnableMultipleJobs=machines.multiple_jobs_per_ultra_server,
        PlacementSpecifications=[
            {"UltraServerId": placement.ultra_server_id, "InstanceCount": placement.instance_count}
            for placement in machines.placements
        ],
    )
    return {
        **kind,
        "VolumeSizeInGB": machines.volume_gb,
        **_given(
            VolumeKmsKeyId=machines.volume_kms_key,
            KeepAlivePeriodInSeconds=machines.keep_alive_s,
            TrainingPlanArn=machines.training_plan,
            InstancePlacementConfig=placement,
        ),
    }


def _observers(job: Job) -> Request:
    """Debugger, profiler and TensorBoard: off unless asked for. Only the profiler has to be told so."""
    members: Request = {"ProfilerConfig": {"DisableProfiler": True}}
    if job.debugger_hook:
        members["DebugHookConfig"] = {
            "S3OutputPath": job.debugger_hook.s3_output_path,
            # The Estimator sends the collections of its rules, of which there are none here.
            "CollectionConfigurations": [],
            **_given(
                LocalPath=job.debugger_hook.local_path, HookParameters=dict(job.debugger_hook.parameters)
            ),
        }
    if job.profiler:
        members["ProfilerConfig"] = {
            "S3OutputPath": job.profiler.s3_output_path,
            "ProfilingIntervalInMilliseconds": job.profiler.interval_ms,
            "DisableProfiler": False,
        }
    if job.tensorboard:
        members["TensorBoardOutputConfig"] = {"S3OutputPath": job.tensorboard.s3_output_path} | _given(
            LocalPath=job.tensorboard.local_path
        )
    return members
