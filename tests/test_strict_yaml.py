"""What strict_yaml accepts, what it refuses and where, and that nothing can make it hang, blow up or run code.

STRICT_YAML_EXAMPLES sets how many examples each generated test tries (100 unless set).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.errors import ConfigError, ExitCode, Problem
from sagemaker_launcher.strict_yaml import Mapping, Node, Scalar, Sequence
from tests.fault_rows import provokes

PURE_PYTHON = strict_yaml._PurePythonParser
FASTEST = strict_yaml._PARSER
both_parsers = pytest.mark.parametrize("parser", [FASTEST, PURE_PYTHON], ids=["fastest", "pure-python"])
generated = settings(max_examples=int(os.environ.get("STRICT_YAML_EXAMPLES", "100")), deadline=None)
MIB = 1024 * 1024


def outcome(text: str | bytes, parser: strict_yaml._Parser = FASTEST) -> Mapping | tuple[Problem, ...]:
    data = text if isinstance(text, bytes) else text.encode()
    try:
        return strict_yaml._parse(data, "f.yaml", parser)
    except ConfigError as error:
        return error.problems


def values(text: str | bytes, parser: strict_yaml._Parser = FASTEST) -> Any:
    result = outcome(text, parser)
    if not isinstance(result, Mapping):
        pytest.fail(str(result[0]))
    return strict_yaml.plain(result)


def complaints(text: str | bytes, parser: strict_yaml._Parser = FASTEST) -> list[str]:
    result = outcome(text, parser)
    if isinstance(result, Mapping):
        pytest.fail("accepted")
    return [str(problem) for problem in result]


def file_complaints(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        strict_yaml.read(path)
    assert caught.value.exit_code == ExitCode.CONFIG
    return [str(problem) for problem in caught.value.problems]


# Values


@provokes(7)
@both_parsers
@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("", "~", "null", "Null", "NULL")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *((text, text) for text in ("yes", "Yes", "no", "NO", "on", "off", "y", "n", "tRUE", "nULL")),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("010", 10),
        ("012345678901", 12345678901),
        ("0o17", 15),
        ("0x1F", 31),
        *(
            (text, text)
            for text in ("0b11", "0O17", "0X1F", "-0x1F", "0o8", "1_000", "1:30", "190:20:30", "2024-01-01")
        ),
        *(
            (text, text)
            for text in (
                "2001-12-14t21:59:43.10-05:00",
                "=",
                "1.2.3",
                "1,5",
                "e3",
                ".",
                "+",
                "-.",
                "1e",
                "1234e",
            )
        ),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("1e-05", 1e-05),
        ("+1.5e+3", 1500.0),
        ("1234e56", 1234e56),
        ('"10"', "10"),
        ("'true'", "true"),
        ("'it''s'", "it's"),
        ('"\\x41\\u00e9\\U0001F600\\n"', "Aé😀\n"),
        ("|\n  1\n  2\n", "1\n2\n"),
        (">-\n  1\n  2\n", "1 2"),
        ("s3://team/x#y", "s3://team/x#y"),
        ("two\n  lines", "two lines"),
        ("[1, '1', [no]]", [1, "1", ["no"]]),
        ("{b: 1, c: {}}", {"b": 1, "c": {}}),
        ("\n- 1\n- - 2\n  - 3\n- b: 4", [1, [2, 3], {"b": 4}]),
    ],
)
def test_values_are_those_of_yaml_1_2(parser: strict_yaml._Parser, text: str, value: object) -> None:
    found = values(f"a: {text}", parser)["a"]
    assert (found, type(found)) == (value, type(value))


def test_a_scalar_keeps_its_source_text_and_place() -> None:
    document = strict_yaml.parse(b"a: 1.10\nlist:\n  - 'x'\n  - {k: 0o7}\n", "f.yaml")
    assert document.entries["a"].value == Scalar("1.10", quoted=False, line=1, column=4)
    entry = document.entries["list"]
    assert (entry.key, entry.key_line, entry.key_column) == ("list", 2, 1)
    assert isinstance(entry.value, Sequence)
    assert (entry.value.line, entry.value.column) == (3, 3)
    quoted, mapping = entry.value.items
    assert quoted == Scalar("x", quoted=True, line=3, column=5)
    assert isinstance(mapping, Mapping)
    assert (mapping.line, mapping.column) == (4, 5)
    assert mapping.entries["k"].value == Scalar("0o7", quoted=False, line=4, column=9)


def test_entries_keep_their_order_and_cannot_be_changed() -> None:
    document = strict_yaml.parse(b"z: 1\na: 2\nm: 3\n", "f.yaml")
    assert list(document.entries) == ["z", "a", "m"]
    with pytest.raises(TypeError):
        document.entries["z"] = document.entries["a"]  # type: ignore[index]


@pytest.mark.parametrize(
    "text", ["9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "0o" + "7" * 5000, "1" * 300_000]
)
def test_an_integer_too_long_for_python_is_left_as_text(text: str) -> None:
    assert values(f"a: {text}")["a"] == text


@pytest.mark.parametrize("text", ["9" * 250, "0x" + "f" * 248])
def test_every_integer_can_be_printed_and_made_a_float(text: str) -> None:
    value = values(f"a: {text}")["a"]
    assert isinstance(value, int)
    assert str(value)
    assert float(value) > 0


@both_parsers
@pytest.mark.parametrize(
    "key", ["on", "yes", "NO", '"1"', "'null'", "A.B", "1:30", "two words", '"<<"', '""', "? a\n", "é"]
)
def test_keys_are_text_by_the_rules_of_yaml_1_2(parser: strict_yaml._Parser, key: str) -> None:
    assert list(values(f"{key}: x", parser).values()) == ["x"]


@provokes(11)
@both_parsers
@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfa: 1\nb: 2\n",
        b"a: 1\r\nb: 2\r\n",
        b"a: 1\rb: 2",
        b"%YAML 1.2\n---\na: 1\nb: 2\n...\n",
        b"--- {a: 1, b: 2}",
        b"# first\n\na: 1 # \tone\nb: 2\n# last",
    ],
)
def test_byte_order_mark_line_ends_and_version_directive_are_fine(
    parser: strict_yaml._Parser, data: bytes
) -> None:
    assert values(data, parser) == {"a": 1, "b": 2}


# Refusals


REFUSED = {
    "tab as indentation": ("a:\n\tb: 1\n", ["2:1: tab used for indentation"]),
    "tab after spaces": ("a:\n  b: 1\n  \tc: 1\n", ["3:3: tab used for indentation"]),
    "tab in a block": ("a: |\n\tx\n", ["2:1: tab used for indentation"]),
    "tab before a value": ("a:\t1\n", ["1:3: tab used where a space is needed"]),
    "tab before a comment": ("a: 1\t# x\n", ["1:5: tab used where a space is needed"]),
    "empty": ("", ["1:1: the file has no keys; expected `KEY: value`, or {} for none"]),
    "only comments": ("# x\n\n# y\n", ["1:1: the file has no keys; expected `KEY: value`, or {} for none"]),
    "only a marker": ("---\n", ["1:1: the file has no keys; expected `KEY: value`, or {} for none"]),
    "top-level list": ("\n- 1\n", ["2:1: the top level has to be a mapping of keys to values"]),
    "top-level text": ("x\n", ["1:1: the top level has to be a mapping of keys to values"]),
    "top-level null": ("null\n", ["1:1: the top level has to be a mapping of keys to values"]),
    "two documents": ("a: 1\n---\nb: 2\n", ["2:1: a second document begins here; only one is allowed"]),
    "empty second document": ("a: 1\n---\n", ["2:1: a second document begins here; only one is allowed"]),
    "anchor, alias": (
        "a: &x [1]\nb: {c: *x}\n",
        [
            "1:4: a: anchors are not allowed, got &x",
            "2:8: b.c: aliases are not allowed; write the value out, got *x",
        ],
    ),
    "alias as key": (
        "a: 1\n*x : 2\n",
        ["2:1: aliases are not allowed; write the value out, got *x"],
    ),
    "recursive anchor": (
        "a: &x\n  b: *x\n",
        [
            "1:4: a: anchors are not allowed, got &x",
            "2:6: a.b: aliases are not allowed; write the value out, got *x",
        ],
    ),
    "tags": (
        "a: !!str 1\nb: ! 2\nc: [!x 3, !<tag:e.org,1> {}]\n!!str d: 4\n",
        [
            "1:4: a: tags are not allowed, got !!str",
            "2:4: b: tags are not allowed, got !",
            "3:5: c[0]: tags are not allowed, got !x",
            "3:11: c[1]: tags are not allowed, got tag:e.org,1",
            "4:1: tags are not allowed, got !!str",
        ],
    ),
    "broken tag": ("a: !<x\n", ["1:4: tags are not allowed"]),
    "undeclared tag": ("a: !x!y 1\n", ["1:4: tags are not allowed"]),
    "bare anchor": ("a: & 1\n", ["1:4: anchors are not allowed"]),
    "bare alias": ("a: *\n", ["1:4: aliases are not allowed; write the value out"]),
    "merge key": ("a: {<<: {b: 1}}\n", ["1:5: a.<<: merge keys are not allowed; write the keys out"]),
    "tag directive": (
        "%TAG ! tag:e.org,1:\n---\na: 1\n",
        ["1:1: no directive is allowed except one %YAML 1.2, got %TAG ! tag:e.org,1:"],
    ),
    "old version": (
        "%YAML 1.1\n---\na: 1\n",
        ["1:1: no directive is allowed except one %YAML 1.2, got %YAML 1.1"],
    ),
    "late directive": (
        "a: 1\r...\r%FOO\r---\r",
        ["3:1: no directive is allowed except one %YAML 1.2, got %FOO"],
    ),
    "tag after a value": (
        "a: 'x' !t y\n",
        ["1:8: does not belong here; check the indentation, quotes and brackets"],
    ),
    "unknown directive": (
        "%FOO\n---\na: 1\n",
        ["1:1: no directive is allowed except one %YAML 1.2, got %FOO"],
    ),
    "version twice": (
        "%YAML 1.2\n%YAML 1.2\n---\na: 1\n",
        ["2:1: no directive is allowed except one %YAML 1.2, got %YAML 1.2"],
    ),
    "duplicate keys": (
        "a: 1\nb:\n  c: 1\n  c: 2\na: 2\n'b': 3\na: 4\n",
        [
            "4:3: b.c: is given twice, in lines 3 and 4",
            "5:1: a: is given twice, in lines 1 and 5",
            "6:1: b: is given twice, in lines 2 and 6",
            "7:1: a: is given twice, in lines 1 and 7",
        ],
    ),
    "keys that are no text": (
        "1: a\ntrue: b\n~: c\n1.5: d\n0x1: e\n{}: f\n? [x]\n: g\n",
        [
            '1:1: 1: a key has to be text; expected "1" in quotes',
            '2:1: true: a key has to be text; expected "true" in quotes',
            '3:1: ~: a key has to be text; expected "~" in quotes',
            '4:1: 1.5: a key has to be text; expected "1.5" in quotes',
            '5:1: 0x1: a key has to be text; expected "0x1" in quotes',
            "6:1: a key has to be text, not a list or mapping",
            "7:3: a key has to be text, not a list or mapping",
        ],
    ),
    "no key": ("? # x\n: 1\n", ["1:2: a key has to be text; expected a key before the ':'"]),
    "nothing before a colon": ("a: {: 1}\n", ["1:5: expected a value"]),
    "names of YACS": (
        "items: 1\na: {get: 2, __immutable__: 3}\n",
        [
            "1:1: items: cannot be a key: YACS and Python use this name for something of their own",
            "2:5: a.get: cannot be a key: YACS and Python use this name for something of their own",
            "2:13: a.__immutable__: cannot be a key: YACS and Python use this name for something of their own",
        ],
    ),
    "not finite": (
        "a: .inf\nb: [-.Inf, +.INF, .nan, .NaN]\nc: 1e999\nd: '.inf'\n",
        [
            "1:4: a: not a finite number, got .inf",
            "2:5: b[0]: not a finite number, got -.Inf",
            "2:12: b[1]: not a finite number, got +.INF",
            "2:19: b[2]: not a finite number, got .nan",
            "2:25: b[3]: not a finite number, got .NaN",
            "3:4: c: not a finite number, got 1e999",
        ],
    ),
    "problems before a syntax error": (
        "a: 1\na: &x 2\nb: [\n",
        [
            "2:1: a: is given twice, in lines 1 and 2",
            "2:4: a: anchors are not allowed, got &x",
            "4:1: a bracket is not closed before the text ends",
        ],
    ),
    "NUL": ("a: 1\nb: \0\n", ["2:4: the character U+0000 is not allowed"]),
    "escape code": ("a: \x1b[31m\n", ["1:4: the character U+001B is not allowed"]),
    "delete": ("a: \x7f\n", ["1:4: the character U+007F is not allowed"]),
    "next line": ("a: \x85\n", ["1:4: the character U+0085 is not allowed"]),
    "line separator": ("é: 'x\u2028y'\n", ["1:6: the character U+2028 is not allowed"]),
    "byte order mark inside": ("a: 1\n\ufeffb: 2\n", ["2:1: the character U+FEFF is not allowed"]),
    "not a character": ("a: \uffff\n", ["1:4: the character U+FFFF is not allowed"]),
    "half a surrogate pair": (
        'a: "\\ud800"\n',
        ["1:4: this text has an escape in it that is not a character"],
    ),
    "escape beyond Unicode": (
        'a: "\\U00110000"\n',
        ["1:4: this text has an escape in it that is not a character"],
    ),
    "escape far beyond": (
        'a: "\\UFFFFFFFF"\n',
        ["1:4: this text has an escape in it that is not a character"],
    ),
    "unknown escape": (
        'a: "x\\q"\n',
        ["1:6: impossible escape in double quotes; use single quotes or two backslashes"],
    ),
    "Windows path": (
        'a: "C:\\x"\n',
        ["1:7: impossible escape in double quotes; use single quotes or two backslashes"],
    ),
    "open quote": ("a: 'x\nb: 1\n", ["1:4: this quote is never closed"]),
    "quote over a marker": ('a: "x\n---\n', ["1:4: this quote is never closed"]),
    "open list": ("a: [1, 2\n", ["1:4: this bracket is never closed"]),
    "open mapping": ("a: {b: 1\n", ["1:4: this bracket is never closed"]),
    "list with a colon": ("a: [1, 2\nb: 3\n", ["2:2: expected ',' or ']'"]),
    "missing comma": ("a: {b: 'x' c: 1}\n", ["1:12: expected ',' or '}'"]),
    "double comma": ("a: [1,, 2]\n", ["1:7: expected a value"]),
    "text after a quote": (
        "a: 'x' y\n",
        ["1:8: does not belong here; check the indentation, quotes and brackets"],
    ),
    "dedent": (
        "a:\n  b: 1\n c: 2\n",
        ["3:2: does not belong here; check the indentation, quotes and brackets"],
    ),
    "list and mapping": (
        "- 1\nb: 2\n",
        ["2:1: does not belong here; check the indentation, quotes and brackets"],
    ),
    "after the end": (
        "{a: 1} x\n",
        ["1:8: does not belong here; check the indentation, quotes and brackets"],
    ),
    "indent": ("a: 1\n b: 2\n", ["2:3: unexpected ':'; check the indentation, or use quotes"]),
    "two colons": ("a: b: c\n", ["1:5: unexpected ':'; check the indentation, or use quotes"]),
    "list after a key": ("a: - 1\n", ["1:4: a list item ('- ') cannot stand here"]),
    "key mark after a key": ("a: ? 1\n", ["1:4: a key ('? ') cannot stand here"]),
    "no colon": ("a: 1\nb\nc: 2\n", ["2:1: expected ':' after this key"]),
    "bad block": ("a: |x\n  y\n", ["1:5: expected a line break after '|' or '>'"]),
    "reserved start": ("a: @x\n", ["1:4: text cannot start with @; put it in quotes"]),
    "percent": ("a: %x\n", ["1:4: text cannot start with %; put it in quotes"]),
}


@provokes(2, 3, 8, 12, 14, 15, 16)
@both_parsers
@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_name_every_problem_with_its_place(
    parser: strict_yaml._Parser, text: str, expected: list[str]
) -> None:
    assert complaints(text, parser) == [f"f.yaml:{problem}" for problem in expected]


@provokes(15)
def test_every_name_that_a_yacs_node_has_is_refused_as_a_key() -> None:
    names = [name for name in dir(CfgNode) if not name.startswith("_")]
    assert {"items", "merge_from_file", "IMMUTABLE"} <= set(names)
    accepted = [name for name in names if isinstance(outcome(f"{name}: 1"), Mapping)]
    assert accepted == []


@provokes(11)
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a: 1\nb: \xff\n", "f.yaml:2:4: not UTF-8: byte 0xff at offset 8"),
        (b"\xef\xbb\xbfa: \xe9t\xe9\n", "f.yaml:1:4: not UTF-8: byte 0xe9 at offset 6"),
        ("é: €".encode() + b"\x80", "f.yaml:1:5: not UTF-8: byte 0x80 at offset 7"),
        ("a: 1\n".encode("utf-16"), "f.yaml:1:1: not UTF-8: byte 0xff at offset 0"),
        ("a: 1\n".encode("utf-16-le"), "f.yaml:1:2: the character U+0000 is not allowed"),
        (b"a: \xed\xa0\x80\n", "f.yaml:1:4: not UTF-8: byte 0xed at offset 3"),
        (b"a: \xc0\x80\n", "f.yaml:1:4: not UTF-8: byte 0xc0 at offset 3"),
    ],
)
def test_what_is_not_utf8_is_refused_with_its_byte_offset(data: bytes, expected: str) -> None:
    assert complaints(data) == [expected]


@provokes(12)
def test_tags_construct_nothing(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    for tag in (
        "!!python/object/apply:os.system",
        "!!python/object/new:os.system",
        "!!python/name:os.system",
    ):
        assert complaints(f"a: {tag} ['touch {sentinel}']\n") == [
            f"f.yaml:1:4: a: tags are not allowed, got {tag}"
        ]
    assert not sentinel.exists()


def test_messages_shorten_long_texts_and_escape_what_could_steer_a_terminal() -> None:
    (long,) = complaints("a: &" + "x" * 5000 + " 1\n")
    assert len(long) < 150
    first, second = complaints('"\\e[31m\\u202e": 1\n' * 3)
    assert first == "f.yaml:2:1: \\x1b[31m\\u202e: is given twice, in lines 1 and 2"
    assert second.isprintable()


def test_a_file_full_of_problems_is_given_up_after_a_hundred() -> None:
    assert len(complaints("a: 1\n" * 5000)) == 100


# Files


def test_a_file_is_read_and_its_places_bear_its_name(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "c.YAML", "d.Yml"):
        path = tmp_path / name
        path.write_bytes(b"a: 1\n")
        assert strict_yaml.plain(strict_yaml.read(path)) == {"a": 1}
        path.write_bytes(b"a: 1\na: 2\n")
        assert file_complaints(path) == [f"{path}:2:1: a: is given twice, in lines 1 and 2"]


def test_a_missing_file_names_the_yaml_files_near_it(tmp_path: Path) -> None:
    for name in ("train.yaml", "trains.yml", "train.py", "zzz.yaml"):
        (tmp_path / name).write_text("a: 1\n")
    path = tmp_path / "trian.yaml"
    with pytest.raises(ConfigError) as caught:
        strict_yaml.read(path)
    assert str(caught.value) == f"{path}: no such file (did you mean train.yaml or trains.yml?)"
    assert caught.value.hint == "YAML files in that folder: train.yaml, trains.yml"
    assert file_complaints(tmp_path / "nowhere" / "train.yaml") == [
        f"{tmp_path}/nowhere/train.yaml: no such file"
    ]


@provokes(1)
def test_directories_and_impossible_names_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    assert file_complaints(folder) == [f"{folder}: is a directory, not a file"]
    assert file_complaints(Path("a\0b.yaml")) == ["a\\x00b.yaml: not a possible file name"]
    assert file_complaints(Path("\ud800.yaml")) == ["\\ud800.yaml: not a possible file name"]
    (tmp_path / "file.yaml").write_text("a: 1\n")
    assert file_complaints(tmp_path / "file.yaml" / "a.yaml")[0].endswith(
        "a.yaml: cannot be read: Not a directory"
    )
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert file_complaints(loop) == [f"{loop}: cannot be read: Too many levels of symbolic links"]
    assert file_complaints(tmp_path / ("x" * 300 + ".yaml"))[0].endswith("cannot be read: File name too long")


@contextlib.contextmanager
def ordinary_user() -> Iterator[None]:
    """Files that nobody may read are readable for root, so let the tests be somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@provokes(1)
