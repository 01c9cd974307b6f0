"""Long fetches: a bar on a terminal, a line elsewhere, and nothing when all is here already."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from tests.commands import CommandLine
from tests.project import Project
from tests.stand_in import rehearsal


@pytest.fixture
def many(project: Project) -> Project:
    for number in range(40):
        project.put(f"s3://team/data/train/{number}.csv", "1,2\n")
    return project


def on_terminal(cli: CommandLine, project: Project) -> str:
    master, slave = pty.openpty()
    with subprocess.Popen(
        cli.command(*rehearsal(project)),
        cwd=cli.folder,
        env={**cli.environment, "TERM": "xterm-256color"},
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        shown = b"".join(iter(lambda: _read(master), b"")).decode()
        assert process.wait(20) == 0
    os.close(master)
    return shown


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # what Linux gives instead of an end of file
        return b""


def test_a_terminal_shows_how_much_has_come(cli: CommandLine, many: Project) -> None:
    shown = on_terminal(cli, many)
    assert "fetching 41 objects" in shown
    assert "164/164 bytes" in shown


def test_the_second_run_fetches_nothing(cli: CommandLine, many: Project) -> None:
    assert cli(*rehearsal(many)).code == 0
    assert "fetching" not in on_terminal(cli, many)


def test_a_log_has_one_line_for_it(cli: CommandLine, many: Project) -> None:
    done = cli(*rehearsal(many))
    assert "Fetching 41 objects  164 bytes\n" in done.err
    assert "\x1b" not in done.err


def test_a_few_small_files_are_not_worth_a_word(cli: CommandLine, project: Project) -> None:
    assert "etching" not in cli(*rehearsal(project)).err
