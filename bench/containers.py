"""Times a rehearsal in a container: to the first line of the program, against `docker run` and the SDK's local mode."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.pairs import compare, seconds_to_line  # noqa: E402
from tests.commands import SCRIPT  # noqa: E402
from tests.project import Project  # noqa: E402
from tests.servers.engine import Engine  # noqa: E402

PYTHON = sys.executable
PROGRAM = """\
import os, pathlib
print("first line", os.listdir("/opt/ml/input/data/training"), flush=True)
pathlib.Path("/opt/ml/model/model.txt").write_text("weights")
"""
LOCAL_MODE = """\
import sys
import boto3
from sagemaker.estimator import Estimator
from sagemaker.local import LocalSession

image, data, outputs = sys.argv[1:]
session = LocalSession(boto_session=boto3.Session(region_name="us-east-1"))
session.config = {"local": {"local_code": True}}
estimator = Estimator(
    image_uri=image,
    role="arn:aws:iam::123456789012:role/SageMakerExecutionRole",
    instance_type="local",
    instance_count=1,
    output_path=f"file://{outputs}",
    sagemaker_session=session,
)
estimator.fit({"training": f"file://{data}"})
"""


def on_docker(environment: Mapping[str, str], folder: Path) -> None:
    """Compares `launch --on docker` with both, in pairs."""
    try:
        engine = Engine.found()
        engine.make_base_image()
    except LookupError as reason:
        print(f"launch --on docker: left out, {reason}")
        return
    instructions = 'COPY main.py /opt/ml/code/\nENTRYPOINT ["python3", "/opt/ml/code/main.py"]'
    image = engine.build("bench", instructions, {"main.py": PROGRAM})
    project = Project.create(folder / "docker project")
    project.program(PROGRAM)
    variables = {**environment, **engine.variables}
    data, tree = project.s3 / "team" / "data" / "train", folder / "tree"
    for part in ("model", "output/data"):
        (tree / part).mkdir(parents=True)
    words = ("--on", "docker", "--image", image, "--s3-root", str(project.s3))
    launch = [PYTHON, str(SCRIPT), "launch", str(project.config), *words]
    bare = [
        engine.program, "run", "--rm",
        "--mount", f"type=bind,source={data},target=/opt/ml/input/data/training",
        "--mount", f"type=bind,source={tree / 'model'},target=/opt/ml/model",
        image, "train",
    ]  # fmt: skip

    def rehearsal() -> float:
        return seconds_to_line(launch, variables, "algo-1 | first line")

    compare(
        "launch --on docker, first line / docker run",
        rehearsal,
        lambda: seconds_to_line(bare, variables, "first line"),
        "1.5x",
        pairs_of_runs=41,
    )
    if shutil.which("docker-compose") is None:
        print("launch --on docker / local mode of the SDK: left out, there is no docker-compose")
        return
    script, outputs = folder / "local_mode.py", folder / "outputs"
    script.write_text(LOCAL_MODE)
    outputs.mkdir()
    local_variables = {
        **variables,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        # The SDK's telemetry must not wait for the internet, nor reach it.
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    local_mode = [PYTHON, str(script), image, str(data), str(outputs)]
    compare(
        "launch --on docker, first line / SDK's local mode",
        rehearsal,
        lambda: seconds_to_line(local_mode, local_variables, "first line", anywhere=True),
        "no aim",
    )
