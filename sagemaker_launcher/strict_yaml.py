"""Reads YAML 1.2 of strangers, with the place of every value, and writes YAML that all readers take alike."""

from __future__ import annotations

import bisect
import codecs
import contextlib
import json
import math
import re
import stat
from collections import abc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import yaml
from yaml.scanner import ScannerError

from sagemaker_launcher.errors import ConfigError, Problem
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.spelling import nearest

_SUFFIXES = (".yaml", ".yml")
_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 32
_MAX_NODES = 20_000
_MAX_PROBLEMS = 100
_SHOWN = 60  # characters of a key or value that an error message shows
# An integer up to here can be printed and made a float whatever Python's settings; a longer one stays text.
_MAX_INTEGER_CHARACTERS = 250

# YAML 1.2.2, 10.3.2 core schema: https://yaml.org/spec/1.2.2/#1032-tag-resolution
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEXADECIMAL = r"0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

# What YAML forbids, and four more: a byte order mark inside the text, and U+0085, U+2028 and U+2029, which
# break lines in YAML 1.1 but not in 1.2. Compiling all of it takes far longer than what ASCII texts need of it.
_BAD_CHARACTER = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
_BAD_ASCII = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_DIRECTIVE = re.compile(r"(?:\A|[\r\n])(%[^\r\n]*)")
_VERSION_DIRECTIVE = r"%YAML[ \t]+1\.2[ \t]*(?:[ \t]#.*)?"
_QUOTED = r"""(?sx) "(?:[^"\\]|\\.)*" | '(?:[^']|'')*' """

# Attributes of a YACS node (yacs 0.1.8), which is a dict: as keys they could not be reached with a dot.
_RESERVED_KEYS = frozenset(dir(dict)) | frozenset(
    "DEPRECATED_KEYS IMMUTABLE NEW_ALLOWED RENAMED_KEYS clone defrost dump freeze is_frozen is_new_allowed"  # noqa: SIM905
    " key_is_deprecated key_is_renamed load_cfg merge_from_file merge_from_list merge_from_other_cfg"
    " raise_key_rename_error register_deprecated_key register_renamed_key set_new_allowed".split()
)

# Text in this form needs no quotes in any YAML version, unless it is one of these words in whatever case.
_PLAIN = re.compile(r"[A-Za-z_/](?:[\w./@+=-]|:(?=[\w/:])| (?=[\w/]))*", re.ASCII)
_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))


@frozen
class Scalar:
    """One value as written.

    Attributes:
        text: The text without its quotes.
        quoted: It was written in quotes or as a block (`|`, `>`), and so is text whatever it looks like.
        line: Counted from 1.
        column: Counted from 1, in characters.
    """

    text: str
    quoted: bool
    line: int
    column: int

    @property
    def value(self) -> bool | int | float | str | None:
        """What YAML 1.2's core schema makes of it: `1e3` is a float, `no` and `2024-01-01` are text."""
        return self.text if self.quoted else _resolve(self.text)


@frozen
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    line: int
    column: int


@frozen
class Entry:
    """A key and its value; the key's line and column are counted from 1."""

    key: str
    key_line: int
    key_column: int
    value: Node


@frozen
class Mapping:
    """Keys and values in their order; the entries are read-only."""

    entries: abc.Mapping[str, Entry]
    line: int
    column: int


Node: TypeAlias = "Scalar | Sequence | Mapping"


def read(path: Path, *, may_be_empty: bool = False) -> Mapping:
    """Reads a config file.

    Args:
        path: A regular file that ends in .yaml or .yml, of at most 1 MiB of UTF-8. No other file is opened.
        may_be_empty: Whether a file with nothing but comments is a mapping without keys.

    Raises:
        ConfigError: With everything that is wrong in the file, or the reason why it was not read.
    """
    return _parse(_bytes_of(path), str(path), _PARSER, may_be_empty=may_be_empty)


def parse(data: bytes, name: str) -> Mapping:
    """Reads the bytes of a config file.

    Args:
        data: One document in UTF-8, a mapping without anchors, aliases, tags, merge keys and duplicate keys.
        name: The file's name, for places such as `name:line:column`.

    Raises:
        ConfigError: With every problem, up to the first place where the text is not YAML.
    """
    return _parse(data, name, _PARSER)


