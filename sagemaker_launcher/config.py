"""Reads both configs with their overrides, checks everything that can be known without AWS, and says all that is wrong."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from sagemaker_launcher import defaults, request_model, rules, strict_yaml
from sagemaker_launcher.coercion import ListOf, Merged, Open, Override, Schema, Section, default_values, merge
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import ConfigError, Problem
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.job import CONFIG_SHA256_VARIABLE, TRAINING_CONFIG_FILE, Job, bucket_owners, build_job
from sagemaker_launcher.naming import JOB_NAME_MAX, S3Uri
from sagemaker_launcher.rehearsal.tree import CONTAINER_BASE
from sagemaker_launcher.request import config_key, create_training_job_request
from sagemaker_launcher.training_schema import (
    TrainingSchema,
    archived_schema,
    load_training_schema,
    schema_of_document,
)

_CHANNEL_KEY_SUFFIX = "_CHANNEL"
_NAME_MAX = 255  # bytes of one name in a path, on Linux
_CODE = f"{CONTAINER_BASE}/code"  # where the toolkit looks for it, and rehearsals put it
_CHECKPOINTS = f"{CONTAINER_BASE}/checkpoints"
_KERNEL = dict.fromkeys(("/dev", "/proc", "/sys"), "what the kernel shows")
# Mounted over by the service and by rehearsals, with what lies below.
_NO_CODE = {
    f"{CONTAINER_BASE}/input": "the channels",
    f"{CONTAINER_BASE}/model": "the model",
    f"{CONTAINER_BASE}/output": "what the program leaves",
    **_KERNEL,
}
# Neither below nor around it: checkpoints are restored before the program starts, which would change or hide this. The model
# and the output data may be checkpoints, too, but the reason of one failure must not become that of the next run.
_NO_CHECKPOINTS = {
    f"{CONTAINER_BASE}/input": "the channels",
    _CODE: "the training code",
    f"{CONTAINER_BASE}/output/failure": "the reason why a job failed",
    **_KERNEL,
}
_PLACE = r"(?s)(.+):(\d+):(\d+)"


@frozen
class Source:
    """The training code on this machine.

    Attributes:
        folder: The folder that enters the image; None when the code is only in the image.
        entry_point: The program in it, such as `main.py`.
        container_folder: Where the image has that folder.
    """

    folder: Path | None
    entry_point: str
    container_folder: str


@frozen
class Text:
    """What a person wrote, and where: for the secret scan, which names lines of the user's own files."""

    name: str
    text: str


@frozen
class Configs:
    """Both configs, merged and checked.

    Attributes:
        sagemaker: The SageMaker config as a frozen YACS node.
        archived_sagemaker: The same as it is archived: complete, and independent of the folder it was written in; as values,
            or as the bytes of an archive.
        training_yaml: The training config as it is archived: the bytes that the job will read.
        source: The training code.
        texts: What people wrote: both files, as read.
        overrides: What the command line changed.
        warnings: What works but should be changed.
        training_changes: The training config's keys, with their values as texts, that differ from the training code's
            own defaults; of an archived config, those that an override changed.
        allow_unknown_instance_type: Whether instance types that botocore does not know may pass.
        log_samples: Lines of log that the training code says it prints; None when it does not say.
        defaults: Dotted keys and values, as texts, that the training config has from the training code alone.
        schema: The file of the training code that gives them; None when there is none.
    """

    sagemaker: Mapping[str, Any]
    archived_sagemaker: Mapping[str, Any] | bytes
    training_yaml: bytes
    source: Source
    texts: tuple[Text, ...]
    overrides: tuple[Override, ...]
    warnings: tuple[str, ...]
    training_changes: Mapping[str, str]
    allow_unknown_instance_type: bool
    log_samples: tuple[str, ...] | None = None
    defaults: tuple[tuple[str, str], ...] = ()
    schema: Text | None = None

    @cached_property
    def sagemaker_yaml(self) -> bytes:
        """The SageMaker config as it is archived, in YAML."""
        archived = self.archived_sagemaker
        return archived if isinstance(archived, bytes) else strict_yaml.dump(archived)

    @property
    def training_sha256(self) -> str:
        """SHA-256 of the training config's bytes, in hex."""
        return sha256(self.training_yaml)

    @property
    def bucket_owners(self) -> dict[str, str]:
        """The accounts of buckets that belong to others, by bucket."""
        return bucket_owners(self.sagemaker["CHANNELS"])

    def job(self, name: str) -> Job:
        """The job of this name, whose config channel points into its own folder of the archive."""
        folder = S3Uri.parse(self.sagemaker["S3"]["CONFIGS"]) / self.sagemaker["EXPERIMENT_NAME"] / name
        return build_job(
            self.sagemaker,
            name=name,
            config_uri=str(folder / TRAINING_CONFIG_FILE),
            config_sha256=self.training_sha256,
        )


