"""The same job started by AWS's real toolkit and by us: a script must not be able to tell which it was."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from sagemaker_launcher.errors import ConfigError
from sagemaker_launcher.rehearsal.toolkit import (
    Machine,
    failure_text,
    is_valid_entry_point,
    script_arguments,
    script_command,
    script_environment,
)
from tests.fidelity import reproduces

pytestmark = pytest.mark.toolkit

PROJECT = Path(__file__).parents[2]
JOB_NAME = "digits-20260101-000000-abcd"

# What the script sees, as text that survives every byte: its arguments, environment and working directory.
DUMP = """
import json, os, sys
target = os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "output", "seen.json")
with open(target, "w") as file:
    json.dump({"argv": sys.argv, "environ": dict(os.environ), "cwd": os.getcwd()}, file)
"""
# The toolkit's PYTHONPATH lists all places of its own Python; only its beginning is comparable, and is compared.
NOT_COMPARED = {"PYTHONPATH"}


@dataclass(frozen=True)
class Case:
    """One job: what the request says and what the service adds to it."""

    hyperparameters: dict[str, str] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    resource_config: dict[str, Any] = field(
        default_factory=lambda: {"current_host": "algo-1", "hosts": ["algo-1"]}
    )
    environment: dict[str, str] = field(default_factory=dict)
    entry_point: str = "train.py"
    code: str = DUMP

    @property
    def input_data_config(self) -> dict[str, object]:
        return {
            name: {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
            for name in self.channels
        }


@dataclass(frozen=True)
class Run:
    """How one start ended."""

    exit_code: int
    command: tuple[str, ...] = ()
    seen: dict[str, Any] | None = None
    failure: str | None = None
    succeeded: bool = False


@pytest.fixture(scope="session")
def toolkit_python() -> Path:
    """The Python that has sagemaker-training; a symbolic link would lose its virtual environment if resolved."""
    python = Path(os.environ.get("TOOLKIT_PYTHON") or PROJECT / ".venv-toolkit/bin/python")
    if python.with_name("train").is_file():
        return python
    reason = f"no sagemaker-training toolkit beside {python}: run `make toolkit-test`"
    if os.environ.get("REQUIRE_TOOLKIT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def lay_out(base: Path, case: Case) -> None:
    for folder in ("code", "input/config", "model", "output/data"):
        (base / folder).mkdir(parents=True)
    script = base / "code" / case.entry_point
    script.parent.mkdir(exist_ok=True)
    script.write_text(case.code)
    contents = {
        "hyperparameters": case.hyperparameters,
        "inputdataconfig": case.input_data_config,
        "resourceconfig": case.resource_config,
    }
    for name, content in contents.items():
        (base / f"input/config/{name}.json").write_text(json.dumps(content))


def service_environment(base: Path, case: Case) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(base),  # no AWS configuration of the developer
        "SAGEMAKER_BASE_DIR": str(base),
        "SM_STUDIO_LOCAL_MODE": "true",  # do not wait for `algo-1` to resolve
        "SAGEMAKER_PROGRAM": case.entry_point,
        "TRAINING_JOB_NAME": JOB_NAME,
        "AWS_REGION": "eu-central-1",
        **case.environment,
    }


def start_by_toolkit(toolkit_python: Path, base: Path, case: Case) -> Run:
    train = [str(toolkit_python), str(toolkit_python.with_name("train"))]
    process = subprocess.run(
        train, env=service_environment(base, case), cwd=base, capture_output=True, timeout=60, check=False
    )
    failure = base / "output/failure"
    return Run(
        exit_code=process.returncode,
        seen=take_seen(base),
        failure=failure.read_text() if failure.exists() else None,
        succeeded=(base / "output/success").exists(),
    )


def start_by_us(toolkit_python: Path, base: Path, case: Case) -> Run:
    service = service_environment(base, case)
    added = script_environment(
        base=base,
        job_name=JOB_NAME,
        hyperparameters=case.hyperparameters,
        input_data_config=case.input_data_config,
        resource_config=case.resource_config,
        entry_point=case.entry_point,
        machine=Machine.detect(),
        service_environment=service,
    )
    command = script_command(str(toolkit_python), case.entry_point, script_arguments(case.hyperparameters))
    process = subprocess.run(
        command, env={**service, **added}, cwd=base / "code", capture_output=True, timeout=60, check=False
    )
    return Run(exit_code=process.returncode, command=command, seen=take_seen(base))


def take_seen(base: Path) -> dict[str, Any] | None:
    file = base / "output/seen.json"
    if not file.exists():
        return None
    seen: dict[str, Any] = json.loads(file.read_text())
    file.unlink()
    return seen


def compare(toolkit_python: Path, case: Case) -> None:
    """Starts the job twice. What the toolkit cannot start, we must refuse, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        lay_out(base, case)
        by_toolkit = start_by_toolkit(toolkit_python, base, case)
        if by_toolkit.seen is None:
            assert by_toolkit.failure is not None
            assert by_toolkit.failure.startswith("Framework Error"), by_toolkit.failure
            with pytest.raises(ConfigError):
                start_by_us(toolkit_python, base, case)
            return
        by_us = start_by_us(toolkit_python, base, case)
        assert by_us.seen is not None
        assert by_us.seen["argv"] == by_toolkit.seen["argv"]
        assert by_us.seen["cwd"] == by_toolkit.seen["cwd"] == str(base / "code")
        assert comparable(by_us.seen) == comparable(by_toolkit.seen)
        our_places = by_us.seen["environ"]["PYTHONPATH"].split(":")
        their_places = by_toolkit.seen["environ"]["PYTHONPATH"].split(":")
        assert our_places[0] == their_places[0] == str(base / "code")
        assert our_places == [place for place in their_places if place in our_places]


