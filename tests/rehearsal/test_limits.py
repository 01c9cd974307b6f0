"""What a rehearsal cannot have, said in one line."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_launcher import config
from sagemaker_launcher.rehearsal.limits import has_gpus, not_reproduced
from tests.project import Project

NETWORK = {"SUBNETS": ["subnet-0123456789abcdef0"], "SECURITY_GROUP_IDS": ["sg-0123456789abcdef0"]}
KEY = "arn:aws:kms:us-east-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"


def said(project: Project, target: str, estimator: dict[str, Any], **how: bool) -> list[str]:
    project.write(ESTIMATOR=estimator, S3={"CHECKPOINTS": "s3://team/checkpoints"})
    job = config.load(project.config, ()).job("tiny-20260102-030405-abcdef")
    return not_reproduced(job, target, **how)


def test_a_plain_job_in_containers_needs_nothing_that_is_not_here(project: Project) -> None:
    assert said(project, "docker", {}) == []
    assert said(project, "process", {}) == ["the image"]


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        ({"ENABLE_NETWORK_ISOLATION": True}, []),
        ({"INSTANCE_TYPE": "ml.g5.xlarge"}, ["the GPUs"]),
        ({"INSTANCE_TYPE": "ml.p4d.24xlarge"}, ["the GPUs"]),
        (
            {"USE_SPOT_INSTANCES": True, "MAX_RUN": 60, "MAX_WAIT": 60},
            ["spot interruptions (--interrupt-after SECONDS makes them)"],
        ),
        (NETWORK, ["the VPC"]),
        ({"OUTPUT_KMS_KEY": KEY}, ["encryption keys"]),
        ({"ENCRYPT_INTER_CONTAINER_TRAFFIC": True}, []),
        ({"ENCRYPT_INTER_CONTAINER_TRAFFIC": True, "INSTANCE_COUNT": 2}, ["encryption between the hosts"]),
        ({"KEEP_ALIVE_PERIOD_IN_SECONDS": 60}, ["the warm pool"]),
    ],
)
def test_what_a_job_uses_is_named(project: Project, estimator: dict[str, Any], words: list[str]) -> None:
    assert said(project, "docker", estimator) == words


def test_a_process_has_no_network_isolation(project: Project) -> None:
    assert said(project, "process", {"ENABLE_NETWORK_ISOLATION": True}) == ["the image", "network isolation"]


def test_a_process_is_not_started_as_the_container_would_be(project: Project) -> None:
    how = {"CONTAINER_ENTRY_POINT": ["python3", "other.py"], "CONTAINER_ARGUMENTS": ["--x"]}
    assert said(project, "docker", how) == []
    assert said(project, "process", how) == [
        "the image",
        "CONTAINER_ENTRY_POINT (SOURCE.ENTRY_POINT is started instead)",
        "CONTAINER_ARGUMENTS",
    ]


def test_what_there_is_after_all_is_not_named(project: Project) -> None:
    assert said(project, "docker", {"INSTANCE_TYPE": "ml.g5.xlarge"}, gpus=True) == []
    spot = {"USE_SPOT_INSTANCES": True, "MAX_RUN": 60, "MAX_WAIT": 60}
    assert said(project, "docker", spot, interrupted=True) == []


@pytest.mark.parametrize(
    ("instance_type", "gpus"),
    [("ml.g4dn.xlarge", True), ("ml.p3.2xlarge", True), ("ml.m5.large", False), ("ml.c6gn.xlarge", False)],
)
def test_the_family_tells_who_has_gpus(instance_type: str, gpus: bool) -> None:
    assert has_gpus(instance_type) is gpus
