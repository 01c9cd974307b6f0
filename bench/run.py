"""Times this tool against what its users would otherwise start, in pairs, and prints the ratios: `make bench`.

Machines are noisy, so each figure is the median over pairs of runs that follow each other. `make bench OPTIONS=--full` also
fills an archive with 100,000 experiments, and kills launches among a thousand: half an hour more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.containers import on_docker  # noqa: E402
from bench.crashes import crashes  # noqa: E402
from bench.data import first_fetch, warm_data  # noqa: E402
from bench.history import history  # noqa: E402
from bench.pairs import compare, seconds, seconds_to_line  # noqa: E402
from bench.preflight import preflight  # noqa: E402
from bench.waiting import waiting  # noqa: E402
from tests.commands import SCRIPT, clean_environment  # noqa: E402
from tests.project import Project  # noqa: E402
from tests.servers.aws import AwsServer  # noqa: E402
from tests.servers.seaweed import SeaweedServer  # noqa: E402

PYTHON = sys.executable
FILES, FILE_BYTES = 2000, 10 * 1024
COMPLETE = "from sagemaker_launcher.completion import main; main(sys.argv[1:])"
MINIMAL = """\
import boto3
from sagemaker.estimator import Estimator
from sagemaker.session import Session

session = Session(boto_session=boto3.Session(region_name="us-east-1"))
estimator = Estimator(
    image_uri="123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tiny:1.0",
    role="arn:aws:iam::123456789012:role/SageMakerExecutionRole",
    instance_type="ml.m5.large",
    instance_count=1,
    output_path="s3://team/outputs",
    sagemaker_session=session,
)
estimator.fit({"training": "s3://team/data/train/"}, wait=False)
"""


def start_up(environment: Mapping[str, str]) -> None:
    for word in ("--help", "--version"):
        compare(
            f"{word} / import click",
            partial(seconds, [PYTHON, str(SCRIPT), word], environment),
            lambda: seconds([PYTHON, "-c", "import click"], environment),
            "2.5x",
        )
    config = str(ROOT / "configs" / "sagemaker_config.yaml")
    for words in (["check", "--offline", config], ["launch", "--dry-run", config]):
        compare(
            f"{' '.join(words[:2])} / import boto3, yaml",
            partial(seconds, [PYTHON, str(SCRIPT), *words], environment),
            lambda: seconds([PYTHON, "-c", "import boto3, yaml"], environment),
            "2x",
        )


def completion(environment: Mapping[str, str]) -> None:
    names = [PYTHON, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {COMPLETE}", "experiments"]
    compare(
        "completion of experiments / an empty Python",
        partial(seconds, names, environment),
        lambda: seconds([PYTHON, "-c", ""], environment),
        "0.1 s",
    )


def on_process(environment: Mapping[str, str], folder: Path) -> None:
    root = folder / "s3"
    digits = root / "team" / "data" / "digits"
    digits.mkdir(parents=True)
    subprocess.run(
        [PYTHON, str(ROOT / "sagemaker_container" / "digits.py"), str(digits)],
        check=True,
        capture_output=True,
    )
    config = str(ROOT / "configs" / "sagemaker_config.yaml")
    words = [
        PYTHON,
        str(SCRIPT),
        "launch",
        config,
        "--on",
        "process",
        "--s3-root",
        str(root),
        "--train",
        "SOLVER.EPOCHS",
        "1",
    ]

    def rehearsal() -> float:
        return seconds_to_line(words, environment, "algo-1 | job=")

    def bare() -> float:
        main = str(ROOT / "sagemaker_container" / "main.py")
        return seconds_to_line(
            [PYTHON, main], {**environment, "SAGEMAKER_BASE_DIR": str(folder / "ml")}, "job="
        )

    compare("launch --on process, first line / python main.py", rehearsal, bare, "at most +0.35 s")
    many = root / "team" / "data" / "many"
    many.mkdir()
    for number in range(FILES):
        (many / f"{number}.bin").write_bytes(os.urandom(FILE_BYTES))
    with_many = [*words, "--set", "CHANNELS.many", "s3://team/data/many/"]
    compare(
        "the same with 2,000 files in a channel",
        lambda: seconds_to_line(with_many, environment, "algo-1 | job="),
        bare,
        "at most +0.35 s",
    )
    toolkit = os.environ.get("TOOLKIT_PYTHON", str(ROOT / ".venv-toolkit" / "bin" / "python"))
    if not Path(toolkit).exists():
        print("toolkit: not installed (make toolkit-test installs it), comparison left out")
        return

    def toolkit_and_sdk() -> float:
        base = Path(tempfile.mkdtemp(dir=folder))
        write_tree(base)
        variables = {
            **environment,
            "PATH": f"{Path(toolkit).parent}:{environment['PATH']}",
            "SAGEMAKER_BASE_DIR": str(base),
            "SAGEMAKER_PROGRAM": "first.py",
            "SM_STUDIO_LOCAL_MODE": "true",
        }
        train = seconds_to_line([str(Path(toolkit).with_name("train"))], variables, "job=")
        return train + seconds([PYTHON, "-c", "import sagemaker.estimator"], environment)

    compare("launch --on process / toolkit train + SDK import", rehearsal, toolkit_and_sdk, "0.33x")


def write_tree(base: Path) -> None:
    """The least that the toolkit's `train` needs under /opt/ml."""
    for part in ("input/config", "code", "output", "model"):
        (base / part).mkdir(parents=True)
    (base / "code" / "first.py").write_text('print("job=", flush=True)\n')
    config = base / "input" / "config"
    (config / "hyperparameters.json").write_text("{}")
    (config / "inputdataconfig.json").write_text("{}")
    (config / "resourceconfig.json").write_text(
        '{"current_host":"algo-1","hosts":["algo-1"],"network_interface_name":"eth0"}'
    )


def on_aws(environment: Mapping[str, str], folder: Path) -> None:
    reason = SeaweedServer.available()
    if reason:
        print(f"launch --on aws: left out, {reason}")
        return
    project = Project.create(folder / "project")
    (folder / "weed").mkdir()
    script = folder / "minimal.py"
    script.write_text(MINIMAL)
    with SeaweedServer(folder / "weed") as s3, AwsServer() as aws:
        s3.create_bucket("team")
        s3.client().put_object(Bucket="team", Key="data/train/data.csv", Body=b"1,2\n")
        key, secret = s3.admin
        variables = {
            **environment,
            "AWS_ENDPOINT_URL": aws.endpoint_url,
            "AWS_ENDPOINT_URL_S3": s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            # The SDK's telemetry must not wait for the internet, nor reach it.
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }
        launch = [PYTHON, str(SCRIPT), "launch", str(project.config), "--on", "aws", "--detach"]
        compare(
            "launch --on aws --detach / Estimator.fit script",
            lambda: seconds(launch, variables),
            lambda: seconds([PYTHON, str(script)], variables),
            "1.15x",
        )


def main(*, full: bool) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    (folder / "home").mkdir()
    environment = clean_environment(folder / "home")
    try:
        start_up(environment)
        completion(environment)
        on_process(environment, folder)
        on_docker(environment, folder)
        warm_data()
        first_fetch()
        on_aws(environment, folder)
        preflight()
        waiting()
        history((100, 10_000, 100_000) if full else (100, 10_000))
        crashes(*((1000, 32) if full else (60, 8)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(full="--full" in sys.argv[1:])