def comparable(seen: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in seen["environ"].items() if name not in NOT_COMPARED}


HETEROGENEOUS = Case(
    hyperparameters={"sagemaker_distribution_instance_groups": '["trainers"]', "sagemaker_s3_output": ""},
    channels=("train", "TRAIN", "val.x-1"),
    resource_config={
        "current_host": "algo-2",
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
    },
    environment={"SM_HP_MP_PARAMETERS": "{}", "AWS_DEFAULT_REGION": "us-west-2", "PYTHONPATH": "/opt/lib"},
)
ULTRASERVER = Case(
    hyperparameters={
        "mp_parameters": '{"partitions": 2}',
        "one_byte": '"\\udc80"',
        "sagemaker_region": "null",
        "sagemaker_submit_directory": "s3://bucket/source.tar.gz",
        "sagemaker_container_log_level": "10",
        "sagemaker_job_name": "a-name",
        "sagemaker_pytorch_ddp_enabled": "true",
    },
    resource_config={
        "current_host": "algo-10",
        "current_instance_type": "ml.trn2.48xlarge",
        "hosts": ["algo-1", "algo-10", "algo-2"],
        "topology": [{"hostName": "algo-10", "capacityUnitId": "unit-1"}],
    },
    environment={"AWS_DEFAULT_REGION": "us-west-2", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/other"},
)


# ---- generated jobs

NASTY_TEXTS = [
    "", " ", "it's", 'say "hi"', "a b", "$HOME `id` $(id)", "line\nbreak", "tab\there", "é", "日本語", "🙂", "\\", "*",
    "--lr", "-", "#", "007", "1e3", "NaN", "-Infinity", "True", "true", "null", "{'a': 1}", "[1, 2", "s3://b/k?x=1&y",
    '"\\u0000"', '"\\ud800"', '"\\udc80"', '{"a": "\\ud800"}', '["\\ud800"]', "\x1b[31m", "\r\n", "\u2028",
]  # fmt: skip
texts = st.sampled_from(NASTY_TEXTS) | st.text(st.characters(codec="utf-8"), max_size=10)
plain_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | plain_texts
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_texts, inner, max_size=3),
    max_leaves=6,
)
values = json_values.map(json.dumps) | texts
names = (
    st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)
    | st.sampled_from(
        ["", "x", "LR", "lr", "é", "ß", "a b", "a'b", "mp_parameters", "_tuning_objective_metric"]
    )
    | st.text(st.characters(codec="utf-8", exclude_characters="\0="), max_size=6)
)
channel_names = st.sampled_from(["train", "TRAIN", "s", "val.x-1"]) | st.from_regex(
    r"[A-Za-z0-9._-]{1,20}", fullmatch=True
)
toolkit_settings = st.fixed_dictionaries(
    {},
    optional={
        "sagemaker_program": st.sampled_from(['"other.py"', "train.py"]),
        "sagemaker_submit_directory": st.sampled_from(
            ['"s3://bucket/source.tar.gz"', "/elsewhere", "null", "5"]
        ),
        "sagemaker_container_log_level": st.sampled_from(["10", "20", "50", "true"]),
        "sagemaker_job_name": st.sampled_from(['"a-name"', "a-name", '""']),
        "sagemaker_region": st.sampled_from(['"us-east-2"', "us-east-2", "null", "0"]),
        "sagemaker_enable_cloudwatch_metrics": st.just("false"),
        "default_user_module_name": st.just("module"),
        "sagemaker_mpi_num_of_processes_per_host": st.just("2"),
        "sagemaker_mpi_enabled": st.just("false"),
        "sagemaker_parameter_server_enabled": st.sampled_from(["true", "false"]),
        "sagemaker_distributed_dataparallel_enabled": st.sampled_from(["true", '"yes"', "0"]),
        "sagemaker_pytorch_ddp_enabled": st.sampled_from(["true", "false"]),
        "sagemaker_pytorch_xla_multi_worker_enabled": st.sampled_from(["true", "false"]),
        "sagemaker_multi_worker_mirrored_strategy_enabled": st.sampled_from(["true", "false"]),
        "sagemaker_torch_distributed_enabled": st.sampled_from(["true", "false"]),
        "sagemaker_distribution_instance_groups": st.sampled_from(
            ["[]", '["group-1"]', '["group-2","group-1"]', "group-1", '{"group-2": 1}']
        ),
        "sagemaker_anything": values,
    },
)
service_variables = st.fixed_dictionaries(
    {},
    optional={
        "AWS_DEFAULT_REGION": st.sampled_from(["", "us-west-2"]),
        "CURRENT_HOST": st.just("somebody"),
        "PYTHONPATH": st.just("/opt/lib:/opt/more"),
        "SAGEMAKER_CONTAINER_LOG_LEVEL": st.sampled_from(["10", " 30 "]),
        "SAGEMAKER_JOB_NAME": st.just("of-the-image"),
        "SAGEMAKER_REGION": st.just("us-gov-west-1"),
        "SAGEMAKER_SUBMIT_DIRECTORY": st.just("/opt/other"),
        "SM_HOSTS": st.just("overwritten"),
        "SM_HP_MP_PARAMETERS": st.sampled_from(["", "{}", '{"partitions": 2}']),
        "MY_VARIABLE": plain_texts,
    },
)