def parse_value(text: str, name: str) -> Node:
    """Reads a value from the command line.

    Args:
        text: A list or mapping in YAML's flow style if it starts with `[` or `{`; text if it is in quotes;
            otherwise one plain value, exactly as typed.
        name: The option; problems name it instead of file, line and column.

    Raises:
        ConfigError: With every problem.
    """
    return _parse_value(text, name, _PARSER)


def plain(node: Node) -> Any:  # noqa: ANN401 - a config value has any type
    """The dict, list or scalar that a node stands for."""
    if isinstance(node, Mapping):
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return node.value


def dump(tree: abc.Mapping[str, object]) -> bytes:
    """Writes a tree in its order, so that readers of YAML 1.1 and 1.2 find equal values of equal types.

    Args:
        tree: Mappings, lists, tuples (which are read as lists), str, int, finite float, bool and None.

    Returns:
        UTF-8, in block style, without anchors and aliases.

    Raises:
        ValueError: Something else is in it, or something that `parse` would refuse to read.
    """
    data = "".join(f"{line}\n" for line in _lines(tree, 1)).encode()
    try:
        parse(data, "dump")
    except ConfigError as error:
        raise ValueError(f"would be unreadable: {error}") from error
    return data


def _resolve(text: str) -> bool | int | float | str | None:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    if len(text) > _MAX_INTEGER_CHARACTERS:
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    return int(text, 0) if re.fullmatch(_OCTAL_OR_HEXADECIMAL, text) else text


def _bytes_of(path: Path) -> bytes:
    """The content of a file that may be a config; everything else is refused before it is opened."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ConfigError([Problem(str(path), "is a directory, not a file")])
        if path.suffix.lower() not in _SUFFIXES:
            message = "not a .yaml or .yml file; nothing else is read, and nothing is ever executed"
            raise ConfigError([Problem(str(path), message)])
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError([Problem(str(path), "not a regular file")])
        if status.st_size > _MAX_BYTES:
            raise ConfigError([Problem(str(path), "larger than 1 MiB")])
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        near = _yaml_files_near(path)
        problem = Problem(str(path), "no such file", suggestion=" or ".join(near))
        hint = f"YAML files in that folder: {', '.join(near)}" if near else ""
        raise ConfigError([problem], hint=hint) from error
    except OSError as error:
        raise ConfigError([Problem(str(path), f"cannot be read: {error.strerror}")]) from error
    except ValueError as error:  # a NUL or half a surrogate pair in the path
        raise ConfigError([Problem(_shown(str(path)), "not a possible file name")]) from error


def _yaml_files_near(path: Path) -> list[str]:
    try:
        names = sorted(file.name for file in path.parent.iterdir() if file.suffix.lower() in _SUFFIXES)
    except OSError:
        return []
    return nearest(path.name, names, 3)


class _PurePythonParser(yaml.SafeLoader):
    """PyYAML's own parser. It would let half a surrogate pair pass, and fail on escapes beyond U+10FFFF."""

    def scan_flow_scalar_non_spaces(self, double: bool, start_mark: yaml.Mark) -> list[str]:
        try:
            chunks: list[str] = super().scan_flow_scalar_non_spaces(double, start_mark)
            "".join(chunks).encode()
        except (ValueError, OverflowError) as error:
            problem = "found invalid Unicode character escape code"  # as libyaml says it
            raise ScannerError(
                "while parsing a quoted scalar", start_mark, problem, self.get_mark()
            ) from error
        return chunks


_Parser: TypeAlias = "type[yaml.SafeLoader | yaml.CSafeLoader]"
# libyaml is ten times as fast, but PyYAML may have been built without it.
_PARSER: _Parser = yaml.CSafeLoader if yaml.__with_libyaml__ else _PurePythonParser


