"""Requests that the emulator takes."""

from __future__ import annotations

from typing import Any

from tests.servers.samples import training_request

IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/digits:1"
SPOT: dict[str, Any] = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120},
}


def request(name: str, *, image: str = IMAGE, regex: str = "", **members: object) -> dict[str, Any]:
    """The parameters of CreateTrainingJob, with a metric `loss` when there is an expression for it."""
    algorithm: dict[str, Any] = {"TrainingImage": image, "TrainingInputMode": "File"}
    if regex:
        algorithm["MetricDefinitions"] = [{"Name": "loss", "Regex": regex}]
    return training_request(name, **{"AlgorithmSpecification": algorithm, **members})


def channel(name: str, uri: str, **source: str) -> dict[str, Any]:
    """An entry of InputDataConfig."""
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **source}},
    }