def load(
    path: Path, overrides: tuple[Override, ...] = (), *, allow_unknown_instance_type: bool = False
) -> Configs:
    """Reads a SageMaker config and the training config that it names.

    Args:
        path: The SageMaker config's YAML file.
        overrides: `--set` and `--train`, in their order.
        allow_unknown_instance_type: Let instance types pass that the installed botocore does not know.

    Raises:
        ConfigError: With every problem of both files and of the overrides.
    """
    problems: list[Problem] = []
    merged = _read_sagemaker(path, overrides, problems)
    values = merged.values
    source = _source(_counted_from("SOURCE.DIR", path, merged, overrides), merged, problems)
    training_path = _counted_from("TRAINING_CONFIG", path, merged, overrides) / values["TRAINING_CONFIG"]
    own = load_training_schema(source.folder, problems)
    training_document = _read(training_path, problems, may_be_empty=own is not None)
    if training_document is None:
        # Unknown values are no reason to be silent about overrides, but without the file they cannot be judged.
        raise ConfigError(_in_order([*problems, *_job_problems(merged, allow_unknown_instance_type)]))
    train = tuple(override for override in overrides if override.option == "--train")
    schema = own.schema if own else schema_of_document(training_document)
    training = merge(schema, training_document, str(training_path), train)
    problems += training.problems or (own.problems(training) if own else [])
    problems += _job_problems(merged, allow_unknown_instance_type)
    problems += _disagreements(values, training)
    if problems:
        raise ConfigError(_in_order(problems))
    changes = _changes(default_values(own.schema.root), training.values) if own else {}
    archived = {**values, "TRAINING_CONFIG": TRAINING_CONFIG_FILE, "SOURCE": {**values["SOURCE"], "DIR": ""}}
    return Configs(
        sagemaker=defaults.frozen(values),
        archived_sagemaker=archived,
        training_yaml=strict_yaml.dump(training.values),
        source=source,
        texts=tuple(
            Text(str(file), file.read_bytes().removeprefix(codecs.BOM_UTF8).decode())
            for file in (path, training_path)
        ),
        overrides=overrides,
        warnings=tuple(merged.warnings + training.warnings),
        training_changes=changes,
        allow_unknown_instance_type=allow_unknown_instance_type,
        log_samples=own.samples if own else None,
        defaults=tuple(_not_given(training, changes)) if own else (),
        schema=Text(str(own.path), own.path.read_text("utf-8", "replace")) if own else None,
    )


@frozen
class ArchivedFile:
    """A config's bytes as the archive holds them, and the URI to name in messages."""

    uri: str
    data: bytes


def load_archived(
    sagemaker: ArchivedFile,
    training: ArchivedFile,
    overrides: tuple[Override, ...],
    source_folder: Path | None,
    *,
    allow_unknown_instance_type: bool = False,
) -> Configs:
    """Takes both configs of an archived experiment; what no override touches stays equal byte for byte.

    Args:
        sagemaker: The archived SageMaker config.
        training: The archived training config; it is complete, so that its keys are those that there are.
        overrides: `--set` and `--train`, in their order.
        source_folder: The training code on this machine; None when there is none.
        allow_unknown_instance_type: Let instance types pass that the installed botocore does not know.

    Raises:
        ConfigError: With every problem, those included that the training code's own rules find in what `--train` changes.
    """
    document = strict_yaml.parse(sagemaker.data, sagemaker.uri)
    training_document = strict_yaml.parse(training.data, training.uri)
    settings = tuple(override for override in overrides if override.option == "--set")
    train = tuple(override for override in overrides if override.option == "--train")
    merged = merge(sagemaker_schema(), document, sagemaker.uri, settings)
    given = any(override.key in {"SOURCE", "SOURCE.DIR"} for override in settings)
    if not given:
        # Which folder's code runs on this machine is for its user to say, and never for an archive.
        merged.values["SOURCE"]["DIR"] = ""
    problems = [*merged.problems, *_own_problems(merged)]
    source = _source(Path(), merged, problems)
    if not (source.folder or given):
        source = replace(source, folder=source_folder)
    unfit: list[Problem] = []
    code = load_training_schema(source.folder, unfit) if train else None
    merged_training = _archived_training(training_document, training.uri, train, code)
    problems += (
        *merged_training.problems,
        *_job_problems(merged, allow_unknown_instance_type),
        *_disagreements(merged.values, merged_training),
    )
    asked = train and not merged_training.problems
    own = (
        _of_the_code(code, unfit, training_document, training.uri, train)
        if asked
        else Merged(training.uri, {})
    )
    problems += own.problems
    if problems:
        raise ConfigError(_in_order(problems))
    archived = {**merged.values, "SOURCE": {**merged.values["SOURCE"], "DIR": ""}}
    return Configs(
        sagemaker=defaults.frozen(merged.values),
        archived_sagemaker=archived if settings else sagemaker.data,
        training_yaml=strict_yaml.dump(merged_training.values) if train else training.data,
        source=source,
        texts=(),
        overrides=overrides,
        warnings=(*merged.warnings, *own.warnings),
        training_changes=_changes(strict_yaml.plain(training_document), merged_training.values),
        allow_unknown_instance_type=allow_unknown_instance_type,
    )


