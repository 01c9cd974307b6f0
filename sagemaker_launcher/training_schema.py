"""What `config.py` beside the training code says: the training config's defaults, its rules, and lines that are logged."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import Any

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.coercion import Anything, ListOf, Merged, Open, Schema, Section
from sagemaker_launcher.errors import Problem
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.interrupts import Interrupted
from sagemaker_launcher.time_limit import TookTooLongError, at_most

SCHEMA_FILE = "config.py"
_RULES = "problems"
_SAMPLES = "LOG_SAMPLES"
# What the `load` of the example's config.py, which most training code begins with, takes for a default; it fails in the
# container with what it does not know.
_LOADABLE = "_TYPE_NAMES"
_PATIENCE_S = 60.0  # whatever else the file imports, such as PyTorch from a slow disk


@frozen
class TrainingSchema:
    """What the training code's own `config.py` says.

    Attributes:
        schema: The defaults that its `get_cfg_defaults()` gives.
        samples: Lines of log that the training code says it prints, `LOG_SAMPLES`; None when it does not say.
        path: The file.
        module: The file, loaded.
        patience_s: How long its own code may take.
    """

    schema: Schema
    samples: tuple[str, ...] | None
    path: Path
    module: ModuleType
    patience_s: float = _PATIENCE_S

    def problems(self, training: Merged) -> list[Problem]:
        """What is wrong with the merged config by the file's own words.

        These are what its `problems(cfg)` says, if it has one, texts such as `KEY: what`; and defaults that its `load`
        fails with, where that is the example's.
        """
        rules: Callable[[Any], Iterator[str]] | None = getattr(self.module, _RULES, None)
        found: list[Problem] = []
        with _users_code(self.path, found, self.patience_s):
            found += self._not_loadable(self.module.get_cfg_defaults(), training.values, "")
            if found or rules is None:
                return found
            for text in rules(_filled(self.module.get_cfg_defaults(), training.values)):
                key, _, message = str(text).partition(": ")
                found.append(Problem(training.place(key), message or str(text), key if message else ""))
        return found

    def _not_loadable(
        self, defaults: Mapping[str, Any], values: Mapping[str, Any], prefix: str
    ) -> Iterator[Problem]:
        known = getattr(self.module, _LOADABLE, None)
        if not isinstance(known, Mapping):
            return
        for key, default in defaults.items():
            value = values.get(key)
            if isinstance(default, Mapping) and isinstance(value, Mapping):
                yield from self._not_loadable(default, value, f"{prefix}{key}.")
            elif type(default) not in known and type(value) is not type(default):
                message = "load() of this file fails with a default of this type"
                expected = f"one of these: {', '.join(map(str, known.values()))}"
                yield Problem(str(self.path), message, f"{prefix}{key}", repr(default), expected)


def load_training_schema(
    folder: Path | None, problems: list[Problem], *, patience_s: float = _PATIENCE_S
) -> TrainingSchema | None:
    """Loads the schema of the training code in a folder.

    Args:
        folder: The training code; None when there is none on this machine.
        problems: Gets what is wrong with the file.
        patience_s: How long the file's own code may take; in threads other than the main one, any time.

    Returns:
        None without such a file, or when it cannot be loaded.
    """
    if folder is None:
        return None
    path = folder / SCHEMA_FILE
    with _users_code(path, problems, patience_s):
        if not _is_file(path):
            return None
        module = _load(path)
        tree = module.get_cfg_defaults()
        if not isinstance(tree, Mapping):
            raise TypeError(f"get_cfg_defaults() gave a {type(tree).__name__}, not a YACS node")
        strict_yaml.dump(tree)  # raises for defaults that could not be archived, such as infinity
        return TrainingSchema(Schema(_schema_of_defaults(tree)), _samples(module), path, module, patience_s)
    return None


def schema_of_document(document: strict_yaml.Mapping) -> Schema:
    """A schema in which a document's own values are the defaults, for a config that has no other."""
    values = strict_yaml.plain(document)
    if not isinstance(values, dict):
        raise TypeError(values)
    return Schema(_schema_of_defaults(values))


def archived_schema(document: strict_yaml.Mapping, own: Schema) -> Schema:
    """The schema of an archived config's keys, and no others, with the types that the training code gives them.

    The archive alone tells no more than the type of the value that was archived, which the code may have left open.
    """
    values = strict_yaml.plain(document)
    if not isinstance(values, dict):
        raise TypeError(values)
    return Schema(_archived_section(values, own.root))


def _archived_section(values: Mapping[str, Any], own: Section) -> Section:
    return Section({key: _archived_member(value, own.members.get(key)) for key, value in values.items()})


def _archived_member(value: Any, own: object) -> object:  # noqa: ANN401 - any YAML value
    if isinstance(own, Section) and isinstance(value, Mapping):
        return _archived_section(value, own)
    if isinstance(own, Open):
        return Open(own.element, {})  # a default that the archived config does not have stays away
    return _schema_of_default(value) if own is None else own


def _is_file(path: Path) -> bool:
    """Whether this is a file; unlike Path's own, it raises in every Python when that may not be known."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def _users_code(path: Path, problems: list[Problem], patience_s: float) -> Iterator[None]:
    """Turns whatever the user's own code raises into a problem of its file; what it prints goes to stderr."""
    try:
        # Only the main thread can be told that its time is over, and may change what all of them share.
        if threading.current_thread() is threading.main_thread():
            with _stdout_is_stderr(), at_most(patience_s):
                yield
        else:
            with contextlib.redirect_stdout(sys.stderr):
                yield
    except Interrupted:
        raise
    except BaseException as error:  # noqa: BLE001 - that code can fail in any way, and none of them is our bug
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        where = f"{path}:{line}" if line else str(path)
        late = isinstance(error, TookTooLongError)
        why = f"it was not done after {patience_s:g} s" if late else f"{type(error).__name__}: {error}"
        problems.append(Problem(where, f"cannot be loaded: {why}"))


@contextlib.contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Sends to stderr what Python and the programs that it starts write to stdout, where the answer of a command belongs."""
    for stream in (sys.stdout, sys.__stdout__):
        if stream:
            stream.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        try:
            if sys.__stdout__:
                sys.__stdout__.flush()
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_training_config_schema", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    # It is the user's source folder, and nothing may appear in it.
    unwanted, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = unwanted
    return module


def _samples(module: ModuleType) -> tuple[str, ...] | None:
    samples = getattr(module, _SAMPLES, None)
    if samples is None:
        return None
    if not isinstance(samples, (list, tuple)) or not all(isinstance(line, str) for line in samples):
        raise TypeError(f"{_SAMPLES} has to be a list of texts")
    return tuple(samples)


def _filled(node: MutableMapping[str, Any], values: Mapping[str, Any]) -> MutableMapping[str, Any]:
    """A tree of defaults with values put into it; sections stay the nodes that they are."""
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(node.get(key), MutableMapping):
            _filled(node[key], value)
        else:
            node[key] = value
    return node


def _schema_of_defaults(node: Mapping[str, Any]) -> Section:
    return Section({key: _schema_of_default(value) for key, value in node.items()})


def _schema_of_default(value: Any) -> object:  # noqa: ANN401 - a YACS value
    if isinstance(value, Mapping):
        if getattr(value, "is_new_allowed", bool)():
            return Open(Anything(), dict(value))
        return _schema_of_defaults(value)
    if isinstance(value, (list, tuple)):
        kinds = {type(item) for item in value}
        scalar = len(kinds) == 1 and kinds <= {str, int, float, bool}
        return ListOf(value[0] if scalar else Anything(), tuple(value))
    return Anything() if value is None else value
