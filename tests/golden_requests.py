"""The configs whose requests are kept in `golden/`, and their jobs."""

from __future__ import annotations

import json
from pathlib import Path

from sagemaker_launcher import config, strict_yaml
from sagemaker_launcher.coercion import merge
from sagemaker_launcher.job import Job, build_job
from sagemaker_launcher.request import Request

GOLDEN = Path(__file__).parent / "golden"
SHIPPED = Path(__file__).parent.parent / "configs" / "sagemaker_config.yaml"
CONFIGS = {"shipped": SHIPPED, **{path.stem: path for path in sorted(GOLDEN.glob("*.yaml"))}}


def golden_job(name: str) -> Job:
    """The job of a config, with a name and a hash that stay the same."""
    merged = merge(config.sagemaker_schema(), strict_yaml.read(CONFIGS[name]), f"{name}.yaml")
    assert merged.problems == []
    slug = merged.values["EXPERIMENT_NAME"].replace("/", "-")
    return build_job(
        merged.values,
        name=f"{slug}-20260102-030405-0a1b2c",
        config_uri="s3://archive/training_config.yaml",
        config_sha256="0" * 64,
    )


def golden_request(name: str) -> Request:
    """The request that is kept for a config."""
    request: Request = json.loads((GOLDEN / f"{name}.json").read_text())
    return request
