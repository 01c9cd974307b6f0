"""The options `--set` and `--train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sagemaker_launcher.cli.options import Command

if TYPE_CHECKING:
    from sagemaker_launcher.coercion import Override

_set_option = click.option(
    "--set",
    "settings",
    nargs=2,
    multiple=True,
    metavar="KEY VALUE",
    help="Change a key of the SageMaker config, such as ESTIMATOR.INSTANCE_TYPE ml.g5.xlarge. Repeatable."
    " Paths count from the current folder.",
)
_train_option = click.option(
    "--train",
    nargs=2,
    multiple=True,
    metavar="KEY VALUE",
    help="Change a key of the training config, such as SOLVER.BASE_LR 0.01. Repeatable.",
)
_force_option = click.option(
    "--force-instance-type",
    is_flag=True,
    help="Accept an instance type that the installed botocore does not know (yet).",
)


def override_options(command: Command) -> Command:
    """Adds the options that change what the configs say."""
    return _set_option(_train_option(_force_option(command)))


def overrides_of(
    settings: tuple[tuple[str, str], ...], train: tuple[tuple[str, str], ...]
) -> tuple[Override, ...]:
    """The overrides that the options ask for."""
    from sagemaker_launcher.coercion import Override  # noqa: PLC0415 - commands without overrides need no YAML

    return (
        *(Override("--set", key, value) for key, value in settings),
        *(Override("--train", key, value) for key, value in train),
    )
