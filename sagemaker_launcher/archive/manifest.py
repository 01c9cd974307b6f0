"""The documents that an experiment leaves beside its configs: who reserved it, what seals it, when it started.

Pure, but for `pid_space`, which whoever writes an author and whoever reads one have to find out in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, TypeVar

from sagemaker_launcher.documents import read_document
from sagemaker_launcher.errors import IntegrityError
from sagemaker_launcher.frozen import frozen

SCHEMA = 1
# The tags of a job on AWS that lead back to its experiment, and to the manifest that sealed it.
EXPERIMENT_TAG, SEAL_TAG = "launcher:experiment", "launcher:manifest-sha256"
PATCH_MAX = 1024 * 1024  # bytes of uncommitted changes that an experiment takes
_Document = TypeVar("_Document")


@frozen
class Author:
    """Who launched, and where.

    Attributes:
        user: The user's name.
        host: The machine's name, which others may have, too.
        pid: The process.
        arn: The AWS identity; empty when there is none.
        pid_space: Where `pid` means that process and no other, see `pid_space`; empty where that could not be known, and
            in documents of earlier versions.
    """

    user: str
    host: str
    pid: int
    arn: str = ""
    pid_space: str = ""


@frozen
class GitState:
    """The repository around the config when it was launched.

    Attributes:
        commit: The full hash of HEAD; empty in a repository without commits.
        branch: The branch; empty when HEAD is detached.
        remote: The URL of `origin`, without credentials; empty when there is none.
        dirty: Whether tracked files differed from HEAD.
        untracked: How many files git did not know.
        patch_omitted: What of the changes uncommitted.patch lacks, or why there is none; empty when it has all.
    """

    commit: str
    branch: str = ""
    remote: str = ""
    dirty: bool = False
    untracked: int = 0
    patch_omitted: str = ""


@frozen
class SourceState:
    """The training code: its folder relative to where the repository (or the command) was rooted, and its content's hash."""

    path: str
    sha256: str


@frozen
class FileSeal:
    """What a sealed file has to be."""

    sha256: str
    size: int


@frozen
class Intent:
    """Reserves a job name, before anything else is written."""

    job_name: str
    experiment_name: str
    target: str
    created_at: str
    author: Author
    request_sha256: str
    schema: int = SCHEMA


@frozen
class Manifest:
    """Seals an experiment: without it, an experiment does not exist.

    Attributes:
        job_name: The job's name.
        experiment_name: The experiment's name.
        target: Where it was launched: `aws` or `process`.
        created_at: When (ISO 8601, UTC).
        author: Who.
        command: The command line.
        versions: Of this tool, Python, the SDK and boto3.
        account: The AWS account; empty for rehearsals.
        region: The AWS region.
        image_uri: The container image.
        image_digest: Its digest, when the reference has one.
        files: The hash and size of every file.
        git: The repository; None outside one.
        source: The training code; None when it is only in the image.
        rerun_of: The S3 URI of the experiment that this one repeats; empty otherwise.
        allowed_secrets: Places that look like secrets and that their author declared harmless.
        changed: The training config's keys that differ from the training code's own defaults, with their values as
            texts; empty when those defaults were not known.
    """

    job_name: str
    experiment_name: str
    target: str
    created_at: str
    author: Author
    command: tuple[str, ...]
    versions: Mapping[str, str]
    account: str
    region: str
    image_uri: str
    image_digest: str
    files: Mapping[str, FileSeal]
    git: GitState | None = None
    source: SourceState | None = None
    rerun_of: str = ""
    allowed_secrets: tuple[str, ...] = field(default=())
    changed: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


@frozen
class Launch:
    """Says that a job was started: its ARN, when, and the seal that it was started with."""

    job_arn: str
    started_at: str
    manifest_sha256: str
    schema: int = SCHEMA


def pid_space() -> str:
    """Tells the numbers of processes here from those of other machines, of other boots of this one and of other containers.

    Empty where the kernel does not say; that of Linux does:
    https://www.kernel.org/doc/html/latest/admin-guide/sysctl/kernel.html#random and pid_namespaces(7).
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except (OSError, ValueError):
        return ""
    return f"{boot}/{namespace}" if boot else ""


def to_bytes(document: object) -> bytes:
    """A document as JSON text that is equal for equal documents."""
    values = document if isinstance(document, Mapping) else asdict(document)  # type: ignore[call-overload]
    return (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def manifest_from(data: bytes, name: str) -> Manifest:
    """Reads a manifest. Raises IntegrityError when it is none, or of a format that this version does not know."""
    return _document_from(Manifest, data, name)


def intent_from(data: bytes, name: str) -> Intent:
    """Reads an intent. Raises IntegrityError."""
    return _document_from(Intent, data, name)


def launch_from(data: bytes, name: str) -> Launch:
    """Reads a launch. Raises IntegrityError."""
    return _document_from(Launch, data, name)


def mapping_from(data: bytes, name: str) -> dict[str, Any]:
    """Reads a JSON object. Raises IntegrityError for anything else."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, error) from error
    if not isinstance(values, dict):
        raise _unreadable(name, TypeError("not a JSON object"))
    if values.get("schema", SCHEMA) != SCHEMA:
        raise IntegrityError(
            f"{name} has format {values['schema']}, and this version reads {SCHEMA}", hint="upgrade this tool"
        )
    return values


def _document_from(kind: type[_Document], data: bytes, name: str) -> _Document:
    try:
        return read_document(kind, mapping_from(data, name))
    except TypeError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> IntegrityError:
    return IntegrityError(f"{name} is not what this tool writes: {error}", code="unreadable")
