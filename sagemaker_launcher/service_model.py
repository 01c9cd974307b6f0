"""botocore's own data files, read without importing botocore: shapes of CreateTrainingJob, partitions.

Importing botocore and building its model classes costs more than a whole dry run; the files are plain JSON.
"""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sagemaker_launcher.errors import EnvironmentProblemError


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
    """The shapes of the SageMaker API by name, as botocore's service-2.json has them."""
    newest = max((_data_folder() / "sagemaker").glob("*/service-2.json.gz"))
    with gzip.open(newest) as file:
        model: dict[str, Any] = json.load(file)
    shapes_by_name: dict[str, Any] = model["shapes"]
    return shapes_by_name


def instance_types() -> tuple[str, ...]:
    """Every training instance type that the installed botocore knows (the union over all regions)."""
    return tuple(shapes()["TrainingInstanceType"]["enum"])


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