def _archived_training(
    document: strict_yaml.Mapping, uri: str, train: tuple[Override, ...], code: TrainingSchema | None
) -> Merged:
    """An archived training config with its overrides, by the types of the training code where they fit the archived values."""
    if code:
        schema = archived_schema(document, code.schema)
        if not merge(schema, document, uri).problems:
            return merge(schema, document, uri, train)
    return merge(schema_of_document(document), document, uri, train)


def _of_the_code(
    own: TrainingSchema | None,
    unfit: list[Problem],
    document: strict_yaml.Mapping,
    uri: str,
    train: tuple[Override, ...],
) -> Merged:
    """What the training code on this machine says of overrides of an archived config.

    The code may be of another time than the config. It is not asked then, which is a warning; and what it says of the
    archived values alone is no fault of the overrides.
    """
    before = merge(own.schema, document, uri) if own else Merged(uri, {})
    unfit = [*unfit, *before.problems]
    if unfit:
        why = f"{own.path} does not fit the archived config: {unfit[0]}" if own else str(unfit[0])
        return Merged(
            uri, {}, warnings=[f"the training code's own rules were not asked about --train, since {why}"]
        )
    if own is None:
        return before
    after = merge(own.schema, document, uri, train)
    known = {(problem.key, problem.message) for problem in own.problems(before)}
    found = (problem for problem in own.problems(after) if (problem.key, problem.message) not in known)
    return replace(after, problems=after.problems or list(found))


@frozen
class Place:
    """Where an archive is, and how to reach it; texts are empty when not given.

    Attributes:
        archive: Its URI.
        region: The region of its bucket.
        profile: The profile to reach it with.
        account: The account that has to own it.
        bucket_owners: The accounts of other buckets that belong to others, by bucket.
    """

    archive: str
    region: str
    profile: str
    account: str
    bucket_owners: Mapping[str, str]


def read_place(path: Path) -> Place:
    """What a SageMaker config says of its archive, whatever else may be wrong in it.

    Raises:
        ConfigError: The file cannot be read, or says something impossible of just this.
    """
    merged = merge(sagemaker_schema(), strict_yaml.read(path), str(path))
    problems = [problem for problem in merged.problems if problem.key.startswith(("AWS", "S3.CONFIGS"))]
    if problems:
        raise ConfigError(problems)
    values, settings = merged.values, merged.values["AWS"]
    return Place(
        archive=values["S3"]["CONFIGS"],
        region=settings["REGION"],
        profile=settings["PROFILE"],
        account=settings["ACCOUNT"],
        bucket_owners=bucket_owners(values["CHANNELS"]),
    )


def sagemaker_schema() -> Schema:
    """The SageMaker config's schema, made of the YACS tree in `defaults`."""
    root = _schema(defaults.get_cfg_defaults(), "")
    return Schema(root, defaults.RENAMED)


def _schema(node: Mapping[str, Any], path: str) -> Section:
    members: dict[str, object] = {}
    for key, value in node.items():
        here = f"{path}.{key}" if path else key
        if here in defaults.ELEMENTS:
            element = defaults.ELEMENTS[here]
            inner = _schema(element, f"{here}.*") if isinstance(element, Mapping) else element
            members[key] = (
                Open(inner, dict(value)) if isinstance(value, Mapping) else ListOf(inner, tuple(value))
            )
        else:
            members[key] = _schema(value, here) if isinstance(value, Mapping) else value
    return Section(members, defaults.SHORT_FORMS.get(path, ""))


