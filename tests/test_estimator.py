"""The real Estimator sends exactly the request that was archived, and under a wrong SDK nothing happens at all."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from sagemaker_launcher import estimator
from sagemaker_launcher.errors import ConflictError, IntegrityError
from sagemaker_launcher.job import Job
from sagemaker_launcher.request import Request, create_training_job_request
from sagemaker_launcher.targets.aws import RecordingClient
from tests.commands import ROOT, SCRIPT, CommandLine, clean_environment
from tests.generated_configs import WITHOUT_SHRINKING, job_of, jobs
from tests.golden_requests import CONFIGS, golden_job, golden_request
from tests.project import Project

_ARN = {"TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/x"}


class _Service:
    """Takes requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def send(self, request: Request) -> dict[str, Any]:
        self.requests.append(request)
        return dict(_ARN)

    def create_training_job(self, **request: Any) -> dict[str, Any]:
        return self.send(request)


@cache
def _session(region: str) -> Any:
    return boto3.Session(region_name=region)


def _sent(job: Job) -> list[Request]:
    service = _Service()
    estimator.start_with_estimator(job, service, _session(job.region))
    return service.requests


@pytest.mark.filterwarnings("ignore")  # of the SDK's own imports
class TestEstimator:
    @hypothesis_settings(deadline=None, max_examples=100, phases=WITHOUT_SHRINKING)
    @given(jobs)
    def test_sends_the_archived_request_once(self, job: Job) -> None:
        service, archived = _Service(), create_training_job_request(job)
        # The client between them says what differs.
        estimator.start_with_estimator(job, RecordingClient(archived, service.send), _session(job.region))
        assert service.requests == [archived]

    @pytest.mark.parametrize("name", CONFIGS)
    def test_sends_the_kept_requests(self, name: str) -> None:
        assert _sent(golden_job(name)) == [golden_request(name)]

    def test_adds_no_tag_for_a_model_from_jumpstart(self) -> None:
        job = job_of(
            {
                "EXPERIMENT_NAME": "tiny",
                "AWS": {"REGION": "us-west-2"},
                "S3": {"OUTPUTS": "s3://team/outputs"},
                "ESTIMATOR": {
                    "IMAGE_URI": "123456789012.dkr.ecr.us-west-2.amazonaws.com/tiny:1",
                    "ROLE": "arn:aws:iam::123456789012:role/Name",
                    "INSTANCE_TYPE": "ml.m5.large",
                    "MODEL_URI": "s3://jumpstart-cache-prod-us-west-2/some-model.tar.gz",
                },
            }
        )
        assert _sent(job) == [create_training_job_request(job)]

    def test_does_not_come_past_a_client_that_expects_another_request(self) -> None:
        job, service = golden_job("shipped"), _Service()
        archived = golden_request("shipped")
        archived["ResourceConfig"]["InstanceCount"] = 2
        with pytest.raises(IntegrityError, match="nothing was sent") as caught:
            estimator.start_with_estimator(job, RecordingClient(archived, service.send), _session(job.region))
        assert service.requests == []
        assert '"InstanceCount": 2' in caught.value.message
        assert '"InstanceCount": 1' in caught.value.message
        assert "RoleArn" not in caught.value.message  # only what differs

    def test_lets_the_errors_of_the_client_through(self) -> None:
        job = golden_job("shipped")

        def send(request: Request) -> dict[str, Any]:
            raise ConflictError(f"taken: {request['TrainingJobName']}")

        client = RecordingClient(golden_request("shipped"), send)
        with pytest.raises(ConflictError, match="taken: digits-baseline"):
            estimator.start_with_estimator(job, client, _session(job.region))


