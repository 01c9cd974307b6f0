"""Requests against the service's own model: what it takes passes, and one more than it takes does not."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore import model, validate
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sagemaker_launcher import request_model, rules, service_model
from sagemaker_launcher.job import Job
from sagemaker_launcher.request import Request, create_training_job_request
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.generated_configs import WITHOUT_SHRINKING, jobs
from tests.golden_requests import CONFIGS, golden_request

_SHAPES = service_model.shapes()
_ROOT = "CreateTrainingJobRequest"


@reproduces("request")
@hypothesis_settings(deadline=None, max_examples=150, phases=WITHOUT_SHRINKING)
@given(jobs)
def test_a_legal_config_gives_a_request_without_problems(job: Job) -> None:
    assert rules.violations(job) == ()
    assert request_model.problems(create_training_job_request(job)) == ()


def _messages(request: Request, path: str) -> list[str]:
    return [problem.message for problem in request_model.problems(request) if problem.path == path]


# --- Limits, from the model itself: for every text, list, mapping and number of the kept requests


Step = str | int


def _limits() -> Iterator[tuple[str, tuple[Step, ...], dict[str, Any]]]:
    """The name of a kept request, the way to a part of it, and the part's shape."""
    seen: set[str] = set()
    for name in CONFIGS:
        for steps, shape in _walk(golden_request(name), _SHAPES[_ROOT], ()):
            kind = re.sub(r"\d+", "", _path(steps))
            if kind not in seen and ("min" in shape or "max" in shape):
                seen.add(kind)
                yield name, steps, shape


def _walk(
    value: Any,
    shape: dict[str, Any],
    steps: tuple[Step, ...],
) -> Iterator[tuple[tuple[Step, ...], dict[str, Any]]]:
    yield steps, shape
    if shape["type"] == "structure":
        for name, item in value.items():
            yield from _walk(item, _SHAPES[shape["members"][name]["shape"]], (*steps, name))
    elif shape["type"] == "list":
        for index, item in enumerate(value):
            yield from _walk(item, _SHAPES[shape["member"]["shape"]], (*steps, index))
    elif shape["type"] == "map":
        for key, item in value.items():
            yield from _walk(item, _SHAPES[shape["value"]["shape"]], (*steps, key))


