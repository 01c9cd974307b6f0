"""Frozen dataclasses of our own do what the standard ones do."""

from __future__ import annotations

import copy
import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sagemaker_launcher
from sagemaker_launcher.frozen import frozen


def made(decorator: Callable[[type], type]) -> Any:
    """A class of one name, whoever makes it."""

    class Point:
        a: int = field(metadata={"unit": "m"})
        b: str = "b"
        c: tuple[int, ...] = ()
        d: dict[str, int] = field(default_factory=dict, compare=False)
        e: str = field(default="secret", repr=False)

    return decorator(Point)


OURS: Any = made(frozen)
THEIRS: Any = made(dataclass(frozen=True))
VALUES = st.tuples(
    st.integers(), st.text(), st.tuples(st.integers()), st.dictionaries(st.text(), st.integers()), st.text()
)


@pytest.mark.parametrize("named", range(6))
@given(VALUES)
def test_an_instance_has_its_values_by_place_and_by_name(named: int, values: tuple[Any, ...]) -> None:
    places = len(values) - min(named, len(values))
    names = [one.name for one in fields(THEIRS)]
    rest = dict(zip(names[places:], values[places:], strict=True))
    ours, theirs = OURS(*values[:places], **rest), THEIRS(*values[:places], **rest)
    assert repr(ours) == repr(theirs)
    assert asdict(ours) == asdict(theirs)
    assert replace(ours, a=0) == OURS(0, *values[1:])


@given(VALUES, VALUES)
def test_equality_and_hash_go_by_the_compared_fields(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (OURS(*one) == OURS(*other)) == (THEIRS(*one) == THEIRS(*other))
    same = OURS(*one[:3], {"another": 1}, one[4])
    assert OURS(*one) == same
    assert hash(OURS(*one)) == hash(same)
    assert OURS(*one) != THEIRS(*one)
    assert len({OURS(*one), same}) == 1


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), ((), {"b": "x"}), ((1, 2, 3, 4, 5, 6), {}), ((1,), {"a": 1}), ((1,), {"z": 1})],
)
def test_wrong_arguments_are_refused(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    for kind in (OURS, THEIRS):
        with pytest.raises(TypeError):
            kind(*values, **named)


def test_defaults_are_made_anew() -> None:
    one, other = OURS(1), OURS(1)
    assert (one.b, one.c, one.d, one.e) == ("b", (), {}, "secret")
    assert one.d is not other.d


def test_nothing_changes() -> None:
    point = OURS(1)
    for name in ("a", "new"):
        with pytest.raises(FrozenInstanceError, match=name):
            setattr(point, name, 2)
        with pytest.raises(FrozenInstanceError, match=name):
            delattr(point, name)
    assert point == OURS(1)


def test_it_is_a_dataclass_which_is_matched_and_copied() -> None:
    point = OURS(1, "x")
    match Aged("x", 3):
        case Aged(name, age):
            assert (name, age) == ("x", 3)
    assert copy.deepcopy(point) == copy.copy(point) == point
    assert is_dataclass(Aged)


@frozen
class Named:
    """Has its own words."""

    name: str

    def __repr__(self) -> str:
        return "masked"

    @cached_property
    def loud(self) -> str:
        """The name, once."""
        return self.name.upper()


@frozen
class Aged(Named):
    """Has a field more."""

    age: int = 0


def test_own_methods_and_cached_properties_stay() -> None:
    named = Named("x")
    assert repr(named) == "masked"
    assert named.loud == "X"
    assert named == Named("x")


def test_a_class_that_is_built_on_another_compares_all_its_fields() -> None:
    assert Aged("x", 1) != Aged("x", 2)
    assert Aged("x") == Aged(name="x", age=0)
    assert Aged("x") != Named("x")


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
def test_a_class_is_completed_once_whoever_asks_first() -> None:
    kinds = [made(frozen) for _ in range(300)]
    found: list[object] = []

    def look(start: threading.Barrier) -> None:
        for kind in kinds:
            start.wait()
            found.append(kind(1))

    start = threading.Barrier(8, timeout=30)
    threads = [threading.Thread(target=look, args=(start,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 * len(kinds)  # a thread that came upon half a class would have ended


def frozen_classes() -> Iterator[Any]:
    """Every frozen class of the package."""
    for module in pkgutil.walk_packages(sagemaker_launcher.__path__, "sagemaker_launcher."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and one.__module__ == module.name and "__defaults__" in vars(one):
                yield one


def test_all_classes_of_the_package_are_dataclasses_to_the_standard_library() -> None:
    classes = list(frozen_classes())
    assert len(classes) > 100
    for cls in classes:
        # Refuses what the standard decorator would refuse, such as a default that can change, and counts what it counts.
        assert cls.__match_args__ == tuple(one.name for one in fields(cls)), cls
