"""build_and_push.sh with a real engine and a real registry, whose login is the one that ECR gives."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import aws_command
from tests.commands import ROOT, Finished, clean_environment
from tests.servers.aws import AwsServer
from tests.servers.engine import BASE_IMAGE, Engine
from tests.servers.registry import RegistryServer

# Small, and built in the folder of the project as the example's is.
DOCKERFILE = """ARG BASE_IMAGE=an-image-that-nobody-has
FROM ${BASE_IMAGE}
COPY sagemaker_container/requirements.txt /opt/ml/code/
ENTRYPOINT ["cat", "/opt/ml/code/requirements.txt"]
"""
IMAGE_OF_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Pushing:
    """build_and_push.sh, called by somebody who has an account."""

    folder: Path
    environment: dict[str, str]
    registry: str
    repository: str

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    def __call__(self, *words: str, dockerfile: str = DOCKERFILE, **variables: str) -> Finished:
        (self.folder / "Dockerfile").write_text(dockerfile)
        done = subprocess.run(
            [
                *(str(ROOT / "build_and_push.sh"), "--image", self.repository, "--tag", "1.0"),
                *("--dockerfile", "Dockerfile", "--base-image", BASE_IMAGE, *words),
            ],
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def to_registry(self, *words: str, dockerfile: str = DOCKERFILE, **variables: str) -> Finished:
        return self("--registry", self.registry, *words, dockerfile=dockerfile, **variables)


@pytest.fixture
def push(
    tmp_path: Path, home: Path, engine: Engine, registry: RegistryServer, aws: AwsServer
) -> Iterator[Pushing]:
    """For a repository of this test alone; its images leave the engine afterwards."""
    aws.reset()
    programs = tmp_path / "programs"
    programs.mkdir()
    aws_command.install(programs)
    key, secret = aws.credentials
    environment = clean_environment(
        home,
        **engine.variables,
        PATH=os.pathsep.join([str(programs), os.environ["PATH"]]),
        AWS_ENDPOINT_URL=aws.endpoint_url,
        AWS_ACCESS_KEY_ID=key,
        AWS_SECRET_ACCESS_KEY=secret,
        AWS_REGION="eu-west-1",
    )
    repository = f"sagemaker-{tmp_path.name.replace('_', '-').strip('-')}"
    pushing = Pushing(tmp_path, environment, registry.address, repository)
    yield pushing
    for name in (pushing.name, repository):
        engine("image", "rm", "--force", f"{name}:1.0", check=False)


def test_the_printed_digest_is_what_the_registry_has_and_what_can_be_pulled(
    push: Pushing, registry: RegistryServer, engine: Engine, home: Path
) -> None:
    done = push.to_registry()
    assert done.code == 0, done.err
    manifest = registry.manifest(push.repository, "1.0")
    assert done.out == f"{push.name}@{manifest.digest}\n"
    assert registry.tags(push.repository) == ["1.0"]

    engine("image", "rm", "--force", f"{push.name}:1.0")
    reference = done.out.strip()
    assert not engine.has_image(reference)
    # The script's login lies where the user's logins lie.
    pulled = engine("--config", home / ".docker", "run", "--rm", reference).stdout
    assert pulled == (ROOT / "sagemaker_container" / "requirements.txt").read_text()
    engine("image", "rm", "--force", reference)


def test_what_is_pushed_is_one_image_for_the_machines_of_sagemaker(
    push: Pushing, registry: RegistryServer
) -> None:
    done = push.to_registry()
    assert done.code == 0, done.err
    manifest = registry.manifest(push.repository, "1.0")
    # An index, or a manifest of OCI, is refused by parts of SageMaker.
    assert (manifest.media_type, manifest.content["mediaType"]) == (IMAGE_OF_DOCKER, IMAGE_OF_DOCKER)
    config = registry.config(push.repository, manifest)
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"]["Entrypoint"] == ["cat", "/opt/ml/code/requirements.txt"]


def test_the_same_image_has_the_same_digest_again(push: Pushing) -> None:
    first, second = push.to_registry(), push.to_registry()
    assert first.code == second.code == 0, first.err + second.err
    assert first.out == second.out


def test_a_repository_that_is_missing_is_created_where_the_login_came_from(
    push: Pushing, aws: AwsServer
) -> None:
    done = push.to_registry("--create-repository")
    assert done.code == 0, done.err
    [repository] = aws.client("ecr").describe_repositories()["repositories"]
    assert repository["repositoryName"] == push.repository
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_a_registry_that_refuses_the_login_gets_nothing(push: Pushing, tmp_path: Path) -> None:
    (tmp_path / "strict").mkdir()
    with RegistryServer(tmp_path / "strict", "AWS", "the password of another account") as other:
        done = push("--registry", other.address)
        assert (done.code, done.out) == (4, "")
        assert "401 Unauthorized" in done.err
        assert f"cannot log in to {other.address}; check your credentials with: aws sts" in done.err
        assert other.tags(push.repository) == []


def test_a_push_without_login_is_refused_and_says_so(
    push: Pushing, registry: RegistryServer, engine: Engine
) -> None:
    # A docker that forgets its logins: the script's own ends with the command that makes it.
    docker = push.folder / "programs" / "forgetful"
    docker.write_text(f"#!/bin/sh\nDOCKER_CONFIG=$(mktemp -d) exec '{engine.program}' \"$@\"\n")
    docker.chmod(0o755)
    done = push.to_registry("--docker", "forgetful", TMPDIR=str(push.folder))
    assert (done.code, done.out) == (1, "")
    assert "no basic auth credentials" in done.err
    assert "the push failed" in done.err
    assert registry.tags(push.repository) == []


def test_a_failing_build_pushes_nothing(push: Pushing, registry: RegistryServer, engine: Engine) -> None:
    broken = f"{DOCKERFILE}RUN echo out of luck >&2 && exit 3\n"
    # Without --force-rm docker keeps the container of the step that failed.
    done = push.to_registry("--", "--force-rm", dockerfile=broken)
    assert (done.code, done.out) == (1, "")
    assert "out of luck" in done.err
    assert done.err.splitlines()[-1] == "build_and_push.sh: the build failed; nothing was pushed"
    assert registry.tags(push.repository) == []
    assert not engine.has_image(f"{push.name}:1.0")


def test_local_builds_an_image_that_runs_and_speaks_with_nobody(
    push: Pushing, registry: RegistryServer, engine: Engine, aws: AwsServer
) -> None:
    done = push("--local")
    assert (done.code, done.out) == (0, f"{push.repository}:1.0\n"), done.err
    assert "yacs" in engine("run", "--rm", done.out.strip()).stdout
    assert registry.tags(push.repository) == []
    assert aws.requests == []


def test_options_after_two_dashes_reach_the_build(push: Pushing, engine: Engine) -> None:
    done = push(
        *("--local", "--", "--build-arg", "WORD=passed on", "--label", "team=vision"),
        dockerfile=f'{DOCKERFILE}ARG WORD\nENV WORD="$WORD"\n',
    )
    assert done.code == 0, done.err
    config = engine.inspect(done.out.strip())["Config"]
    assert "WORD=passed on" in config["Env"]
    assert config["Labels"]["team"] == "vision"