def _parse(data: bytes, name: str, parser: _Parser, *, may_be_empty: bool = False) -> Mapping:
    if len(data) > _MAX_BYTES:
        raise ConfigError([Problem(name, "larger than 1 MiB")])
    content = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line, column = _Places(content[: error.start].decode()).of(error.start)
        offset = error.start + len(data) - len(content)
        message = f"not UTF-8: byte 0x{content[error.start]:02x} at offset {offset}"
        raise ConfigError([Problem(f"{name}:{line}:{column}", message)]) from error
    root = _Document(text, lambda line, column: f"{name}:{line}:{column}").root(parser)
    if isinstance(root, Mapping):
        return root
    if isinstance(root, Scalar) and not root.quoted and not root.text:
        if may_be_empty:
            return Mapping(MappingProxyType({}), 1, 1)
        expected = "`KEY: value`, or {} for none"
        raise ConfigError([Problem(f"{name}:1:1", "the file has no keys", expected=expected)])
    message = "the top level has to be a mapping of keys to values"
    raise ConfigError([Problem(f"{name}:{root.line}:{root.column}", message)])


def _parse_value(text: str, name: str, parser: _Parser) -> Node:
    if len(text) > _MAX_BYTES:
        raise ConfigError([Problem(name, "larger than 1 MiB")])
    expected = "a list or mapping as in a YAML file, or text in quotes"
    document = _Document(text, lambda _line, _column: name, expected)
    if text.startswith(("[", "{")) or re.fullmatch(_QUOTED, text):
        return document.root(parser)
    return document.only_scalar()


class _Places:
    """Turns offsets in a text into lines and columns.

    Both parsers give the same offsets, but not always the same lines and columns at the end of the text.
    """

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in _LINE_BREAK.finditer(text))]
        self._end = len(text)

    def of(self, offset: int) -> tuple[int, int]:
        offset = min(offset, self._end)
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


class _Open:
    """A list or mapping whose end is still to come."""

    def __init__(self, is_mapping: bool, line: int, column: int) -> None:
        self.is_mapping = is_mapping
        self.items: list[Node] = []
        self.entries: dict[str, Entry] = {}
        self.key: Scalar | None = None
        self._place = (line, column)

    @property
    def awaits_key(self) -> bool:
        return self.is_mapping and self.key is None

    @property
    def path_part(self) -> str:
        """Leads to the value that comes next; empty when it is a key that comes next."""
        if not self.is_mapping:
            return f"[{len(self.items)}]"
        return f".{_shown(self.key.text)}" if self.key and self.key.text else ""

    def add(self, value: Node) -> None:
        if self.key is None:
            self.items.append(value)
        else:
            key, self.key = self.key, None
            self.entries.setdefault(key.text, Entry(key.text, key.line, key.column, value))

    def closed(self) -> Node:
        if self.is_mapping:
            return Mapping(MappingProxyType(self.entries), *self._place)
        return Sequence(tuple(self.items), *self._place)


class _GaveUpError(Exception):
    """The rest of the text is not worth reading."""


