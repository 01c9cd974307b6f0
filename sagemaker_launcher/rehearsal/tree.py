"""The /opt/ml tree of one host: its folders, the service's files in it, and the service's variables.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import RoleArn
from sagemaker_launcher.rehearsal.hosts import INTERFACE, Host, resource_config
from sagemaker_launcher.request import Request

CONTAINER_BASE = "/opt/ml"
_CHECKPOINTS = "checkpoints"


@frozen
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

    @property
    def data(self) -> Path:
        """The folder of all input channels, and of the FIFOs of Pipe mode."""
        return self.base / "input" / "data"

    def channel(self, name: str) -> Path:
        """The folder of an input channel."""
        return self.data / name

    def checkpoints(self, request: Request) -> Path | None:
        """The checkpoint folder; None without checkpoints.

        It lies where the request wants it below /opt/ml, and in its usual place when the request wants it elsewhere.
        """
        wanted = checkpoint_path(request)
        if not wanted:
            return None
        relative = relative_to_base(wanted)
        return self.base / (relative if relative is not None else _CHECKPOINTS)

    def create(self, request: Request, hosts: tuple[Host, ...], host: Host) -> None:
        """Makes the folders, and writes the service's files into them."""
        checkpoints = self.checkpoints(request)
        folders = [
            self.config,
            self.data,
            self.model,
            self.output_data,
            *([checkpoints] if checkpoints else []),
        ]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in service_files(request, hosts, host).items():
            (self.config / name).write_text(_compact(content), "utf-8")


def tree_of(folder: Path, attempt: int, host: Host) -> Tree:
    """The tree of a host in the folder of a rehearsal, fresh for each attempt, counted from 1."""
    return Tree(folder / f"attempt-{attempt}" / host.name / "opt" / "ml")


def checkpoint_path(request: Request) -> str:
    """Where the program finds its checkpoints in a container; empty without checkpoints."""
    if "CheckpointConfig" not in request:
        return ""
    path: str = request["CheckpointConfig"].get("LocalPath", f"{CONTAINER_BASE}/{_CHECKPOINTS}/")
    return path


def relative_to_base(path: str) -> PurePosixPath | None:
    """A container's path relative to /opt/ml; None when it leads elsewhere."""
    try:
        relative = PurePosixPath(path).relative_to(CONTAINER_BASE)
    except ValueError:
        return None
    return None if ".." in relative.parts else relative


def service_files(request: Request, hosts: tuple[Host, ...], host: Host) -> dict[str, dict[str, Any]]:
    """The content of the three files under input/config, as one host sees them."""
    return {
        "hyperparameters.json": dict(request.get("HyperParameters", {})),
        "inputdataconfig.json": input_data_config(request, host),
        "resourceconfig.json": resource_config(hosts, host),
    }


def channels_of(request: Request, host: Host) -> list[Request]:
    """The channels that a host gets: all but those for other instance groups."""
    return [
        channel
        for channel in request["InputDataConfig"]
        if host.group in channel["DataSource"].get("S3DataSource", {}).get("InstanceGroupNames", [host.group])
    ]


def input_data_config(request: Request, host: Host) -> dict[str, Any]:
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
        for channel in channels_of(request, host)
    }


def service_environment(request: Request, region: str) -> dict[str, str]:
    """The variables that the service sets in a container, and those of the request.

    AWS_DEFAULT_REGION is not among them: neither does the service set it.
    """
    return {
        "TRAINING_JOB_NAME": request["TrainingJobName"],
        "TRAINING_JOB_ARN": job_arn(request, region),
        "AWS_REGION": region,
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
        "DMLC_INTERFACE": INTERFACE,
        "SAGEMAKER_METRICS_DIRECTORY": f"{CONTAINER_BASE}/output/metrics/sagemaker",
        **request.get("Environment", {}),
    }


def job_arn(request: Request, region: str) -> str:
    """The ARN that the service would give to the job."""
    role = RoleArn.parse(request["RoleArn"])
    return f"arn:{role.partition}:sagemaker:{region}:{role.account}:training-job/{request['TrainingJobName']}"


def _compact(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)
