"""Who launches, from which code, with which versions. The git program is called as a program."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cached_property
from pathlib import Path

from sagemaker_launcher import __version__
from sagemaker_launcher.archive.experiments import PATCH_MAX
from sagemaker_launcher.archive.manifest import Author, GitState, SourceState
from sagemaker_launcher.frozen import frozen

_USER_INFO = re.compile(r"(?<=://)[^/]*@")
# A patch that `git apply` takes, whatever the user's settings are; without the content of binary files, which cannot be
# searched for secrets.
_APPLICABLE = (
    "--unified=3", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/"
)  # fmt: skip
_NOT_SOURCE = {
    ".git",
    ".venv",
    "__pycache__",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
}


@frozen
class Checkout:
    """A git repository around a folder: its state, its root, and the changes that are not committed."""

    root: Path
    state: GitState
    patch: bytes


def author(arn: str = "") -> Author:
    """The user and machine that launch."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container without a passwd entry
    return Author(user, platform.node(), os.getpid(), arn)


def versions(*packages: str) -> dict[str, str]:
    """Versions of this tool, of Python and of those of the packages that are installed."""
    found = {"launcher": __version__, "python": platform.python_version()}
    # Folders have them in their names: importlib.metadata would import all of `email` to read them in files.
    # https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-dist-info-directory
    for path in (path for folder in sys.path for path in Path(folder).glob("*.*-info")):
        package, version, *_ = *path.stem.split("-"), ""
        if package in packages:
            found.setdefault(package, version)
    return found


class CheckoutReader:
    """Starts git at once and is asked for the answer later, since git takes its time and needs no help.

    Args:
        folder: A folder that may be inside a repository.
    """

    def __init__(self, folder: Path) -> None:
        self._git = shutil.which("git")
        self._folder = folder
        self._processes = {
            name: self._start(*arguments)
            for name, arguments in {
                "status": (
                    "--no-optional-locks",
                    "status",
                    "--porcelain=v2",
                    "--branch",
                    "--untracked-files=all",
                    "-z",
                ),
                "root": ("rev-parse", "--show-toplevel"),
                "remote": ("config", "--get", "remote.origin.url"),
                "diff": ("--no-optional-locks", "diff", "HEAD", *_APPLICABLE),
            }.items()
            if self._git
        }

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - a fixed program and fixed words
            [str(self._git), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        )

    def read(self) -> Checkout | None:
        """What git says; None outside a repository or without git."""
        return self._checkout

    @cached_property
    def _checkout(self) -> Checkout | None:
        answers = {name: process.communicate()[0] for name, process in self._processes.items()}
        if not answers or self._processes["status"].returncode:
            return None
        state = _state(answers["status"].decode("utf-8", "replace"))
        patch, omitted = answers["diff"] if state.dirty else b"", ""
        if state.dirty and not patch:
            omitted = "git gave none"  # before the first commit there is nothing to compare with
        if len(patch) > PATCH_MAX:
            patch, omitted = b"", f"larger than {PATCH_MAX:,} bytes"
        remote = _USER_INFO.sub("", answers["remote"].decode("utf-8", "replace").strip())
        root = Path(answers["root"].decode("utf-8", "surrogateescape").strip())
        state = GitState(state.commit, state.branch, remote, state.dirty, state.untracked, omitted)
        return Checkout(root, state, patch)


def _state(status: str) -> GitState:
    """Reads `git status --porcelain=v2 --branch -z` (https://git-scm.com/docs/git-status, porcelain format version 2)."""
    headers = dict(
        line.removeprefix("# ").split(" ", 1)
        for line in status.split("\0")
        if line.startswith("# ") and " " in line[2:]
    )
    kinds = [line[:2] for line in status.split("\0") if line]
    commit, branch = headers.get("branch.oid", ""), headers.get("branch.head", "")
    return GitState(
        commit="" if commit == "(initial)" else commit,
        branch="" if branch == "(detached)" else branch,
        dirty=any(kind in {"1 ", "2 ", "u "} for kind in kinds),
        untracked=kinds.count("? "),
    )


def source_state(folder: Path, checkout: Checkout | None) -> SourceState:
    """Describes the training code: where it lies in the repository (or below the current folder), and a hash of it all."""
    digest = hashlib.sha256()
    for path in sorted(_source_files(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    base = checkout.root if checkout else Path.cwd()
    return SourceState(Path(os.path.relpath(folder, base)).as_posix(), digest.hexdigest())


def _source_files(folder: Path) -> list[Path]:
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_SOURCE]
        found += [Path(where) / name for name in names if (Path(where) / name).is_file()]
    return found
