"""Dataclasses from plain JSON values, with the type of every field checked: whoever can write to a bucket wrote them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_Document = TypeVar("_Document")


def read_document(kind: type[_Document], values: object, where: str = "") -> _Document:
    """Makes a dataclass of a mapping.

    Args:
        kind: A dataclass of texts, numbers, flags, tuples, mappings by text, optional values and further dataclasses.
        values: What a JSON parser made of a document.
        where: The dotted name of the place in the document, for messages.

    Raises:
        TypeError: A field is missing or unknown, or has a value of another type; the message names it.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{where or 'the document'} is no mapping")
    prefix = f"{where}." if where else ""
    types = _types(kind)  # type: ignore[arg-type] # a class can be hashed
    for name in values:
        if name not in types:
            raise TypeError(f"{prefix}{name} is unknown")
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        optional = (
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        )
        if field.name not in values and not optional:
            raise TypeError(f"{prefix}{field.name} is missing")
    return kind(**{name: _value(types[name], value, prefix + name) for name, value in values.items()})


@cache
def _types(kind: type) -> dict[str, Any]:
    """The type of each field; working it out takes longer than reading a document."""
    return get_type_hints(kind)


def _value(kind: Any, value: object, where: str) -> object:  # noqa: ANN401 - a type annotation
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        (wanted,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _value(wanted, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return read_document(kind, value, where)
    if kind is float and type(value) is int and abs(value) < 2**1023:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{where} has a value of type {type(value).__name__}")
    return value
