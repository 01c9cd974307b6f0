"""YAML of strangers through everything that reads both configs."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sagemaker_launcher import config, launch, report, strict_yaml
from sagemaker_launcher.coercion import Override
from sagemaker_launcher.errors import ConfigError, LauncherError
from tests.commands import ROOT
from tests.project import SCHEMA, settings

from .screen import captured, require_harmless
from .subject import Input, Random, Subject
from .texts import NAMES, SCALARS, mutated, spoiled, value, word

SAGEMAKER, TRAINING, OVERRIDE = "sagemaker_config.yaml", "training_config.yaml", "override"
_TRAINING = (
    "VERSION: 1\nSEED: 7\nSOLVER:\n  BASE_LR: 0.5\n  STEPS: [1, 2]\nDATA:\n  TRAIN_CHANNEL: training\n"
)
_TOKENS = (
    *(
        "- ",
        "? ",
        ": ",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "#",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "|",
        ">",
        "|+2\n",
        ">-\n",
        "'",
    ),
    *(
        '"',
        "%YAML 1.1\n",
        "%TAG ! x\n",
        "---\n",
        "...\n",
        "\n",
        "\n  ",
        "\n\t",
        "\r",
        "\r\n",
        " ",
        "<<: ",
        "a: ",
        "A:\n",
    ),
)


def _make(random: Random) -> Input:
    pieces = {SAGEMAKER: _plain(), TRAINING: _TRAINING.encode()}
    kind = random.random()
    if kind < 0.2:
        pieces[SAGEMAKER] = _dumped(random, _changed(random, random.choice(_configs())))
    elif kind < 0.3:
        pieces[TRAINING] = _dumped(random, _changed(random, yaml.safe_load(_TRAINING)))
    elif kind < 0.5:
        pieces[SAGEMAKER] = _retyped(random, random.choice(_texts()))
    elif kind < 0.6:
        pieces[TRAINING] = _retyped(random, _TRAINING)
    elif kind < 0.7:
        pieces[random.choice((SAGEMAKER, TRAINING))] = spoiled(random, random.choice(_texts()).encode())
    elif kind < 0.85:
        pieces[random.choice((SAGEMAKER, TRAINING))] = _grammatical(random).encode("utf-8", "surrogatepass")
    elif kind < 0.92:
        pieces[random.choice((SAGEMAKER, TRAINING))] = _bytes(random)
    elif kind < 0.998:
        pieces[OVERRIDE] = _override(random)
    else:
        pieces[random.choice((SAGEMAKER, TRAINING))] = _bomb(random).encode()
    return pieces


def _judge(pieces: Input, folder: Path) -> str:
    if not (folder / "code").exists():
        (folder / "code").mkdir()
        (folder / "code" / "config.py").write_text(SCHEMA)
        (folder / "code" / "main.py").touch()
    for name in (SAGEMAKER, TRAINING):
        (folder / name).write_bytes(pieces[name])
    try:
        overrides = _overrides(pieces.get(OVERRIDE))
        plan = launch.plan(folder / SAGEMAKER, overrides, target="aws", command=())
    except LauncherError as error:
        _require_readable(error)
        return _kind(error)
    _require_the_same_again(plan.configs)
    assert json.loads(json.dumps(plan.request)) == plan.request
    return "accepted"


def _require_the_same_again(configs: config.Configs) -> None:
    """What is archived has to be read by whoever repeats the experiment, and to mean the same."""
    sagemaker = config.ArchivedFile(SAGEMAKER, configs.sagemaker_yaml)
    training = config.ArchivedFile(TRAINING, configs.training_yaml)
    again = config.load_archived(sagemaker, training, (), None)
    assert (again.sagemaker_yaml, again.training_yaml) == (configs.sagemaker_yaml, configs.training_yaml)
    # PyYAML reads by the rules of YAML 1.1: whatever the training code uses finds equal values.
    for data in (again.sagemaker_yaml, again.training_yaml):
        assert yaml.CSafeLoader(data).get_single_data() == strict_yaml.plain(strict_yaml.parse(data, ""))


def _require_readable(error: LauncherError) -> None:
    err = io.StringIO()
    with captured(io.StringIO(), err):
        report.print_error(error)
    shown = err.getvalue()
    require_harmless(shown)
    assert error.message, "an error without a word"
    assert len(shown) < 200_000, f"{len(shown):,} characters of error message"


def _kind(error: LauncherError) -> str:
    """The kind of a refusal: its first problem without what differs from text to text."""
    text = error.problems[0].message if isinstance(error, ConfigError) else error.code
    return re.sub(r"['\"`].*?['\"`]|/\S+|\d[\d,.]*|U\+\w+|0x\w+", "…", text)[:48]


def _overrides(data: bytes | None) -> tuple[Override, ...]:
    if data is None:
        return ()
    option, key, text = data.decode("utf-8", "surrogatepass").split("\x1f", 2)
    return (Override(option, key, text),)


def _override(random: Random) -> bytes:
    option = random.choice(("--set", "--train"))
    keys = _paths(settings()) if option == "--set" else _paths(yaml.safe_load(_TRAINING))
    key = random.choice((*keys, *NAMES[:12], word(random)))
    text = random.choice((random.choice(SCALARS), word(random), _grammatical(random), repr(value(random))))
    parts = (option, key.replace("\x1f", ""), text)
    return "\x1f".join(parts).encode("utf-8", "surrogatepass")


def _paths(tree: dict[str, Any], above: str = "") -> tuple[str, ...]:
    found: list[str] = []
    for key, item in tree.items():
        found.append(f"{above}{key}")
        if isinstance(item, dict):
            found += _paths(item, f"{above}{key}.")
    return tuple(found)


@cache
def _texts() -> tuple[str, ...]:
    files = [*ROOT.glob("configs/*.yaml"), *ROOT.glob("tests/golden/*.yaml")]
    return (*(path.read_text("utf-8") for path in sorted(files)), _plain().decode(), _TRAINING)


@cache
def _configs() -> tuple[dict[str, Any], ...]:
    found = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(ROOT.glob("tests/golden/*.yaml"))]
    return (settings(), settings(), settings(), *found)


@cache
def _plain() -> bytes:
    return yaml.safe_dump(settings(), sort_keys=False).encode()


def _changed(random: Random, tree: Any) -> Any:
    keys = tuple(_paths(settings()))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        tree = mutated(random, tree, keys)
    return tree


def _dumped(random: Random, tree: Any) -> bytes:
    try:
        text = yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=random.random() < 0.5)
        return str(text).encode("utf-8", "surrogatepass")
    except (ValueError, yaml.YAMLError):  # PyYAML does not write everything
        return json.dumps(tree).encode()


def _retyped(random: Random, text: str) -> bytes:
    """A config with some of its lines or words replaced."""
    for _ in range(random.choice((1, 1, 2, 4))):
        lines = text.splitlines(keepends=True) or [""]
        place = random.randrange(len(lines))
        kind = random.randrange(7)
        key, colon, old = lines[place].partition(": ")
        if kind == 0:
            lines[place] = f"{key}{colon}{random.choice(SCALARS)}\n"
        elif kind == 1:
            lines[place] = f"{key}{colon}{_quoted(random, word(random))}\n"
        elif kind == 2:
            lines.insert(place, random.choice(lines))
        elif kind == 3:
            del lines[place]
        elif kind == 4:
            lines[place] = " " * random.randrange(9) + lines[place].lstrip()
        elif kind == 5:
            lines[place] = f"{key}{random.choice(_TOKENS)}{old}"
        else:
            lines[place] = lines[place].replace(key.strip(), word(random), 1)
        text = "".join(lines)
    return text.encode("utf-8", "surrogatepass")


def _quoted(random: Random, text: str) -> str:
    return random.choice((text, json.dumps(text), f"'{text}'"))


def _grammatical(random: Random, depth: int = 0) -> str:
    """Something near YAML: nested lists and mappings in both styles, with anchors, tags and comments."""
    kind = random.randrange(9) if depth < 4 else 0
    indent = "\n" + "  " * depth
    if kind <= 2:
        return _quoted(random, random.choice((*SCALARS, word(random))))
    if kind == 3:
        return "[" + ", ".join(_grammatical(random, depth + 1) for _ in range(random.randrange(4))) + "]"
    if kind == 4:
        pairs = (
            f"{random.choice('abcdef')}: {_grammatical(random, depth + 1)}"
            for _ in range(random.randrange(4))
        )
        return "{" + ", ".join(pairs) + "}"
    if kind == 5:
        return "".join(f"{indent}- {_grammatical(random, depth + 1)}" for _ in range(random.randrange(1, 4)))
    if kind == 6:
        return "".join(
            f"{indent}{random.choice('abcdef')}: {_grammatical(random, depth + 1)}" for _ in range(3)
        )
    if kind == 7:
        return f"|{random.choice(('', '-', '+', '1', '9'))}{indent}  {word(random)}{indent}  # text"
    return "".join(random.choice(_TOKENS) for _ in range(random.randrange(12)))


def _bytes(random: Random) -> bytes:
    text = random.choice(_texts())
    kind = random.randrange(5)
    if kind == 0:
        return random.randbytes(random.randrange(200))
    if kind == 1:
        return text.encode(random.choice(("utf-16", "utf-32", "utf-16-be", "utf-8-sig", "utf-7", "cp037")))
    data = text.encode()
    place = random.randrange(len(data))
    if kind == 2:
        return (
            data[:place]
            + random.choice((b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5"))
            + data[place:]
        )
    if kind == 3:
        return data.replace(b"\n", random.choice((b"\r", b"\r\n", b"\xc2\x85", b"\xe2\x80\xa8")))
    return spoiled(random, data)


def _bomb(random: Random) -> str:
    """A text that grows in the hands of a naive reader."""
    size = random.choice((100, 5_000, 200_000))
    laughs = "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
    )
    bombs = (
        "[" * size,
        "a: " + "[" * size + "]" * size,
        "".join(f"{' ' * n}a:\n" for n in range(min(size, 1000))),
        "a: [" + "x, " * size + "]",
        "".join(f"k{n}: {n}\n" for n in range(size)),
        f"{'k' * size}: 1",
        f"a: {'1' * size}",
        f"a: {'x' * size}",
        f'a: "{chr(92) * size}"',
        "- " * size,
        "? " * size,
        "{" * size,
        "a: &a [*a]",
        "a: &a x\n" + laughs,
        "a: &a {b: *a}\n<<: *a",
        "- x\n" * size,
        "#" * size,
        "\n" * size,
        "a: |\n" + "  x\n" * size,
        "a: 'x" + "\n" * size,
        "!" * size,
        "&" * size,
        "---\n" * size,
    )
    return random.choice(bombs)


CONFIGS = Subject("configs", 50_000, 0.5, _make, _judge, sample=400)
