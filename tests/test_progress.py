"""Long fetches: a bar on a terminal, a line elsewhere, and nothing when all is here already."""

from __future__ import annotations

import pytest

from tests.commands import CommandLine
from tests.project import Project
from tests.stand_in import rehearsal
from tests.terminals import on_terminal


@pytest.fixture
def many(project: Project) -> Project:
    for number in range(40):
        project.put(f"s3://team/data/train/{number}.csv", "1,2\n")
    return project


def shown_on_terminal(cli: CommandLine, project: Project) -> str:
    with on_terminal(cli.command(*rehearsal(project)), cli.folder, cli.environment) as terminal:
        shown = terminal.rest()
    assert terminal.process.returncode == 0
    return shown


def test_a_terminal_shows_how_much_has_come(cli: CommandLine, many: Project) -> None:
    shown = shown_on_terminal(cli, many)
    assert "fetching 41 objects" in shown
    assert "164/164 bytes" in shown


def test_the_second_run_fetches_nothing(cli: CommandLine, many: Project) -> None:
    assert cli(*rehearsal(many)).code == 0
    assert "fetching" not in shown_on_terminal(cli, many)


def test_a_log_has_one_line_for_it(cli: CommandLine, many: Project) -> None:
    done = cli(*rehearsal(many))
    assert "Fetching 41 objects  164 bytes\n" in done.err
    assert "\x1b" not in done.err


def test_a_few_small_files_are_not_worth_a_word(cli: CommandLine, project: Project) -> None:
    assert "etching" not in cli(*rehearsal(project)).err
