"""The request of a job: kept requests, and the way back from a part of a request to the key that it comes from."""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from sagemaker_launcher import config, defaults, launch, request_model, rules, strict_yaml
from sagemaker_launcher.job import Job
from sagemaker_launcher.request import config_key, create_training_job_request
from tests.generated_configs import jobs
from tests.golden_requests import CONFIGS, GOLDEN, golden_job, golden_request
from tests.project import Project

_WRITE = (
    os.environ.get("GOLDEN") == "write"
)  # GOLDEN=write pytest tests/test_request.py, then look at the diff


@pytest.mark.parametrize("name", CONFIGS)
class TestGoldenRequest:
    def test_is_what_the_config_gives(self, name: str) -> None:
        request = create_training_job_request(golden_job(name))
        path = GOLDEN / f"{name}.json"
        if _WRITE:
            path.write_text(json.dumps(request, indent=2, ensure_ascii=False) + "\n")
        assert request == json.loads(path.read_text())

    def test_breaks_no_rule_and_fits_the_service_model(self, name: str) -> None:
        assert rules.violations(golden_job(name)) == ()
        assert request_model.problems(golden_request(name)) == ()


def test_every_kept_request_has_its_config() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CONFIGS)


def test_kept_configs_give_every_key_of_the_job_once_at_least() -> None:
    given_keys = {
        key for path in CONFIGS.values() for key in _written(strict_yaml.plain(strict_yaml.read(path)))
    }
    keys = set(_schema_keys(defaults.get_cfg_defaults(), ""))
    # What names no part of a job, or is the same in every config.
    keys -= {"AWS.PROFILE", "TRAINING_CONFIG", "VERSION", "SOURCE.ENTRY_POINT", "SOURCE.CONTAINER_DIR"}
    assert keys - given_keys == set()


def _schema_keys(node: Any, prefix: str) -> Iterator[str]:
    for key, value in node.items():
        path = f"{prefix}{key}"
        element = defaults.ELEMENTS.get(path)
        if isinstance(element, dict):
            yield from _schema_keys(element, f"{path}.*.")
        elif isinstance(value, dict) and element is None:
            yield from _schema_keys(value, f"{path}.")
        else:
            yield path


