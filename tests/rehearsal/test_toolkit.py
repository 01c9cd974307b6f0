"""The toolkit's arguments, command and environment, without the toolkit: what anyone can check by reading."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.errors import ConfigError
from sagemaker_launcher.rehearsal.toolkit import (
    Machine,
    decode_hyperparameters,
    failure_text,
    is_valid_entry_point,
    script_arguments,
    script_command,
    script_environment,
)
from tests.fidelity import reproduces

PROJECT = Path(__file__).parents[2]
HOMOGENEOUS = {
    "current_host": "algo-2",
    "current_instance_type": "ml.m5.xlarge",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-1", "algo-2"],
    "instance_groups": [
        {
            "instance_group_name": "homogeneousCluster",
            "instance_type": "ml.m5.xlarge",
            "hosts": ["algo-1", "algo-2"],
        }
    ],
    "network_interface_name": "eth0",
}
HETEROGENEOUS = {
    "current_host": "algo-3",
    "current_instance_type": "ml.p4d.24xlarge",
    "current_group_name": "trainers",
    "hosts": ["algo-1", "algo-2", "algo-3"],
    "instance_groups": [
        {"instance_group_name": "loaders", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
        {
            "instance_group_name": "trainers",
            "instance_type": "ml.p4d.24xlarge",
            "hosts": ["algo-3", "algo-2"],
        },
    ],
    "network_interface_name": "eth0",
}
TEXT_CHANNEL = {
    "TrainingInputMode": "File",
    "S3DistributionType": "FullyReplicated",
    "RecordWrapperType": "None",
}


def make_environment(**changes: Any) -> dict[str, str]:
    given_values: dict[str, Any] = {
        "base": Path("/opt/ml"),
        "job_name": "digits-20260101-000000-abcd",
        "hyperparameters": {},
        "input_data_config": {},
        "resource_config": HOMOGENEOUS,
        "entry_point": "train.py",
        "machine": Machine(cpus=4, gpus=0, neurons=0),
        "service_environment": {},
    }
    return script_environment(**{**given_values, **changes})


def training_env(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(make_environment(**changes)["SM_TRAINING_ENV"])
    return facts


def test_each_hyperparameter_becomes_an_option_and_a_value_sorted_by_name() -> None:
    hyperparameters = {
        "batch-size": "32",
        "big": "1e3",
        "dct": '{"b":2,"a":{"z":1}}',
        "empty": "",
        "flag": "true",
        "lr": "0.1",
        "lst": '[1,"a"]',
        "name": '"quoted"',
        "none": "null",
        "plain": "hello",
        "pyflag": "True",
        "x": "5",
        "sagemaker_foo": "1",
    }
    expected = """
        --batch-size 32 --big 1000.0 --dct "a={'z': 1},b=2" --empty '' --flag True --lr 0.1 --lst "[1, 'a']"
        --name quoted --none '' --plain hello --pyflag True -x 5
    """
    assert script_arguments(hyperparameters) == tuple(shlex.split(expected))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e3", 1000.0),
        ("true", True),
        ("True", "True"),
        ('"s"', "s"),
        ("s", "s"),
        ("null", None),
        ("", ""),
        ("007", "007"),
        (" 7 ", 7),
        ("{'a': 1}", "{'a': 1}"),
    ],
)
def test_a_value_is_its_json_or_else_its_text(text: str, value: object) -> None:
    assert decode_hyperparameters({"k": text}) == {"k": value}
    assert type(decode_hyperparameters({"k": text})["k"]) is type(value)


@pytest.mark.parametrize(
    "name", ["sagemaker_program", "sagemaker_", "default_user_module_name", "_tuning_objective_metric"]
)
def test_what_the_toolkit_keeps_for_itself_does_not_reach_the_script(name: str) -> None:
    hyperparameters = {name: "1", "lr": "0.1"}
    assert decode_hyperparameters(hyperparameters) == {"lr": 0.1}
    assert script_arguments(hyperparameters) == ("--lr", "0.1")
    variables = make_environment(hyperparameters=hyperparameters)
    assert f"SM_HP_{name.upper()}" not in variables
    assert json.loads(variables["SM_HPS"]) == {"lr": 0.1}


def test_only_unknown_settings_are_framework_parameters() -> None:
    hyperparameters = {"sagemaker_program": "a.py", "sagemaker_region": "eu-west-1", "sagemaker_foo": "[1]"}
    assert make_environment(hyperparameters=hyperparameters)["SM_FRAMEWORK_PARAMS"] == '{"sagemaker_foo":[1]}'


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=6))
def test_every_hyperparameter_gives_exactly_two_arguments(hyperparameters: dict[str, str]) -> None:
    arguments = script_arguments(hyperparameters)
    assert len(arguments) == 2 * len(decode_hyperparameters(hyperparameters))
    assert [option.lstrip("-") for option in arguments[::2]] == [
        name.lstrip("-") for name in sorted(decode_hyperparameters(hyperparameters))
    ]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10), max_size=4))
def test_a_shell_entry_point_receives_the_arguments_unchanged(arguments: list[str]) -> None:
    command = script_command("python", "train.sh", arguments)
    assert command[:2] == ("/bin/sh", "-c")
    echo = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "
    shell = command[2].replace("./train.sh ", echo, 1)
    received = subprocess.run(["/bin/sh", "-c", shell], check=True, capture_output=True, text=True).stdout
    assert json.loads(received) == arguments


@pytest.mark.parametrize(
    ("entry_point", "command"),
    [
        ("train.py", ("python3", "--", "train.py", "--a", "it's")),
        ("src/train.py", ("python3", "--", "src/train.py", "--a", "it's")),
        ("train.sh", ("/bin/sh", "-c", """./train.sh --a 'it'"'"'s'""")),
        ("bin/run", ("/bin/sh", "-c", """./bin/run --a 'it'"'"'s'""")),
    ],
)
def test_python_files_are_run_by_python_and_all_else_by_the_shell(
    entry_point: str, command: tuple[str, ...]
) -> None:
    assert script_command("python3", entry_point, ("--a", "it's")) == command


@pytest.mark.parametrize("name", ["train.py", "src/train.py", "_x", ".hidden.sh", "a+b-c.py", "a/-b"])
def test_a_plain_relative_path_is_a_valid_entry_point(name: str) -> None:
    assert is_valid_entry_point(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-c",
        "/train.py",
        "../train.py",
        "a/../b.py",
        "./train.py",
        "a//b",
        "a b.py",
        "é.py",
        "a;b",
        "train.py\n",
    ],
)
def test_an_entry_point_cannot_leave_the_code_or_look_like_an_option(name: str) -> None:
    assert not is_valid_entry_point(name)


@reproduces("toolkit", "process")
def test_the_environment_holds_these_variables_and_no_others() -> None:
    assert make_environment(
        hyperparameters={"lr": "0.1"}, input_data_config={"train": TEXT_CHANNEL}
    ).keys() == {
        "CURRENT_HOST",
        "PYTHONPATH",
        "SAGEMAKER_JOB_NAME",
        "SAGEMAKER_REGION",
        "SM_CHANNELS",
        "SM_CHANNEL_TRAIN",
        "SM_CURRENT_HOST",
        "SM_CURRENT_INSTANCE_GROUP",
        "SM_CURRENT_INSTANCE_GROUP_HOSTS",
        "SM_CURRENT_INSTANCE_TYPE",
        "SM_DISTRIBUTION_INSTANCE_GROUPS",
        "SM_FRAMEWORK_MODULE",
        "SM_FRAMEWORK_PARAMS",
        "SM_HOSTS",
        "SM_HPS",
        "SM_HP_LR",
        "SM_INPUT_CONFIG_DIR",
        "SM_INPUT_DATA_CONFIG",
        "SM_INPUT_DIR",
        "SM_INSTANCE_GROUPS",
        "SM_INSTANCE_GROUPS_DICT",
        "SM_IS_HETERO",
        "SM_LOG_LEVEL",
        "SM_MODEL_DIR",
        "SM_MODULE_DIR",
        "SM_MODULE_NAME",
        "SM_NETWORK_INTERFACE_NAME",
        "SM_NUM_CPUS",
        "SM_NUM_GPUS",
        "SM_NUM_NEURONS",
        "SM_OUTPUT_DATA_DIR",
        "SM_OUTPUT_DIR",
        "SM_OUTPUT_INTERMEDIATE_DIR",
        "SM_RESOURCE_CONFIG",
        "SM_TRAINING_ENV",
        "SM_USER_ARGS",
        "SM_USER_ENTRY_POINT",
    }


def test_every_directory_is_under_the_base() -> None:
    variables = make_environment(base=Path("/srv/a b"), input_data_config={"val.x-1": TEXT_CHANNEL})
    assert variables["SM_MODEL_DIR"] == "/srv/a b/model"
    assert variables["SM_OUTPUT_DIR"] == "/srv/a b/output"
    assert variables["SM_OUTPUT_DATA_DIR"] == "/srv/a b/output/data"
    assert variables["SM_OUTPUT_INTERMEDIATE_DIR"] == "/srv/a b/output/intermediate"
    assert variables["SM_INPUT_DIR"] == "/srv/a b/input"
    assert variables["SM_INPUT_CONFIG_DIR"] == "/srv/a b/input/config"
    assert variables["SM_MODULE_DIR"] == "/srv/a b/code"
    assert variables["SM_CHANNEL_VAL.X-1"] == "/srv/a b/input/data/val.x-1"
    assert "/opt/ml" not in variables["SM_TRAINING_ENV"]


def test_variables_are_text_or_compact_sorted_ascii_json() -> None:
    hyperparameters = {"flag": "true", "d": '{"b": "é", "a": null}', "none": "null", "s": "é"}
    variables = make_environment(hyperparameters=hyperparameters)
    assert variables["SM_HP_FLAG"] == "true"
    assert variables["SM_HP_D"] == '{"a":null,"b":"\\u00e9"}'
    assert variables["SM_HP_NONE"] == ""
    assert variables["SM_HP_S"] == "é"
    assert json.loads(variables["SM_USER_ARGS"]) == list(script_arguments(hyperparameters))


def test_of_two_names_that_differ_in_case_only_the_later_one_is_exported() -> None:
    variables = make_environment(
        hyperparameters={"lr": "1", "LR": "2"}, input_data_config={"b": TEXT_CHANNEL, "B": TEXT_CHANNEL}
    )
    assert variables["SM_HP_LR"] == "2"
    assert variables["SM_CHANNEL_B"] == "/opt/ml/input/data/B"
    assert variables["SM_CHANNELS"] == '["B","b"]'


def test_the_first_host_is_the_master_when_nothing_is_distributed() -> None:
    facts = training_env()
    assert (facts["master_hostname"], facts["is_master"], facts["distribution_hosts"]) == (
        "algo-1",
        False,
        [],
    )


def test_groups_that_take_part_in_the_distribution_give_the_master() -> None:
    facts = training_env(
        resource_config=HETEROGENEOUS,
        hyperparameters={"sagemaker_distribution_instance_groups": '["trainers"]'},
    )
    assert facts["distribution_hosts"] == ["algo-3", "algo-2"]
    assert (facts["master_hostname"], facts["is_master"], facts["is_hetero"]) == ("algo-3", True, True)


@pytest.mark.parametrize(
    "switch",
    [
        "sagemaker_distributed_dataparallel_enabled",
        "sagemaker_mpi_enabled",
        "sagemaker_multi_worker_mirrored_strategy_enabled",
        "sagemaker_parameter_server_enabled",
        "sagemaker_pytorch_ddp_enabled",
        "sagemaker_pytorch_xla_multi_worker_enabled",
        "sagemaker_torch_distributed_enabled",
    ],
)
def test_a_distribution_switch_distributes_over_the_own_group(switch: str) -> None:
    on = training_env(resource_config=HETEROGENEOUS, hyperparameters={switch: "true"})
    assert on["distribution_instance_groups"] == ["trainers"]
    off = training_env(resource_config=HETEROGENEOUS, hyperparameters={switch: "false"})
    assert off["distribution_hosts"] == []


def test_the_region_comes_from_its_setting_or_the_sdk_but_not_from_aws_region() -> None:
    def region(hyperparameters: dict[str, str], **service: str) -> str:
        variables = make_environment(hyperparameters=hyperparameters, service_environment=service)
        return variables["SAGEMAKER_REGION"]

    assert region({}, AWS_REGION="eu-west-1") == ""
    assert region({}, AWS_DEFAULT_REGION="eu-west-1") == "eu-west-1"
    assert region({"sagemaker_region": '"us-east-2"'}, AWS_DEFAULT_REGION="eu-west-1") == "us-east-2"


def test_the_code_directory_comes_first_among_the_places_of_python() -> None:
    assert make_environment()["PYTHONPATH"] == "/opt/ml/code"
    inherited = make_environment(service_environment={"PYTHONPATH": "/opt/lib:/opt/more"})
    assert inherited["PYTHONPATH"] == "/opt/ml/code:/opt/lib:/opt/more"


@pytest.mark.parametrize(
    ("hyperparameters", "where"),
    [
        ({"a=b": "1"}, "SM_HP_A=B"),
        ({"k": '"a\\u0000b"'}, "SM_HP_K"),
        ({"key": '{"a": "\\u0000"}'}, "--key"),
        ({"k": '"\\ud800"'}, "SM_HP_K"),
        ({"k": "x" * 131072}, "SM_HP_K"),
        ({"sagemaker_job_name": "123"}, "sagemaker_job_name"),
        ({"sagemaker_region": "5"}, "sagemaker_region"),
        ({"sagemaker_container_log_level": "INFO"}, "sagemaker_container_log_level"),
        ({"sagemaker_distribution_instance_groups": "1"}, "sagemaker_distribution_instance_groups"),
    ],
)
def test_values_that_stop_the_toolkit_are_refused_by_name(
    hyperparameters: dict[str, str], where: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        make_environment(hyperparameters=hyperparameters)
    assert where in [problem.key for problem in refused.value.problems]


def test_a_log_level_in_words_is_refused_in_the_environment_too() -> None:
    with pytest.raises(ConfigError, match="SAGEMAKER_CONTAINER_LOG_LEVEL"):
        make_environment(service_environment={"SAGEMAKER_CONTAINER_LOG_LEVEL": "INFO"})


def test_only_a_status_of_137_is_called_out_of_memory() -> None:
    command = ("python", "--", "train.py", "--lr", "0.1")
    assert failure_text(3, command) == (
        'ExecuteUserScriptError:\nExitCode 3\nErrorMessage ""\nCommand "python -- train.py --lr 0.1"'
    )
    assert failure_text(137, command) == (
        'ExecuteUserScriptError:\nExitCode 137\nErrorMessage ""\n'
        'ExtraInfo "OutOfMemory: Process killed by SIGKILL (signal 9)"\nCommand "python -- train.py --lr 0.1"'
    )
    assert "OutOfMemory" not in failure_text(-9, command)


@pytest.mark.parametrize(
    ("nvidia_smi", "timeout_s", "gpus"),
    [
        (None, 30, 0),
        (
            "echo 'GPU 0: A100 (UUID: x)'; echo '  MIG 1g.5gb Device 0: y'; echo 'GPU 1: A100 (UUID: z)'",
            30,
            2,
        ),
        ("echo 'GPU 0: A100'; exit 9", 30, 0),
        ("exec /bin/sleep 30", 0.3, 0),
    ],
    ids=["missing", "two", "failing", "hanging"],
)
def test_gpus_are_counted_only_when_nvidia_smi_answers(
    tmp_path: Path, nvidia_smi: str | None, timeout_s: float, gpus: int
) -> None:
    if nvidia_smi:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
        program.chmod(0o755)
    detect = (
        "from sagemaker_launcher.rehearsal.toolkit import Machine;"
        f"print(Machine.detect(timeout_s={timeout_s}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", detect],
        cwd=PROJECT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert found == f"{Machine(cpus=os.cpu_count() or 1, gpus=gpus, neurons=0)}\n"
