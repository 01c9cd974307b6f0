"""A copy of this project in which the commands of its documents can be run as a reader would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.commands import ROOT, Finished, clean_environment

_COPIED = (
    *("Makefile", "pyproject.toml", "run_sagemaker_job.py", "build_and_push.sh", "Dockerfile.sagemaker"),
    *("sagemaker_environment.yaml", ".dockerignore"),
)
_FOLDERS = ("configs", "sagemaker_container", "sagemaker_launcher")
_FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document: the heading above it, its language and its lines."""

    heading: str
    language: str
    code: str


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks of a Markdown document."""
    text = document.read_text("utf-8")
    for found in _FENCE.finditer(text):
        headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text[: found.start()]), re.MULTILINE)
        yield Block(headings[-1], found["language"], found["code"])


@dataclass(frozen=True)
class Sandbox:
    """A copy of the project, with the virtual environment that `make` would have made."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Sandbox:
        folder.mkdir()
        for name in _COPIED:
            shutil.copy2(ROOT / name, folder / name)
        for name in _FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        _borrow_packages(folder / ".venv")
        (folder / "home").mkdir()
        return cls(folder)

    def run(self, script: str, *, programs: Path | None = None, **variables: str) -> Finished:
        """Runs a bash script that ends at the first error, on a machine without settings.

        Args:
            script: Its text.
            programs: A folder whose programs come before all others.
            variables: For the script.
        """
        folders = [str(programs)] if programs else []
        path = os.pathsep.join([*folders, "/usr/local/bin", "/usr/bin", "/bin"])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**clean_environment(self.folder / "home"), "PATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


def _borrow_packages(venv: Path) -> None:
    """Makes an environment with the packages of the one that runs the tests, and says that all is installed."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    (venv / "bin" / "activate").write_text(f"PATH='{venv}/bin':$PATH\n")
    for name in ("pyvenv.cfg", "lib", "lib64"):
        if (Path(sys.prefix) / name).exists():
            (venv / name).symlink_to(Path(sys.prefix) / name)
    for stamp in (".made", ".demo", ".test", ".dev"):
        (venv / stamp).touch()