def _read(path: Path, problems: list[Problem], *, may_be_empty: bool = False) -> strict_yaml.Mapping | None:
    try:
        return strict_yaml.read(path, may_be_empty=may_be_empty)
    except ConfigError as error:
        problems += error.problems
        return None


def _read_sagemaker(path: Path, overrides: tuple[Override, ...], problems: list[Problem]) -> Merged:
    settings = tuple(override for override in overrides if override.option == "--set")
    document = _read(path, problems)
    if document is None:
        # Go on with the defaults only to look at the training config, whose usual place is beside this file.
        training = path.parent / TRAINING_CONFIG_FILE
        if _exists(training, Path.is_file):
            _read(training, problems)
        raise ConfigError(problems)
    merged = merge(sagemaker_schema(), document, str(path), settings)
    problems += (*merged.problems, *_own_problems(merged))
    return merged


def _own_problems(merged: Merged) -> Iterator[Problem]:
    """What is wrong with a SageMaker config as a file of this tool, rather than with the job that it describes."""
    version = merged.values["VERSION"]
    if version != 1:
        yield Problem(merged.place("VERSION"), f"version {version} is unknown", "VERSION", expected="1")
    if merged.values["BUDGET_USD"] < 0:
        key = "BUDGET_USD"
        yield Problem(
            merged.place(key), "is negative", key, str(merged.values[key]), "US dollars, or 0 for no limit"
        )
    key = f"ESTIMATOR.ENVIRONMENT.{CONFIG_SHA256_VARIABLE}"
    if CONFIG_SHA256_VARIABLE in merged.values["ESTIMATOR"]["ENVIRONMENT"]:
        yield Problem(merged.place(key), "is set by this tool for every job; remove it", key)
    entry_point = Path(merged.values["SOURCE"]["ENTRY_POINT"])
    if entry_point.is_absolute() or ".." in entry_point.parts:
        key = "SOURCE.ENTRY_POINT"
        yield Problem(merged.place(key), "has to be a file below SOURCE.DIR", key, str(entry_point))
    yield from _place_problems(merged)


def _place_problems(merged: Merged) -> Iterator[Problem]:
    """Folders that cannot lie in the container where the config wants them."""
    code = merged.values["SOURCE"]["CONTAINER_DIR"]
    why = _why_no_folder(code) or _why_no_code(PurePosixPath(code))
    if why:
        key = "SOURCE.CONTAINER_DIR"
        expected = f"the folder of the image's code, such as {_CODE} or /opt/program"
        yield Problem(merged.place(key), why, key, repr(code), expected)
    if merged.values["S3"]["CHECKPOINTS"]:
        key = "ESTIMATOR.CHECKPOINT_LOCAL_PATH"
        saved = merged.values["ESTIMATOR"]["CHECKPOINT_LOCAL_PATH"] or _CHECKPOINTS
        why = _why_no_folder(saved) or _why_no_checkpoints(PurePosixPath(saved), PurePosixPath(code))
        if why:
            expected = f"a folder of their own, such as {_CHECKPOINTS}"
            yield Problem(merged.place(key), why, key, repr(saved), expected)


def _why_no_folder(path: str) -> str:
    """Why a path leads to no folder of a container, or to another one than it seems to; empty when all is well."""
    root, *names = path.rstrip("/").split("/")
    odd = {"", ".", ".."} & set(names) or "\0" in path
    if root or not names or odd or any(len(name.encode()) > _NAME_MAX for name in names):
        return (
            "has to be the absolute path of a folder in the container: names of at most "
            f"{_NAME_MAX} bytes, none of them empty or . or .."
        )
    return ""


def _why_no_code(path: PurePosixPath) -> str:
    for folder, purpose in _NO_CODE.items():
        if path.is_relative_to(folder):
            return f"code cannot lie there: {folder} is for {purpose}"
    return ""


def _why_no_checkpoints(path: PurePosixPath, code: PurePosixPath) -> str:
    for folder, purpose in _NO_CHECKPOINTS.items():
        if path.is_relative_to(folder) or PurePosixPath(folder).is_relative_to(path):
            return f"checkpoints cannot lie there: {folder} is for {purpose}"
    if code.is_relative_to(path):
        return f"checkpoints would hide the training code: {code} is for it (SOURCE.CONTAINER_DIR)"
    return ""