@st.composite
def resource_configs(draw: st.DrawFn) -> dict[str, Any]:
    hosts = sorted(f"algo-{number}" for number in range(1, draw(st.integers(1, 12)) + 1))
    config: dict[str, Any] = {"current_host": draw(st.sampled_from(hosts)), "hosts": hosts}
    instance_type = draw(st.sampled_from(["ml.m5.xlarge", "ml.p4d.24xlarge", "ml.trn2.48xlarge", "local"]))
    group_count = draw(st.integers(0, min(3, len(hosts))))
    shuffled = draw(st.permutations(hosts))
    groups = [
        {
            "instance_group_name": f"group-{index + 1}" if group_count > 1 else "homogeneousCluster",
            "instance_type": instance_type,
            "hosts": shuffled[index::group_count],
        }
        for index in range(group_count)
    ]
    if groups:
        config["instance_groups"] = groups
        config["current_group_name"] = next(
            group["instance_group_name"] for group in groups if config["current_host"] in group["hosts"]
        )
    if draw(st.booleans()):
        config["current_instance_type"] = instance_type
        config["network_interface_name"] = draw(st.sampled_from(["eth0", "ethwe"]))
    if draw(st.booleans()):
        config["topology"] = [{"hostName": host, "capacityUnitId": "unit-1"} for host in hosts]
    return config


cases = st.builds(
    Case,
    hyperparameters=st.builds(
        lambda chosen, reserved: {**chosen, **reserved},
        st.dictionaries(names, values, max_size=6),
        toolkit_settings,
    ),
    channels=st.lists(channel_names, max_size=5, unique=True).map(tuple),
    resource_config=resource_configs(),
    environment=service_variables,
    entry_point=st.sampled_from(["train.py", "src/train.py", "_a+b-c.d.py"]),
)


@reproduces("toolkit", "process")
@reproduces("start command", "process")
@settings(
    deadline=None,
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],  # making a failing job smaller would take minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(case=cases)
@example(case=Case())
@example(case=HETEROGENEOUS)
@example(case=ULTRASERVER)
@example(case=Case(hyperparameters={f"k{number}": text for number, text in enumerate(NASTY_TEXTS[:26])}))
def test_a_script_cannot_tell_who_started_it(toolkit_python: Path, case: Case) -> None:
    compare(toolkit_python, case)


SHELL_DUMP = f"""#!/bin/sh
exec "$DUMP_PYTHON" -c '{DUMP}' "$@"
"""


@reproduces("toolkit", "process")
@pytest.mark.parametrize("entry_point", ["train.sh", "bin/run"])
def test_a_shell_script_cannot_tell_either(toolkit_python: Path, entry_point: str) -> None:
    hyperparameters = {f"k{number}": text for number, text in enumerate(NASTY_TEXTS[:26])}
    case = Case(
        hyperparameters={**hyperparameters, "x": "", "list": '[1, "it\'s"]'},
        channels=("train",),
        environment={"DUMP_PYTHON": str(toolkit_python)},
        entry_point=entry_point,
        code=SHELL_DUMP,
    )
    compare(toolkit_python, case)


