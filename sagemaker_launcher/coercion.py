"""Gives YAML nodes the types of a tree of defaults: unknown keys, wrong types and bad overrides, all at once. Pure."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.errors import PROBLEMS_SHOWN, ConfigError, Problem
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.spelling import nearest

_SHOWN = 60  # characters of a value that an error message shows


@frozen
class Anything:
    """Stands for a value of any type in a schema."""


@frozen
class Open:
    """Stands for a mapping whose keys the user chooses; `element` is the default that each value is checked against."""

    element: object
    given: Mapping[str, Any]


@frozen
class ListOf:
    """Stands for a list; `element` is the default that each item is checked against."""

    element: object
    given: tuple[Any, ...]


@frozen
class Section:
    """Stands for a mapping with known keys. A scalar in its place sets `short_form`, when that is not empty."""

    members: Mapping[str, object]
    short_form: str = ""


@frozen
class Schema:
    """A tree of Section, Open, ListOf, Anything and plain scalars, which are the defaults.

    Attributes:
        root: The tree.
        renamed: Old dotted keys and the new ones that they stand for.
    """

    root: Section
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def dotted_keys(self) -> tuple[str, ...]:
        """Every dotted key that can be set, in the order of the defaults."""
        return tuple(_keys(self.root, ""))


@frozen
class Override:
    """`--set KEY VALUE` or `--train KEY VALUE`, as typed."""

    option: str
    key: str
    value: str

    @property
    def where(self) -> str:
        """How an error message names it."""
        return f"{self.option} {self.key}"


@frozen
class Merged:
    """The outcome of merging: complete values, where each given key came from, and what was wrong.

    Attributes:
        name: The file's name, for places.
        values: The defaults with everything that was given and right merged over them.
        places: `file:line:column` or option, by dotted key, for every key that was given.
        problems: What was wrong; the defaults stand in the place of bad values.
        warnings: What works but should be changed.
    """

    name: str
    values: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def place(self, key: str) -> str:
        """Where a dotted key was given; the nearest section above it when it was not, and at last the file."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key.rpartition(".")[0]
        return self.name


def merge(
    schema: Schema, document: strict_yaml.Mapping, name: str, overrides: tuple[Override, ...] = ()
) -> Merged:
    """Merges a document and then the overrides, in their order, over the defaults of a schema.

    Args:
        schema: The defaults.
        document: What the file says.
        name: The file's name, for places.
        overrides: What the command line says.
    """
    merger = _Merger(schema, name)
    merger.section(schema.root, document, (), merger.merged.values)
    for override in overrides:
        merger.override(override)
    return merger.merged


def default_values(default: object) -> Any:  # noqa: ANN401 - a config value has any type
    """The plain values that a schema's defaults stand for."""
    if isinstance(default, Section):
        return {key: default_values(member) for key, member in default.members.items()}
    if isinstance(default, Open):
        return copy.deepcopy(dict(default.given))
    if isinstance(default, ListOf):
        return copy.deepcopy(list(default.given))
    return None if isinstance(default, Anything) else default


