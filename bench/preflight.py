"""What the checks of a launch add to it when every request takes 40 ms, and how long `check --offline` takes."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.pairs import compare, seconds  # noqa: E402
from sagemaker_launcher.preflight import CHECKS  # noqa: E402
from tests.commands import SCRIPT, clean_environment  # noqa: E402
from tests.project import SCHEMA, Project  # noqa: E402
from tests.servers.aws import AwsServer  # noqa: E402
from tests.servers.proxy import RecordingProxy  # noqa: E402

PYTHON = sys.executable
ROUND_TRIP_S = 0.04
REGION = "us-east-1"
LINES = 200  # of both configs together
_HALF = LINES // 2


def preflight() -> None:
    """Prints both figures."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "home").mkdir()
        project = Project.create(Path(folder) / "project")
        environment = clean_environment(Path(folder) / "home")
        _launches(project, environment)
        _offline(_lengthen(project), environment)


def _launches(project: Project, environment: dict[str, str]) -> None:
    with AwsServer() as aws, RecordingProxy(upstream=aws.endpoint_url) as proxy:
        s3 = aws.client("s3", region=REGION)
        s3.create_bucket(Bucket="team")
        s3.put_object(Bucket="team", Key="data/train/a.csv", Body=b"1,2\n")
        key, secret = aws.credentials
        variables = {
            **environment,
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
        }
        launch = [PYTHON, str(SCRIPT), "launch", str(project.config), "--on", "aws", "--detach"]
        without = [*launch, *(word for name in CHECKS for word in ("--skip-check", name))]
        proxy.latency = ROUND_TRIP_S
        compare(
            f"launch, every request {ROUND_TRIP_S * 1000:.0f} ms / without checks",
            partial(seconds, launch, variables),
            partial(seconds, without, variables),
            "at most +0.8 s",
        )


def _lengthen(project: Project) -> Project:
    """Configs of so many lines, as a project has that sets nearly everything."""
    names = [f"OPTION_{number}" for number in range(LINES - _HALF - 2)]
    schema = SCHEMA.replace("\n\ndef ", "".join(f"\n_C.SOLVER.{name} = 0.5" for name in names) + "\n\n\ndef ")
    (project.folder / "code" / "config.py").write_text(schema)
    project.write_training("SOLVER:\n  BASE_LR: 0.5\n" + "".join(f"  {name}: 0.25\n" for name in names))
    missing = _HALF - len(project.config.read_text().splitlines()) - 1
    variables = {f"VARIABLE_{number}": "value" for number in range(missing)}
    project.write(ESTIMATOR={"ENVIRONMENT": variables})
    return project


def _offline(project: Project, environment: dict[str, str]) -> None:
    compare(
        f"check --offline, {LINES} lines / import nothing",
        partial(seconds, [PYTHON, str(SCRIPT), "check", "--offline", str(project.config)], environment),
        partial(seconds, [PYTHON, "-c", "pass"], environment),
        "0.25 s in all",
    )


if __name__ == "__main__":
    preflight()
