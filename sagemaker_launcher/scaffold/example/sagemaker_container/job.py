"""What SageMaker tells a container about its job: folders, hosts, hyperparameters.

Layout and formats: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
SM_* variables come from AWS's training toolkit, which may or may not have started this program: they win when
they are set, and nothing needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CONFIG_CHANNEL = "config"
_RESERVED_PREFIX = "sagemaker_"  # settings of the toolkit
_TUNING_OBJECTIVE = "_tuning_objective_metric"  # added by SageMaker to the jobs of a tuning job


class Job:
    """One training job as this host sees it.

    Args:
        environment: Variables. SAGEMAKER_BASE_DIR moves all away from /opt/ml, to run without a container.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._base = Path(environment.get("SAGEMAKER_BASE_DIR") or "/opt/ml")
        self.name = environment.get("TRAINING_JOB_NAME") or "-"
        self.checkpoint_dir = self._base / "checkpoints"
        self.failure_file = self._base / "output" / "failure"

    @property
    def model_dir(self) -> Path:
        """What is here at the end becomes model.tar.gz."""
        return Path(self._environment.get("SM_MODEL_DIR") or self._base / "model")

    @property
    def output_data_dir(self) -> Path:
        """What is here at the end becomes output.tar.gz."""
        return Path(self._environment.get("SM_OUTPUT_DATA_DIR") or self._base / "output" / "data")

    def channel(self, name: str) -> Path:
        """The folder of an input channel.

        Raises:
            FileNotFoundError: The job has no such channel.
        """
        usual = self._base / "input" / "data" / name
        folder = Path(self._environment.get(f"SM_CHANNEL_{name.upper()}") or usual)
        if not folder.is_dir():
            there = sorted(path.name for path in usual.parent.glob("*") if path.is_dir())
            raise FileNotFoundError(
                f"no channel {name!r}: {folder} is missing; channels: {', '.join(there) or 'none'}"
            )
        return folder

    def config_file(self) -> Path:
        """The training config, the only YAML file of the channel `config`.

        Raises:
            FileNotFoundError: There is none.
            ValueError: There are several.
        """
        folder = self.channel(_CONFIG_CHANNEL)
        files = sorted(folder.glob("*.yaml"))
        if not files:
            raise FileNotFoundError(f"no *.yaml file in the channel {_CONFIG_CHANNEL!r}, {folder}")
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise ValueError(f"expected one *.yaml file in the channel {_CONFIG_CHANNEL!r}, found {names}")
        return files[0]

    def host(self) -> str:
        """The name of this host, such as algo-1; '-' outside SageMaker."""
        return str(self._resources().get("current_host", "-"))

    def saves(self) -> bool:
        """Whether this host saves for all: every host trains the same, and their folders are merged."""
        hosts = self._resources().get("hosts") or [self.host()]
        return bool(hosts[0] == self.host())

    def hyperparameters(self, arguments: Sequence[str]) -> dict[str, str]:
        """The job's hyperparameters, without those that are not meant for the training config.

        Args:
            arguments: The command line. `train` comes from SageMaker itself, when the image's ENTRYPOINT is
                this program. `--KEY VALUE` pairs are how the toolkit passes hyperparameters on, and how a
                person may give them. They count only where hyperparameters.json is missing, because the
                toolkit re-encodes the values: '1.10' becomes 1.1 and 'true' becomes True.

        Raises:
            ValueError: The file or the command line has another form.
        """
        path = self._config_dir / "hyperparameters.json"
        given = _texts(path) if path.is_file() else _pairs(arguments)
        return {
            key: value
            for key, value in given.items()
            if not key.startswith(_RESERVED_PREFIX) and key != _TUNING_OBJECTIVE
        }

    @property
    def _config_dir(self) -> Path:
        return self._base / "input" / "config"

    def _resources(self) -> dict[str, Any]:
        path = self._config_dir / "resourceconfig.json"
        return _object(path) if path.is_file() else {}


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {content!r}")  # noqa: TRY004 - a file, not an argument
    return content


def _texts(path: Path) -> dict[str, str]:
    texts = {}
    for key, value in _object(path).items():
        if not isinstance(value, str):
            raise ValueError(f"{path}: {key}: expected a JSON string, got {value!r}")  # noqa: TRY004 - as above
        texts[key] = value
    return texts


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    if arguments[:1] == ["train"]:
        arguments = arguments[1:]
    if len(arguments) % 2 or not all(key.startswith("-") for key in arguments[::2]):
        raise ValueError(f"expected pairs of --KEY VALUE, got: {' '.join(arguments)}")
    return {arguments[at].lstrip("-"): arguments[at + 1] for at in range(0, len(arguments), 2)}
