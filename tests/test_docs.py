"""README.md and CONTRIBUTING.md say what is so: their commands run, their tables and links are right."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sagemaker_launcher import cli
from sagemaker_launcher.archive import experiments as archive
from sagemaker_launcher.errors import ExitCode
from tests import readme
from tests.commands import ROOT, Finished
from tests.sandbox import Block, Sandbox, blocks

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
README, CONTRIBUTING, _ = DOCUMENTS
# Where README.md has commands, and the tests that run them. The section on AWS: integration/test_readme_on_aws.py, and what
# needs Docker: docker/test_readme_on_docker.py.
REHEARSE = "Rehearse: containers, many hosts, spot"
OWN = "A project of your own"
RUN_HERE = {"SageMaker job launcher", "If you have only Python", OWN, "The two configs", REHEARSE}
RUN_ON_AWS = {"If you have an AWS account", "Jobs that were launched"}
JOB_NAME = re.compile(r"digits-baseline-\d{8}-\d{6}-[0-9a-z]{6}")
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")


def commands(heading: str, language: str = "sh") -> list[Block]:
    return [block for block in blocks(README) if (block.heading, block.language) == (heading, language)]


def comparable(line: str) -> str:
    """A line without what differs from one run to the next."""
    return NUMBER.sub("N", JOB_NAME.sub("JOB", line.rstrip()))


def check_shown(block: Block, done: Finished) -> None:
    """Every line that a document shows was printed."""
    printed = {comparable(line) for line in (done.out + done.err).splitlines()}
    for line in block.code.splitlines()[1:]:
        if line != "..." and not line.startswith("Installing into "):
            assert comparable(line) in printed, line


def rows(name: str) -> list[list[str]]:
    """The cells of a table of README.md that stands between markers, without its head."""
    lines = [
        line for line in readme.part(README.read_text("utf-8"), name).splitlines() if line.startswith("|")
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox.create(tmp_path_factory.mktemp("reader") / "project with spaces")


@pytest.fixture(scope="module")
def demo(sandbox: Sandbox) -> Finished:
    """What `make demo` leaves behind, once for all tests here."""
    return sandbox.run("make demo")


def test_make_demo_trains_and_says_what_the_readme_shows(demo: Finished) -> None:
    assert demo.code == 0, demo.err
    [block] = [block for block in commands("SageMaker job launcher", "console") if "make demo" in block.code]
    check_shown(block, demo)
    accuracy = re.search(r"validation:accuracy (0\.\d+)", demo.out)
    assert accuracy
    assert float(accuracy[1]) > 0.95


def test_the_files_that_make_demo_names_are_there(demo: Finished, sandbox: Sandbox) -> None:
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in demo.out.splitlines() if "  " in line)
    assert (sandbox.folder / lines["model"]).is_file()
    assert (sandbox.folder / lines["archived in"] / "manifest.json").is_file()


def test_the_command_that_make_demo_prints_runs_when_pasted(demo: Finished, sandbox: Sandbox) -> None:
    [line] = [line for line in demo.out.splitlines() if line.startswith("run again")]
    again = sandbox.run(line.removeprefix("run again").strip())
    assert again.code == 0, again.err
    assert "nothing differs from the archived experiment" in again.err
    metrics = [re.findall(r"^metrics .*", run.out, re.MULTILINE) for run in (demo, again)]
    assert metrics[0] == metrics[1] != []


def test_the_commands_for_those_who_have_only_python_run(demo: Finished, sandbox: Sandbox) -> None:
    job = JOB_NAME.search(demo.out)
    assert job
    first, second = commands("If you have only Python")
    done = sandbox.run(f"{first.code}\n{second.code}", JOB=job[0])
    assert done.code == 0, done.err
    assert f"\t{job[0]}\t" in done.out
    assert "SOLVER.BASE_LR: 1.0 -> 0.5" in done.err


def test_the_rehearsals_without_docker_run_as_the_readme_says(demo: Finished, sandbox: Sandbox) -> None:
    assert demo.code == 0
    _, hosts_and_spot, shell = commands(REHEARSE)
    done = sandbox.run(f"source .venv/bin/activate; {hosts_and_spot.code}")
    assert done.code == 0, done.err
    assert "algo-2 | " in done.err
    look = "echo 'ls \"$SM_CHANNEL_CONFIG\"'"
    done = sandbox.run(f"source .venv/bin/activate; {look} | {shell.code}")
    assert (done.code, done.out) == (0, "training_config.yaml\n"), done.err


def test_a_project_of_ones_own_is_made_as_the_readme_says(sandbox: Sandbox) -> None:
    [block] = commands(OWN)
    done = sandbox.run(f"source .venv/bin/activate; {block.code}")
    assert done.code == 0, done.err
    assert (sandbox.folder / "my-project" / "iam" / "execution-role.json").is_file()
    assert "aws s3api create-bucket --bucket training-123456789012-us-east-1-an " in done.out


def test_the_mistake_that_is_shown_is_reported_so(sandbox: Sandbox) -> None:
    [block] = commands("If you have only Python", "console")
    command = block.code.splitlines()[0].removeprefix("$ ")
    done = sandbox.run(f"source .venv/bin/activate; {command}")
    assert done.code == ExitCode.CONFIG
    check_shown(block, done)


def test_the_overrides_that_are_shown_are_valid(sandbox: Sandbox) -> None:
    [block] = commands("The two configs")
    done = sandbox.run(f"source .venv/bin/activate; {block.code}")
    assert done.code == 0, done.err


def test_every_command_of_the_readme_is_in_a_section_that_a_test_runs() -> None:
    shell = {block.heading for block in blocks(README) if block.language in {"sh", "console", "bash"}}
    assert shell == RUN_HERE | RUN_ON_AWS


def test_what_make_test_ends_with_is_shown() -> None:
    [block] = [block for block in commands("SageMaker job launcher", "console") if "make test" in block.code]
    assert block.code.splitlines()[-1] in (ROOT / "Makefile").read_text("utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    named = {
        word
        for found in re.findall(r"(?:^|`)make((?: [a-z-]+)+)(?:`|$)", text, re.MULTILINE)
        for word in found.split()
    }
    for target in named:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("name", ["help", "keys"])
def test_generated_parts_are_up_to_date(name: str) -> None:
    shown = readme.part(README.read_text("utf-8"), name)
    assert shown == readme.generated()[name], "run `make docs`"


def test_every_exit_code_is_explained() -> None:
    assert [int(row[0]) for row in rows("exit codes")] == sorted(ExitCode)
    explained = {
        int(code)
        for code in re.findall(r"(?<=\s)(\d+) [a-zCS]", readme.help_text().partition("Exit codes")[2])
    }
    assert explained == set(ExitCode)


def test_every_file_of_an_experiment_is_explained() -> None:
    names = [
        *(archive.INTENT, archive.SAGEMAKER_CONFIG, archive.TRAINING_CONFIG, archive.REQUEST),
        *(archive.PATCH, archive.MANIFEST, archive.LAUNCH, archive.RESULT),
    ]
    assert [row[0].strip("`") for row in rows("archive")] == names


def test_every_state_of_an_experiment_is_explained() -> None:
    states = [word for row in rows("states") for word in re.findall(r"`([^`]+)`", row[0])]
    expected = [state.value for state in archive.State if state is not archive.State.FINISHED]
    assert states == [*expected, "Completed", "Failed", "Stopped"]


def options() -> Iterator[click.Parameter]:
    for module in ("launching", "looking"):
        for command in importlib.import_module(f"{cli.__name__}.{module}").COMMANDS.values():
            yield from command.params


def test_every_variable_that_an_option_can_come_from_is_explained() -> None:
    text = README.read_text("utf-8")
    shown = set(re.findall(r"^\| `(SAGEMAKER_LAUNCHER_\w+)` \| `(--[\w-]+)` \|$", text, re.MULTILINE))
    assert shown == {(str(option.envvar), option.opts[0]) for option in options() if option.envvar}


def anchor(heading: str) -> str:
    """How GitHub names a heading in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", [README, CONTRIBUTING], ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    tops = "configs|sagemaker_container|sagemaker_launcher|tests|bench|targets|cli"
    text = document.read_text("utf-8")
    named = set(re.findall(rf"`((?:{tops})/[\w./*-]*)`", text)) | set(
        re.findall(r"`(\w+\.(?:md|sh|sagemaker))`", text)
    )
    for name in named:
        base = ROOT / "sagemaker_launcher" if name.startswith(("targets/", "cli/")) else ROOT
        assert any(base.glob(name.rstrip("/"))), name
