"""The /opt/ml tree, the service's files in it, and the service's variables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.rehearsal.hosts import hosts_of
from sagemaker_launcher.rehearsal.tree import (
    Tree,
    checkpoint_path,
    job_arn,
    relative_to_base,
    service_environment,
)
from sagemaker_launcher.request import Request
from tests.fidelity import reproduces
from tests.project import Project
from tests.stand_in import request_of, snapshot


def create(tree: Tree, request: Request) -> None:
    """Makes the tree of the first host."""
    hosts = hosts_of(request)
    tree.create(request, hosts, hosts[0])


def written(tree: Tree, name: str) -> str:
    return (tree.config / name).read_text("utf-8")


@reproduces("files")
def test_hyperparameters_are_one_compact_object_of_texts_exactly_as_in_the_request(
    project: Project, tmp_path: Path
) -> None:
    values = {
        "epochs": "3",
        "lr": "0.1",
        "flag": "true",
        "SOLVER.STEPS": "[10, 20]",
        "text": 'a "b" é',
        "empty": "",
    }
    request = request_of(project) | {"HyperParameters": values}
    tree = Tree(tmp_path / "ml")
    create(tree, request)
    assert written(tree, "hyperparameters.json") == (
        '{"epochs":"3","lr":"0.1","flag":"true","SOLVER.STEPS":"[10, 20]","text":"a \\"b\\" é","empty":""}'
    )


def test_a_job_without_hyperparameters_gets_an_empty_object(project: Project, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "ml")
    create(tree, request_of(project))
    assert written(tree, "hyperparameters.json") == "{}"


@reproduces("files")
def test_channels_are_described_in_the_order_of_the_service_and_say_nothing_of_s3(
    project: Project, tmp_path: Path
) -> None:
    project.write(
        CHANNELS={
            "training": {
                "S3_URI": "s3://team/data/train/",
                "CONTENT_TYPE": "text/csv",
                "INPUT_MODE": "FastFile",
                "DISTRIBUTION": "ShardedByS3Key",
            },
            "validation": {"S3_URI": "s3://team/data/val", "INPUT_MODE": "Pipe", "COMPRESSION": "Gzip"},
            "records": {"S3_URI": "s3://team/data/rec", "RECORD_WRAPPING": "RecordIO"},
        }
    )
    tree = Tree(tmp_path / "ml")
    create(tree, request_of(project))
    assert written(tree, "inputdataconfig.json") == (
        '{"training":{"ContentType":"text/csv","TrainingInputMode":"FastFile","S3DistributionType":"ShardedByS3Key",'
        '"RecordWrapperType":"None"},'
        '"validation":{"TrainingInputMode":"Pipe","S3DistributionType":"FullyReplicated","RecordWrapperType":"None"},'
        '"records":{"TrainingInputMode":"File","S3DistributionType":"FullyReplicated","RecordWrapperType":"RecordIO"},'
        '"config":{"TrainingInputMode":"File","S3DistributionType":"FullyReplicated","RecordWrapperType":"None"}}'
    )


def test_a_file_system_counts_as_fully_replicated(project: Project, tmp_path: Path) -> None:
    request = request_of(project)
    request["InputDataConfig"][0]["DataSource"] = {"FileSystemDataSource": {"FileSystemId": "fs-1"}}
    tree = Tree(tmp_path / "ml")
    create(tree, request)
    assert json.loads(written(tree, "inputdataconfig.json"))["training"] == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }


@reproduces("files")
def test_the_machines_are_described_byte_for_byte_as_a_real_job_sees_them(
    project: Project, tmp_path: Path
) -> None:
    tree = Tree(tmp_path / "ml")
    create(tree, request_of(project, ("ESTIMATOR.INSTANCE_TYPE", "ml.g4dn.12xlarge")))
    text = written(tree, "resourceconfig.json")
    assert text == (
        '{"current_host":"algo-1","current_instance_type":"ml.g4dn.12xlarge","current_group_name":"homogeneousCluster",'
        '"hosts":["algo-1"],"instance_groups":[{"instance_group_name":"homogeneousCluster",'
        '"instance_type":"ml.g4dn.12xlarge","hosts":["algo-1"]}],"network_interface_name":"eth0"}'
    )
    assert len(text) == 280  # bytes, of a job with one ml.g4dn.12xlarge


def test_an_instance_group_keeps_its_name(project: Project, tmp_path: Path) -> None:
    group = {"INSTANCE_GROUP_NAME": "trainers", "INSTANCE_TYPE": "ml.p3.2xlarge", "INSTANCE_COUNT": 1}
    project.write(ESTIMATOR={"INSTANCE_TYPE": "", "INSTANCE_GROUPS": [group]})
    tree = Tree(tmp_path / "ml")
    create(tree, request_of(project))
    resources = json.loads(written(tree, "resourceconfig.json"))
    assert resources["current_group_name"] == "trainers"
    assert resources["current_instance_type"] == "ml.p3.2xlarge"
    assert resources["instance_groups"] == [
        {"instance_group_name": "trainers", "instance_type": "ml.p3.2xlarge", "hosts": ["algo-1"]}
    ]


def test_the_tree_has_the_folders_of_the_service_and_nothing_else(project: Project, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "ml")
    create(tree, request_of(project))
    assert sorted(snapshot(tree.base)) == [
        "input",
        "input/config",
        "input/config/hyperparameters.json",
        "input/config/inputdataconfig.json",
        "input/config/resourceconfig.json",
        "input/data",
        "model",
        "output",
        "output/data",
    ]
    assert {path.stat().st_mode & 0o777 for path in tree.config.iterdir()} == {0o644}


@pytest.mark.parametrize(
    ("local_path", "folder"),
    [("", "checkpoints"), ("/opt/ml/checkpoints", "checkpoints"), ("/opt/ml/my/states/", "my/states")],
)
def test_checkpoints_lie_where_the_request_says(
    project: Project, tmp_path: Path, local_path: str, folder: str
) -> None:
    project.write(
        S3={"CHECKPOINTS": "s3://team/checkpoints"}, ESTIMATOR={"CHECKPOINT_LOCAL_PATH": local_path}
    )
    request, tree = request_of(project), Tree(tmp_path / "ml")
    create(tree, request)
    assert tree.checkpoints(request) == tree.base / folder
    assert (tree.base / folder).is_dir()


@pytest.mark.parametrize(
    "outside", ["/tmp", "/opt/mlx", "/opt/ml/../x", "/opt/ml/checkpoints/../../../etc", "/", "x"]
)
def test_checkpoints_outside_the_tree_are_kept_in_their_usual_place(tmp_path: Path, outside: str) -> None:
    request = {"CheckpointConfig": {"S3Uri": "s3://team/c/", "LocalPath": outside}}
    tree = Tree(tmp_path / "ml")
    assert tree.checkpoints(request) == tree.base / "checkpoints"
    assert checkpoint_path(request) == outside
    assert relative_to_base(outside) is None


def test_the_environment_is_what_the_service_sets_and_the_request_adds(project: Project) -> None:
    request: dict[str, Any] = request_of(project) | {"Environment": {"MY": "own"}}
    assert service_environment(request, "eu-central-1") == {
        "TRAINING_JOB_NAME": "tiny-20260102-030405-abcdef",
        "TRAINING_JOB_ARN": (
            "arn:aws:sagemaker:eu-central-1:123456789012:training-job/tiny-20260102-030405-abcdef"
        ),
        "AWS_REGION": "eu-central-1",
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
        "DMLC_INTERFACE": "eth0",
        "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
        "MY": "own",
    }


def test_the_arn_has_the_partition_and_the_account_of_the_role(project: Project) -> None:
    request = request_of(project) | {"RoleArn": "arn:aws-cn:iam::210987654321:role/R"}
    assert job_arn(request, "cn-north-1") == (
        "arn:aws-cn:sagemaker:cn-north-1:210987654321:training-job/tiny-20260102-030405-abcdef"
    )
