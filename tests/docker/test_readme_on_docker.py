"""The commands of README.md that need Docker."""

from __future__ import annotations

from pathlib import Path

from tests.commands import ROOT
from tests.sandbox import Sandbox, blocks
from tests.servers.engine import Engine

REHEARSE = "Rehearse: containers, many hosts, spot"


def test_the_rehearsal_in_a_container_runs_as_the_readme_says(
    engine: Engine, pip_image: str, training_image: str, tmp_path: Path
) -> None:
    assert training_image  # its layers are there, so that the build below takes a second
    block = next(
        block for block in blocks(ROOT / "README.md") if (block.heading, block.language) == (REHEARSE, "sh")
    )
    # The base image of the Dockerfile is in a registry that tests do not reach.
    build, *commands = block.code.splitlines()
    sandbox = Sandbox.create(tmp_path / "project")
    data = "mkdir -p demo/s3/team; python sagemaker_container/digits.py demo/s3/team/data/digits"
    script = "\n".join(
        ["source .venv/bin/activate", data, f"{build} --base-image {pip_image} -- --network host", *commands]
    )
    done = sandbox.run(script, DOCKER_HOST=engine.host)
    assert done.code == 0, done.err
    assert "algo-1 | epoch=15 " in done.err
    assert "status       Completed" in done.out
