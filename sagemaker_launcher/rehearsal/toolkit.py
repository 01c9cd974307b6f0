"""What AWS's training toolkit gives a script: its arguments, its command line, its environment.

Facts from sagemaker-training 5.1.4: its params.py, mapping.py, environment.py, process.py and errors.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from sagemaker_launcher.errors import ConfigError, Problem
from sagemaker_launcher.frozen import frozen

_RESERVED_PREFIX = "sagemaker_"
_TOOLKIT_SETTINGS = frozenset(
    {
        "_tuning_objective_metric",
        "default_user_module_name",
        "sagemaker_container_log_level",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_job_name",
        "sagemaker_program",
        "sagemaker_region",
        "sagemaker_s3_output",
        "sagemaker_submit_directory",
    }
)
_DISTRIBUTION_SWITCHES = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)
# Facts of SM_TRAINING_ENV that have no variable of their own, or one with another name.
_ONLY_IN_TRAINING_ENV = frozenset(
    {
        "additional_framework_parameters",
        "channel_input_dirs",
        "distribution_hosts",
        "hyperparameters",
        "is_master",
        "is_modelparallel_enabled",
        "is_smddpmprun_installed",
        "is_smddprun_installed",
        "job_name",
        "master_hostname",
        "topology",
    }
)
_ENTRY_POINT = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._+-]*(/[A-Za-z0-9._+-]+)*")
_LOG_LEVEL = "sagemaker_container_log_level"
_INFO = 20  # logging.INFO, without importing logging
# What the toolkit needs of its own settings without checking it. A bool counts as a number there, too.
_SETTING_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    _LOG_LEVEL: ((int,), "a whole number such as 20"),
    "sagemaker_distribution_instance_groups": ((list, str, dict), "a list of instance groups"),
    "sagemaker_job_name": ((str,), "a text that is not JSON, or a JSON string"),
    "sagemaker_region": ((str,), "a text that is not JSON, or a JSON string"),
}
_SIGKILL_STATUS = 137
_LONGEST_STRING = 131072  # bytes of one argument or variable with its NUL: MAX_ARG_STRLEN of Linux


class _InstanceGroup(TypedDict):
    instance_group_name: str
    instance_type: str
    hosts: list[str]


class _ResourceConfig(TypedDict, total=False):
    current_host: str
    current_instance_type: str
    current_group_name: str
    hosts: list[str]
    instance_groups: list[_InstanceGroup]
    network_interface_name: str
    topology: list[object]


@frozen
class Machine:
    """What a script may use of the machine that it runs on.

    Attributes:
        cpus: Logical processors.
        gpus: NVIDIA GPUs.
        neurons: AWS Neuron cores.
    """

    cpus: int
    gpus: int
    neurons: int

    @classmethod
    def detect(cls, *, timeout_s: float = 5.0) -> Machine:
        """Counts processors, and GPUs when there is an `nvidia-smi` that answers in time."""
        return cls(cpus=os.cpu_count() or 1, gpus=_count_gpus(timeout_s), neurons=0)


def _count_gpus(timeout_s: float) -> int:
    command = ["nvidia-smi", "--list-gpus"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed program and fixed words
            command, capture_output=True, check=True, text=True, timeout=timeout_s
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in answer.stdout.splitlines())


def decode_hyperparameters(hyperparameters: Mapping[str, str]) -> dict[str, object]:
    """The hyperparameters that the script gets: the JSON in each text, or the text when it is not JSON.

    Left out are `sagemaker_*` and two others, which the toolkit keeps for itself.
    """
    return {name: value for name, value in _decode(hyperparameters).items() if not _is_reserved(name)}


def _decode(hyperparameters: Mapping[str, str]) -> dict[str, object]:
    return {name: _decode_value(text) for name, text in hyperparameters.items()}


def _decode_value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_reserved(name: str) -> bool:
    return name.startswith(_RESERVED_PREFIX) or name in _TOOLKIT_SETTINGS


def script_arguments(hyperparameters: Mapping[str, str]) -> tuple[str, ...]:
    """A script's arguments: an option and a value for each hyperparameter, sorted by name."""
    decoded = decode_hyperparameters(hyperparameters)
    return tuple(text for name in sorted(decoded) for text in (_option(name), _argument(decoded[name])))


def _option(name: str) -> str:
    if not name:
        return ""
    return f"--{name}" if len(name) > 1 else f"-{name}"


