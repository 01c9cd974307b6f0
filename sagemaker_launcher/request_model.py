"""Checks a request against the shapes of the service's own API model, also where botocore does not look.

botocore checks required members, types and minima (botocore/validate.py). Maxima, patterns and enumerations are left to the
service, which answers only after everything has been uploaded; here they are checked on the laptop. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from sagemaker_launcher import service_model
from sagemaker_launcher.frozen import frozen

# Numbers without limits of their own have those of their types: https://smithy.io/2.0/spec/simple-types.html
_RANGES = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "map": (dict,),
    "list": (list,),
    "structure": (dict,),
}
# The model's patterns are in Java's dialect, which has classes that Python's `re` lacks, and more ends of a line.
_CLASSES = {r"\p{Alnum}": "a-zA-Z0-9", r"\p{L}": "a-zA-Z", r"\p{Z}": " ", r"\p{N}": "0-9"}
_SAMPLES = {"L": "a", "Z": " ", "N": "0"}
_FORCE = ", or --force-instance-type for one that is newer than the installed botocore"
_LINE_ENDS = dict.fromkeys(map(ord, "\r\x85\u2028\u2029"), "\n")


@frozen
class RequestProblem:
    """One place where a request breaks the service's model.

    Attributes:
        path: Where, such as `ResourceConfig.InstanceType` or `InputDataConfig[0].ChannelName`.
        message: What is wrong.
        value: The offending value, as text.
        expected: What the model asks for.
        suggestion: The nearest value of an enumeration.
    """

    path: str
    message: str
    value: str = ""
    expected: str = ""
    suggestion: str = ""


def problems(
    request: dict[str, Any], *, allow_unknown_instance_type: bool = False
) -> tuple[RequestProblem, ...]:
    """Everything in a CreateTrainingJob request that the service's model forbids.

    Args:
        request: The request.
        allow_unknown_instance_type: Let instance types pass that the installed botocore does not know, since the
            service may be newer than it.
    """
    found = _check(service_model.shapes()["CreateTrainingJobRequest"], request, "")
    return tuple(
        problem
        for problem in found
        if not (allow_unknown_instance_type and _may_be_newer(problem.path, problem.value))
    )


def _may_be_newer(path: str, value: str) -> bool:
    """Whether a value is an instance type that the service may know, and botocore not yet."""
    return path.endswith("InstanceType") and service_model.may_be_instance_type(value)


def _check(shape: dict[str, Any], value: object, path: str) -> Iterator[RequestProblem]:
    kind = shape["type"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield RequestProblem(path, f"a {type(value).__name__} does not fit", str(value), f"a {kind}")
    elif isinstance(value, dict):
        yield from _size(shape, len(value), path, "entries")
        yield from _structure(shape, value, path) if kind == "structure" else _map(shape, value, path)
    elif isinstance(value, list):
        yield from _size(shape, len(value), path, "entries")
        for index, item in enumerate(value):
            yield from _check(_shape(shape["member"]), item, f"{path}[{index}]")
    elif isinstance(value, str):
        yield from _text(shape, value, path)
    elif isinstance(value, (int, float)):
        yield from _size(shape, value, path, "")


def _structure(shape: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[RequestProblem]:
    prefix = f"{path}." if path else ""
    for name in shape.get("required", ()):
        if name not in value:
            yield RequestProblem(f"{prefix}{name}", "is missing")
    for name, item in value.items():
        member = shape["members"].get(name)
        if member is None:
            yield RequestProblem(f"{prefix}{name}", "the service knows no such member")
        else:
            yield from _check(_shape(member), item, f"{prefix}{name}")


def _map(shape: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[RequestProblem]:
    for key, item in value.items():
        yield from _text(_shape(shape["key"]), key, f"{path}.{key}")
        yield from _check(_shape(shape["value"]), item, f"{path}.{key}")


def _text(shape: dict[str, Any], value: str, path: str) -> Iterator[RequestProblem]:
    if "enum" in shape:
        if value not in shape["enum"]:
            meant = service_model.nearest_value(value, shape["enum"])
            expected = _choices(shape["enum"]) + (_FORCE if _may_be_newer(path, value) else "")
            yield RequestProblem(path, "the service knows no such value", value, expected, *meant)
        return
    yield from _size(shape, len(value), path, "characters")
    pattern = shape.get("pattern")
    if pattern and not _matches(pattern, value):
        yield RequestProblem(
            path, "has characters or a form that the service refuses", value, f"the pattern {pattern}"
        )


def _size(shape: dict[str, Any], size: float, path: str, unit: str) -> Iterator[RequestProblem]:
    lowest, highest = _RANGES.get(shape["type"], (None, None))
    low, high = shape.get("min", lowest), shape.get("max", highest)
    if (low is not None and size < low) or (high is not None and size > high):
        limit = f"{low if low is not None else 0:,} to {high:,}" if high is not None else f"at least {low:,}"
        message = f"has {size:,} {unit}" if unit else f"{size:,} is out of range"
        yield RequestProblem(path, message, expected=f"{limit} {unit}".rstrip())


def _choices(values: list[str]) -> str:
    return f"one of {', '.join(values)}" if len(values) <= 8 else f"one of {len(values)} known values"  # noqa: PLR2004


def _shape(reference: dict[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = service_model.shapes()[reference["shape"]]
    return shape


def _matches(pattern: str, value: str) -> bool:
    """Whether one of the model's patterns matches the whole value."""
    if r"\p{L}" in pattern:
        import unicodedata  # noqa: PLC0415 - few launches have tags

        value = "".join(_SAMPLES.get(unicodedata.category(character)[0], character) for character in value)
    return _compiled(pattern).fullmatch(value.translate(_LINE_ENDS)) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    for name, replacement in _CLASSES.items():
        pattern = pattern.replace(name, replacement)
    return re.compile(pattern, re.ASCII)
