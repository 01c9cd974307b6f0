"""What the service checks and its clients do not: maximum lengths, patterns and enums of the API's model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.model import Shape

# The model's patterns are Java's; Python has no Unicode properties, and these come close enough.
_JAVA_CLASSES = {r"\p{Alnum}": "a-zA-Z0-9", r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}


def violations(operation: str, request: dict[str, Any]) -> list[str]:
    """Everything in a SageMaker request that breaks botocore's model, worded as the service words it."""
    return list(_check(_input_shape(operation), request, ""))


@cache
def _input_shape(operation: str) -> Shape:
    return botocore.session.Session().get_service_model("sagemaker").operation_model(operation).input_shape


def _check(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        yield from _check_structure(shape, value, path)
    elif shape.type_name == "list":
        yield from _check_limits(shape, value, len(value), path)
        for number, member in enumerate(value, start=1):
            yield from _check(shape.member, member, f"{path}.{number}.member")
    elif shape.type_name == "map":
        yield from _check_limits(shape, value, len(value), path)
        for key, member in value.items():
            yield from _check(shape.key, key, f"{path}.{key}.key")
            yield from _check(shape.value, member, f"{path}.{key}.member")
    elif shape.type_name == "string":
        yield from _check_limits(shape, value, len(value), path)
        yield from _check_text(shape, value, path)
    elif shape.type_name in {"integer", "long", "float", "double"}:
        yield from _check_limits(shape, value, value, path)


def _check_structure(shape: Any, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value:
            yield f"Value null at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
    for name, member in value.items():
        if name in shape.members:
            yield from _check(shape.members[name], member, _join(path, name))


def _check_limits(shape: Shape, value: object, size: float, path: str) -> Iterator[str]:
    what = "value" if size is value else "length"
    lowest, highest = shape.metadata.get("min"), shape.metadata.get("max")
    if lowest is not None and size < lowest:
        yield _broken(value, path, f"Member must have {what} greater than or equal to {lowest}")
    if highest is not None and size > highest:
        yield _broken(value, path, f"Member must have {what} less than or equal to {highest}")


def _check_text(shape: Shape, value: str, path: str) -> Iterator[str]:
    enum = shape.metadata.get("enum")
    if enum and value not in enum:
        yield _broken(value, path, f"Member must satisfy enum value set: [{', '.join(enum)}]")
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(_python_pattern(pattern), value):
        yield _broken(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _python_pattern(pattern: str) -> str:
    for java, python in _JAVA_CLASSES.items():
        pattern = pattern.replace(java, python)
    return pattern


def _broken(value: object, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, member: str) -> str:
    name = member[0].lower() + member[1:]
    return f"{path}.{name}" if path else name