def test_a_framework_image_gets_the_same_environment_with_mpi_switched_on(
    toolkit_python: Path, tmp_path: Path
) -> None:
    (tmp_path / "framework.py").write_text(
        "from sagemaker_training import entry_point, environment\n"
        "def main():\n"
        "    env = environment.Environment()\n"
        "    entry_point.run(env.module_dir, env.user_entry_point, env.to_cmd_args(), env.to_env_vars())\n"
    )
    compare(
        toolkit_python,
        Case(
            hyperparameters={"lr": "0.1", "sagemaker_mpi_enabled": "true"},
            environment={"PYTHONPATH": str(tmp_path), "SAGEMAKER_TRAINING_MODULE": "framework:main"},
        ),
    )


@pytest.mark.parametrize(
    "case",
    [
        Case(hyperparameters={"a=b": "1"}),
        Case(hyperparameters={"k": '"a\\u0000b"'}),
        Case(hyperparameters={"k": '{"a": "\\u0000"}'}),
        Case(hyperparameters={"k": '"\\ud800"'}),
        Case(hyperparameters={f"k{number}": "v" * 2500 for number in range(60)}),
        Case(hyperparameters={"sagemaker_job_name": "123"}),
        Case(hyperparameters={"sagemaker_region": "5"}),
        Case(hyperparameters={"sagemaker_container_log_level": "INFO"}),
        Case(hyperparameters={"sagemaker_distribution_instance_groups": "1"}),
        Case(environment={"SAGEMAKER_CONTAINER_LOG_LEVEL": "INFO"}),
    ],
    ids=lambda case: str([*case.hyperparameters.items(), *case.environment.items()])[:40],
)
def test_what_the_toolkit_cannot_start_we_refuse(toolkit_python: Path, tmp_path: Path, case: Case) -> None:
    lay_out(tmp_path, case)
    by_toolkit = start_by_toolkit(toolkit_python, tmp_path, case)
    assert by_toolkit.seen is None
    assert by_toolkit.exit_code != 0
    with pytest.raises(ConfigError):
        start_by_us(toolkit_python, tmp_path, case)


# ---- how scripts end

ENDINGS = {
    "python exits 0": ("train.py", "raise SystemExit(0)", 0),
    "python exits 1": ("train.py", "raise SystemExit(1)", 1),
    "python exits 3": ("train.py", "raise SystemExit(3)", 3),
    "python exits 137": ("train.py", "raise SystemExit(137)", 137),
    "python raises": ("train.py", "raise ValueError('no data')", 1),
    "python killed by SIGKILL": ("train.py", "import os; os.kill(os.getpid(), 9)", -9),
    "python killed by SIGTERM": ("train.py", "import os; os.kill(os.getpid(), 15)", -15),
    "shell exits 0": ("train.sh", "#!/bin/sh\nexit 0\n", 0),
    "shell exits 3": ("train.sh", "#!/bin/sh\nexit 3\n", 3),
    "shell's child killed by SIGKILL": ("train.sh", "#!/bin/sh\nsh -c 'kill -9 $$'\nexit $?\n", 137),
}


@reproduces("failure", "process")
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_end_of_a_script_is_reported_in_the_same_words(
    toolkit_python: Path, tmp_path: Path, ending: str
) -> None:
    entry_point, code, exit_code = ENDINGS[ending]
    case = Case(hyperparameters={"lr": "0.1", "name": "it's"}, entry_point=entry_point, code=code)
    lay_out(tmp_path, case)
    by_toolkit = start_by_toolkit(toolkit_python, tmp_path, case)
    by_us = start_by_us(toolkit_python, tmp_path, case)
    assert by_us.exit_code == exit_code
    assert by_toolkit.exit_code == (1 if exit_code else 0)
    assert by_toolkit.succeeded == (exit_code == 0)
    assert by_toolkit.failure == (failure_text(exit_code, by_us.command) if exit_code else None)


def test_entry_points_are_accepted_alike(toolkit_python: Path, tmp_path: Path) -> None:
    characters = ["a", "Z", "0", ".", "_", "-", "+", "/", " ", "é", ";", "\\"]
    candidates = ["", "train.py", "src/train.py"] + [
        first + second + third for first in characters for second in characters for third in characters
    ]
    ask = (
        "import json, sys\n"
        "from sagemaker_training import errors, process\n"
        "def accepts(name):\n"
        "    try:\n"
        "        return bool(process.validate_entry_point(name))\n"
        "    except errors.ClientError:\n"
        "        return False\n"
        "print(json.dumps([accepts(name) for name in json.load(sys.stdin)]))\n"
    )
    answer = subprocess.run(
        [str(toolkit_python), "-c", ask],
        input=json.dumps(candidates),
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SAGEMAKER_BASE_DIR": str(tmp_path)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    accepted = [name for name, accepts in zip(candidates, json.loads(answer), strict=True) if accepts]
    assert accepted == [name for name in candidates if is_valid_entry_point(name)]
    assert "train.py" in accepted
