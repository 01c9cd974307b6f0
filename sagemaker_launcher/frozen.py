"""Frozen dataclasses that cost little to define.

The standard decorator compiles six methods for each class whenever Python starts, a third of a millisecond each time: with a
hundred classes that was a quarter of what it took to begin a rehearsal. Here all classes share methods that look the fields
up when they are called, and even the fields are worked out when somebody asks for them first, since most programs ask a few
classes only. They are dataclasses otherwise: `field`, `fields`, `replace` and `asdict` know them.
"""

from __future__ import annotations

import threading
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from functools import cache
from inspect import get_annotations
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: object) -> Any:  # noqa: ANN401, D103 - for type checkers only
        return lambda decorator: decorator


_Class = TypeVar("_Class")
# Two threads must not complete a class at once; one may come upon a class that is built on another.
_completing = threading.RLock()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[_Class]) -> type[_Class]:
    """Makes a class a dataclass whose instances do not change; methods that it has already stay.

    Known of the standard decorator and missing here: its own arguments, `__post_init__`, `ClassVar`, `InitVar`, `kw_only` and
    `__slots__`.
    """
    made: Any = cls
    own = get_annotations(cls)
    names = tuple(dict.fromkeys((*getattr(cls, "__match_args__", ()), *own)))
    setattr(made, "__match_args__", names)  # noqa: B010 - mypy lets nobody assign to it
    given = {name: vars(cls)[name] for name in own if name in vars(cls)}
    defaults = {name: value for name, value in given.items() if not _is_bare(value)}
    made.__defaults__ = {**getattr(cls, "__defaults__", {}), **defaults}
    made.__dataclass_fields__ = _Fields(cls)
    for name, method in _METHODS.items():
        if name not in made.__dict__:
            setattr(made, name, method)
    return cls


class _Fields:
    """Stands in a class for its fields, until somebody asks for them: then the standard decorator finds them.

    Args:
        cls: The class.
    """

    def __init__(self, cls: type) -> None:
        self._class = cls

    def __get__(self, instance: object, owner: type | None = None) -> Any:  # noqa: ANN401 - as Python wants it
        cls: Any = self._class
        with _completing:
            if vars(cls)["__dataclass_fields__"] is self:
                # Without a docstring, the decorator takes as long to write one as for all the rest.
                cls.__doc__ = cls.__doc__ or ""
                dataclass(init=False, repr=False, eq=False)(cls)
        return cls.__dataclass_fields__


def _init(self: Any, *values: object, **named: object) -> None:  # noqa: ANN401 - of any of the classes
    names = self.__match_args__
    self.__dict__.update(zip(names, values, strict=False))
    if named or len(values) != len(names):
        _complete(self, values, named)


def _complete(self: Any, values: tuple[object, ...], named: dict[str, object]) -> None:  # noqa: ANN401 - as above
    state, names = self.__dict__, self.__match_args__
    name_of_class = type(self).__name__
    if len(values) > len(names):
        raise TypeError(f"{name_of_class}() takes {len(names)} arguments, and {len(values)} were given")
    wrong = [name for name in named if name in state or name not in names]
    if wrong:
        raise TypeError(f"{name_of_class}() got {', '.join(wrong)}, unknown or twice")
    state.update(named)
    if len(state) == len(names):
        return
    defaults = {
        name: _made(self.__defaults__[name])
        for name in names
        if name not in state and name in self.__defaults__
    }
    lacking = [name for name in names if name not in state and name not in defaults]
    if lacking:
        raise TypeError(f"{name_of_class}() lacks {', '.join(lacking)}")
    state.update(defaults)


def _is_bare(default: object) -> bool:
    """Whether this is a `field()` that has no default."""
    return isinstance(default, Field) and default.default is MISSING and default.default_factory is MISSING


def _made(default: object) -> object:
    if not isinstance(default, Field):
        return default
    return default.default if default.default_factory is MISSING else default.default_factory()


def _repr(self: Any) -> str:  # noqa: ANN401 - as above
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _key(self: Any) -> tuple[object, ...]:  # noqa: ANN401 - as above
    return tuple([getattr(self, name) for name in _compared(self.__class__)])


@cache
def _compared(cls: Any) -> tuple[str, ...]:  # noqa: ANN401 - as above
    return tuple(one.name for one in fields(cls) if one.compare)


def _eq(self: object, other: object) -> bool:
    return _key(self) == _key(other) if type(other) is type(self) else NotImplemented


def _hash(self: object) -> int:
    return hash(_key(self))


def _refuse_change(self: object, name: str, *_: object) -> NoReturn:  # noqa: ARG001 - Python's signature
    raise FrozenInstanceError(f"cannot change field {name!r}")


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _refuse_change,
    "__delattr__": _refuse_change,
}
