"""The files around the code: one truth about dependencies, a Makefile that explains itself, commands that can be pasted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import sagemaker_launcher
from sagemaker_launcher.estimator import SDK_REQUIREMENT
from tests.commands import ROOT, SCRIPT, clean_environment
from tests.project import Project

# Programs that behave like a Python that lacks something.
OLD_PYTHON = f"""#!/bin/sh
case "$1" in
  --version) echo Python 3.9.18 ;;
  -c) exec '{sys.executable}' -c "import sys; sys.version_info = (3, 9, 18); $2" ;;
esac
"""
NO_VENV = f"""#!/bin/sh
case "$1" in
  -c) exec '{sys.executable}' -c "import sys; sys.modules['ensurepip'] = None; $2" ;;
esac
"""


def section(name: str) -> str:
    """A section of pyproject.toml as text (Python 3.10 has no TOML parser)."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    return text.partition(f"\n[{name}]\n")[2].partition("\n[")[0]


def listed(name: str, key: str) -> list[str]:
    """The texts of a list in a section."""
    found = re.search(rf"^{key} = \[\n(.*?)^\]", section(name), re.MULTILINE | re.DOTALL)
    assert found
    return re.findall(r'^\s+"([^"]+)"', found[1], re.MULTILINE)


def conda() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "sagemaker_environment.yaml").read_text("utf-8"))
    return document


def test_the_conda_environment_holds_what_pyproject_asks_for() -> None:
    python, _, pip = conda()["dependencies"]
    assert f'requires-python = "{python.removeprefix("python")}"' in section("project")
    demo = listed("project.optional-dependencies", "demo")
    assert pip["pip"] == [*listed("project", "dependencies"), *demo]


def test_the_training_image_and_the_demo_take_the_same_generations_of_libraries() -> None:
    lines = (ROOT / "sagemaker_container" / "requirements.txt").read_text("utf-8").splitlines()
    in_image = dict(re.findall(r"^([\w-]+)>=[\d.]+,(<\d.*)$", "\n".join(lines), re.MULTILINE))
    here = {
        name: below
        for line in (*listed("project", "dependencies"), *listed("project.optional-dependencies", "demo"))
        for name, below in re.findall(r"^([\w-]+)>=[\d.]+,(<[\d.]+)$", line)
    }
    assert in_image == {name: here[name] for name in in_image}


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    groups = [listed("project.optional-dependencies", group) for group in ("demo", "test", "dev")]
    for line in sum(groups, listed("project", "dependencies")):
        if not line.startswith("sagemaker-job-launcher["):
            assert re.search(r">=[\d.]+,<[\d.]+|==[\d.]+", line), line


def test_the_sdk_is_asked_for_in_the_same_words_everywhere() -> None:
    assert SDK_REQUIREMENT in listed("project", "dependencies")


