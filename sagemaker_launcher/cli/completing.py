"""The command that prints what a shell needs to complete this program's words: completion."""

from __future__ import annotations

from pathlib import Path

import click

from sagemaker_launcher.cli import program_words
from sagemaker_launcher.completion import SHELLS, Command, script

_EXPERIMENTS = {"EXPERIMENT", "JOB", "JOB...", "A", "B"}  # arguments that are references


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print a script that completes commands, options, keys and recent experiments in a SHELL.

    \b
    bash: eval "$(run-sagemaker-job completion bash)"    in ~/.bashrc
    zsh:  eval "$(run-sagemaker-job completion zsh)"     in ~/.zshrc, after compinit
    fish: run-sagemaker-job completion fish | source     in ~/.config/fish/config.fish
    """
    from sagemaker_launcher.config import sagemaker_schema  # noqa: PLC0415 - only for this command

    group = context.find_root().command
    if not isinstance(group, click.Group):
        raise TypeError(group)
    names = group.list_commands(context)
    commands = {name: _command(command) for name in names if (command := group.get_command(context, name))}
    click.echo(
        script(shell, Path(program_words()[-1]).name, commands, sagemaker_schema().dotted_keys), nl=False
    )


def _command(command: click.Command) -> Command:
    options = {
        name: (parameter.help or "").partition(".")[0]
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    arguments = {
        parameter.metavar or (parameter.name or "").upper()
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    }
    return Command(
        command.get_short_help_str(), {**options, "--help": "Show help"}, bool(arguments & _EXPERIMENTS)
    )


COMMANDS = {"completion": completion}
