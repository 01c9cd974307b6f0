"""The options of rehearsals."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cached_property

import click

from sagemaker_launcher.cli.options import Command, Seconds, docker_option
from sagemaker_launcher.engine import Engine
from sagemaker_launcher.frozen import frozen

REHEARSAL_TARGETS = ("docker", "process")
_LONGEST_S = 24 * 3600  # more is a mistake, and far more than a thread can wait


@frozen
class RehearsalOptions:
    """How a rehearsal is carried out; what the options of `rehearsal_options` say."""

    python: str
    docker: str
    image: str
    image_code: bool
    with_credentials: bool

    @cached_property
    def engine(self) -> Engine:
        """What runs containers."""
        return Engine(self.docker)

    def begin(self) -> None:
        """Begins what takes time and needs no config."""
        if self.image:
            self.engine.begin_image(self.image)

    def words(self, target: str) -> list[str]:
        """The options that a rerun on the same target needs again, since no archive says what this machine has."""
        words = []
        if target == "docker":
            words += ["--image", self.image] if self.image else []
            words += ["--image-code"] if self.image_code else []
        elif target == "process" and self.python != sys.executable:
            words += ["--python", self.python]
        if target in REHEARSAL_TARGETS and self.with_credentials:
            words += ["--with-credentials"]
        return words


@frozen
class EndOptions:
    """When and how the programs of a rehearsal are stopped."""

    stop_grace: float
    interrupt_after: tuple[float, ...]


def _from_anywhere(_: click.Context, __: click.Parameter, program: str) -> str:
    """A program that is named from the current folder, in words that name it from any: programs start in others.

    A link stays one: a virtual environment's Python is what leads to it.
    """
    found = shutil.which(program)
    return program if found is None or os.path.isabs(found) else os.path.abspath(found)  # noqa: PTH100, PTH117 - texts


def rehearsal_options(command: Command) -> Command:
    """Adds the options that say how programs run in a rehearsal."""
    for option in (
        click.option(
            "--python",
            envvar="SAGEMAKER_LAUNCHER_PYTHON",
            default=sys.executable,
            metavar="PROGRAM",
            callback=_from_anywhere,
            help="The Python that has the training code's packages (on process only).  [default: this one]",
        ),
        docker_option,
        click.option(
            "--image",
            default="",
            metavar="IMAGE",
            help="Run this image of your machine in the place of ESTIMATOR.IMAGE_URI (on docker only).",
        ),
        click.option(
            "--image-code",
            is_flag=True,
            help="Run the code that is in the image, not the folder SOURCE.DIR (on docker only).",
        ),
        click.option(
            "--with-credentials",
            is_flag=True,
            help="Hand your AWS credentials to the program; a job has its role's instead (in rehearsals only).",
        ),
    ):
        command = option(command)
    return command


def end_options(command: Command) -> Command:
    """Adds the options that say when and how the programs of a rehearsal are stopped."""
    for option in (
        click.option(
            "--stop-grace",
            type=Seconds(min=0, max=_LONGEST_S),
            default=120.0,
            show_default=True,
            metavar="SECONDS",
            help="Between SIGTERM and SIGKILL (in rehearsals only).",
        ),
        click.option(
            "--interrupt-after",
            type=Seconds(min=0, max=_LONGEST_S),
            multiple=True,
            metavar="SECONDS",
            help="Interrupt a spot job after so long, keep its checkpoints and start it again (in rehearsals only). "
            "Repeatable: for the job that was started again.",
        ),
    ):
        command = option(command)
    return command
