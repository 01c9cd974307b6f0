"""The command line in the hands of somebody whom the permissions of files bind, also where root runs the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands import CommandLine

_CAPABILITIES = "-dac_override,-dac_read_search"
_BOUND = ("setpriv", f"--bounding-set={_CAPABILITIES}", f"--inh-caps={_CAPABILITIES}")


class Unprivileged(CommandLine):
    """The same user, who may read what the permissions of a file let its owner read, and nothing more."""

    @classmethod
    def of(cls, cli: CommandLine) -> Unprivileged:
        """Takes the folder and the variables of another command line; skips the test where root cannot be bound."""
        if prefix() and (
            not shutil.which("setpriv") or subprocess.run([*prefix(), "true"], check=False).returncode
        ):
            pytest.skip("root cannot give up its rights here: setpriv is missing, or is refused")
        return cls(cli.folder, cli.environment)

    @staticmethod
    def command(*words: str | Path) -> Sequence[str]:
        """A command line that obeys permissions."""
        return [*prefix(), *CommandLine.command(*words)]


def prefix() -> tuple[str, ...]:
    """What stands before a command of root's, so that permissions bind it; nothing for anybody else."""
    return () if os.geteuid() else _BOUND
