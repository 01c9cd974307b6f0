"""Puts values into a YAML text and leaves everything else in it alone, comments first of all. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_launcher import strict_yaml


def with_values(text: str, values: Mapping[str, str]) -> str:
    """Sets dotted keys of a config to texts.

    Args:
        text: A config that `strict_yaml` reads, in block style.
        values: Texts by dotted key. The sections have to be there; a key that is not becomes the first of its section.
    """
    for key, value in values.items():
        text = _with_value(text, key, strict_yaml.dump({"key": value}).decode().strip().removeprefix("key: "))
    return text


def _with_value(text: str, dotted: str, written: str) -> str:
    lines = text.splitlines(keepends=True)
    *sections, key = dotted.split(".")
    node = strict_yaml.parse(text.encode(), "template")
    line = 0
    for name in sections:
        entry = node.entries[name]
        if not isinstance(entry.value, strict_yaml.Mapping):
            raise TypeError(f"{name} is no section")
        node, line = entry.value, entry.key_line
    if key not in node.entries:
        lines.insert(line, f"{' ' * (node.column - 1)}{key}: {written}\n")
        return "".join(lines)
    old = node.entries[key].value
    if not isinstance(old, strict_yaml.Scalar) or old.quoted:
        raise TypeError(f"{dotted} is no plain value")
    before, after = lines[old.line - 1][: old.column - 1], lines[old.line - 1][old.column - 1 :]
    lines[old.line - 1] = before + written + after[len(old.text) :]
    return "".join(lines)
