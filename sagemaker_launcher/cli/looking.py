"""Commands that look and change nothing: check, list, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sagemaker_launcher.cli import program_name
from sagemaker_launcher.cli.overrides import override_options, overrides_of
from sagemaker_launcher.cli.places import ArchivePlace, archive_options, json_option


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@override_options
@click.option(
    "--offline", is_flag=True, required=True, help="Ask AWS nothing: check what this machine knows."
)
@json_option
def check(
    config: Path,
    settings: tuple[tuple[str, str], ...],
    train: tuple[tuple[str, str], ...],
    force_instance_type: bool,
    offline: bool,  # noqa: ARG001 - the only mode, and it has to be named
    as_json: bool,
) -> None:
    """Check a SageMaker CONFIG, its training config and the job that they describe."""
    from sagemaker_launcher import launch  # noqa: PLC0415 - see the package's docstring

    plan = launch.plan(
        config,
        overrides_of(settings, train),
        target="aws",
        command=(),
        allow_unknown_instance_type=force_instance_type,
    )
    from sagemaker_launcher import report  # noqa: PLC0415

    for warning in plan.configs.warnings:
        report.ConsoleEvents().note(warning)
    if as_json:
        report.print_json({"valid": True, "warnings": list(plan.configs.warnings)})
    else:
        click.echo(f"{config}: both configs and the job are valid")


@click.command("list")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most."
)
@archive_options
@json_option
def list_(
    limit: int, s3_root: Path | None, archive: str | None, config_path: Path | None, as_json: bool
) -> None:
    """List archived experiments, newest first."""
    summaries = ArchivePlace(s3_root, archive, config_path).archive.recent(limit)
    from sagemaker_launcher import report  # noqa: PLC0415

    if as_json:
        report.print_json(report.list_document(summaries))
    else:
        report.print_list(summaries)


@click.command()
@click.argument("experiment")
@archive_options
@json_option
def show(
    experiment: str, s3_root: Path | None, archive: str | None, config_path: Path | None, as_json: bool
) -> None:
    """Show an archived EXPERIMENT (its S3 URI or job name): both configs, provenance, result, how to repeat it."""
    from sagemaker_launcher.archive import read_experiment  # noqa: PLC0415

    place = ArchivePlace(s3_root, archive, config_path)
    found = read_experiment(place.storage, place.find(experiment))
    again = rerun_command(str(found.folder), s3_root)
    from sagemaker_launcher import report  # noqa: PLC0415

    if as_json:
        report.print_json(report.experiment_document(found, again))
    else:
        report.print_experiment(found, again)


def rerun_command(experiment: str, s3_root: Path | None, options: Sequence[str] = ()) -> str:
    """The command that runs an experiment again, from where the user stands.

    Args:
        experiment: Its URI.
        s3_root: The folder that stands in for S3, or None.
        options: Further options, word by word.
    """
    import shlex  # noqa: PLC0415

    root = ("--s3-root", str(s3_root)) if s3_root else ()
    return f"{program_name()} rerun {shlex.join((experiment, *root, *options))}"


COMMANDS = {"check": check, "list": list_, "show": show}