def _path(steps: tuple[Step, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)[1:]


def _with(request: Request, steps: tuple[Step, ...], change: Callable[[Any], Any]) -> Request:
    changed = copy.deepcopy(request)
    parent: Any = changed
    for step in steps[:-1]:
        parent = parent[step]
    parent[steps[-1]] = change(parent[steps[-1]])
    return changed


def _of_size(size: int) -> Callable[[Any], Any]:
    """Makes a value that long, or that number."""

    def change(value: Any) -> Any:
        if isinstance(value, str):
            return (value + "x" * size)[:size]
        if isinstance(value, list):
            return (value or [{}])[:1] * size
        if isinstance(value, dict):
            return {f"k{number}": next(iter(value.values())) for number in range(size)}
        return size

    return change


_LIMITS = list(_limits())
_IDS = [_path(steps) for _, steps, _ in _LIMITS]


def _is_about_size(message: str) -> bool:
    return bool(re.match(r"has [\d,]+ (characters|entries)$|-?[\d,]+ is out of range$", message))


@provokes(20)
@pytest.mark.parametrize(("name", "steps", "shape"), _LIMITS, ids=_IDS)
def test_limits_of_the_model_hold_to_the_last_one(
    name: str, steps: tuple[Step, ...], shape: dict[str, Any]
) -> None:
    request, path = golden_request(name), _path(steps)
    for size in {shape.get("min", 0), shape.get("max", 1000)}:
        messages = _messages(_with(request, steps, _of_size(size)), path)
        assert not any(map(_is_about_size, messages)), size
    over = [shape["max"] + 1] if "max" in shape else []
    under = [shape["min"] - 1] if shape.get("min") else []
    for size in (*over, *under):
        messages = _messages(_with(request, steps, _of_size(size)), path)
        assert any(map(_is_about_size, messages)), size


def test_the_limits_tested_are_those_that_users_meet() -> None:
    assert {
        "TrainingJobName",
        "HyperParameters",
        "HyperParameters.SOLVER.BASE_LR",
        "Environment",
        "Environment.PYTHONUNBUFFERED",
        "Tags",
        "Tags[0].Key",
        "Tags[0].Value",
        "InputDataConfig",
        "InputDataConfig[0].ChannelName",
        "AlgorithmSpecification.MetricDefinitions",
        "AlgorithmSpecification.MetricDefinitions[0].Regex",
        "AlgorithmSpecification.ContainerArguments",
        "ResourceConfig.InstanceGroups",
        "ResourceConfig.KeepAlivePeriodInSeconds",
        "RetryStrategy.MaximumRetryAttempts",
        "VpcConfig.Subnets",
        "VpcConfig.SecurityGroupIds",
    } <= set(_IDS)


def test_keys_of_mappings_have_limits_too() -> None:
    request = golden_request("spot_gpu")
    for part, longest in (("HyperParameters", 256), ("Environment", 512)):
        for length in (longest, longest + 1):
            key = "k" * length
            messages = _messages(_with(request, (part,), lambda _, key=key: {key: "x"}), f"{part}.{key}")  # type: ignore[misc]
            assert messages == ([] if length == longest else [f"has {length} characters"])


@pytest.mark.parametrize(
    ("steps", "low", "high"),
    [
        (("ResourceConfig", "VolumeSizeInGB"), 0, 2**31 - 1),
        (("StoppingCondition", "MaxRuntimeInSeconds"), 1, 2**31 - 1),
        (("InputDataConfig", 0, "ShuffleConfig", "Seed"), -(2**63), 2**63 - 1),
    ],
)
def test_numbers_without_a_limit_have_that_of_their_type(
    steps: tuple[Step, ...], low: int, high: int
) -> None:
    request = golden_request("spot_gpu")
    for number in (low - 1, low, high, high + 1):
        messages = _messages(_with(request, steps, _of_size(number)), _path(steps))
        assert bool(messages) == (not low <= number <= high), number


# --- botocore's own validation as the judge: whatever it refuses before sending is a problem here


def _refused_by_botocore(request: Request) -> bool:
    service = model.ServiceModel({"metadata": {}, "shapes": _SHAPES}, "sagemaker")
    errors = validate.ParamValidator().validate(request, service.shape_for(_ROOT))
    return bool(errors.has_errors())


_JUNK = st.one_of(
    st.none(), st.integers(-5, 5), st.text(max_size=3), st.just([]), st.just({}), st.booleans(), st.just(1.5)
)


@hypothesis_settings(deadline=None, max_examples=300)
@given(st.data())
def test_whatever_botocore_refuses_is_a_problem(data: st.DataObject) -> None:
    request = golden_request(data.draw(st.sampled_from(list(CONFIGS))))
    steps, _ = data.draw(st.sampled_from([found for found in _walk(request, _SHAPES[_ROOT], ()) if found[0]]))
    if data.draw(st.booleans()):
        changed = _with(request, steps, lambda _: data.draw(_JUNK))
    else:
        changed = copy.deepcopy(request)
        parent: Any = changed
        for step in steps[:-1]:
            parent = parent[step]
        del parent[steps[-1]]
    if _refused_by_botocore(changed):
        assert request_model.problems(changed)


def test_botocore_itself_takes_the_kept_requests() -> None:
    for name in CONFIGS:
        assert not _refused_by_botocore(golden_request(name))


# --- What botocore leaves to the service


@pytest.mark.parametrize(
    ("name", "steps", "value", "message"),
    [
        ("shipped", ("TrainingJobName",), "a_b", "form that the service refuses"),
        ("shipped", ("TrainingJobName",), "a-", "form that the service refuses"),
        ("shipped", ("TrainingJobName",), "-a", "form that the service refuses"),
        ("shipped", ("TrainingJobName",), "é", "form that the service refuses"),
        ("shipped", ("RoleArn",), "arn:aws:iam::٠١٢٣٤٥٦٧٨٩٠١:role/Name", "form that the service refuses"),
        ("shipped", ("ResourceConfig", "InstanceType"), "ml.t2.medium", "knows no such value"),
        ("shipped", ("AlgorithmSpecification", "TrainingInputMode"), "file", "knows no such value"),
        ("shipped", ("Unheard",), "x", "knows no such member"),
        ("shipped", ("ResourceConfig", "InstanceCount"), True, "a bool does not fit"),
        ("shipped", ("ResourceConfig", "InstanceCount"), "1", "a str does not fit"),
        ("spot_gpu", ("EnableManagedSpotTraining",), 1, "a int does not fit"),
        ("spot_gpu", ("HyperParameters", "commit"), "a\nb", "form that the service refuses"),
        ("spot_gpu", ("HyperParameters", "commit"), "a\rb", "form that the service refuses"),
        ("spot_gpu", ("HyperParameters", "commit"), "a\u2028b", "form that the service refuses"),
        ("spot_gpu", ("Environment", "NCCL-DEBUG"), "x", "form that the service refuses"),
        ("spot_gpu", ("Environment", "2ND"), "x", "form that the service refuses"),
        ("spot_gpu", ("Tags", 0, "Value"), "🙂", "form that the service refuses"),
        ("spot_gpu", ("Tags", 0, "Key"), "a,b", "form that the service refuses"),
        ("spot_gpu", ("InputDataConfig", 0, "ChannelName"), "my data", "form that the service refuses"),
        ("private_network", ("VpcConfig", "Subnets", 0), "subnet_1", "form that the service refuses"),
        ("private_network", ("OutputDataConfig", "KmsKeyId"), "my key", "form that the service refuses"),
    ],
)
def test_what_only_the_service_refuses_is_a_problem(
    name: str, steps: tuple[Step, ...], value: object, message: str
) -> None:
    request = copy.deepcopy(golden_request(name))
    parent: Any = request
    for step in steps[:-1]:
        parent = parent[step]
    parent[steps[-1]] = value
    assert any(message in found for found in _messages(request, _path(steps)))


@pytest.mark.parametrize("value", ["José", "日本語", "٣", "a b", "x_.:/=+-@", ""])
def test_tags_may_be_in_any_script(value: str) -> None:
    request = _with(golden_request("spot_gpu"), ("Tags", 0, "Value"), lambda _: value)
    assert request_model.problems(request) == ()


def test_environment_values_may_have_many_lines() -> None:
    request = _with(golden_request("spot_gpu"), ("Environment", "NCCL_DEBUG"), lambda _: "a\n\r\u2028b")
    assert request_model.problems(request) == ()


@pytest.mark.parametrize("member", ["TrainingJobName", "RoleArn", "OutputDataConfig"])
def test_a_missing_member_is_a_problem(member: str) -> None:
    request = golden_request("shipped")
    del request[member]
    assert _messages(request, member) == ["is missing"]


def test_all_problems_are_found_at_once() -> None:
    request = golden_request("spot_gpu")
    request["TrainingJobName"] = "a_b"
    request["ResourceConfig"]["InstanceType"] = "ml.m5.lrage"
    request["Tags"][2]["Value"] = "🙂"
    del request["RoleArn"]
    assert {problem.path for problem in request_model.problems(request)} == {
        "TrainingJobName",
        "ResourceConfig.InstanceType",
        "Tags[2].Value",
        "RoleArn",
    }


class TestInstanceType:
    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("ml.p4d.24xlagre", "ml.p4d.24xlarge"),
            ("m5.large", "ml.m5.large"),
            ("ml.m5.LARGE", "ml.m5.large"),
            ("ml.g5.12xlage", "ml.g5.12xlarge"),
        ],
    )
    def test_that_is_mistyped_gets_the_one_that_was_meant(self, typed: str, meant: str) -> None:
        request = _with(golden_request("shipped"), ("ResourceConfig", "InstanceType"), lambda _: typed)
        [problem] = request_model.problems(request)
        assert problem.suggestion == meant
        assert problem.value == typed

    def test_that_is_new_passes_when_forced(self) -> None:
        request = _with(
            golden_request("shipped"), ("ResourceConfig", "InstanceType"), lambda _: "ml.m9.large"
        )
        assert request_model.problems(request)
        assert request_model.problems(request, allow_unknown_instance_type=True) == ()

    def test_of_a_group_passes_when_forced(self) -> None:
        steps = ("ResourceConfig", "InstanceGroups", 0, "InstanceType")
        request = _with(golden_request("instance_groups"), steps, lambda _: "ml.p9.48xlarge")
        assert request_model.problems(request)
        assert request_model.problems(request, allow_unknown_instance_type=True) == ()

    @pytest.mark.parametrize("typed", ["", "large", "ml.m5 large", "ml", "ml.m5.large\n", "local"])
    def test_that_has_not_even_the_form_of_one_does_not_pass_when_forced(self, typed: str) -> None:
        request = _with(golden_request("shipped"), ("ResourceConfig", "InstanceType"), lambda _: typed)
        assert request_model.problems(request, allow_unknown_instance_type=True)

    def test_forcing_lets_nothing_else_pass(self) -> None:
        request = _with(golden_request("shipped"), ("TrainingJobName",), lambda _: "a_b")
        assert request_model.problems(request, allow_unknown_instance_type=True)


def test_every_pattern_of_the_request_can_be_read() -> None:
    """A new botocore may bring a pattern in a dialect that Python does not know."""
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        shape = _SHAPES[name]
        if "pattern" in shape:
            request_model._compiled(shape["pattern"])
        members = [
            *shape.get("members", {}).values(),
            *(shape[key] for key in ("member", "key", "value") if key in shape),
        ]
        for member in members:
            visit(member["shape"])

    visit(_ROOT)
    assert len(seen) > 100
