"""Runs the emulator in the foreground, with a bucket that has the example's data: `make emulator`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from sagemaker_launcher.errors import LauncherError
from tests.commands import ROOT
from tests.servers.clients import sealed_client

from .emulator import Emulator
from .fate import TAG, WORDS
from .orders import Code

_BUCKET, _REGION, _PORT = "team", "us-east-1", 4570
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Serves until a signal comes."""
    options = _options()
    stopped = threading.Event()
    for number in _SIGNALS:
        signal.signal(number, lambda *_: stopped.set())
    emulator = Emulator(
        os.environ.get("AWS_ENDPOINT_URL_S3", ""),
        _credentials(),
        codes=tuple(options.code),
        place=options.on,
        stop_grace_s=options.stop_grace,
        port=options.port,
        tell=_say,
    )
    try:
        with emulator:
            _fill(emulator)
            _say(_welcome(emulator))
            stopped.wait()
            _say("ending every job")
    except LauncherError as error:
        sys.exit(f"error: {error.message}\n{error.hint}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.emulator", description=__doc__)
    parser.add_argument(
        "--code",
        type=Code.parse,
        action="append",
        default=[],
        metavar="IMAGE_PATTERN=FOLDER[:PROGRAM]",
        help="what runs for which images, such as '*/mine:*=src:train.py'; repeatable, the first that fits "
        "(else: the example of this project, or with --on docker the image's own code)",
    )
    parser.add_argument("--on", choices=["process", "docker"], default="process", help="how programs run")
    parser.add_argument(
        "--port", type=int, default=_PORT, help="0: where there is room (default: %(default)s)"
    )
    parser.add_argument(
        "--stop-grace",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="between SIGTERM and SIGKILL (default: %(default)s)",
    )
    return parser.parse_args()


def _credentials() -> tuple[str, str]:
    """Those of the environment, which the S3 server that it names may need."""
    key, secret = Emulator.credentials
    return os.environ.get("AWS_ACCESS_KEY_ID", key), os.environ.get("AWS_SECRET_ACCESS_KEY", secret)


def _fill(emulator: Emulator) -> None:
    """Makes the bucket, and puts the example's data into it."""
    s3 = sealed_client("s3", emulator.s3_url, _credentials(), region=_REGION)
    if _BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=_BUCKET)
    with tempfile.TemporaryDirectory() as folder:
        digits = ROOT / "sagemaker_container" / "digits.py"
        subprocess.run([sys.executable, str(digits), folder], check=True)
        for path in sorted(Path(folder).rglob("*.csv")):
            s3.upload_file(str(path), _BUCKET, f"data/digits/{path.relative_to(folder)}")


def _welcome(emulator: Emulator) -> str:
    variables = {**emulator.variables, "AWS_DEFAULT_REGION": _REGION}
    python = os.path.relpath(sys.executable)
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    return f"""\
AWS is at {emulator.endpoint_url}, and jobs run on this machine. In another terminal:

{exports}

{python} run_sagemaker_job.py launch configs/sagemaker_config.yaml --on aws
{python} run_sagemaker_job.py list --archive s3://{_BUCKET}/experiments

boto3, the SageMaker SDK and the AWS CLI work, too. The tag {TAG!r} of a job orders what befalls it:
{WORDS}
Ctrl-C ends everything; nothing is kept.
"""


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the program's output


if __name__ == "__main__":
    main()