def _counted_from(key: str, path: Path, merged: Merged, overrides: tuple[Override, ...]) -> Path:
    """The folder that a key's relative path counts from: the config file's, or the current one for what was typed."""
    typed = merged.places.get(key) in {override.where for override in overrides}
    return Path() if typed else path.parent


def _source(base: Path, merged: Merged, problems: list[Problem]) -> Source:
    values = merged.values["SOURCE"]
    written, entry_point = values["DIR"], values["ENTRY_POINT"]
    nowhere = Source(None, entry_point, values["CONTAINER_DIR"])
    if not written:
        return nowhere
    folder = base / written
    if not _exists(folder, Path.is_dir):
        problems.append(
            Problem(
                merged.place("SOURCE.DIR"),
                f"no such folder: {folder}",
                "SOURCE.DIR",
                expected='the folder with the training code, or "" when it is only in the image',
            )
        )
        return nowhere
    folder = folder.resolve()
    if not _exists(folder / entry_point, Path.is_file):
        place = merged.place("SOURCE.ENTRY_POINT")
        problems.append(Problem(place, f"no such file in {folder}", "SOURCE.ENTRY_POINT", entry_point))
    return replace(nowhere, folder=folder)


def _exists(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except (OSError, ValueError):  # too long for a file name, or with a NUL in it
        return False


def _job_problems(merged: Merged, allow_unknown_instance_type: bool) -> list[Problem]:
    """What is wrong with the job that the config describes, leaving out keys whose values are already known to be bad."""
    values = merged.values
    archive = list(rules.s3_uri_violations("S3.CONFIGS", values["S3"]["CONFIGS"]))
    # The longest name that a job can get, in the place that it would have.
    root = S3Uri("bucket") if archive else S3Uri.parse(values["S3"]["CONFIGS"])
    name = "a" * JOB_NAME_MAX
    uri = str(root / values["EXPERIMENT_NAME"] / name / TRAINING_CONFIG_FILE)
    job = build_job(values, name=name, config_uri=uri, config_sha256="0" * 64)
    violations = (*archive, *rules.violations(job))
    found = [
        Problem(merged.place(rule.key), rule.message, rule.key, suggestion=rule.suggestion)
        for rule in violations
    ]
    known = {problem.key for problem in (*merged.problems, *found)}
    request = create_training_job_request(job)
    for problem in request_model.problems(request, allow_unknown_instance_type=allow_unknown_instance_type):
        key = config_key(problem.path, request)
        if key not in known:
            place = merged.place(key)
            found.append(
                Problem(place, problem.message, key, problem.value, problem.expected, problem.suggestion)
            )
    bad = {problem.key for problem in merged.problems}
    return [problem for problem in found if problem.key not in bad]


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Problems in the order of the lines of each file."""
    files: dict[str, int] = {}

    def position(problem: Problem) -> tuple[int, int, int]:
        place = re.fullmatch(_PLACE, problem.where)
        name, line, column = place.groups() if place else (problem.where, 0, 0)
        return files.setdefault(name, len(files)), int(line), int(column)

    return sorted(problems, key=position)


def _disagreements(values: Mapping[str, Any], training: Merged) -> list[Problem]:
    """A training key that ends in `_CHANNEL` names an input channel, so the SageMaker config has to have it."""
    found = []
    for key, value in _leaves(training.values, ""):
        if key.endswith(_CHANNEL_KEY_SUFFIX) and isinstance(value, str) and value not in values["CHANNELS"]:
            channels = f"one of CHANNELS: {', '.join(values['CHANNELS']) or 'none'}"
            found.append(
                Problem(training.place(key), "the SageMaker config has no such channel", key, value, channels)
            )
    return found


def _changes(before: Any, after: Mapping[str, Any]) -> dict[str, str]:  # noqa: ANN401 - any YAML value
    """The dotted keys whose values are not as they were, with the new ones as texts."""
    old = dict(_leaves(before, ""))
    return {key: str(value) for key, value in _leaves(after, "") if key not in old or old[key] != value}


def _not_given(merged: Merged, changes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What a config has from its defaults alone, as dotted keys and texts."""
    for key, value in _leaves(merged.values, ""):
        if key not in merged.places and key not in changes:
            yield from _scalars(key, value)


def _scalars(key: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any YAML value
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from _scalars(f"{key}.{name}", member)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _scalars(key, item)
    elif value is not None:
        yield key, str(value)


def _leaves(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
