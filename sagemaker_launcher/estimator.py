"""Job -> the real `sagemaker.estimator.Estimator`; the only module that imports the SageMaker SDK.

The SDK stays quiet and reaches nothing but the client it is given: no telemetry, no defaults files, no metadata look-ups.
Facts about the SDK (2.257.7, files sagemaker/estimator.py, session.py, telemetry/telemetry_logging.py) are pinned by
tests/test_sdk_contract.py.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from typing import Any, Protocol

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.health.advisories import SDK, advisories_on
from sagemaker_launcher.job import Channel, Job
from sagemaker_launcher.request import Request

SDK_REQUIREMENT = "sagemaker>=2.257.7,<3"


class TrainingClient(Protocol):
    """What the Estimator needs of an AWS client: to start a training job."""

    def create_training_job(self, **request: Any) -> Any:  # noqa: ANN401 - boto3's own signature
        """Starts the job of a CreateTrainingJob request."""


def check_sdk_version() -> str:
    """Gives the version of the installed SDK, without importing it.

    Raises:
        EnvironmentProblemError: The SDK is missing, too old, known to be vulnerable, or of a generation that has no
            Estimator.
    """
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - it takes long, and a rehearsal has no SDK

    try:
        installed = version(SDK)
    except PackageNotFoundError:
        raise EnvironmentProblemError(
            "the SageMaker SDK is not installed", hint=f"pip install '{SDK_REQUIREMENT}'", code="sdk_missing"
        ) from None
    numbers = tuple(int(part) for part in installed.split(".")[:3] if part.isdigit())
    holes = [f"{advisory.name}: {advisory.what}" for advisory in advisories_on(SDK, installed)]
    if holes or not (2, 257, 7) <= numbers < (3,):
        known = f"; this one is known to be vulnerable ({'; '.join(holes)})" if holes else ""
        raise EnvironmentProblemError(
            f"SageMaker SDK {installed} is installed, and starting a job on AWS needs {SDK_REQUIREMENT}{known}",
            hint="make a fresh virtual environment for this tool (upgrading in place between generations breaks the "
            "SDK) and install this tool in it",
            code="sdk_vulnerable" if holes else "sdk_version",
        )
    return installed


def import_sdk() -> None:
    """Imports the SDK, which takes over a second: call it in a thread while other work goes on."""
    # Without this the SDK prints its end-of-support notice.
    os.environ["SAGEMAKER_SUPPRESS_V2_WARNING"] = "1"
    # It also sets up logging for the whole process and writes there, partly on stdout; this tool logs nothing.
    logging.disable(logging.CRITICAL)
    importlib.import_module("sagemaker.estimator")


def begin_import() -> None:
    """Starts importing the SDK in a thread; whoever needs it before it is there waits for Python's import lock.

    Raises:
        EnvironmentProblemError: See `check_sdk_version`.
    """
    check_sdk_version()
    threading.Thread(target=import_sdk, name="import of the SDK", daemon=True).start()


def start_with_estimator(job: Job, client: TrainingClient, boto_session: Any) -> None:  # noqa: ANN401 - boto3 is untyped
    """Starts `job` through `Estimator.fit(wait=False)`, which calls `client.create_training_job` exactly once."""
    import_sdk()
    sdk = _Sdk()
    estimator = sdk.estimator.Estimator(
        sagemaker_session=_quiet_session(sdk, client, boto_session), **estimator_arguments(job, sdk)
    )
    # The undecorated fit: the decorator around it is the SDK's telemetry.
    fit = sdk.estimator.Estimator.fit.__wrapped__
    fit(estimator, inputs=_inputs(job, sdk), wait=False, job_name=job.name)


class _Sdk:
    """The SDK's modules that are used here, imported on demand."""

    def __init__(self) -> None:
        self.estimator = importlib.import_module("sagemaker.estimator")
        self.inputs = importlib.import_module("sagemaker.inputs")
        self.session = importlib.import_module("sagemaker.session")
        self.debugger = importlib.import_module("sagemaker.debugger")
        self.instance_group = importlib.import_module("sagemaker.instance_group")


