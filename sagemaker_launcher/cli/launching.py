"""Commands that start a job: launch, rerun."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sagemaker_launcher.cli import program_words
from sagemaker_launcher.cli.beginning import Beginning, RunOptions
from sagemaker_launcher.cli.options import (
    Command,
    archive_options,
    json_option,
    s3_root_option,
    skip_check_option,
)
from sagemaker_launcher.cli.overrides import override_options, overrides_of
from sagemaker_launcher.cli.rehearsal_options import REHEARSAL_TARGETS, end_options, rehearsal_options
from sagemaker_launcher.errors import UnsafeError, UsageError

if TYPE_CHECKING:
    from sagemaker_launcher.archive.experiments import Experiment
    from sagemaker_launcher.storage import Storage

_TARGETS = ("aws", *REHEARSAL_TARGETS)


def _run_options(command: Command) -> Command:
    for option in (
        click.option(
            "--dry-run",
            is_flag=True,
            help="Print the request and what would happen; write and start nothing.",
        ),
        click.option("--offline", is_flag=True, help="With --dry-run: ask AWS nothing."),
        click.option("--detach", is_flag=True, help="Do not wait for the job's end (on aws only)."),
        end_options,
        rehearsal_options,
        skip_check_option,
        json_option,
    ):
        command = option(command)
    return command


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--on", "target", type=click.Choice(_TARGETS), default="aws", show_default=True, help="Where to run it."
)
@override_options
@s3_root_option
@click.option("--yes", is_flag=True, help="Launch it although it may cost more than BUDGET_USD.")
@_run_options
def launch(
    config: Path,
    target: str,
    settings: tuple[tuple[str, str], ...],
    train: tuple[tuple[str, str], ...],
    force_instance_type: bool,
    **options: Any,  # noqa: ANN401 - click's values, typed by RunOptions
) -> int:
    """Start the job that a SageMaker CONFIG describes, archive it and follow it to its end."""
    # Not Path's `is_dir`, which raises where one may not look.
    folder = config.parent if os.path.isdir(config.parent) else Path()  # noqa: PTH112
    beginning = Beginning(RunOptions.of(options), target, folder)
    from sagemaker_launcher import launch as story  # noqa: PLC0415 - while others are at work
    from sagemaker_launcher.cli.running import Run  # noqa: PLC0415

    plan = story.plan(
        config,
        overrides_of(settings, train),
        target=target,
        command=_command_line(),
        allow_unknown_instance_type=force_instance_type,
    )
    return Run(beginning, config).carry_out(plan)


@click.command()
@click.argument("experiment")
@click.option("--on", "target", type=click.Choice(_TARGETS), help="Where to run it.  [default: where it ran]")
@override_options
@click.option(
    "--resume", is_flag=True, help="Go on from the checkpoints of EXPERIMENT, and write new ones there."
)
@click.option(
    "--yes",
    is_flag=True,
    help="Do it although the role is another account's, the original may still run, or it may cost more than BUDGET_USD.",
)
@click.option(
    "--allow-drift", is_flag=True, help="Do it although the image's tag means another image by now (on aws)."
)
@archive_options
@_run_options
def rerun(
    experiment: str,
    target: str | None,
    settings: tuple[tuple[str, str], ...],
    train: tuple[tuple[str, str], ...],
    force_instance_type: bool,
    resume: bool,
    archive: str | None,
    config_path: Path | None,
    **options: Any,  # noqa: ANN401 - click's values, typed by RunOptions
) -> int:
    """Start an archived EXPERIMENT again, with the same configs unless told otherwise, and say what differs.

    EXPERIMENT is an S3 URI, a job name, the beginning of one, @latest or @me.
    """
    from sagemaker_launcher import launch as story  # noqa: PLC0415 - not for the start of `launch`
    from sagemaker_launcher.archive.experiments import read_experiment  # noqa: PLC0415
    from sagemaker_launcher.cli.places import ArchivePlace  # noqa: PLC0415
    from sagemaker_launcher.cli.running import Run  # noqa: PLC0415

    run_options = RunOptions.of(options)
    place = ArchivePlace(run_options.s3_root, archive, config_path)
    original = read_experiment(place.storage, place.find(experiment))
    if not target and original.manifest.target not in _TARGETS:
        raise UsageError(
            f"it ran on {original.manifest.target!r}, which this version does not know",
            hint=f"say where to run it: --on {' or --on '.join(_TARGETS)}",
        )
    if resume and not run_options.yes:
        _refuse_company(place.storage, original)
    beginning = Beginning(run_options, target or original.manifest.target, Path())
    plan = story.plan_rerun(
        original,
        overrides_of(settings, train),
        target=target or "",
        command=_command_line(),
        root=beginning.checkout_root(),
        allow_unknown_instance_type=force_instance_type,
        resume=resume,
    )
    return Run(beginning, config_path, trusting=run_options.yes).carry_out(plan)


def _refuse_company(storage: Storage, original: Experiment) -> None:
    """Raises UnsafeError when a job may still write the checkpoints that another one is to go on from."""
    from sagemaker_launcher.archive.experiments import Archive, experiment_root  # noqa: PLC0415 - not for `launch`

    name, found = original.folder.name, []
    if original.state.may_run:
        found = [name]
    elif original.checkpoints:
        root = experiment_root(original.folder, original.manifest.experiment_name)
        found = Archive(storage, root).other_writers(name, original.checkpoints)
    if found:
        raise UnsafeError(
            f"--resume: how {', '.join(found)} ended is not known, and two jobs would write the same checkpoints",
            hint="see `status`; --yes goes on all the same",
            code="may_still_run",
        )


def _command_line() -> tuple[str, ...]:
    """The command line to archive, as the user would type it again; with escapes for bytes that are no text."""
    words = (*program_words(), *sys.argv[1:])
    return tuple(os.fsencode(word).decode("utf-8", "backslashreplace") for word in words)


COMMANDS = {"launch": launch, "rerun": rerun}
