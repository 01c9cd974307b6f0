"""The /opt/ml tree of one host: its folders, the service's files in it, and the service's variables.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_launcher.naming import RoleArn
from sagemaker_launcher.request import Request

CONTAINER_BASE = "/opt/ml"
DEFAULT_CHECKPOINTS = "/opt/ml/checkpoints/"
_GROUP = "homogeneousCluster"
_INTERFACE = "eth0"


@dataclass(frozen=True)
class Tree:
    """Every path of one host's /opt/ml, wherever it lies on this machine."""

    base: Path

    @property
    def config(self) -> Path:
        """The folder of the service's files."""
        return self.base / "input" / "config"

    @property
    def model(self) -> Path:
        """What becomes model.tar.gz."""
        return self.base / "model"

    @property
    def output_data(self) -> Path:
        """What becomes output.tar.gz."""
        return self.base / "output" / "data"

    @property
    def failure(self) -> Path:
        """The file in which the program says why it failed."""
        return self.base / "output" / "failure"

    @property
    def code(self) -> Path:
        """The folder that the toolkit runs the program in."""
        return self.base / "code"

    def channel(self, name: str) -> Path:
        """The folder of an input channel."""
        return self.base / "input" / "data" / name

    def checkpoints(self, request: Request) -> Path | None:
        """The checkpoint folder; None without checkpoints.

        Raises:
            ValueError: The request wants it outside /opt/ml, where this machine's own files are.
        """
        if "CheckpointConfig" not in request:
            return None
        wanted = request["CheckpointConfig"].get("LocalPath", DEFAULT_CHECKPOINTS)
        relative = Path(wanted).relative_to(CONTAINER_BASE)
        if ".." in relative.parts:
            raise ValueError(wanted)
        return self.base / relative

    def create(self, request: Request) -> None:
        """Makes the folders, and writes the service's files into them."""
        checkpoints = self.checkpoints(request)
        channels = (self.channel(channel["ChannelName"]) for channel in request["InputDataConfig"])
        for folder in (
            self.config,
            self.model,
            self.output_data,
            *channels,
            *([checkpoints] if checkpoints else []),
        ):
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in service_files(request).items():
            (self.config / name).write_text(_compact(content), "utf-8")


def service_files(request: Request) -> dict[str, dict[str, Any]]:
    """The content of the three files under input/config, for a job of one host."""
    return {
        "hyperparameters.json": dict(request.get("HyperParameters", {})),
        "inputdataconfig.json": input_data_config(request),
        "resourceconfig.json": resource_config(request),
    }


def input_data_config(request: Request) -> dict[str, Any]:
    """What the container is told of its channels: never where they come from."""
    default_mode = request["AlgorithmSpecification"]["TrainingInputMode"]
    return {
        channel["ChannelName"]: {
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
            "TrainingInputMode": channel.get("InputMode", default_mode),
            "S3DistributionType": channel["DataSource"]
            .get("S3DataSource", {})
            .get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        }
        for channel in request["InputDataConfig"]
    }


def resource_config(request: Request) -> dict[str, Any]:
    """What the container is told of the machines, for a job of one host."""
    resources = request["ResourceConfig"]
    groups = resources.get("InstanceGroups")
    name = groups[0]["InstanceGroupName"] if groups else _GROUP
    instance_type = groups[0]["InstanceType"] if groups else resources["InstanceType"]
    return {
        "current_host": "algo-1",
        "current_instance_type": instance_type,
        "current_group_name": name,
        "hosts": ["algo-1"],
        "instance_groups": [
            {"instance_group_name": name, "instance_type": instance_type, "hosts": ["algo-1"]}
        ],
        "network_interface_name": _INTERFACE,
    }


def service_environment(request: Request, region: str, tree: Tree) -> dict[str, str]:
    """The variables that the service sets in a container, with the tree in the place of /opt/ml.

    AWS_DEFAULT_REGION is not among them: neither does the service set it.
    """
    return {
        "TRAINING_JOB_NAME": request["TrainingJobName"],
        "TRAINING_JOB_ARN": job_arn(request, region),
        "AWS_REGION": region,
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
        "DMLC_INTERFACE": _INTERFACE,
        "SAGEMAKER_METRICS_DIRECTORY": str(tree.base / "output" / "metrics" / "sagemaker"),
        **request.get("Environment", {}),
        # Whatever the request says: the tree is here, and /opt/ml is none of the rehearsal's.
        "SAGEMAKER_BASE_DIR": str(tree.base),
    }


def job_arn(request: Request, region: str) -> str:
    """The ARN that the service would give to the job."""
    role = RoleArn.parse(request["RoleArn"])
    return f"arn:{role.partition}:sagemaker:{region}:{role.account}:training-job/{request['TrainingJobName']}"


def _compact(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