def _quiet_session(sdk: _Sdk, client: TrainingClient, boto_session: Any) -> Any:  # noqa: ANN401
    class QuietSession(sdk.session.Session):  # type: ignore[name-defined, misc]
        """A session that has one client and reads no defaults file.

        The SDK's own initialisation makes six more clients and loads `sagemaker/config.yaml` from the machine's and the
        user's configuration folders, which would change the job behind the config's back.
        """

        def _initialize(self, boto_session: Any, sagemaker_client: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401
            self.boto_session = boto_session
            self._region_name = boto_session.region_name
            self.sagemaker_client = sagemaker_client
            self.sagemaker_config: Request = {}
            self.local_mode = False

    # The SDK adds a tag to jobs whose model comes from JumpStart's bucket, which the archived request does not have.
    settings = sdk.session.SessionSettings(include_jumpstart_tags=False)
    return QuietSession(boto_session=boto_session, sagemaker_client=client, settings=settings)


def estimator_arguments(job: Job, sdk: Any) -> dict[str, Any]:  # noqa: ANN401 - the SDK is untyped
    """The keyword arguments of the Estimator; what is not given becomes None, so that the SDK leaves it out."""
    machines, limits, network = job.machines, job.limits, job.network
    return {
        "image_uri": job.image.uri,
        "role": job.role,
        "instance_count": None if machines.groups else machines.instance_count,
        "instance_type": None if machines.groups else machines.instance_type,
        "instance_groups": [
            sdk.instance_group.InstanceGroup(group.name, group.instance_type, group.instance_count)
            for group in machines.groups
        ]
        or None,
        "keep_alive_period_in_seconds": machines.keep_alive_s or None,
        "volume_size": machines.volume_gb,
        "volume_kms_key": machines.volume_kms_key or None,
        "training_plan": machines.training_plan or None,
        "instance_placement_config": _placement(job) or None,
        "max_run": limits.max_run_s,
        "max_wait": limits.max_wait_s or None,
        "use_spot_instances": limits.spot,
        "max_retry_attempts": limits.max_retry_attempts or None,
        "input_mode": job.input_mode,
        "output_path": job.outputs_uri,
        "output_kms_key": job.output_kms_key or None,
        "disable_output_compression": not job.compress_output,
        "hyperparameters": dict(job.hyperparameters),
        "environment": dict(job.environment),
        "tags": [{"Key": key, "Value": value} for key, value in job.tags.items()] or None,
        "subnets": list(network.subnets) or None,
        "security_group_ids": list(network.security_group_ids) or None,
        "encrypt_inter_container_traffic": network.encrypt_between_containers,
        "enable_network_isolation": network.isolated,
        "model_uri": job.model_uri or None,
        "model_channel_name": job.model_channel_name,
        "metric_definitions": [{"Name": metric.name, "Regex": metric.regex} for metric in job.metrics]
        or None,
        "enable_sagemaker_metrics": job.metrics_time_series or None,
        "checkpoint_s3_uri": job.checkpoints_uri or None,
        "checkpoint_local_path": job.checkpoint_local_path or None,
        "training_repository_access_mode": job.image.repository_access_mode or None,
        "training_repository_credentials_provider_arn": job.image.credentials_provider_arn or None,
        "container_entry_point": list(job.image.entry_point) or None,
        "container_arguments": list(job.image.arguments) or None,
        "enable_infra_check": job.infra_check or None,
        "enable_remote_debug": job.remote_debug or None,
        "enable_session_tag_chaining": job.session_tag_chaining or None,
        # Both are on unless switched off, cost extra S3 writes and have broken plain containers.
        "debugger_hook_config": _debugger_hook(job, sdk) or False,
        "profiler_config": _profiler(job, sdk),
        "disable_profiler": job.profiler is None,
        "tensorboard_output_config": _tensorboard(job, sdk),
    }


def _placement(job: Job) -> Request:
    placement: Request = {}
    if job.machines.multiple_jobs_per_ultra_server:
        placement["EnableMultipleJobs"] = True
    if job.machines.placements:
        placement["PlacementSpecifications"] = [
            {"UltraServerId": item.ultra_server_id, "InstanceCount": item.instance_count}
            for item in job.machines.placements
        ]
    return placement


def _debugger_hook(job: Job, sdk: Any) -> Any:  # noqa: ANN401
    hook = job.debugger_hook
    return hook and sdk.debugger.DebuggerHookConfig(
        s3_output_path=hook.s3_output_path,
        container_local_output_path=hook.local_path or None,
        hook_parameters=dict(hook.parameters) or None,
    )


def _profiler(job: Job, sdk: Any) -> Any:  # noqa: ANN401
    return job.profiler and sdk.debugger.ProfilerConfig(
        s3_output_path=job.profiler.s3_output_path, system_monitor_interval_millis=job.profiler.interval_ms
    )


def _tensorboard(job: Job, sdk: Any) -> Any:  # noqa: ANN401
    return job.tensorboard and sdk.debugger.TensorBoardOutputConfig(
        s3_output_path=job.tensorboard.s3_output_path,
        container_local_output_path=job.tensorboard.local_path or None,
    )


def _inputs(job: Job, sdk: _Sdk) -> dict[str, Any]:
    return {channel.name: _input(channel, sdk) for channel in job.channels}


def _input(channel: Channel, sdk: _Sdk) -> Any:  # noqa: ANN401
    if channel.file_system:
        files = sdk.inputs.FileSystemInput(
            file_system_id=channel.file_system.file_system_id,
            file_system_type=channel.file_system.file_system_type,
            directory_path=channel.file_system.directory_path,
            file_system_access_mode=channel.file_system.access_mode,
            content_type=channel.content_type or None,
        )
        if channel.input_mode:
            # The class has no argument for it, and a job whose other channels stream needs it.
            files.config["InputMode"] = channel.input_mode
        return files
    return sdk.inputs.TrainingInput(
        channel.s3_uri,
        distribution=channel.distribution,
        compression=channel.compression or None,
        content_type=channel.content_type or None,
        record_wrapping=channel.record_wrapping or None,
        s3_data_type=channel.s3_data_type,
        instance_groups=list(channel.instance_groups) or None,
        input_mode=channel.input_mode or None,
        attribute_names=list(channel.attribute_names) or None,
        shuffle_config=sdk.inputs.ShuffleConfig(channel.shuffle_seed) if channel.shuffle_seed else None,
    )
