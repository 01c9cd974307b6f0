"""Dockerfile.sagemaker and .dockerignore, as far as they can be judged without an engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.container.harness import CODE

PROJECT = CODE.parent
DOCKERFILE = (PROJECT / "Dockerfile.sagemaker").read_text("utf-8")
INSTRUCTIONS = [
    re.split(r"\s+", line, maxsplit=1)
    for line in re.sub(r"\\\n", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
    if line.strip()
]


def values(instruction: str) -> list[str]:
    return [value for name, value in INSTRUCTIONS if name == instruction]


def test_the_base_image_is_the_first_thing_and_can_be_chosen() -> None:
    assert INSTRUCTIONS[:2] == [["ARG", "BASE_IMAGE=python:3.12-slim"], ["FROM", "${BASE_IMAGE}"]]


def test_the_requirements_are_installed_before_the_code_is_copied() -> None:
    order = [name for name, _ in INSTRUCTIONS]
    assert order.index("RUN") < len(order) - 1 - order[::-1].index("COPY")
    assert values("COPY")[0].startswith("sagemaker_container/requirements.txt ")


def test_pid_1_is_the_program_itself_and_lies_where_the_code_is_copied_to() -> None:
    python, program = json.loads(values("ENTRYPOINT")[0])
    assert python == "python3"
    target = values("COPY")[1].split()[1]
    assert program.startswith(target)
    assert (CODE / program.removeprefix(target)).is_file()


def test_the_toolkit_finds_the_same_program() -> None:
    environment = dict(item.split("=") for item in " ".join(values("ENV")).split())
    assert environment == {
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PYTHONUNBUFFERED": "1",
        "SAGEMAKER_PROGRAM": "main.py",
    }
    assert values("WORKDIR") == ["/opt/ml/code"]


def installed(folder: Path, *programs: str, headers: bool) -> list[str]:
    """What the RUN instruction calls on a system that has only these programs."""
    include = folder / "include"
    include.mkdir()
    if headers:
        (include / "Python.h").touch()
    (folder / "bin").mkdir()
    for name in programs:
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\necho {include}\n')
        program.chmod(0o755)
    # Nothing else is on PATH: neither apt-get nor rm can touch this machine.
    done = subprocess.run(
        [str(shutil.which("sh")), "-c", values("RUN")[0]], env={"PATH": str(folder / "bin")}, check=False
    )
    assert done.returncode == 0
    return (folder / "calls").read_text().splitlines()


def test_a_slim_base_gets_a_compiler_that_leaves_again(tmp_path: Path) -> None:
    calls = installed(tmp_path, "python3", "apt-get", "rm", headers=True)
    short = [" ".join(call.split()[:2]) for call in calls if not call.startswith("python3 -c")]
    assert short == [
        "apt-get update",
        "apt-get install",
        "python3 -m",
        "apt-get purge",
        "apt-get clean",
        "rm -rf",
        "rm /tmp/requirements.txt",
    ]
    assert [call.split("recommends ")[-1] for call in calls if "install --yes" in call] == ["gcc libc6-dev"]
    assert [call.split("remove ")[-1] for call in calls if "purge" in call] == ["gcc libc6-dev"]


def test_a_base_with_compiler_and_headers_needs_no_package_manager(tmp_path: Path) -> None:
    calls = installed(tmp_path, "python3", "gcc", "rm", headers=True)
    assert [call.split()[0] for call in calls] == ["python3", "python3", "rm"]
    (pip,) = [call for call in calls if "pip" in call]
    assert "--no-cache-dir --requirement /tmp/requirements.txt sagemaker-training>=" in pip


def test_the_python_of_the_system_gets_its_headers(tmp_path: Path) -> None:
    calls = installed(tmp_path, "python3", "gcc", "apt-get", "rm", headers=False)
    assert [call.split("recommends ")[-1].strip() for call in calls if "install --yes" in call] == [
        "python3-dev"
    ]


def test_nothing_but_the_training_code_is_sent_to_the_engine(tmp_path: Path) -> None:
    build = pytest.importorskip("docker.utils.build")
    for name in (
        "sagemaker_container/main.py",
        "sagemaker_container/nets/deep/net.py",
        "sagemaker_container/requirements.txt",
        "sagemaker_container/.env",
        "sagemaker_container/nets/server.pem",
        "sagemaker_container/nets/__pycache__/net.cpython-312.pyc",
        "sagemaker_container/id.key",
        ".env",
        ".git/config",
        ".aws/credentials",
        "configs/sagemaker_config.yaml",
        "README.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lines = (PROJECT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    sent = build.exclude_paths(str(tmp_path), patterns, dockerfile=".dockerignore")
    assert {name for name in sent if (tmp_path / name).is_file()} == {
        "sagemaker_container/main.py",
        "sagemaker_container/nets/deep/net.py",
        "sagemaker_container/requirements.txt",
    }