class _Document:
    """Builds nodes from a parser's events, one by one, so that no text can exhaust stack or memory."""

    def __init__(self, text: str, where: Callable[[int, int], str], expected: str = "") -> None:
        self._text = text
        self._where = where
        self._expected = expected
        self._places = _Places(text)
        self._open: list[_Open] = []
        self._count = 0
        self._root: Node = Scalar("", quoted=False, line=1, column=1)
        self._has_root = False
        self._problems: list[Problem] = []

    def root(self, parser: _Parser) -> Node:
        """The document's node; an empty scalar if there is none. Raises ConfigError with all problems."""
        with contextlib.suppress(_GaveUpError):
            self._check_characters()
            self._check_directives()
            self._read(parser)
        return self._checked_root()

    def only_scalar(self) -> Node:
        """The whole text as one plain value. Raises ConfigError when no file could hold it."""
        with contextlib.suppress(_GaveUpError):
            self._check_characters()
            self._add(Scalar(self._text, quoted=False, line=1, column=1))
        return self._checked_root()

    def _checked_root(self) -> Node:
        if self._problems:
            raise ConfigError(self._problems)
        return self._root

    def _check_characters(self) -> None:
        match = _bad_character(self._text).search(self._text)
        if match:
            place = self._places.of(match.start())
            self._report(place, f"the character U+{ord(match[0]):04X} is not allowed")
            raise _GaveUpError

    def _check_directives(self) -> None:
        for number, match in enumerate(_DIRECTIVE.finditer(self._text)):
            if number > 0 or not re.fullmatch(_VERSION_DIRECTIVE, match[1]):
                place = self._places.of(match.start(1))
                self._report(place, "no directive is allowed except one %YAML 1.2", value=_shown(match[1]))
                raise _GaveUpError

    def _read(self, parser: _Parser) -> None:
        # libyaml lets some tabs pass that PyYAML's own parser refuses: the strict one decides.
        strict = _PurePythonParser if "\t" in self._text else parser
        try:
            for event in yaml.parse(self._text, strict):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            offset, message = _explained(error, self._text)
            where = self._where(*self._places.of(offset))
            self._problems.append(Problem(where, message, expected=self._expected))

    def _take(self, event: yaml.Event) -> None:
        place = self._places.of(event.start_mark.index if event.start_mark else 0)
        if isinstance(event, yaml.NodeEvent):
            self._check_limits(event, place)
        if isinstance(event, yaml.ScalarEvent):
            self._check_properties(event, place)
            self._add(Scalar(event.value, bool(event.style), *place))
        elif isinstance(event, yaml.CollectionStartEvent):
            self._check_properties(event, place)
            self._open.append(_Open(isinstance(event, yaml.MappingStartEvent), *place))
        elif isinstance(event, yaml.CollectionEndEvent):
            self._add(self._open.pop().closed())
        elif isinstance(event, yaml.AliasEvent):
            alias = f"*{event.anchor}"
            self._report(place, "aliases are not allowed; write the value out", value=_shown(alias))
            self._add(Scalar(alias, True, *place))  # noqa: FBT003 - only stands in its place
        elif isinstance(event, yaml.DocumentStartEvent) and self._has_root:
            self._report(place, "a second document begins here; only one is allowed")
            raise _GaveUpError

    def _check_limits(self, event: yaml.NodeEvent, place: tuple[int, int]) -> None:
        self._count += 1
        if self._count > _MAX_NODES:
            self._report(place, f"more than {_MAX_NODES:,} keys and values")
            raise _GaveUpError
        if isinstance(event, yaml.CollectionStartEvent) and len(self._open) == _MAX_DEPTH:
            self._report(place, f"nested deeper than {_MAX_DEPTH} levels")
            raise _GaveUpError

    def _check_properties(
        self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: tuple[int, int]
    ) -> None:
        if event.anchor:
            self._report(place, "anchors are not allowed", value=_shown(f"&{event.anchor}"))
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._report(place, "tags are not allowed", value=_shown(tag))

    def _add(self, node: Node) -> None:
        if self._open and self._open[-1].awaits_key:
            self._add_key(self._open[-1], node)
            return
        if isinstance(node, Scalar) and isinstance(node.value, float) and not math.isfinite(node.value):
            self._report((node.line, node.column), "not a finite number", value=_shown(node.text))
        if self._open:
            self._open[-1].add(node)
        else:
            self._root, self._has_root = node, True

    def _add_key(self, mapping: _Open, node: Node) -> None:
        place = (node.line, node.column)
        if not isinstance(node, Scalar):
            mapping.key = Scalar("", True, *place)  # noqa: FBT003 - stands in its place
            self._report(place, "a key has to be text, not a list or mapping")
            return
        mapping.key = node
        earlier = mapping.entries.get(node.text)
        if node.text == "<<" and not node.quoted:
            self._report(place, "merge keys are not allowed; write the keys out")
        elif not isinstance(node.value, str):
            expected = f'"{_shown(node.text)}" in quotes' if node.text else "a key before the ':'"
            self._report(place, "a key has to be text", expected=expected)
        elif earlier:
            self._report(place, f"is given twice, in lines {earlier.key_line} and {node.line}")
        elif node.text in _RESERVED_KEYS or node.text.startswith("__"):
            self._report(place, "cannot be a key: YACS and Python use this name for something of their own")

    def _report(self, place: tuple[int, int], message: str, *, value: str = "", expected: str = "") -> None:
        path = "".join(collection.path_part for collection in self._open).removeprefix(".")
        self._problems.append(Problem(self._where(*place), message, path, value, expected))
        if len(self._problems) == _MAX_PROBLEMS:
            raise _GaveUpError


