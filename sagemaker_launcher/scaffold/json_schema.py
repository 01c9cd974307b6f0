"""The JSON Schema of a config, made of the same tree of defaults that the config is checked with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from sagemaker_launcher.coercion import Anything, ListOf, Open, Schema, Section
from sagemaker_launcher.frozen import frozen

JsonSchema = dict[str, Any]

# YAML takes 1.10 and true for a number and a truth, and this tool for the text that was written.
_TYPES: dict[type, object] = {
    str: ["string", "number", "boolean"],
    bool: "boolean",
    int: "integer",
    float: "number",
}


@frozen
class Notes:
    """What is known of keys besides their types. The elements of `CHANNELS` are `CHANNELS.*`.

    Attributes:
        comments: What each key means.
        limits: Words of JSON Schema that hold for a key's value, besides its type.
    """

    comments: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, JsonSchema] = field(default_factory=dict)


def json_schema(schema: Schema, title: str, notes: Notes) -> JsonSchema:
    """Describes the files that `coercion.merge` takes without a problem, and few others.

    No key is required: an option of the command line may give it. Draft 7 is what editors read:
    https://github.com/redhat-developer/yaml-language-server

    Args:
        schema: The defaults.
        title: What the file is, in words.
        notes: Comments and limits.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        **_Writer(schema.renamed, notes).described(schema.root, ""),
    }


class _Writer:
    def __init__(self, renamed: Mapping[str, str], notes: Notes) -> None:
        self._renamed = renamed
        self._notes = notes

    def described(self, default: object, path: str) -> JsonSchema:
        """The schema of a value, with what is known of its key."""
        comment = self._notes.comments.get(path)
        limits = self._notes.limits.get(path, {})
        return {**({"description": comment} if comment else {}), **self._of(default, path), **limits}

    def _of(self, default: object, path: str) -> JsonSchema:
        if isinstance(default, Anything):
            return {}
        if isinstance(default, Section):
            return self._section(default, path)
        if isinstance(default, Open):
            return {
                "type": "object",
                "additionalProperties": self.described(default.element, _below(path, "*")),
            }
        if isinstance(default, ListOf):
            given = {"default": list(default.given)} if default.given else {}
            return {"type": "array", "items": self.described(default.element, _below(path, "*")), **given}
        return {"type": _TYPES[type(default)], **({} if default == "" else {"default": default})}

    def _section(self, section: Section, path: str) -> JsonSchema:
        members = {key: self.described(member, _below(path, key)) for key, member in section.members.items()}
        for old, new in self._renamed.items():
            place, _, old_key = old.rpartition(".")
            new_key = new.rpartition(".")[2]
            if place == path and new_key in section.members:
                text = f"is now called {new_key}"
                members[old_key] = {**members[new_key], "deprecated": True, "deprecationMessage": text}
        mapping = {"type": "object", "properties": members, "additionalProperties": False}
        return {"anyOf": [members[section.short_form], mapping]} if section.short_form else mapping


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
