"""`launch --on process`, through the command line."""

from __future__ import annotations

from tests.commands import CommandLine
from tests.project import Project


def test_a_launch_ends_with_the_result_and_the_command_that_repeats_it(cli: CommandLine, project: Project) -> None:
    done = cli("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json")
    assert done.code == 0, done.err
    assert done.json["result"]["status"] == "Completed"
    assert done.json["result"]["metrics"] == {"loss": 5e-06}
