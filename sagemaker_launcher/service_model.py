"""botocore's own data files, read without importing botocore: shapes of CreateTrainingJob, partitions.

Importing botocore and building its model classes costs more than a whole dry run; the files are plain JSON. Even so, to read
all of SageMaker's API takes longer than anything else that a dry run does, so what we need of it is kept in the user's cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.spelling import nearest
from sagemaker_launcher.unfinished import unfinished
from sagemaker_launcher.user_cache import cache_folder, place

_COPY = "create-training-job-"


@cache
def _data_folder() -> Path:
    spec = find_spec("botocore")
    if spec is None or spec.origin is None:
        raise EnvironmentProblemError(
            "botocore is not installed", hint="install this tool's dependencies again: pip install -e ."
        )
    return Path(spec.origin).parent / "data"


@cache
def shapes() -> dict[str, Any]:
    """The shapes of CreateTrainingJob by name, as botocore's service-2.json has them."""
    found = _read_copy()
    if found is None:
        import gzip  # noqa: PLC0415 - there is a copy, mostly

        with gzip.open(_model_file()) as file:
            found = _reachable(json.load(file)["shapes"], "CreateTrainingJobRequest")
    return found


def keep_copy() -> None:
    """Keeps what `shapes` gives, so that the next command has it at once. Checks and dry runs do not: they write nothing."""
    name = _copy_name()
    with suppress(EnvironmentProblemError, OSError):  # where nothing can be kept, it only takes longer
        folder = cache_folder()
        if (folder / name).exists():
            return
        with unfinished(folder / "incomplete") as path:
            path.write_text(json.dumps(shapes()), "utf-8")
            path.replace(folder / name)
        for other in folder.glob(f"{_COPY}*.json"):
            if other.name != name:
                other.unlink(missing_ok=True)


@cache
def _model_file() -> Path:
    return max((_data_folder() / "sagemaker").glob("*/service-2.json.gz"))


def _copy_name() -> str:
    status = _model_file().stat()
    return f"{_COPY}{status.st_mtime_ns}-{status.st_size}.json"


def _reachable(everything: dict[str, Any], name: str) -> dict[str, Any]:
    """A shape, and every shape that it is made of."""
    found: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            shape = found[name] = {
                key: value for key, value in everything[name].items() if key != "documentation"
            }
            parts = (
                *shape.get("members", {}).values(),
                *(shape[key] for key in ("member", "key", "value") if key in shape),
            )
            waiting += [part["shape"] for part in parts]
    return found


def _read_copy() -> dict[str, Any] | None:
    try:
        found = json.loads((place() / _copy_name()).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "CreateTrainingJobRequest" in found else None


def instance_types() -> tuple[str, ...]:
    """Every training instance type that the installed botocore knows (the union over all regions)."""
    return tuple(shapes()["TrainingInstanceType"]["enum"])


def nearest_value(value: str, known: Sequence[str]) -> list[str]:
    """What was probably meant of an enumeration's values: at most one."""
    # What was only typed too short comes first: `m5.large` is as near to ml.r5.large as to ml.m5.large.
    return sorted(nearest(value, known, 3, 0.5), key=lambda one: value not in one)[:1]


def may_be_instance_type(name: str) -> bool:
    """Whether a name has the form of an instance type, so that the service may know it, being newer than botocore."""
    return re.fullmatch(r"ml\.[a-z0-9-]+\.[a-z0-9]+", name) is not None


def unknown_instance_type(name: str) -> str:
    """A sentence on an instance type that the installed botocore does not know; empty for one that it knows."""
    if name in instance_types():
        return ""
    near = nearest_value(name, instance_types())
    return f"no instance type is called {name!r}" + (f" (did you mean {near[0]}?)" if near else "")


@cache
def _partitions() -> list[dict[str, Any]]:
    document = json.loads((_data_folder() / "partitions.json").read_bytes())
    partitions: list[dict[str, Any]] = document["partitions"]
    return partitions


def partition_of(region: str) -> tuple[str, str] | None:
    """The partition of a region and its DNS suffix, such as `("aws", "amazonaws.com")`; None when no partition fits."""
    for partition in _partitions():
        if region in partition["regions"] or re.fullmatch(partition["regionRegex"], region):
            return partition["id"], partition["outputs"]["dnsSuffix"]
    return None


def known_regions() -> tuple[str, ...]:
    """Every region that the installed botocore names."""
    return tuple(region for partition in _partitions() for region in partition["regions"])
