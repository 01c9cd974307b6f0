"""The files with the JSON Schemas of both configs, which editors find through the first line of a config."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from sagemaker_launcher import defaults, strict_yaml
from sagemaker_launcher.coercion import merge
from sagemaker_launcher.config import sagemaker_schema
from sagemaker_launcher.errors import ConfigError, Problem
from sagemaker_launcher.scaffold.comments import key_comments
from sagemaker_launcher.scaffold.json_schema import JsonSchema, Notes, json_schema
from sagemaker_launcher.scaffold.limits import limits
from sagemaker_launcher.training_schema import TrainingSchema, load_training_schema

_SUFFIX = ".schema.json"
_PLACES = {"SOURCE", "TRAINING_CONFIG"}  # what says where the training config and its code are


def modeline(config: Path) -> str:
    """The comment with which a config names its schema to an editor, relative to itself.

    https://github.com/redhat-developer/yaml-language-server#using-inlined-schema
    """
    return f"# yaml-language-server: $schema={schema_file(config).name}"


def schema_file(config: Path) -> Path:
    """Where the schema of a config lies: beside it."""
    return config.with_name(config.stem + _SUFFIX)


def schemas_of(config: Path) -> dict[Path, bytes]:
    """The schemas of a SageMaker config and of its training config, by the files that they belong into.

    Args:
        config: The SageMaker config; only what it says of TRAINING_CONFIG and SOURCE matters.

    Returns:
        Without the training config's schema when the training code has no `config.py` here.

    Raises:
        ConfigError: The config cannot be read, SOURCE.DIR is no folder, or `config.py` cannot be loaded.
    """
    merged = merge(sagemaker_schema(), strict_yaml.read(config), str(config))
    written, training = merged.values["SOURCE"]["DIR"], config.parent / merged.values["TRAINING_CONFIG"]
    found = {schema_file(config): _bytes(sagemaker_json_schema())}
    # Of other keys the schema itself tells, in the editor.
    problems = [problem for problem in merged.problems if _PLACES & _sections(problem)]
    folder = config.parent / written if written else None
    if folder and not os.path.isdir(folder):  # noqa: PTH112 - Path's raises for what is no path, or out of reach
        place = merged.place("SOURCE.DIR")
        problems.append(Problem(place, f"no such folder: {folder}", "SOURCE.DIR"))
    own = None if problems else load_training_schema(folder, problems)
    if problems:
        raise ConfigError(problems)
    if own:
        found[schema_file(training)] = _bytes(training_json_schema(own))
    return found


def _sections(problem: Problem) -> set[str]:
    """The first parts of a problem's key, and of what that may have meant."""
    return {key.partition(".")[0] for key in (problem.key, problem.suggestion)}


def sagemaker_json_schema() -> JsonSchema:
    """The JSON Schema of the SageMaker config."""
    return json_schema(sagemaker_schema(), "SageMaker config", Notes(_sagemaker_comments(), limits()))


def training_json_schema(own: TrainingSchema) -> JsonSchema:
    """The JSON Schema of the training config, with the comments of the `config.py` that says what is in it."""
    try:
        written = key_comments(own.path.read_text("utf-8"))
    except (SyntaxError, ValueError):  # it could be loaded, so only its encoding is not ours
        written = {}
    comments = {key.partition(".")[2]: text for key, text in written.items() if "." in key}
    return json_schema(own.schema, "Training config", Notes(comments))


def _sagemaker_comments() -> dict[str, str]:
    source = Path(defaults.__file__).read_text("utf-8")
    written = key_comments(source)
    names = {id(value): name for name, value in vars(defaults).items() if isinstance(value, Mapping)}
    comments = _of_tree("_C", "", written)
    for place, element in defaults.ELEMENTS.items():
        if id(element) in names:
            comments |= _of_tree(names[id(element)], f"{place}.*.", written)
    return comments


def _of_tree(name: str, prefix: str, written: Mapping[str, str]) -> dict[str, str]:
    """The comments on a tree of defaults, by the keys that its values have in a config."""
    start = f"{name}."
    return {prefix + key.removeprefix(start): text for key, text in written.items() if key.startswith(start)}


def _bytes(schema: JsonSchema) -> bytes:
    return (json.dumps(schema, indent=1, ensure_ascii=False) + "\n").encode()
