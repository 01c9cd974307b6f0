"""Tables on terminals of every width: no name is cut, so that each can be copied."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from sagemaker_launcher.console import Console
from tests.commands import CommandLine
from tests.project import Project
from tests.stand_in import ARCHIVE, rehearse
from tests.terminals import on_terminal

EXPERIMENT = "vision/handwritten-digits-baseline"
HEADER = ("job", "status", "metrics")
NAME = f"{'digits-' * 5}20260102-030405-abcdef"
ROWS = [(NAME, "Completed", "validation_accuracy 0.98  loss 0.25"), ("short", "not found", "")]
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Watched(io.StringIO):
    """A stream that says that somebody watches."""

    def isatty(self) -> bool:
        return True


def table(monkeypatch: pytest.MonkeyPatch, columns: int, rows: list[tuple[str, str, str]]) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Watched()
    Console(stream).table(HEADER, rows)
    return _STYLE.sub("", stream.getvalue())


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(tmp_path_factory.mktemp("table") / "project")
    project.write(EXPERIMENT_NAME=EXPERIMENT)
    rehearse(project)
    rehearse(project, ("ESTIMATOR.INSTANCE_COUNT", "2"))
    return project


def names_of(project: Project) -> list[str]:
    return sorted(folder.name for folder in (project.s3 / "team/experiments" / EXPERIMENT).iterdir())


def shown(cli: CommandLine, columns: int, *words: str | Path) -> list[str]:
    """The lines that a command shows on a terminal of a width."""
    sized = f"stty cols {columns} && exec {shlex.join(cli.command(*words))}"
    with on_terminal(("sh", "-c", sized), cli.folder, cli.environment) as terminal:
        lines = _STYLE.sub("", terminal.rest()).splitlines()
    assert terminal.process.returncode == 0, lines
    return lines


@pytest.mark.parametrize("columns", [20, 80, 132, 200, 320])
def test_every_name_in_a_list_and_in_a_status_can_be_copied(
    cli: CommandLine, rehearsed: Project, columns: int
) -> None:
    names, place = names_of(rehearsed), ("--s3-root", rehearsed.s3, "--archive", ARCHIVE)
    for words in (("list",), ("status", *names)):
        lines = shown(cli, columns, *words, *place)
        found = [word for line in lines for word in line.split() if word in names]
        assert sorted(found) == names, "\n".join(lines)
    assert not [line for line in lines if "…" in line]


def test_what_fits_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = table(monkeypatch, 120, ROWS).splitlines()
    assert [line.split() for line in lines] == [
        ["job", "status", "metrics"],
        [NAME, "Completed", "validation_accuracy", "0.98", "loss", "0.25"],
        ["short", "not", "found"],
    ]
    assert {
        line.index(word) for line, word in zip(lines, ("status", "Completed", "not found"), strict=True)
    } == {lines[0].index("status")}


def test_texts_are_folded_before_a_table_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = table(monkeypatch, 94, ROWS).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        [NAME, "Completed", "validation_accuracy"],
        ["0.98", "loss", "0.25"],
    ]
    assert max(map(len, lines)) <= 94


def test_what_does_not_fit_is_told_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table(monkeypatch, 80, ROWS) == (
        f"job      {NAME}\n"
        "status   Completed\n"
        "metrics  validation_accuracy 0.98  loss 0.25\n"
        "\n"
        "job      short\n"
        "status   not found\n"
    )


def test_a_list_leaves_columns_out_before_it_takes_more_than_a_line_or_two(
    cli: CommandLine, rehearsed: Project
) -> None:
    place = ("--s3-root", rehearsed.s3, "--archive", ARCHIVE)
    for columns, missing in ((100, "no room for: target, by"), (75, ", metrics, created")):
        *lines, told = shown(cli, columns, "list", *place)
        assert missing in told
        assert {"job", "status"} <= set(lines[0].split())
        assert max(map(len, lines)) <= columns
        assert len(lines) <= 1 + 2 * len(names_of(rehearsed))
    assert not [line for line in shown(cli, 320, "list", *place) if "no room" in line]


def test_a_table_without_rows_is_its_header_on_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (10, 80):
        assert table(monkeypatch, columns, []).split() == list(HEADER)


def test_a_text_beside_a_name_does_not_get_it_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*ROWS, ("two words", "Completed", "many metrics that have much to tell " * 3)]
    lines = table(monkeypatch, 94, rows).splitlines()
    assert [line for line in lines if NAME in line.split()]
    assert len(lines) > len(rows) + 1


def test_the_width_of_a_letter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = "数" * 30  # 60 columns of a terminal
    assert f"job      {wide}\n" in table(monkeypatch, 70, [(wide, "Completed", "")])
