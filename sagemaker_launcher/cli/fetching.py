"""The command that brings what an experiment left to this machine: download."""

from __future__ import annotations

from pathlib import Path

import click

from sagemaker_launcher.cli.options import archive_options, json_option
from sagemaker_launcher.cli.places import ArchivePlace
from sagemaker_launcher.errors import CommandInterrupted
from sagemaker_launcher.interrupts import Interrupted, end_on_next_signal


@click.command()
@click.argument("experiment")
@click.option("--model", "parts", flag_value="model", multiple=True, help="The model.")
@click.option("--output", "parts", flag_value="output", multiple=True, help="What lay in /opt/ml/output.")
@click.option("--logs", "parts", flag_value="logs", multiple=True, help="The log of each host.")
@click.option(
    "--configs", "parts", flag_value="configs", multiple=True, help="Both configs, the request, the patch."
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to.  [default: the job's name]",
)
@click.option("--packed", is_flag=True, help="Keep model.tar.gz and output.tar.gz as they are.")
@archive_options
@json_option
def download(
    experiment: str,
    parts: tuple[str, ...],
    folder: Path | None,
    packed: bool,
    s3_root: Path | None,
    archive: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Download what an archived EXPERIMENT left: everything, or the parts that are named.

    Run the same again after an interruption: what has come is not downloaded twice. Nothing is ever overwritten.
    """
    from sagemaker_launcher import report  # noqa: PLC0415 - see the package's docstring
    from sagemaker_launcher.archive.experiments import read_experiment  # noqa: PLC0415
    from sagemaker_launcher.archive.fetching import Fetching  # noqa: PLC0415

    place = ArchivePlace(s3_root, archive, config_path)
    found = read_experiment(place.storage, place.find(experiment))
    target = folder or Path(found.folder.name)
    log = (lambda: place.cloud_log(found)) if place.has_cloud_log(found) else None
    fetching = Fetching(place.storage, found, target, report.ConsoleEvents(), log, packed=packed)
    try:
        fetched = fetching.fetch(parts)
    except Interrupted as interrupted:
        end_on_next_signal()
        raise CommandInterrupted(
            f"interrupted: {f'what has come so far is in {target}' if target.exists() else 'nothing has come so far'}",
            signal_number=interrupted.number,
            hint="run the same again: it goes on from there",
        ) from None
    if as_json:
        answers = [{"part": one.part, "path": str(one.path), "files": one.files} for one in fetched]
        report.print_json({"experiment": str(found.folder), "folder": str(target), "parts": answers})
    else:
        report.print_rows(
            [(one.part, str(one.path)) for one in fetched] or [("nothing", "it left nothing")], ""
        )


COMMANDS = {"download": download}