def _written(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        path = f"{prefix}{key}"
        yield path
        if path in defaults.ELEMENTS:
            members = value.values() if isinstance(value, dict) else value
            for member in members:
                if isinstance(member, dict):
                    yield from _written(member, f"{path}.*.")
        elif isinstance(value, dict):
            yield from _written(value, f"{path}.")


class TestRequest:
    @hypothesis_settings(deadline=None, max_examples=30)
    @given(jobs)
    def test_is_plain_data_that_survives_json(self, job: Job) -> None:
        request = create_training_job_request(job)
        assert json.loads(json.dumps(request)) == request

    @hypothesis_settings(deadline=None, max_examples=30)
    @given(jobs)
    def test_says_nothing_of_what_is_not_given(self, job: Job) -> None:
        request = create_training_job_request(job)
        # The hook's collections are what the Estimator sends; an empty text is a legal value of these.
        request.get("DebugHookConfig", {}).pop("CollectionConfigurations", None)
        for path, value in _parts(request, ""):
            if value in ("", [], {}) or value is None:
                assert path.startswith(
                    ("HyperParameters", "Environment", "Tags", "DebugHookConfig.HookP")
                ) or (path.endswith("UltraServerId") or "Container" in path), path

    def test_shares_nothing_with_the_job(self) -> None:
        job = golden_job("spot_gpu")
        request = create_training_job_request(job)
        before = copy.deepcopy(request)
        for part in ("HyperParameters", "Environment"):
            request[part]["changed"] = "x"
        request["Tags"].clear()
        request["AlgorithmSpecification"]["MetricDefinitions"].clear()
        assert create_training_job_request(job) == before

    def test_switches_debugger_and_profiler_off_unless_asked(self) -> None:
        request = create_training_job_request(golden_job("shipped"))
        assert request["ProfilerConfig"] == {"DisableProfiler": True}
        assert "DebugHookConfig" not in request
        assert "TensorBoardOutputConfig" not in request

    def test_of_two_plans_of_one_config_has_two_names(self, project: Project) -> None:
        plans = [launch.plan(project.config, (), target="process", command=()) for _ in range(20)]
        assert len({plan.request["TrainingJobName"] for plan in plans}) == 20
        assert len({str(plan.experiment) for plan in plans}) == 20


class TestConfigKey:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_of_every_part_that_can_be_wrong_exists(self, name: str) -> None:
        request = golden_request(name)
        keys = set(_schema_keys(defaults.get_cfg_defaults(), ""))
        known = {*keys, *defaults.ELEMENTS, *(key.rpartition(".")[0] for key in keys)}
        for path, value in _parts(request, ""):
            if isinstance(value, (bool, dict)) or path == "OutputDataConfig.CompressionType":
                continue  # cannot be wrong
            key = config_key(path, request)
            assert _generic(key) in known, path

    @pytest.mark.parametrize(
        ("name", "path", "key"),
        [
            ("spot_gpu", "ResourceConfig.InstanceType", "ESTIMATOR.INSTANCE_TYPE"),
            ("spot_gpu", "HyperParameters.SOLVER.BASE_LR", "ESTIMATOR.HYPERPARAMETERS.SOLVER.BASE_LR"),
            ("spot_gpu", "Environment.NCCL_DEBUG", "ESTIMATOR.ENVIRONMENT.NCCL_DEBUG"),
            ("spot_gpu", "Tags", "TAGS"),
            ("spot_gpu", "Tags[1].Value", "TAGS.cost:center"),
            ("spot_gpu", "InputDataConfig", "CHANNELS"),
            ("spot_gpu", "InputDataConfig[1].ContentType", "CHANNELS.validation.CONTENT_TYPE"),
            ("spot_gpu", "InputDataConfig[0].DataSource.S3DataSource.S3Uri", "CHANNELS.training"),
            ("spot_gpu", "AlgorithmSpecification.MetricDefinitions", "ESTIMATOR.METRIC_DEFINITIONS"),
            (
                "spot_gpu",
                "AlgorithmSpecification.MetricDefinitions[1].Regex",
                "ESTIMATOR.METRIC_DEFINITIONS[1].Regex",
            ),
            (
                "private_network",
                "InputDataConfig[0].DataSource.FileSystemDataSource.FileSystemType",
                "CHANNELS.graph.FILE_SYSTEM_TYPE",
            ),
            (
                "private_network",
                "AlgorithmSpecification.TrainingImageConfig.TrainingRepositoryAuthConfig.X",
                "ESTIMATOR.TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN",
            ),
            (
                "instance_groups",
                "InputDataConfig[1].DataSource.S3DataSource.AttributeNames[0]",
                "CHANNELS.pairs.ATTRIBUTE_NAMES",
            ),
            (
                "instance_groups",
                "ResourceConfig.InstanceGroups[1].InstanceType",
                "ESTIMATOR.INSTANCE_GROUPS[1].INSTANCE_TYPE",
            ),
            ("instance_groups", "InputDataConfig[3].ChannelName", "ESTIMATOR.MODEL_CHANNEL_NAME"),
            ("instance_groups", "InputDataConfig[3].DataSource.S3DataSource.S3Uri", "ESTIMATOR.MODEL_URI"),
            ("spot_gpu", "HyperParameters.", "ESTIMATOR.HYPERPARAMETERS."),
            ("spot_gpu", "HyperParameters.a[1].b", "ESTIMATOR.HYPERPARAMETERS.a[1].b"),
            (
                "observed",
                "DebugHookConfig.HookParameters",
                "ESTIMATOR.DEBUGGER_HOOK_CONFIG.HOOK_PARAMETERS",
            ),
            (
                "observed",
                "DebugHookConfig.HookParameters.save.a[1]",
                "ESTIMATOR.DEBUGGER_HOOK_CONFIG.HOOK_PARAMETERS.save.a[1]",
            ),
            (
                "ultraserver",
                "ResourceConfig.InstancePlacementConfig.PlacementSpecifications",
                "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS",
            ),
            (
                "ultraserver",
                "ResourceConfig.InstancePlacementConfig.PlacementSpecifications[1].UltraServerId",
                "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS[1].ULTRA_SERVER_ID",
            ),
            (
                "ultraserver",
                "ResourceConfig.InstancePlacementConfig.PlacementSpecifications[0].InstanceCount",
                "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS[0].INSTANCE_COUNT",
            ),
            ("spot_gpu", "Something.New", "Something.New"),
        ],
    )
    def test_names_what_the_user_wrote(self, name: str, path: str, key: str) -> None:
        assert config_key(path, golden_request(name)) == key


def _parts(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if path:
        yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _parts(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _parts(value, f"{path}[{index}]")


def _generic(key: str) -> str:
    """A key as the schema has it: without the names and indexes that users choose."""
    parts = re.sub(r"\[\d+\]", ".*", key).split(".")
    if parts[0] == "CHANNELS" and len(parts) > 1:
        parts[1] = "*"
    if parts[0] == "TAGS":
        return "TAGS"
    if parts[1:2] in (["HYPERPARAMETERS"], ["ENVIRONMENT"]):
        return ".".join(parts[:2])
    if parts[2:3] == ["HOOK_PARAMETERS"]:
        return ".".join(parts[:3])
    return ".".join(parts)


def test_loading_a_config_gives_the_request_that_its_parts_give(project: Project) -> None:
    configs = config.load(project.config)
    job = configs.job("team-tiny-20260102-030405-0a1b2c")
    channel = create_training_job_request(job)["InputDataConfig"][-1]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == (
        "s3://team/experiments/team/tiny/team-tiny-20260102-030405-0a1b2c/training_config.yaml"
    )
    assert (
        create_training_job_request(job)["Environment"]["TRAINING_CONFIG_SHA256"] == configs.training_sha256
    )
