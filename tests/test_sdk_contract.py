"""Facts about the installed SageMaker SDK that this project relies on: a new SDK that breaks one fails here, by name."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher import defaults, estimator, rules
from tests.commands import ROOT, clean_environment
from tests.fault_rows import provokes
from tests.golden_requests import golden_job, golden_request

pytestmark = pytest.mark.filterwarnings("ignore")  # of the SDK's own imports

_SCRIPT_MODE = "script mode uploads code at every launch; here the code travels in the image"
_LEFT_OUT = {
    "base_job_name": "this tool names the job, and archives under that name",
    "sagemaker_session": "this tool makes it: one client, no defaults files",
    "output_path": "is S3.OUTPUTS, beside the other places in S3",
    "checkpoint_s3_uri": "is S3.CHECKPOINTS, under which each job gets a folder",
    "tags": "is TAGS, a mapping of its own",
    "source_dir": _SCRIPT_MODE,
    "entry_point": _SCRIPT_MODE,
    "dependencies": _SCRIPT_MODE,
    "git_config": _SCRIPT_MODE,
    "code_location": _SCRIPT_MODE,
    "container_log_level": f"reaches the container only in script mode: {_SCRIPT_MODE}",
    "rules": "each rule starts a processing job that is billed beside the training job",
    "disable_profiler": "is PROFILER_CONFIG: the profiler is off unless it has a place to write to",
    "kwargs": "takes the names of the first generation, which are renamed keys here",
}
_CHANNEL_LEFT_OUT = {
    "s3_data": "is S3_URI, as in the request",
    "shuffle_config": "is SHUFFLE_SEED, the one number in it",
    "target_attribute_name": "is for AutoML jobs and never reaches a training job",
    "hub_access_config": "is for models of JumpStart's private hubs",
    "model_access_config": "accepts the licence of a JumpStart model",
}
_CHANNEL_ONLY = {"BUCKET_OWNER", "S3_URI", "SHUFFLE_SEED"}


def _arguments(function: Any) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(function).parameters)
    parameters.pop("self", None)
    return parameters


def _estimator_class() -> Any:
    return import_module("sagemaker.estimator").Estimator


class TestConfigKeys:
    def test_every_argument_of_the_estimator_is_a_key_or_left_out_for_a_reason(self) -> None:
        arguments = set(_arguments(_estimator_class().__init__))
        keys = {key.lower() for key in defaults.get_cfg_defaults().ESTIMATOR}
        assert arguments - keys == set(_LEFT_OUT)

    def test_every_key_of_the_estimator_is_an_argument(self) -> None:
        arguments = set(_arguments(_estimator_class().__init__))
        assert {key.lower() for key in defaults.get_cfg_defaults().ESTIMATOR} <= arguments

    def test_keys_have_the_defaults_of_the_sdk(self) -> None:
        arguments = _arguments(_estimator_class().__init__)
        differing = {
            key
            for key, value in defaults.get_cfg_defaults().ESTIMATOR.items()
            if not isinstance(value, Mapping) and (value or None) != (arguments[key.lower()].default or None)
        }
        assert differing == {
            "IMAGE_URI",  # has to be given there
            "INSTANCE_COUNT",  # 1 here, and no default there
        }

    def test_every_argument_of_an_input_is_a_key_or_left_out_for_a_reason(self) -> None:
        inputs = import_module("sagemaker.inputs")
        s3 = set(_arguments(inputs.TrainingInput.__init__))
        files = set(_arguments(inputs.FileSystemInput.__init__))
        keys = {key.lower() for key in defaults.CHANNEL}
        assert s3 - keys == set(_CHANNEL_LEFT_OUT)
        assert files - keys == set()
        assert {key.lower() for key in set(defaults.CHANNEL) - _CHANNEL_ONLY} <= s3 | files

    def test_inputs_have_the_defaults_of_the_sdk(self) -> None:
        inputs = import_module("sagemaker.inputs")
        assert (
            _arguments(inputs.TrainingInput.__init__)["s3_data_type"].default == defaults.CHANNEL.S3_DATA_TYPE
        )
        files = _arguments(inputs.FileSystemInput.__init__)
        assert files["file_system_access_mode"].default == defaults.CHANNEL.FILE_SYSTEM_ACCESS_MODE
        # The SDK leaves the distribution out only when it is given as None.
        assert inputs.TrainingInput("s3://team/x").config["DataSource"]["S3DataSource"][
            "S3DataDistributionType"
        ] == (defaults.CHANNEL.DISTRIBUTION)

    @pytest.mark.parametrize(
        ("name", "module", "left_out"),
        [
            (
                "DEBUGGER_HOOK_CONFIG",
                "sagemaker.debugger.DebuggerHookConfig",
                {"collection_configs": "saves tensors through a hook in AWS's own framework images"},
            ),
            ("TENSORBOARD_OUTPUT_CONFIG", "sagemaker.debugger.TensorBoardOutputConfig", {}),
            (
                "PROFILER_CONFIG",
                "sagemaker.debugger.ProfilerConfig",
                {
                    "framework_profile_params": "works in AWS's framework images up to PyTorch 1 and TensorFlow 2.11",
                    "profile_params": "works in AWS's framework images only",
                    "disable_profiler": "is having no S3_OUTPUT_PATH",
                },
            ),
        ],
    )
    def test_every_argument_of_an_observer_is_a_key_or_left_out_for_a_reason(
        self, name: str, module: str, left_out: Mapping[str, str]
    ) -> None:
        package, _, kind = module.rpartition(".")
        arguments = set(_arguments(getattr(import_module(package), kind).__init__))
        keys = {key.lower() for key in defaults.get_cfg_defaults().ESTIMATOR[name]}
        assert arguments - keys == set(left_out)
        assert keys <= arguments

    def test_every_argument_of_an_instance_group_is_a_key(self) -> None:
        group = import_module("sagemaker.instance_group").InstanceGroup
        assert set(_arguments(group.__init__)) == {key.lower() for key in defaults.INSTANCE_GROUP}

    def test_old_names_are_those_that_the_sdk_renames(self) -> None:
        source = inspect.getsource(import_module("sagemaker.estimator"))
        for old, new in defaults.RENAMED.items():
            if old.startswith("ESTIMATOR.TRAIN_"):
                names = [key.removeprefix("ESTIMATOR.").lower() for key in (old, new)]
                assert f'"{names[0]}", "{names[1]}"' in source

    def test_whatever_is_no_key_is_not_given_to_the_estimator_either(self) -> None:
        given = set(estimator.estimator_arguments(golden_job("shipped"), estimator._Sdk()))
        keys = {key.lower() for key in defaults.get_cfg_defaults().ESTIMATOR}
        assert given == keys | {"output_path", "checkpoint_s3_uri", "tags", "disable_profiler"}


class TestFacts:
    def test_fit_without_its_decorator_sends_no_telemetry(self) -> None:
        fit = _estimator_class().fit
        assert fit.__code__.co_filename.endswith("telemetry_logging.py")
        assert fit.__wrapped__.__name__ == "fit"
        assert "telemetry" not in fit.__wrapped__.__code__.co_filename

    def test_session_initialises_itself_with_these_arguments(self) -> None:
        session = import_module("sagemaker.session").Session
        assert list(_arguments(session._initialize)) == [
            "boto_session",
            "sagemaker_client",
            "sagemaker_runtime_client",
            "sagemaker_featurestore_runtime_client",
            "sagemaker_metrics_client",
            "sagemaker_config",
        ]

    def test_profiler_is_on_unless_switched_off(self) -> None:
        profiler = import_module("sagemaker.debugger").ProfilerConfig
        assert profiler(disable_profiler=True)._to_request_dict() == {"DisableProfiler": True}
        assert golden_request("shipped")["ProfilerConfig"] == {"DisableProfiler": True}

    def test_debugger_and_profiler_are_missing_in_these_regions(self) -> None:
        facts = import_module("sagemaker.fw_utils")
        assert set(facts.DEBUGGER_UNSUPPORTED_REGIONS) == rules._WITHOUT_DEBUGGER
        assert set(facts.PROFILER_UNSUPPORTED_REGIONS) == rules._WITHOUT_DEBUGGER

    def test_instances_with_disks_of_their_own_are_told_apart_alike(self) -> None:
        supports_kms = import_module("sagemaker.utils").instance_supports_kms
        for family in ("m5", "c5", "g4dn", "g5", "g6e", "p3", "p4d", "p5en", "r5d", "trn1n", "trn2"):
            kind = f"ml.{family}.xlarge"
            assert supports_kms(kind) == (not rules._LOCAL_DISK.match(kind)), kind

    def test_inputs_carry_their_request_in_a_dictionary(self) -> None:
        files = import_module("sagemaker.inputs").FileSystemInput("fs-01234567", "EFS", "/x")
        assert set(files.config) == {"DataSource"}

    def test_jumpstart_tags_can_be_switched_off(self) -> None:
        settings = import_module("sagemaker.session").SessionSettings(include_jumpstart_tags=False)
        assert settings.include_jumpstart_tags is False


# --- In a process of its own, in which nothing else has been imported

_SPY = """
import json, sys
from tests.golden_requests import golden_job
job = golden_job("shipped")
calls = []

