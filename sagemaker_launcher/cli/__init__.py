"""The command line: parse, one call, report. Nothing but click is imported before a command is chosen."""

from __future__ import annotations

import importlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from sagemaker_launcher import __version__
from sagemaker_launcher.console import NO_ROOM, silence
from sagemaker_launcher.errors import (
    CommandInterrupted,
    EnvironmentProblemError,
    ExitCode,
    LauncherError,
    UsageError,
)
from sagemaker_launcher.interrupts import Interrupted, end_on_next_signal, raise_on_signals
from sagemaker_launcher.spelling import nearest

# Name, module and one line of help: `--help` must not import the commands.
_COMMANDS = {
    "launch": ("launching", "Start a job from a SageMaker config and its training config."),
    "rerun": ("launching", "Start an archived experiment again."),
    "shell": ("shell", "Open a shell where a job would run, with its data, files and variables."),
    "status": ("jobs", "Say how jobs stand: phases, times, metrics, why one failed."),
    "wait": ("jobs", "Wait until jobs have ended."),
    "logs": ("jobs", "Show a job's log, also as it comes (-f)."),
    "stop": ("jobs", "Stop jobs on AWS."),
    "check": ("checking", "Check both configs, and with AWS all that the job needs; changes nothing."),
    "doctor": ("doctoring", "Examine this machine, the account, the image and what was left; repair it."),
    "list": ("looking", "List archived experiments, newest first."),
    "show": ("looking", "Show an archived experiment: configs, provenance, result."),
    "diff": ("looking", "Show what differs between two experiments."),
    "verify": ("looking", "Check that an archived experiment is what was launched."),
    "download": ("fetching", "Download an experiment's model, outputs, logs, configs."),
    "init": ("initialising", "Make a new project: configs, training code, image, schemas, IAM policies."),
    "completion": ("completing", "Print a script that completes words in a shell."),
}
_EXIT_CODES = """\
\b
Exit codes:
  0 done   1 bug   2 usage   3 config invalid   4 credentials   5 access denied
  6 not found   7 name taken   8 quota or capacity   9 network or AWS unavailable
  10 job failed   11 job stopped   12 job still running   13 archive tampered with
  14 refused for safety   15 local environment   129 SIGHUP   130 Ctrl-C   143 SIGTERM"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"sagemaker_launcher.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = module.COMMANDS[cmd_name]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            near = nearest(args[0], _COMMANDS)
            suggestion = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT_CODES)
@click.version_option(__version__, message="%(version)s")
def _launcher() -> None:
    """Launch SageMaker training jobs from two YAML files, rehearse them here, and run them again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives the exit code; the one place where errors become exit codes.

    Args:
        arguments: The words after the program's name; None: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    raise_on_signals()
    _open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal's character set lacks is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(_launcher.main(words, prog_name=program_name(), standalone_mode=False) or ExitCode.DONE)
    except click.ClickException as error:
        if "--json" not in words:
            error.show()
            return error.exit_code
        told: LauncherError = UsageError(error.format_message())
    except click.Abort as error:
        told = _unanswered(error)
    except LauncherError as error:
        told = error
    except Interrupted as interrupted:
        end_on_next_signal()
        told = CommandInterrupted("interrupted: nothing was started", signal_number=interrupted.number)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        silence(sys.stdout)  # or Python complains of what it cannot write at its end
        what = error.filename or "the answer on stdout"
        return _fail(EnvironmentProblemError(f"{what} cannot be written: {error.strerror}"), as_json=False)
    except SystemExit:
        # Click's answer when the reader of a pipe has gone; nothing else here ends like that.
        return ExitCode.DONE
    return _fail(told, as_json="--json" in words)


def _open_streams() -> None:
    """Gives this process and its children the standard streams that its parent has closed: nobody reads or writes there."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115 - to stay


def program_words() -> tuple[str, ...]:
    """How this program was called, in words that start it again from here, whatever is or is not on the PATH."""
    called = sys.argv[0]
    return (shortest(sys.executable), called) if called.endswith(".py") else (shortest(called),)


def program_name() -> str:
    """How this program was called, for commands that users can copy."""
    return shlex.join(program_words())


def shortest(program: str) -> str:
    """A program's name where the PATH leads to it, its place below the current folder, or its whole path."""
    path = Path(program)
    candidates = (Path(folder, path.name) for folder in os.get_exec_path())
    if next((found for found in candidates if os.access(found, os.X_OK)), None) == path:
        return path.name
    try:
        return str(path.relative_to(Path.cwd()))
    except (FileNotFoundError, ValueError):  # the current folder was deleted, or the program is elsewhere
        return program


def _unanswered(error: click.Abort) -> UsageError:
    """What Ctrl-D at a question comes to, before anything is written. Click says the same of any EOFError, which is a bug."""
    if error.__cause__:
        raise error
    return UsageError("the answers ended before the questions, and nothing was written")


def _fail(error: LauncherError, *, as_json: bool) -> int:
    from sagemaker_launcher import report  # noqa: PLC0415 - rich stays out of `--help`

    if as_json:
        report.print_json(report.error_document(error))
    else:
        report.print_error(error)
    return int(error.exit_code)