def test_an_unreadable_file_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "a.yaml"
        path.write_text("a: 1\n")
        path.chmod(0)
        with ordinary_user():
            assert file_complaints(path) == [f"{path}: cannot be read: Permission denied"]


@provokes(10)
@pytest.mark.timeout(20)
def test_pipes_and_devices_are_never_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert file_complaints(pipe) == [f"{pipe}: not a regular file"]
    zero = tmp_path / "zero.yaml"
    zero.symlink_to("/dev/zero")
    assert file_complaints(zero) == [f"{zero}: not a regular file"]
    assert "not a .yaml or .yml file" in file_complaints(Path("/dev/zero"))[0]


@provokes(13)
def test_a_python_file_is_refused_and_not_executed(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    for name in ("config.py", "config", "config.yaml.py", "config.json"):
        path = tmp_path / name
        path.write_text(f"import pathlib\npathlib.Path({str(sentinel)!r}).touch()\ncfg = {{}}\n")
        message = "not a .yaml or .yml file; nothing else is read, and nothing is ever executed"
        assert file_complaints(path) == [f"{path}: {message}"]
    assert not sentinel.exists()


@provokes(10)
def test_a_file_of_more_than_1_mib_is_refused_unread(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.yaml"
    with sparse.open("wb") as file:
        file.truncate(100 * 1024 * MIB)
    assert file_complaints(sparse) == [f"{sparse}: larger than 1 MiB"]
    exact = tmp_path / "exact.yaml"
    exact.write_bytes(b"a: 1\n".ljust(MIB, b"#"))
    assert strict_yaml.plain(strict_yaml.read(exact)) == {"a": 1}
    exact.write_bytes(b"a: 1\n".ljust(MIB + 1, b"#"))
    assert file_complaints(exact) == [f"{exact}: larger than 1 MiB"]
    assert complaints(b"a: 1\n".ljust(MIB + 1, b"#")) == ["f.yaml: larger than 1 MiB"]


@provokes(10)
@pytest.mark.skipif(not Path("/proc/kallsyms").exists(), reason="needs Linux")
def test_a_file_that_is_longer_than_its_size_says_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.symlink_to("/proc/kallsyms")
    assert path.stat().st_size == 0
    assert file_complaints(path) == [f"{path}: larger than 1 MiB"]


# Values from the command line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("1e-3", 0.001),
        ("", None),
        ("no", "no"),
        ("a: b", "a: b"),
        ("#x", "#x"),
        ("- a", "- a"),
        ("&a *b !c", "&a *b !c"),
        ("100%", "100%"),
        ("%x", "%x"),
        ("@`x", "@`x"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        (" 1 ", " 1 "),
        ('"10"', "10"),
        ("'10'", "10"),
        ("''", ""),
        ("'it''s'", "it's"),
        ('"\\u00e9"', "é"),
        ('"a" and "b"', '"a" and "b"'),
        ("'a", "'a"),
        ('"', '"'),
        ("[1, '1', no]", [1, "1", "no"]),
        ("{a: 1, b: [2]}", {"a": 1, "b": [2]}),
        ("[]", []),
        ("'[a-z]+'", "[a-z]+"),
    ],
)
def test_an_override_is_read_as_typed_or_as_flow_style(text: str, value: object) -> None:
    found = strict_yaml.plain(strict_yaml.parse_value(text, "--set A.B"))
    assert (found, type(found)) == (value, type(value))


def test_a_plain_override_is_an_unquoted_scalar() -> None:
    assert strict_yaml.parse_value("1.10", "--set A") == Scalar("1.10", quoted=False, line=1, column=1)
    assert strict_yaml.parse_value("'1.10'", "--set A") == Scalar("1.10", quoted=True, line=1, column=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".inf", ["not a finite number, got .inf"]),
        ("[1, .nan]", ["[1]: not a finite number, got .nan"]),
        (
            "[&x 1, *x]",
            [
                "[0]: anchors are not allowed, got &x",
                "[1]: aliases are not allowed; write the value out, got *x",
            ],
        ),
        ("{a: 1, a: !t 2}", ["a: is given twice, in lines 1 and 1", "a: tags are not allowed, got !t"]),
        ("[1]\n--- [2]", ["a second document begins here; only one is allowed"]),
        ("[" * 40, ["[0]" * 32 + ": nested deeper than 32 levels"]),
        ("x\0", ["the character U+0000 is not allowed"]),
        ("\udcff", ["the character U+DCFF is not allowed"]),
        ("x" * (MIB + 1), ["larger than 1 MiB"]),
        ("[a-z]+", ["does not belong here; check the indentation, quotes and brackets"]),
        ("[1, 2", ["this bracket is never closed"]),
        ('"\\q"', ["impossible escape in double quotes; use single quotes or two backslashes"]),
    ],
)
def test_a_bad_override_is_refused_by_the_name_of_its_option(text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        strict_yaml.parse_value(text, "--set A")
    problems = caught.value.problems
    assert {problem.where for problem in problems} == {"--set A"}
    assert [str(problem).partition("; expected a list")[0] for problem in problems] == [
        f"--set A: {m}" for m in expected
    ]


def test_a_regular_expression_as_override_is_told_about_quotes() -> None:
    with pytest.raises(ConfigError) as caught:
        strict_yaml.parse_value("[a-z]+", "--set A")
    assert caught.value.problems[0].expected == "a list or mapping as in a YAML file, or text in quotes"


# Limits


BOMBS = {
    "lists": b"[" * MIB,
    "mappings": b"{a: " * (MIB // 4),
    "block lists": b"- " * (MIB // 2),
    "explicit keys": b"? " * (MIB // 2),
    "indented mappings": b"".join(b" " * depth + b"a:\n" for depth in range(1400)),
    "keys": b"".join(b"k%d: 1\n" % number for number in range(80_000)),
    "items": b"a: [" + b"1," * (MIB // 2 - 3) + b"]",
    "empty lists": b"a: [" + b"[]," * (MIB // 3 - 3) + b"]",
    "duplicates": b"a:\n" * (MIB // 3),
    "tag directives": b"".join(b"%%TAG !%d! x\n" % number for number in range(50_000)),
    "late tag directives": b"a: 1\n...\n" + b"".join(b"%%TAG !%d! x\n" % number for number in range(50_000)),
    "documents": b"---\n" * (MIB // 4),
    "laughs": b"a0: &a0 [x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 1000)),
    "anchor": b"a: &" + b"a" * (MIB - 5),
    "tag": b"a: " + b"!" * (MIB - 4),
    "tabs": b"\n\t" * (MIB // 2),
    "tab and items": b"a: '\t'\nb:\n" + b"- 1\n" * (MIB // 4 - 8),
    "colons": b":" * MIB,
    "closing": b"]" * MIB,
    "NULs": b"\0" * MIB,
    "no UTF-8": b"\xff" * MIB,
    "backslashes": b'a: "' + b"\\" * (MIB - 5),
    "infinite": b"a: 1e" + b"9" * (MIB - 5),
    "long key": b"x" * (MIB - 5) + b": 1",
}
HEAVY = {
    "digits": b"a: " + b"1" * (MIB - 3),
    "words": b"a: " + b"x " * (MIB // 2 - 2),
    "lines": b"a: |\n" + b" x\n" * (MIB // 3 - 2),
    "empty lines": b"a: |" + b"\n" * (MIB - 4),
    "folded lines": b'a: "x' + b"\n" * (MIB - 6) + b'"',
    "quotes": b"a: '" + b"''" * (MIB // 2 - 3) + b"'",
    "escapes": b'a: "' + b"\\x41" * (MIB // 4 - 2) + b'"',
}


@provokes(8, 9)
@both_parsers
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_hostile_text_is_refused_quickly(parser: strict_yaml._Parser, bomb: bytes) -> None:
    assert len(bomb) <= MIB
    # The slow parser shows on a quarter of it that its time does not grow faster than the text.
    bomb = bomb if parser is FASTEST else bomb[: MIB // 4]
    start = time.process_time()
    assert complaints(bomb, parser)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("text", "parser"),
    [*((text, FASTEST) for text in HEAVY.values()), (HEAVY["words"], PURE_PYTHON)],
    ids=[*HEAVY.keys(), "words-pure-python"],
)
def test_one_mib_in_one_value_is_read_in_bounded_time(text: bytes, parser: strict_yaml._Parser) -> None:
    assert len(text) <= MIB
    start = time.process_time()
    assert list(values(text, parser)) == ["a"]
    assert time.process_time() - start < 6


@provokes(8, 9)
def test_hostile_text_fits_into_little_memory(tmp_path: Path) -> None:
    paths = []
    for name, text in {**BOMBS, **HEAVY}.items():
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_bytes(text)
    program = """
import contextlib, pathlib, resource, sys
from sagemaker_launcher import strict_yaml
from sagemaker_launcher.errors import ConfigError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[1:]:
    with contextlib.suppress(ConfigError):
        strict_yaml.read(pathlib.Path(name))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    child = subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        timeout=60,
    )
    assert int(child.stdout) / 1024 < 100  # MiB


@provokes(9)
@both_parsers
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")], ids=["lists", "mappings"])
def test_32_levels_are_the_limit(parser: strict_yaml._Parser, opening: str, closing: str) -> None:
    values(f"a: {opening * 31}{closing * 31}", parser)
    (problem,) = complaints(f"a: {opening * 32}{closing * 32}", parser)
    assert problem.endswith("nested deeper than 32 levels")
    assert problem.startswith(f"f.yaml:1:{4 + 31 * len(opening)}: ")


@provokes(9)
@both_parsers
def test_20_000_keys_and_values_are_the_limit(parser: strict_yaml._Parser) -> None:
    values("a: [" + "1," * (20_000 - 3) + "]", parser)
    assert complaints("a: [" + "1," * (20_000 - 2) + "]", parser)[0].endswith(
        "more than 20,000 keys and values"
    )


def test_a_config_of_200_lines_is_read_in_milliseconds() -> None:
    section = "".join(f"  KEY_{number}: value {number}  # what it is\n" for number in range(9))
    config = "".join(f"SECTION_{number}:\n{section}" for number in range(20)).encode()
    times = []
    for _ in range(9):
        start = time.process_time()
        strict_yaml.parse(config, "f.yaml")
        times.append(time.process_time() - start)
    assert min(times) < 0.15  # a twentieth of it on a quiet machine


# Any input


TOKENS = [
    *(
        "a",
        "b: ",
        "key: ",
        "- ",
        "-",
        "? ",
        ": ",
        ":",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ",",
        "\n",
        "\n  ",
        "\n    ",
        " ",
        "\t",
    ),
    *(
        "# c",
        "#",
        "'",
        '"',
        "|",
        "|\n",
        ">-\n",
        "|2\n",
        "&x ",
        "*x ",
        "! ",
        "!!str ",
        "!t ",
        "<<: ",
        "%",
        "%YAML 1.2\n",
    ),
    *(
        "---\n",
        "---",
        "...\n",
        "1",
        "1.5",
        ".inf",
        "null",
        "\\",
        "\\x41",
        "\\UFFFFFFFF",
        "\\ud800",
        "\r\n",
        "\r",
        "é",
        "😀",
    ),
    *(
        "@",
        "`",
        "'q'",
        '"d"',
        '"a": ',
        "x:y",
        "[a, b]",
        "{a: 1}",
        "?",
        "\n- ",
        "\na: ",
        "\nb:\n  ",
        "\0",
        "\ufeff",
        "\x85",
    ),
]
yaml_like = st.lists(st.sampled_from(TOKENS), max_size=40).map("".join)


def check_any(text: str | bytes) -> None:
    found = {}
    for parser in (FASTEST, PURE_PYTHON):
        result = outcome(text, parser)
        if isinstance(result, Mapping):
            found[parser] = strict_yaml.plain(result)
        else:
            assert result
        for problem in result if isinstance(result, tuple) else ():
            assert re.fullmatch(r"f\.yaml:[1-9]\d*:[1-9]\d*", problem.where)
            assert str(problem).isprintable(), problem
    assert len({repr(plain) for plain in found.values()}) <= 1


@generated
@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    check_any(data)


@generated
@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_read_or_refused(text: str) -> None:
    check_any(text)


@generated
@given(st.sampled_from(["", "a: ", "a:\n  "]), yaml_like)
def test_any_mixture_of_yaml_is_read_or_refused(start: str, text: str) -> None:
    check_any(start + text)


@generated
@given(st.one_of(yaml_like, st.text()))
def test_any_override_is_read_or_refused(text: str) -> None:
    for parser in (FASTEST, PURE_PYTHON):
        try:
            strict_yaml.plain(strict_yaml._parse_value(text, "--set A", parser))
        except ConfigError as error:
            assert {problem.where for problem in error.problems} == {"--set A"}  # noqa: PT017 - or it is read


# Writing


NASTY = [
    *(
        "",
        " ",
        "~",
        "null",
        "NULL",
        "true",
        "False",
        "yes",
        "NO",
        "on",
        "Off",
        "y",
        "N",
        "1",
        "-1",
        "+1",
        "010",
        "0o14",
    ),
    *(
        "0x1F",
        "0b11",
        "1_000",
        "1:30",
        "190:20:30.15",
        "1e3",
        "1e-3",
        "1234e56",
        "1.",
        ".5",
        "1.10",
        ".inf",
        "-.INF",
        ".nan",
    ),
    *(
        "2024-01-01",
        "2001-12-14t21:59:43.10-05:00",
        "=",
        "<<",
        "-",
        "- a",
        "?",
        "? a",
        ":",
        "a: b",
        "a:",
        "a :b",
        ":a",
        "#",
    ),
    *(
        "a #b",
        "a#b",
        "&a",
        "*a",
        "!a",
        "!!str",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'",
        '"',
        "'a'",
        '"a"',
        "a\\b",
        "\\",
        "[a]",
        "{a}",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        ",",
        "a, b",
        "---",
        "--- a",
        "...",
        "\n",
        "a\n",
        "\na",
        "a\nb",
        "a\n\n b\n",
        "\t",
        "a\tb",
        " a",
        "a ",
    ),
    *(
        "\r\n",
        "\0",
        "\x07",
        "\x1b",
        "\x7f",
        "\x85",
        "\xa0",
        "\u2028",
        "\u2029",
        "\ufeff",
        "\ufffe",
        "é",
        "日本",
        "😀",
        "\U0010ffff",
    ),
    *(
        "s3://team/x/",
        "ml.m5.xlarge",
        "123456789012",
        "012345678901",
        "arn:aws:iam::123456789012:role/X",
        "x" * 900,
        "a " * 300,
    ),
    *(
        "loss=([0-9.]+);",
        "None",
        "(1,2)",
        "a/b",
        "/opt/ml",
        "a  b",
        "a:b",
        "a: ",
        "a:\n",
        "true ",
        "nullnull",
        "e",
        "0",
        "_",
    ),
]
characters = st.characters(codec="utf-8")
texts = st.one_of(st.sampled_from(NASTY), st.text(characters, max_size=20))
keys = texts.filter(lambda text: not text.startswith("__") and text not in dir(CfgNode))
scalars = st.one_of(
    texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
)
trees = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=12,
    ),
    max_size=5,
)


@generated
@given(trees)
def test_what_is_written_is_read_back_equal_by_readers_of_both_versions(tree: dict[str, Any]) -> None:
    data = strict_yaml.dump(tree)
    # repr also tells types, the order of keys and the sign of zero.
    assert repr(values(data)) == repr(tree)
    assert repr(values(data, PURE_PYTHON)) == repr(tree)
    assert repr(yaml.safe_load(data)) == repr(tree)


@pytest.mark.parametrize("text", NASTY)
def test_every_nasty_text_survives_as_key_item_and_value(text: str) -> None:
    tree = {"a": text, "b": [text, [text]], "c": {text: text}, "d": [{text: [{text: []}]}]}
    data = strict_yaml.dump(tree)
    assert values(data) == tree
    assert yaml.safe_load(data) == tree


def test_the_written_form_is_block_style_in_the_given_order() -> None:
    tree = {
        "VERSION": 1,
        "EXPERIMENT_NAME": "digits/baseline",
        "S3": {"CONFIGS": "s3://team/experiments", "OUTPUTS": ""},
        "ESTIMATOR": {
            "ROLE": "arn:aws:iam::123456789012:role/SageMakerExecutionRole",
            "IMAGE_URI": "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1.0",
            "INSTANCE_TYPE": "ml.m5.xlarge",
            "USE_SPOT_INSTANCES": False,
            "METRIC_DEFINITIONS": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}, {}],
            "SUBNETS": [],
        },
        "A": {
            "LR": 1e-05,
            "BIG": 1e22,
            "ONE": 1.0,
            "NONE": None,
            "ON": "on",
            "NESTED": [[1, 2], ("x",)],
            "É": "é",
        },
    }
    assert (
        strict_yaml.dump(tree).decode()
        == """\
VERSION: 1
EXPERIMENT_NAME: digits/baseline
S3:
  CONFIGS: s3://team/experiments
  OUTPUTS: ""
ESTIMATOR:
  ROLE: arn:aws:iam::123456789012:role/SageMakerExecutionRole
  IMAGE_URI: "123456789012.dkr.ecr.us-east-1.amazonaws.com/x:1.0"
  INSTANCE_TYPE: ml.m5.xlarge
  USE_SPOT_INSTANCES: false
  METRIC_DEFINITIONS:
    - Name: loss
      Regex: "loss=([0-9.]+)"
    - {}
  SUBNETS: []
A:
  LR: 1.0e-05
  BIG: 1.0e+22
  ONE: 1.0
  NONE: null
  "ON": "on"
  NESTED:
    - - 1
      - 2
    - - x
  "É": "é"
"""
    )
    assert strict_yaml.dump({}) == b"{}\n"
    assert values(b"{}\n") == {}


def test_a_list_that_is_used_twice_is_written_twice() -> None:
    shared = [1, {"x": 2}]
    data = strict_yaml.dump({"a": shared, "b": shared, "c": [shared]})
    assert b"&" not in data
    assert yaml.safe_load(data) == {"a": shared, "b": shared, "c": [shared]}


def test_long_texts_stay_on_one_line() -> None:
    tree = {"a": "word " * 200 + "end", "b": "x: " * 200}
    data = strict_yaml.dump(tree)
    assert data.count(b"\n") == 2
    assert yaml.safe_load(data) == tree


class Tagged(str):
    """A str of another type, which would be read back as a plain str."""

    __slots__ = ()


def nested(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(levels - 1):
        tree = {"a": tree}
    return tree


def endless() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree["a"] = [tree]
    return tree


@pytest.mark.parametrize(
    "tree",
    [
        {"a": float("nan")},
        {"a": [float("inf")]},
        {"a": -float("inf")},
        {"a": {1, 2}},
        {"a": b"x"},
        {"a": 1j},
        {"a": print},
        {"a": Path("x")},
        {"a": Tagged("x")},
        {1: "a"},
        {None: "a"},
        {"a": {True: 1}},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": 10**250},
        {"items": 1},
        {"a": [{"__x__": 1}]},
        {"x" * 2000: 1},
        {"a": "x" * MIB},
        {"a": [0] * 20_000},
        nested(33),
        endless(),
    ],
    ids=lambda tree: repr(tree)[:30],
)
def test_what_could_not_be_read_back_is_not_written(tree: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cannot be|nested deeper|would be unreadable"):
        strict_yaml.dump(tree)


def test_the_deepest_tree_that_can_be_read_can_be_written() -> None:
    tree = nested(31)
    deepest = tree
    while deepest:
        deepest = deepest["a"]
    deepest["a"] = ["x"]
    assert values(strict_yaml.dump(tree)) == tree


# Places


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's interface
        return True


layouts = st.fixed_dictionaries(
    {
        "default_flow_style": st.sampled_from([True, False, None]),
        "default_style": st.sampled_from([None, "'", '"', "|", ">"]),
        "indent": st.integers(2, 6),
        "width": st.sampled_from([20, 80, 10_000]),
        "allow_unicode": st.booleans(),
        "line_break": st.sampled_from(["\n", "\r\n", "\r"]),
        "explicit_start": st.booleans(),
    }
)


def nodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Sequence):
        for item in node.items:
            yield from nodes(item)
    if isinstance(node, Mapping):
        for entry in node.entries.values():
            yield Scalar(entry.key, quoted=True, line=entry.key_line, column=entry.key_column)
            yield from nodes(entry.value)


@generated
@given(trees.filter(bool), layouts)
def test_both_parsers_agree_on_every_place_and_places_are_true(
    tree: dict[str, Any], layout: dict[str, Any]
) -> None:
    text = yaml.dump(tree, Dumper=_NoAliases, sort_keys=False, **layout)
    result = outcome(text.encode())
    if "\t" not in text:
        assert result == outcome(text.encode(), PURE_PYTHON)
    if isinstance(
        result, tuple
    ):  # PyYAML leaves off quotes that only YAML 1.2 needs, and tags what its style hides
        return
    lines = re.split(r"\r\n|\r|\n", text)
    for node in nodes(result):
        rest = lines[node.line - 1][node.column - 1 :]
        if isinstance(node, Scalar) and not node.quoted:
            assert rest.startswith(node.text.split(" ")[0])
        elif isinstance(node, Scalar):
            assert rest.startswith(("'", '"', "|", ">", node.text[:1]))
        elif isinstance(node, Sequence):
            assert rest.startswith(("[", "-"))
        else:
            first = next(iter(node.entries.values()), None)
            assert rest.startswith(("{", "?")) or (first and first.key_column == node.column)