class TestRecordingClient:
    @pytest.mark.parametrize(
        "change",
        [
            {"TrainingJobName": "another"},
            {"Tags": [{"Key": "a", "Value": "b"}]},  # more than archived
            {"ProfilerConfig": {"DisableProfiler": False}},
            {"EnableNetworkIsolation": False},  # the same to the service, and yet not what was archived
        ],
    )
    def test_sends_nothing_but_the_archived_request(self, change: Request) -> None:
        service = _Service()
        client = RecordingClient(golden_request("shipped"), service.send)
        with pytest.raises(IntegrityError, match=f"nothing was sent.*{next(iter(change))}"):
            client.create_training_job(**{**golden_request("shipped"), **change})
        assert service.requests == []

    @pytest.mark.parametrize("member", ["RoleArn", "Environment", "ProfilerConfig"])
    def test_sends_nothing_when_a_member_is_missing(self, member: str) -> None:
        service = _Service()
        client = RecordingClient(golden_request("shipped"), service.send)
        request = golden_request("shipped")
        del request[member]
        with pytest.raises(IntegrityError, match=f"{member}: archived .*, the SDK wants nothing"):
            client.create_training_job(**request)
        assert service.requests == []

    def test_sends_the_archived_request_and_gives_its_answer(self) -> None:
        service = _Service()
        client = RecordingClient(golden_request("shipped"), service.send)
        assert client.create_training_job(**golden_request("shipped")) == _ARN
        assert service.requests == [golden_request("shipped")]

    def test_knows_no_other_call(self) -> None:
        assert [name for name in dir(RecordingClient) if not name.startswith("_")] == ["create_training_job"]


# --- Under another SDK


@pytest.fixture
def aws() -> Iterator[socket.socket]:
    """A socket where AWS would be, which nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)  # noqa: FBT003 - the standard library's
        yield server


def _variables(server: socket.socket) -> dict[str, str]:
    host, port = server.getsockname()
    return {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
    }


def _was_called(server: socket.socket) -> bool:
    try:
        server.accept()
    except BlockingIOError:
        return False
    return True


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("version", ["3.0.0", "3.10.1", "2.257.6", "1.72.0", "2.257"])
def test_under_another_generation_of_the_sdk_a_launch_says_so_and_does_nothing(
    cli: CommandLine, project: Project, tmp_path: Path, aws: socket.socket, version: str
) -> None:
    library = tmp_path / "library"
    metadata = library / f"sagemaker-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: sagemaker\nVersion: {version}\n")
    (library / "sagemaker.py").write_text("print('was imported', flush=True)\n")
    before = _files(tmp_path)
    variables = {"PYTHONPATH": str(library), **_variables(aws)}

    done = cli("launch", project.config, env=variables)

    assert done.code == 15
    assert done.out == ""
    assert not done.has_traceback
    assert f"SageMaker SDK {version} is installed" in done.err
    assert "sagemaker>=2.257.7,<3" in done.err
    assert _files(tmp_path) == before
    assert not _was_called(aws)


def test_under_another_generation_of_the_sdk_programs_are_told_too(
    cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    metadata = tmp_path / "library" / "sagemaker-3.20.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: sagemaker\nVersion: 3.20.0\n")
    variables = {"PYTHONPATH": str(tmp_path / "library")}
    error = cli("launch", project.config, "--json", env=variables).json["error"]
    assert (error["code"], error["exit"]) == ("sdk_version", 15)
    # What needs no SDK works.
    assert cli("launch", project.config, "--dry-run", "--json", env=variables).code == 0
    assert cli("launch", project.config, "--on", "process", "--s3-root", project.s3, env=variables).code == 0


def test_without_the_sdk_a_launch_says_how_to_install_it(
    project: Project, home: Path, tmp_path: Path, aws: socket.socket
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("sagemaker"):
            (library / entry.name).symlink_to(entry)
    variables = {**clean_environment(home), **_variables(aws), "PYTHONPATH": str(library)}
    command = [sys.executable, "-S", str(SCRIPT), "launch", str(project.config), "--json"]
    done = subprocess.run(
        command, cwd=project.folder, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 15, done.stderr
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "sdk_missing"
    assert "pip install 'sagemaker>=2.257.7,<3'" in error["hint"]
    assert not _was_called(aws)


def test_the_requirement_is_the_one_that_is_installed() -> None:
    assert f'"{estimator.SDK_REQUIREMENT}"' in (ROOT / "pyproject.toml").read_text()
    assert estimator.check_sdk_version().startswith("2.")
