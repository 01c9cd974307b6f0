"""The command that makes a new project: init."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sagemaker_launcher.cli import program_words, shortest
from sagemaker_launcher.cli.options import Command, json_option
from sagemaker_launcher.errors import CommandInterrupted, ExitCode, UsageError
from sagemaker_launcher.interrupts import Interrupted
from sagemaker_launcher.scaffold.questions import QUESTIONS, Answers, Question, registry
from sagemaker_launcher.service_model import unknown_instance_type

if TYPE_CHECKING:
    from sagemaker_launcher.scaffold.project import Project

_REGION_VARIABLES = ["AWS_REGION", "AWS_DEFAULT_REGION"]
# What the example imports, besides what the launcher itself needs.
_PACKAGES = ("numpy", "sklearn")
_FORCE = "--force-instance-type"


def _question_options(command: Command) -> Command:
    for question in reversed(QUESTIONS):
        variables = _REGION_VARIABLES if question.name == "region" else None
        command = click.option(question.option, envvar=variables, metavar="TEXT", help=f"{question.text}.")(
            command
        )
    return command


@click.command()
@click.argument("folder", default=Path(), type=click.Path(path_type=Path))
@_question_options
@click.option(
    "--write-policies", is_flag=True, help="Write the IAM policies into FOLDER/iam instead of printing them."
)
@click.option(
    "--policies",
    "policies_of",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="Only the IAM policies that a SageMaker config needs.",
)
@click.option(
    "--schemas",
    "schemas_of",
    metavar="CONFIG",
    type=click.Path(path_type=Path),
    help="Only write the JSON Schemas of a SageMaker config and its training config anew.",
)
@json_option
def init(
    folder: Path,
    write_policies: bool,
    policies_of: Path | None,
    schemas_of: Path | None,
    as_json: bool,
    **answers: str | None,
) -> int:
    """Make a project in FOLDER (default: here): both configs, the training code, its image, and schemas for editors.

    On a terminal it asks for what no option says. It overwrites nothing and creates nothing on AWS: it prints the IAM
    policies and the commands for a bucket, for you to read and to run.
    """
    if schemas_of and (policies_of or write_policies):
        raise UsageError("--schemas writes schemas and nothing else", hint="leave the other options out")
    if schemas_of:
        return _schemas(schemas_of, as_json=as_json)
    if policies_of:
        return _policies(policies_of, folder if write_policies else None, as_json=as_json)
    given = {name: value for name, value in answers.items() if value is not None}
    complete = _complete(given, ask=not as_json and sys.stdin.isatty() and sys.stderr.isatty())
    from sagemaker_launcher.scaffold.project import create_project  # noqa: PLC0415 - questions come at once

    unknown = unknown_instance_type(complete["instance_type"])
    if unknown:
        from sagemaker_launcher import report  # noqa: PLC0415 - the same

        report.ConsoleEvents().note(
            f"{unknown}; if it is newer than the installed botocore, launch with {_FORCE}"
        )
    try:
        project = create_project(folder, complete, with_policies=write_policies)
    except Interrupted as interrupted:
        raise _nothing_written(interrupted) from interrupted
    _report(project, complete, as_json=as_json)
    return ExitCode.DONE


def _complete(given: Answers, *, ask: bool) -> dict[str, str]:
    """An answer to every question. Raises UsageError with all that is missing or wrong."""
    wrong = [
        f"{question.option}: {problem}"
        for question in QUESTIONS
        if question.name in given and (problem := question.problem(given[question.name]))
    ]
    missing = [
        question.option
        for question in QUESTIONS
        if question.name not in given and question.default is None and not ask
    ]
    if missing:
        wrong.append(f"nobody is here to be asked, and these have no default: {', '.join(missing)}")
    if wrong:
        raise UsageError("\n".join(wrong), hint="init --help says what each option is")
    answers = dict(given)
    try:
        for question in QUESTIONS:
            if question.name not in answers:
                default = question.default(answers) if question.default else None
                answers[question.name] = (
                    _asked(question, default) if ask and question.asked else default or ""
                )
    except Interrupted as interrupted:
        raise _nothing_written(interrupted) from interrupted
    return answers


def _asked(question: Question, default: str | None) -> str:
    def checked(value: str) -> str:
        problem = question.problem(value)
        if problem:
            raise click.BadParameter(problem)
        return value

    answer: str = click.prompt(question.text, default, value_proc=checked, err=True)
    return answer


def _nothing_written(interrupted: Interrupted) -> CommandInterrupted:
    return CommandInterrupted("interrupted: nothing was written", signal_number=interrupted.number)


def _schemas(config: Path, *, as_json: bool) -> int:
    from sagemaker_launcher import report  # noqa: PLC0415 - questions come at once
    from sagemaker_launcher.scaffold.announcement import print_files  # noqa: PLC0415
    from sagemaker_launcher.scaffold.project import without_modeline, write_schemas  # noqa: PLC0415
    from sagemaker_launcher.scaffold.schemas import modeline  # noqa: PLC0415

    files = write_schemas(config)
    if without_modeline(config):
        report.ConsoleEvents().note(f"editors find it when the first line of {config} is: {modeline(config)}")
    if len(files) == 1:
        report.ConsoleEvents().note(
            "of the training config no schema was written: no config.py in SOURCE.DIR says what may be in it"
        )
    if as_json:
        report.print_json({"files": [str(file) for file in files]})
    else:
        print_files(files)
    return ExitCode.DONE


def _policies(path: Path, folder: Path | None, *, as_json: bool) -> int:
    from sagemaker_launcher import config, report  # noqa: PLC0415 - questions come at once
    from sagemaker_launcher.scaffold.announcement import policies_document, print_policies  # noqa: PLC0415
    from sagemaker_launcher.scaffold.policies import missing, policies  # noqa: PLC0415
    from sagemaker_launcher.scaffold.project import write_policies  # noqa: PLC0415

    configs = config.load(path, allow_unknown_instance_type=True)
    found = policies(configs.sagemaker)
    files = [folder / name for name in write_policies(folder, found)] if folder else []
    for sentence in missing(configs.sagemaker):
        report.ConsoleEvents().note(sentence)
    if as_json:
        report.print_json({"policies": policies_document(found), "files": [str(file) for file in files]})
    else:
        print_policies(found, files)
    return ExitCode.DONE


def _report(project: Project, answers: Answers, *, as_json: bool) -> None:
    from sagemaker_launcher import report  # noqa: PLC0415 - questions come at once
    from sagemaker_launcher.scaffold.announcement import Commands, print_project, project_document  # noqa: PLC0415
    from sagemaker_launcher.scaffold.bucket import bucket_commands  # noqa: PLC0415

    bucket = bucket_commands(
        answers["bucket"], account=answers["account"], region=answers["region"], kms_key=answers["kms_key"]
    )
    commands = Commands(
        bucket,
        _image_commands(project.folder, answers),
        _try_it(project, answers["bucket"], answers["instance_type"]),
    )
    if as_json:
        report.print_json(project_document(project, commands))
    else:
        print_project(project, commands)


def _image_commands(folder: Path, answers: Answers) -> tuple[str, ...]:
    """Builds and pushes the image, if it is the account's own."""
    host, _, name = answers["image"].partition("/")
    repository, _, tag = name.partition(":")
    if host != registry(answers["account"], answers["region"]) or not tag or "@" in name:
        return ()
    script = folder / "build_and_push.sh"
    return (
        shlex.join(
            (
                str(script) if script.is_absolute() else f"./{script}",
                *("--image", repository, "--tag", tag),
                *("--account", answers["account"], "--region", answers["region"], "--create-repository"),
            )
        ),
    )


def _try_it(project: Project, bucket: str, instance_type: str) -> tuple[str, ...]:
    """Makes the example's data, checks the configs, and trains, with a folder that stands in for S3."""
    from sagemaker_launcher.scaffold.project import CONFIG  # noqa: PLC0415 - questions come at once

    force = (_FORCE,) if unknown_instance_type(instance_type) else ()
    python, program = shortest(sys.executable), program_words()
    code, s3, config = (
        project.folder / "sagemaker_container",
        project.folder / "demo/s3",
        project.folder / CONFIG,
    )
    install = (python, "-m", "pip", "install", "--requirement", str(code / "requirements.txt"))
    return tuple(
        shlex.join(words)
        for words in (
            *(() if all(map(find_spec, _PACKAGES)) else (install,)),
            (python, str(code / "digits.py"), str(s3 / bucket / "data/digits")),
            (*program, "check", "--offline", str(config), *force),
            (*program, "launch", str(config), "--on", "process", "--s3-root", str(s3), *force),
        )
    )


COMMANDS = {"init": init}
