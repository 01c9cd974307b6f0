"""Options that several commands have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sagemaker_launcher.preflight import CHECKS

DEFAULT_CONFIG = Path("configs/sagemaker_config.yaml")
Command = Callable[..., Any]


def default_config() -> Path | None:
    """The config of commands that were given none, if it exists."""
    # Not Path's `is_file`, which raises where one may not look.
    return DEFAULT_CONFIG if os.path.isfile(DEFAULT_CONFIG) else None  # noqa: PTH113


class Seconds(click.FloatRange):
    """A time. No comparison finds `nan` outside a range, and nobody can wait so long."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's
        """See click."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document on stdout.")
s3_root_option = click.option(
    "--s3-root",
    type=click.Path(path_type=Path),
    envvar="SAGEMAKER_LAUNCHER_S3_ROOT",
    metavar="DIR",
    help="A folder that stands in for S3: s3://team/x is DIR/team/x.",
)
docker_option = click.option(
    "--docker",
    envvar="SAGEMAKER_LAUNCHER_DOCKER",
    default="docker",
    show_default=True,
    metavar="PROGRAM",
    help="The container engine's program: docker, or one that works alike, such as podman or finch.",
)
skip_check_option = click.option(
    "--skip-check",
    type=click.Choice(tuple(CHECKS)),
    multiple=True,
    metavar="NAME",
    help="Leave a check of what AWS knows out; `check` names them (on aws only). Repeatable.",
)
archive_option = click.option(
    "--archive",
    envvar="SAGEMAKER_LAUNCHER_ARCHIVE",
    metavar="S3_URI",
    help="The archive, S3.CONFIGS of the SageMaker config.",
)
_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"The SageMaker config that names the archive, region and profile.  [default: {DEFAULT_CONFIG}, if it exists]",
)


def archive_options(command: Command) -> Command:
    """Adds the options that say where the archive is."""
    return s3_root_option(archive_option(_config_option(command)))


def given(*names: str) -> tuple[str, ...]:
    """Options of the command that runs, as its user gave them, for commands that have to be given the same.

    Args:
        names: The names of their values. Those that a variable gives stay out: the next command has it, too.
    """
    context = click.get_current_context()
    return tuple(
        word
        for option in context.command.params
        if option.name in names and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        for word in (option.opts[0], str(context.params[option.name]))
    )