def _keys(section: Section, prefix: str) -> Iterator[str]:
    for key, member in section.members.items():
        if isinstance(member, Section):
            yield from _keys(member, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _without_mark(value: str) -> str:
    if "#" not in value:
        return value
    from sagemaker_launcher.secret_scan import unmarked  # noqa: PLC0415 - few values may have a mark

    return unmarked(value)


class _BadValueError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Merger:
    """Walks nodes and defaults side by side."""

    def __init__(self, schema: Schema, name: str) -> None:
        self._schema = schema
        self._name = name
        self._option = ""
        self.merged = Merged(name, default_values(schema.root))

    def override(self, override: Override) -> None:
        self._option = override.where
        try:
            node = strict_yaml.parse_value(_without_mark(override.value), override.where)
            parts = override.key.split(".")
            renamed = self._schema.renamed.get(override.key)
            if renamed:
                self._warn_renamed(override.key, renamed)
                parts = renamed.split(".")
            self._set(self._schema.root, parts, (), node, self.merged.values)
        except ConfigError as error:
            self.merged.problems.extend(error.problems)

    def _set(
        self,
        default: Section | Open,
        parts: list[str],
        path: tuple[str, ...],
        node: strict_yaml.Node,
        into: dict[str, Any],
    ) -> None:
        """Follows a dotted key down to the value that it names."""
        head, rest = parts[0], parts[1:]
        if isinstance(default, Open):
            # Keys of an open mapping of texts may have dots in them, such as a hyperparameter SOLVER.BASE_LR.
            if not isinstance(default.element, (Section, Open, Anything)):
                head, rest = ".".join(parts), []
            # A key that no file could have is refused here, too.
            strict_yaml.parse_value(f"{{{json.dumps(head, ensure_ascii=False)}: 0}}", self._option)
            member: object = default.element
            if rest and isinstance(member, Anything):
                # What may hold anything may hold sections, too.
                into.setdefault(head, {})
                member = default if isinstance(into[head], dict) else member
            elif rest:
                into.setdefault(head, default_values(member))
        elif head in default.members:
            member = default.members[head]
        else:
            self._unknown((*path, head), default, node)
            return
        if rest and isinstance(member, (Section, Open)):
            self._set(member, rest, (*path, head), node, into[head])
        elif rest:
            key = ".".join((*path, head))
            self._report(node, (*path, *parts), f"{key} is a value and has no keys of its own")
        else:
            self._assign(member, node, (*path, head), into)

    def section(
        self, default: Section, node: strict_yaml.Mapping, path: tuple[str, ...], into: dict[str, Any]
    ) -> None:
        """Merges a mapping's entries into the values of a section."""
        for key, entry in node.entries.items():
            here = (*path, key)
            dotted = ".".join(here)
            renamed = self._schema.renamed.get(dotted)
            if renamed:
                new = renamed.rpartition(".")[2]
                if new in node.entries:
                    self._report(entry.value, here, f"is the old name of {new}, which is given too")
                    continue
                self._warn_renamed(dotted, renamed, entry)
                self._assign(default.members[new], entry.value, (*path, new), into)
            elif key in default.members:
                self._assign(default.members[key], entry.value, here, into)
            else:
                self._unknown(here, default, entry)

    def _assign(
        self, default: object, node: strict_yaml.Node, path: tuple[str, ...], into: dict[str, Any]
    ) -> None:
        """Puts a checked value under the last key of a path."""
        self.merged.places[".".join(path)] = self._where(node)
        if isinstance(default, Section) and isinstance(node, strict_yaml.Mapping):
            self.section(default, node, path, into.setdefault(path[-1], default_values(default)))
        elif isinstance(default, Open) and isinstance(node, strict_yaml.Mapping):
            values = into.setdefault(path[-1], {})
            for key, entry in node.entries.items():
                self._assign(default.element, entry.value, (*path, key), values)
        elif isinstance(default, Section) and default.short_form and isinstance(node, strict_yaml.Scalar):
            values = into.setdefault(path[-1], default_values(default))
            self._assign(default.members[default.short_form], node, (*path, default.short_form), values)
        elif isinstance(default, ListOf) and isinstance(node, strict_yaml.Sequence):
            into[path[-1]] = self._items(default, node, path)
        else:
            try:
                into[path[-1]] = self._scalar(default, node, path)
            except _BadValueError as error:
                self.merged.problems.append(error.problem)

    def _items(self, default: ListOf, node: strict_yaml.Sequence, path: tuple[str, ...]) -> list[Any]:
        slots: dict[str, Any] = {}
        for index, item in enumerate(node.items):
            self._assign(default.element, item, (*path[:-1], f"{path[-1]}[{index}]"), slots)
        return list(slots.values())

    def _scalar(self, default: object, node: strict_yaml.Node, path: tuple[str, ...]) -> Any:  # noqa: ANN401
        if isinstance(default, Anything):
            return strict_yaml.plain(node)
        if not isinstance(node, strict_yaml.Scalar) or isinstance(default, (Section, Open, ListOf)):
            raise self._bad(node, path, _expected(default))
        if isinstance(default, str):
            # A shell takes the quotes away: `--set KEY ""` means the empty text and not null.
            if not node.quoted and node.value is None and not (self._option and not node.text):
                raise self._bad(node, path, 'text, or "" for none')
            return node.text
        value = node.value
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if type(value) is not type(default):
            raise self._bad(node, path, _expected(default))
        return value

    def _bad(self, node: strict_yaml.Node, path: tuple[str, ...], expected: str) -> _BadValueError:
        return _BadValueError(
            Problem(self._where(node), "wrong type", ".".join(path), _shown(node), expected=expected)
        )

    def _report(self, node: strict_yaml.Node, path: tuple[str, ...], message: str) -> None:
        self.merged.problems.append(Problem(self._where(node), message, ".".join(path), _shown(node)))

    def _unknown(
        self, path: tuple[str, ...], parent: Section, node: strict_yaml.Node | strict_yaml.Entry
    ) -> None:
        shown = len(self.merged.problems) < PROBLEMS_SHOWN
        near = self._nearest(path, parent) if shown else ""
        self.merged.problems.append(
            Problem(self._where(node), "unknown key", ".".join(path), suggestion=near)
        )

    def _nearest(self, path: tuple[str, ...], parent: Section) -> str:
        """The valid key that was probably meant: a sibling that looks alike, or the same word elsewhere in the tree."""
        word = path[-1].upper()
        siblings = {key.upper(): key for key in parent.members}
        near = nearest(word, siblings, 1, 0.7)
        if near:
            return ".".join((*path[:-1], siblings[near[0]]))
        elsewhere: dict[str, str] = {}
        for key in self._schema.dotted_keys:
            parts = key.split(".")
            for depth, part in enumerate(parts, 1):
                elsewhere.setdefault(part.upper(), ".".join(parts[:depth]))
        near = nearest(word, elsewhere, 1, 0.8)
        return elsewhere[near[0]] if near else ""

    def _warn_renamed(self, old: str, new: str, entry: strict_yaml.Entry | None = None) -> None:
        where = f"{self._name}:{entry.key_line}" if entry else self._option
        self.merged.warnings.append(f"{where}: {old} is now called {new}; please rename it")

    def _where(self, node: strict_yaml.Node | strict_yaml.Entry) -> str:
        if self._option:
            return self._option
        if isinstance(node, strict_yaml.Entry):
            return f"{self._name}:{node.key_line}:{node.key_column}"
        return f"{self._name}:{node.line}:{node.column}"


def _expected(default: object) -> str:
    if isinstance(default, (Section, Open)):
        return "a mapping"
    if isinstance(default, ListOf):
        return "a list"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[type(default)]


def _shown(node: strict_yaml.Node) -> str:
    if isinstance(node, strict_yaml.Mapping):
        return "a mapping"
    if isinstance(node, strict_yaml.Sequence):
        return "a list"
    if node.quoted:
        return f'the text "{node.text[:_SHOWN]}"'
    return node.text[:_SHOWN] or "nothing"
