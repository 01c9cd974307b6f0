"""Words and values that have broken readers of configs, names, archives and logs."""

from __future__ import annotations

from typing import Any

from .subject import Random

STEERING = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;ZWNobw==\x07",
    "\x1b[6n",
    "\x1bP+q544e\x1b\\",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\x90q\x9c",
    "\r",
    "\b\b\b",
    "\x07",
    "\x0b\x0c",
    "\x0e\x0f",
    "\x7f",
    "\x85",
    "\u2028\u2029",
    "\u202e",
    "\u2066\u2069",
    "\u061c\u200e\u200f",
    "\ufeff",
    "\ud800",
    "[bold red]",
    "[/x]",
    "[link=https://evil.example]",
    ":bomb:",
    "\n",
    "\nerror: all is lost\n",
    "\t",
)
NAMES = (
    "",
    ".",
    "..",
    "/",
    "//",
    "../../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\windows",
    "C:\\x",
    "-v",
    "--privileged",
    "a b",
    "a;rm -rf ~",
    "$(id)",
    "`id`",
    "|id",
    "=cmd|' /C calc'!A1",
    "%s%s%n",
    "{0.__class__}",
    "${IFS}",
    "\0",
    "a\0b",
    "NUL",
    "CON",
    "__class__",
    "__proto__",
    "items",
    "é" * 40,
    "e\u0301",
    "ﬁ",
    "İ",
    "𝒳",
    "x" * 64,
    "x" * 255,
    "x" * 1025,
    "s3://team/../../x",
    "s3://team//x",
    "s3:///",
    "s3://" + "a" * 80,
    "arn:aws:iam::123456789012:role/../x",
)
SCALARS = (
    *("null", "~", "true", "no", "yes", "on", "off", "y", "NO", "0o17", "010", "0x1F", "1e3", "1e-3", ".5"),
    *("1_000", "1:30", "190:20:30", "2024-01-01", "2001-12-14t21:59:43.10-05:00", ".inf", "-.inf", ".nan"),
    *("!!python/object/apply:os.system ['id']", "!!binary aGk=", "&a x", "*a", "<<", "- x", "? x", "| x"),
    *(
        "1" * 400,
        "9" * 5000,
        "1e400",
        "-0",
        "0.1e-400",
        '"\\ud800"',
        '"\\U00110000"',
        "'",
        '"',
        "\\",
        "@",
        "`",
    ),
    *("{}", "[]", "{a: b}", "[1, 'x', {}]", "${HOME}", "%(x)s", "=1+1", "@latest"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 10**4000, 0.5, -1e308, 1e308, 5e-324),
    *(float("nan"), float("inf"), "", "x", [], {}, [[]], [{}], {"": ""}, [1, "x", None]),
    *(
        {"Name": 1},
        {"Key": {}},
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "now",
        "(a+)+$",
        "(",
    ),
)


def word(random: Random) -> str:
    """A hostile text."""
    kind = random.random()
    if kind < 0.35:
        return random.choice(NAMES)
    if kind < 0.65:
        return random.choice(("", "x", "team")) + random.choice(STEERING) + random.choice(("", "y"))
    if kind < 0.9:
        return "".join(random.choice(STEERING + NAMES)[:9] for _ in range(random.randrange(5)))
    return "".join(
        chr(random.choice((random.randrange(0x300), random.randrange(0x11000)))) for _ in range(12)
    )


def value(random: Random, depth: int = 0) -> Any:
    """A hostile value of JSON."""
    kind = random.random()
    if kind < 0.5:
        return random.choice(VALUES)
    if kind < 0.85 or depth > 3:
        return word(random)
    if kind < 0.93:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    return {word(random): value(random, depth + 1) for _ in range(random.randrange(4))}


def mutated(random: Random, tree: Any, keys: tuple[str, ...] = ()) -> Any:
    """A copy of a tree with one node, at any depth, replaced, removed, doubled or added."""
    if isinstance(tree, dict) and tree and random.random() < 0.85:
        key = random.choice(list(tree))
        action = random.random()
        if action < 0.75:
            return {**tree, key: mutated(random, tree[key])}
        if action < 0.85:
            return {name: item for name, item in tree.items() if name != key}
        return {**tree, random.choice((*keys, word(random))): random.choice((tree[key], value(random)))}
    if isinstance(tree, list) and tree and random.random() < 0.85:
        place = random.randrange(len(tree))
        action = random.random()
        if action < 0.75:
            return [*tree[:place], mutated(random, tree[place]), *tree[place + 1 :]]
        if action < 0.9:
            return [*tree[:place], *tree[place + 1 :]]
        return [*tree, *tree[place : place + 1] * random.choice((1, 2, 60))]
    if isinstance(tree, str) and tree and random.random() < 0.5:
        place = random.randrange(len(tree) + 1)
        return tree[:place] + word(random) + tree[place + random.randrange(3) :]
    return value(random)


def retold(random: Random, tree: Any) -> Any:
    """A copy of a tree with one value, at any depth, replaced by a hostile one of its type."""
    if isinstance(tree, dict) and tree:
        key = random.choice(list(tree))
        if random.random() < 0.1:
            return {**tree, word(random): tree[key]}
        return {**tree, key: retold(random, tree[key])}
    if isinstance(tree, list) and tree:
        place = random.randrange(len(tree))
        return [*tree[:place], retold(random, tree[place]), *tree[place + 1 :]]
    if isinstance(tree, bool):
        return not tree
    if isinstance(tree, int):
        return random.choice([one for one in VALUES if type(one) is int])
    if isinstance(tree, float):
        return random.choice([one for one in VALUES if type(one) is float])
    if isinstance(tree, str):
        place = random.randrange(len(tree) + 1)
        texts = [one for one in VALUES if isinstance(one, str)]
        return random.choice((word(random), tree[:place] + word(random) + tree[place:], random.choice(texts)))
    return value(random)


def spoiled(random: Random, data: bytes) -> bytes:
    """Bytes with some of them replaced, removed or doubled."""
    for _ in range(random.choice((1, 1, 2, 5))):
        place = random.randrange(len(data) + 1)
        other = random.randrange(len(data) + 1)
        kind = random.randrange(6)
        if kind == 0:
            data = data[:place] + bytes([random.randrange(256)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place]
        elif kind == 2:
            data = data[: min(place, other)] + data[max(place, other) :]
        elif kind == 3:
            data = data[:place] + data[other : other + 40] + data[place:]
        elif kind == 4:
            data = data[:place] + random.randbytes(random.choice((1, 4, 30))) + data[place:]
        else:
            data = data[:place] + word(random).encode("utf-8", "surrogatepass") + data[place:]
    return data
