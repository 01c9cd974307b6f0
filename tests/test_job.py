"""What a merged config becomes when it is a job: channels, places and limits that no key says directly."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sagemaker_launcher import config, defaults
from sagemaker_launcher.coercion import default_values
from sagemaker_launcher.job import Job, build_job


def _job(name: str = "tiny-1", **changes: Any) -> Job:
    values = default_values(config.sagemaker_schema().root)
    for section, change in changes.items():
        values[section].update(change)
    return build_job(
        values, name=name, config_uri="s3://archive/tiny/training_config.yaml", config_sha256="ab"
    )


def test_the_config_channel_comes_last_and_is_a_file_whatever_mode_the_data_has() -> None:
    channel = dict(defaults.CHANNEL)
    job = _job(CHANNELS={"b": channel, "a": channel}, ESTIMATOR={"INPUT_MODE": "Pipe"})
    assert [channel.name for channel in job.channels] == ["b", "a", "config"]
    assert job.channels[-1].s3_uri == "s3://archive/tiny/training_config.yaml"
    assert job.channels[-1].input_mode == "File"


def test_the_container_is_told_the_hash_of_its_config() -> None:
    environment = _job(ESTIMATOR={"ENVIRONMENT": {"A": "b"}}).environment
    assert environment == {"A": "b", "TRAINING_CONFIG_SHA256": "ab"}


@pytest.mark.parametrize(
    ("written", "uri"),
    [
        ("", ""),
        ("s3://team/saved", "s3://team/saved/tiny-1/"),
        ("s3://team/saved/", "s3://team/saved/tiny-1/"),
        ("s3://team", "s3://team/tiny-1/"),
    ],
)
def test_each_job_has_a_closed_checkpoint_folder_of_its_own(written: str, uri: str) -> None:
    assert _job(S3={"CHECKPOINTS": written}).checkpoints_uri == uri


def test_checkpoint_folders_of_names_that_begin_alike_do_not_overlap() -> None:
    short = _job("tiny-1", S3={"CHECKPOINTS": "s3://team/saved"}).checkpoints_uri
    long = _job("tiny-12", S3={"CHECKPOINTS": "s3://team/saved"}).checkpoints_uri
    assert not long.startswith(short)


def test_the_outputs_have_no_slash_at_the_end_because_the_service_adds_one() -> None:
    assert _job(S3={"OUTPUTS": "s3://team/outputs/"}).outputs_uri == "s3://team/outputs"


@pytest.mark.parametrize(
    ("spot", "max_wait", "found"), [(False, 0, 0), (True, 0, 500), (True, 900, 900), (False, 900, 900)]
)
def test_spot_waits_as_long_as_the_job_may_run_unless_told(spot: bool, max_wait: int, found: int) -> None:
    limits = _job(ESTIMATOR={"USE_SPOT_INSTANCES": spot, "MAX_RUN": 500, "MAX_WAIT": max_wait}).limits
    assert limits.max_wait_s == found


def test_observers_are_off_until_they_have_a_place_to_write_to() -> None:
    job = _job()
    assert (job.debugger_hook, job.profiler, job.tensorboard) == (None, None, None)


def test_instance_types_are_those_of_the_groups_when_there_are_groups() -> None:
    group = {"INSTANCE_GROUP_NAME": "a", "INSTANCE_TYPE": "ml.m5.large", "INSTANCE_COUNT": 2}
    other = {**group, "INSTANCE_GROUP_NAME": "b", "INSTANCE_TYPE": "ml.c5.xlarge"}
    assert _job(ESTIMATOR={"INSTANCE_TYPE": "ml.p3.2xlarge"}).machines.instance_types == ("ml.p3.2xlarge",)
    job = _job(ESTIMATOR={"INSTANCE_GROUPS": [group, other]})
    assert job.machines.instance_types == ("ml.m5.large", "ml.c5.xlarge")


def test_a_job_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _job().role = "another"  # type: ignore[misc]