def _argument(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={value[key]}" for key in sorted(value))
    return str(value)


def is_valid_entry_point(name: str) -> bool:
    """Whether the toolkit accepts this path, relative to the code directory, as the script to run.

    A final newline, which its pattern lets through by accident, is refused here.
    """
    return bool(_ENTRY_POINT.fullmatch(name)) and not {".", ".."} & set(name.split("/"))


def script_command(python: str, entry_point: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """The command that runs an entry point, to be started in the code directory.

    A `.py` file is run by `python`; anything else by the shell, after the toolkit has set its mode to 0777.
    A code directory with a `setup.py` is not meant: the toolkit installs that one and runs `python -m`.
    """
    if entry_point.endswith(".py"):
        return (python, "--", entry_point, *arguments)
    quoted = " ".join(shlex.quote(argument) for argument in arguments)
    return ("/bin/sh", "-c", f"./{shlex.quote(entry_point)} {quoted}")


def failure_text(exit_code: int, command: Sequence[str]) -> str:
    """What the toolkit writes to `output/failure` for a script that failed and wrote nothing there itself.

    Args:
        exit_code: As `subprocess` reports it: -N when signal N killed the process. Only 137, which a shell
            reports for a killed child, is explained as out of memory; -9 is not.
        command: As `script_command` made it.
    """
    explanation = ""
    if exit_code == _SIGKILL_STATUS:
        explanation = 'ExtraInfo "OutOfMemory: Process killed by SIGKILL (signal 9)"\n'
    return (
        f'ExecuteUserScriptError:\nExitCode {exit_code}\nErrorMessage ""\n'
        f'{explanation}Command "{" ".join(command)}"'
    )


def script_environment(
    *,
    base: Path,
    job_name: str,
    hyperparameters: Mapping[str, str],
    input_data_config: Mapping[str, object],
    resource_config: Mapping[str, object],
    entry_point: str,
    machine: Machine,
    service_environment: Mapping[str, str],
) -> dict[str, str]:
    """Every variable that the toolkit adds or changes before it starts a script.

    One differs: the toolkit's PYTHONPATH goes on with all places of its own Python, which would mislead the
    script's Python if that is another one. Ours is the code directory, then what the container had.

    Args:
        base: What `/opt/ml` is in a container (SAGEMAKER_BASE_DIR).
        job_name: The training job's name (TRAINING_JOB_NAME).
        hyperparameters: The content of `hyperparameters.json`.
        input_data_config: The content of `inputdataconfig.json`.
        resource_config: The content of `resourceconfig.json`.
        entry_point: The script that is started, relative to the code directory.
        machine: What the script may use.
        service_environment: The variables that the container had before. Some change the result; AWS_REGION
            does not: SAGEMAKER_REGION is the hyperparameter `sagemaker_region`, else AWS_DEFAULT_REGION.

    Raises:
        ConfigError: The toolkit would fail on these values before the script starts.
    """
    settings = {name: value for name, value in _decode(hyperparameters).items() if _is_reserved(name)}
    region = settings.get("sagemaker_region", service_environment.get("AWS_DEFAULT_REGION")) or ""
    _refuse(_setting_problems({**settings, "sagemaker_region": region}, service_environment))
    arguments = script_arguments(hyperparameters)
    training: dict[str, object] = {
        **_directories(base),
        **_cluster(cast("_ResourceConfig", resource_config), settings, machine),
        **_program(base, entry_point, settings, service_environment),
        "channel_input_dirs": {channel: str(base / "input/data" / channel) for channel in input_data_config},
        "hyperparameters": decode_hyperparameters(hyperparameters),
        "input_data_config": dict(input_data_config),
        "job_name": job_name,
        "resource_config": dict(resource_config),
    }
    variables = {
        **_sm_variables(training, arguments),
        "CURRENT_HOST": str(training["current_host"]),
        "PYTHONPATH": _python_path(base, service_environment),
        "SAGEMAKER_JOB_NAME": str(settings.get("sagemaker_job_name", "")),
        "SAGEMAKER_REGION": str(region),
    }
    _refuse(_passing_problems(variables, arguments))
    return variables


def _directories(base: Path) -> dict[str, object]:
    return {
        "input_config_dir": str(base / "input/config"),
        "input_dir": str(base / "input"),
        "model_dir": str(base / "model"),
        "output_data_dir": str(base / "output/data"),
        "output_dir": str(base / "output"),
        "output_intermediate_dir": str(base / "output/intermediate"),
    }


def _cluster(
    resources: _ResourceConfig, settings: Mapping[str, object], machine: Machine
) -> dict[str, object]:
    host, hosts = resources["current_host"], resources["hosts"]
    instance_type = resources.get("current_instance_type", "local")
    groups = {group["instance_group_name"]: group for group in resources.get("instance_groups", [])}
    own_group = resources.get("current_group_name", "homogeneousCluster")
    distributed = _distribution_groups(own_group, settings)
    members = [member for name in groups if name in distributed for member in groups[name]["hosts"]]
    distribution_hosts = members if groups else hosts
    master = (distribution_hosts or hosts)[0]
    return {
        "current_host": host,
        "current_instance_group": own_group,
        "current_instance_group_hosts": groups[own_group]["hosts"] if own_group in groups else [],
        "current_instance_type": instance_type,
        "distribution_hosts": distribution_hosts,
        "distribution_instance_groups": distributed,
        "hosts": hosts,
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "is_hetero": len(groups) > 1,
        "is_master": host == master,
        "master_hostname": master,
        "network_interface_name": resources.get("network_interface_name", "eth0"),
        "num_cpus": machine.cpus,
        "num_gpus": machine.gpus,
        # The toolkit asks neuron-ls except on this type, whose cores it knows.
        "num_neurons": 64 if "trn2.48xlarge" in instance_type else machine.neurons,
        "topology": resources.get("topology", []),
    }


def _distribution_groups(own_group: str, settings: Mapping[str, object]) -> list[str]:
    distributed = any(settings.get(switch) for switch in _DISTRIBUTION_SWITCHES)
    default = [own_group] if distributed else []
    return cast("list[str]", settings.get("sagemaker_distribution_instance_groups", default))


def _program(
    base: Path, entry_point: str, settings: Mapping[str, object], service_environment: Mapping[str, str]
) -> dict[str, object]:
    model_parallel = service_environment.get("SM_HP_MP_PARAMETERS")
    return {
        "additional_framework_parameters": {
            name: value for name, value in settings.items() if name not in _TOOLKIT_SETTINGS
        },
        "framework_module": service_environment.get("SAGEMAKER_TRAINING_MODULE"),
        "is_modelparallel_enabled": model_parallel and model_parallel != "{}",
        # Two programs that only AWS's own images have.
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "log_level": settings.get(_LOG_LEVEL, _INFO),
        "module_dir": str(settings.get("sagemaker_submit_directory", base / "code")),
        "module_name": entry_point.removesuffix(".py"),
        "user_entry_point": entry_point,
    }


def _sm_variables(training: Mapping[str, object], arguments: Sequence[str]) -> dict[str, str]:
    """Names are upper-cased and nothing else; of two that become the same, the later one wins."""
    channels = cast("dict[str, str]", training["channel_input_dirs"])
    hyperparameters = cast("dict[str, object]", training["hyperparameters"])
    facts = {name: value for name, value in training.items() if name not in _ONLY_IN_TRAINING_ENV}
    facts |= {
        "channels": sorted(channels),
        "framework_params": training["additional_framework_parameters"],
        "hps": hyperparameters,
        "training_env": training,
        "user_args": arguments,
    }
    if training["topology"]:
        facts["topology"] = training["topology"]
    facts |= {f"channel_{name}": path for name, path in channels.items()}
    facts |= {f"hp_{name}": value for name, value in hyperparameters.items()}
    return {f"SM_{name.upper()}": _variable(value) for name, value in facts.items()}


def _variable(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _python_path(base: Path, service_environment: Mapping[str, str]) -> str:
    places = (str(base / "code"), service_environment.get("PYTHONPATH", ""))
    return ":".join(place for place in places if place)


def _refuse(problems: Iterator[Problem]) -> None:
    if found := list(problems):
        raise ConfigError(found, hint="On SageMaker the job would fail before the script starts.")


def _setting_problems(
    settings: Mapping[str, object], service_environment: Mapping[str, str]
) -> Iterator[Problem]:
    for name, (types, expected) in _SETTING_TYPES.items():
        if name in settings and not isinstance(settings[name], types):
            yield Problem(
                where="HyperParameters",
                key=name,
                message="the toolkit stumbles over this value",
                value=json.dumps(settings[name]),
                expected=expected,
            )
    level = service_environment.get(_LOG_LEVEL.upper(), "0")
    try:
        int(level)
    except ValueError:
        yield Problem(
            where="Environment",
            key=_LOG_LEVEL.upper(),
            message="the toolkit stumbles over this value",
            value=level,
            expected=_SETTING_TYPES[_LOG_LEVEL][1],
        )


def _passing_problems(variables: Mapping[str, str], arguments: Sequence[str]) -> Iterator[Problem]:
    """The operating system takes neither every name nor every text."""
    for name, value in variables.items():
        reason = "its name holds '='" if "=" in name else _unpassable(f"{name}={value}")
        if reason:
            yield Problem(where="HyperParameters", key=name, message=f"cannot be a variable: {reason}")
    for option, value in zip(arguments[::2], arguments[1::2], strict=True):
        if reason := _unpassable(value):
            yield Problem(where="HyperParameters", key=option, message=f"cannot be an argument: {reason}")


def _unpassable(text: str) -> str:
    if "\0" in text:
        return "it holds a NUL character"
    try:
        length = len(text.encode("utf-8", "surrogateescape")) + 1
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair"
    return f"its {length} bytes are more than {_LONGEST_STRING}" if length > _LONGEST_STRING else ""