_MISPLACED = "does not belong here; check the indentation, quotes and brackets"
# Parts of PyYAML's and libyaml's messages, which differ, and what they mean to a user. True: the place to
# name is the start of the thing that was being read, not where reading failed.
_EXPLANATIONS = (
    ("invalid Unicode character escape code", True, "this text has an escape in it that is not a character"),
    ("while scanning a quoted scalar", True, "this quote is never closed"),
    ("quoted scalar", False, "impossible escape in double quotes; use single quotes or two backslashes"),
    ("block scalar", False, "expected a line break after '|' or '>'"),
    ("an anchor", True, "anchors are not allowed"),
    ("an alias", True, "aliases are not allowed; write the value out"),
    ("tag", True, "tags are not allowed"),
    ("could not find expected ':'", True, "expected ':' after this key"),
    ("mapping values are not allowed", False, "unexpected ':'; check the indentation, or use quotes"),
    ("sequence entries are not allowed", False, "a list item ('- ') cannot stand here"),
    ("mapping keys are not allowed", False, "a key ('? ') cannot stand here"),
    ("' or ']'", False, "expected ',' or ']'"),
    ("' or '}'", False, "expected ',' or '}'"),
    ("node content", False, "expected a value"),
    ("block end", False, _MISPLACED),
    ("expected key", False, _MISPLACED),
    ("'-' indicator", False, _MISPLACED),
    ("document start", False, _MISPLACED),
)


def _explained(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """The offset of a syntax error, and one sentence about it."""
    if error.problem_mark is None:
        raise error
    offset = error.problem_mark.index
    start = error.context_mark.index if error.context_mark else offset
    character = text[offset : offset + 1]
    if character == "\t":
        indents = not re.split(r"[\r\n]", text[:offset])[-1].strip()
        return offset, "tab used for indentation" if indents else "tab used where a space is needed"
    # PyYAML tells what it found instead; libyaml does not.
    problem = str(error.problem).partition(", but ")[0]
    message = f"{error.context}: {problem}"
    if "cannot start any token" in message:
        return offset, f"text cannot start with {character}; put it in quotes"
    if "while parsing a flow" in message and not text[offset:].strip():
        if "node" in message:
            return offset, "a bracket is not closed before the text ends"
        return start, "this bracket is never closed"
    if "escape" in message or "hex" in message:
        offset = text.rfind("\\", start, offset + 1)
    for part, is_about_start, explanation in _EXPLANATIONS:
        if part in message:
            return start if is_about_start else offset, explanation
    return offset, f"not YAML: {_shown(problem)}"


def _shown(text: str) -> str:
    """A text for an error message: short, on one line, and harmless to a terminal."""
    shortened = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shortened)


def _lines(value: object, depth: int) -> Iterator[str]:
    """The lines of a value, not indented."""
    if depth > _MAX_DEPTH + 1:
        raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
    if not isinstance(value, (abc.Mapping, list, tuple)):
        yield _scalar(value)
    elif not value:
        yield "{}" if isinstance(value, abc.Mapping) else "[]"
    elif isinstance(value, abc.Mapping):
        for key, member in value.items():
            first, *rest = _lines(member, depth + 1)
            if isinstance(member, (abc.Mapping, list, tuple)) and member:
                yield f"{_key(key)}:"
                yield from (f"  {line}" for line in (first, *rest))
            else:
                yield f"{_key(key)}: {first}"
    else:
        for item in value:
            first, *rest = _lines(item, depth + 1)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)


def _key(key: object) -> str:
    if type(key) is str:
        return _text(key)
    raise ValueError(f"cannot be a key: {key!r}")


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if type(value) is bool:
        return str(value).lower()
    if type(value) is int and len(str(value)) <= _MAX_INTEGER_CHARACTERS:
        return str(value)
    if type(value) is float and math.isfinite(value):
        # YAML 1.1 wants a dot in every float.
        digits, exponent, power = repr(value).partition("e")
        return f"{digits if '.' in digits else f'{digits}.0'}{exponent}{power}"
    if type(value) is str:
        return _text(value)
    raise ValueError(f"cannot be written as YAML: {value!r}")


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # YAML's double quotes know all escapes of JSON.
    quoted = json.dumps(text, ensure_ascii=False)
    return _bad_character(quoted).sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _bad_character(text: str) -> re.Pattern[str]:
    return re.compile(_BAD_ASCII if text.isascii() else _BAD_CHARACTER)