def test_the_changelog_begins_with_this_version() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first
    assert first[1] in {"Unreleased", sagemaker_launcher.__version__}


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert 'license = "Apache-2.0"' in section("project")
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but the Makefile and what its rules look at."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(folder)
    return subprocess.run(
        ["make", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def stand_in(folder: Path, text: str) -> str:
    """Makes a program, and gives the word that makes `make` take it for Python."""
    path = folder / "python-of-this-test"
    path.write_text(text)
    path.chmod(0o755)
    return f"PYTHON={path}"


@pytest.mark.parametrize("target", ["demo", "test", "lint", "types", "docker-test", "toolkit-test"])
def test_an_old_python_is_refused_in_one_sentence(folder: Path, target: str) -> None:
    done = make(folder, target, stand_in(folder, OLD_PYTHON))
    assert done.returncode
    assert "Python 3.10 or later is needed" in done.stderr
    assert "is Python 3.9.18; name another: make PYTHON=" in done.stderr
    assert not (folder / ".venv").exists()


def test_a_python_without_venv_is_refused_with_what_to_install(folder: Path) -> None:
    done = make(folder, "demo", stand_in(folder, NO_VENV))
    assert done.returncode
    assert "sudo apt install python3-venv" in done.stderr


def test_a_python_that_is_missing_is_named(folder: Path) -> None:
    done = make(folder, "demo", "PYTHON=python9.9")
    assert done.returncode
    assert "there is no program python9.9" in done.stderr


def test_make_alone_explains_every_target(folder: Path) -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony
    explained = re.findall(r"^make (\S+)  ", make(folder).stdout, re.MULTILINE)
    assert sorted(explained) == sorted(set(phony[1].split()) - {"help"})


def test_make_clean_leaves_nothing_that_the_other_targets_made(folder: Path) -> None:
    made = (
        ".venv/bin",
        ".venv-toolkit/bin",
        "demo/s3/team",
        ".pytest_cache",
        ".mypy_cache",
        "x.egg-info",
        "a/__pycache__",
    )
    for name in made:
        (folder / name).mkdir(parents=True)
    assert make(folder, "clean").returncode == 0
    assert {path.name for path in folder.iterdir()} == {"Makefile", "pyproject.toml", "a"}
    assert not list((folder / "a").iterdir())


def test_what_make_makes_is_ignored_by_git() -> None:
    made = [
        ".venv/x",
        ".venv-toolkit/x",
        "demo/x",
        "sagemaker_job_launcher.egg-info/x",
        "tests/__pycache__/x",
    ]
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *made], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert done.stdout.split() == made


def test_ci_runs_what_a_developer_runs() -> None:
    steps = re.findall(r"^step make (\S+)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert steps == ["test", "docker-test", "toolkit-test", "lint", "types", "demo", "audit"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def called(command: list[str], folder: Path, **variables: str) -> str:
    """The program's name in the usage line that a command prints."""
    environment = {**clean_environment(folder), **variables}
    done = subprocess.run(
        [*command, "--help"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    found = re.search(r"Usage: (.*?)\s+\[OPTIONS\]", done.stdout)
    assert found
    return found[1]


def test_a_python_on_the_path_is_called_by_its_name(tmp_path: Path) -> None:
    python = Path(sys.executable)
    path = f"{python.parent}{os.pathsep}/usr/bin:/bin"
    assert called([sys.executable, str(SCRIPT)], tmp_path, PATH=path) == f"{python.name} {SCRIPT}"


def test_a_python_off_the_path_is_called_by_its_place(tmp_path: Path) -> None:
    assert (
        called([sys.executable, str(SCRIPT)], tmp_path, PATH="/usr/bin:/bin") == f"{sys.executable} {SCRIPT}"
    )


def test_a_python_below_the_current_folder_is_called_from_there(tmp_path: Path) -> None:
    folder = tmp_path / "with spaces"
    folder.mkdir()
    for name in ("run_sagemaker_job.py", "sagemaker_launcher"):
        (folder / name).symlink_to(ROOT / name)
    venv = folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    for name in ("pyvenv.cfg", "lib"):
        if (Path(sys.prefix) / name).exists():
            (venv / name).symlink_to(Path(sys.prefix) / name)
    words = [str(venv / "bin" / "python"), "run_sagemaker_job.py"]
    assert called(words, folder, PATH="/usr/bin:/bin") == ".venv/bin/python run_sagemaker_job.py"


def test_the_console_script_is_called_by_its_name(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "run-sagemaker-job"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from sagemaker_launcher.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    on_path = f"{program.parent}:/usr/bin:/bin"
    assert called([str(program)], tmp_path, PATH=on_path) == "run-sagemaker-job"
    assert called([str(program)], tmp_path, PATH="/usr/bin:/bin") == "bin/run-sagemaker-job"
    assert f'run-sagemaker-job = "{sagemaker_launcher.__name__}.cli:main"' in section("project.scripts")


def test_the_archived_command_line_is_the_one_that_was_called(project: Project, tmp_path: Path) -> None:
    words = ["launch", str(project.config), "--on", "process", "--s3-root", str(project.s3)]
    environment = {**clean_environment(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        check=True,
    )
    [manifest] = project.s3.glob("team/experiments/team/tiny/*/manifest.json")
    assert yaml.safe_load(manifest.read_text())["command"] == [sys.executable, str(SCRIPT), *words]


def test_a_python_without_the_packages_says_how_to_get_them(tmp_path: Path) -> None:
    # Without site-packages: what somebody has who forgot to activate the environment.
    done = subprocess.run(
        [sys.executable, "-S", "-E", str(SCRIPT), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 15
    assert done.stderr.startswith("error: the package click is not installed, and this is Python 3.")
    assert "make demo" in done.stderr


def test_the_tool_tells_its_version() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == sagemaker_launcher.__version__