def spy(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        calls.append(f"{event} {arguments}")
        raise OSError("no network in tests")

sys.addaudithook(spy)
requests = []

class Client:
    def create_training_job(self, **request):
        requests.append(request)
        return {"TrainingJobArn": "arn"}
"""
_OURS = """
from sagemaker_launcher import estimator
estimator.begin_import()
import boto3
estimator.start_with_estimator(job, Client(), boto3.Session(region_name=job.region))
"""
_PLAIN_SDK = """
import boto3, logging, os, sagemaker
from sagemaker.estimator import Estimator
session = sagemaker.Session(boto3.Session(region_name=job.region), sagemaker_client=Client())
plain = Estimator(
    job.image.uri, instance_count=1, instance_type="ml.m5.large", sagemaker_session=session,
    output_path=job.outputs_uri, role=os.environ.get("ROLE"),
)
plain.fit(wait=False, job_name=job.name)
import threading
for thread in threading.enumerate():
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join()
"""
_REPORT = """
open(sys.argv[1], "w").write(json.dumps({"requests": requests, "calls": calls}))
"""


@dataclass(frozen=True)
class _Seen:
    """What a process sent and said."""

    requests: list[dict[str, Any]]
    calls: list[str]
    out: str
    err: str


def _run(program: str, folder: Path, **variables: str) -> _Seen:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    report = folder / "report.json"
    keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
    done = subprocess.run(
        [sys.executable, "-c", _SPY + program + _REPORT, str(report)],
        cwd=folder,
        env=clean_environment(home, PYTHONPATH=str(ROOT), **keys, **variables),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(report.read_text())
    return _Seen(seen["requests"], seen["calls"], done.stdout.decode(), done.stderr.decode())


@provokes(99)
def test_starting_a_job_says_nothing_and_calls_nobody_but_the_client(tmp_path: Path) -> None:
    seen = _run(_OURS, tmp_path)
    assert seen.requests == [golden_request("shipped")]
    assert seen.calls == []
    assert (seen.out, seen.err) == ("", "")


def test_the_sdk_left_to_itself_would_call_others_and_talk(tmp_path: Path) -> None:
    """Without this the test above could pass because its spy is blind."""
    seen = _run(_PLAIN_SDK, tmp_path, ROLE="arn:aws:iam::123456789012:role/Name")
    assert len(seen.requests) == 1
    assert any("sts" in call for call in seen.calls)  # whose account it is, for its telemetry
    assert "sagemaker.config INFO" in seen.out + seen.err


_HOSTILE = """\
SchemaVersion: "1.0"
SageMaker:
  TrainingJob:
    RoleArn: arn:aws:iam::666666666666:role/Hostile
    EnableInterContainerTrafficEncryption: true
    EnableNetworkIsolation: true
    Environment: {HOSTILE: "1"}
    OutputDataConfig: {KmsKeyId: hostile}
    ResourceConfig: {VolumeKmsKeyId: hostile}
    ProfilerConfig: {DisableProfiler: false}
    VpcConfig: {SecurityGroupIds: [sg-hostile], Subnets: [subnet-hostile]}
    Tags: [{Key: hostile, Value: hostile}]
"""


@provokes(91)
@pytest.mark.parametrize(
    "place", ["home", "SAGEMAKER_USER_CONFIG_OVERRIDE", "SAGEMAKER_ADMIN_CONFIG_OVERRIDE"]
)
def test_a_defaults_file_of_the_sdk_changes_a_plain_estimator_and_not_ours(
    tmp_path: Path, place: str
) -> None:
    ours, plain = _run(_OURS + _PLAIN_SDK, tmp_path, **_hostile(tmp_path, place)).requests
    assert ours == golden_request("shipped")
    assert json.dumps(plain).lower().count("hostile") >= 7


def _hostile(folder: Path, place: str) -> dict[str, str]:
    if place == "home":
        path = folder / "home" / ".config" / "sagemaker" / "config.yaml"
    else:
        path = folder / "hostile.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HOSTILE)
    return {} if place == "home" else {place: str(path)}
