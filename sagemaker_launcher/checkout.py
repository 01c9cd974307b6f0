"""The git repository that a launch is made from. The git program is called as a program."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
from functools import cached_property
from pathlib import Path

from sagemaker_launcher.archive.manifest import PATCH_MAX, GitState
from sagemaker_launcher.frozen import frozen

_USER_INFO = re.compile(r"(?<=://)[^/]*@")
# A patch that `git apply` takes, whatever the user's settings are; without the content of binary files, which cannot be
# searched for secrets.
_APPLICABLE = (
    "--unified=3", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/"
)  # fmt: skip


@frozen
class Checkout:
    """A git repository around a folder: its state, its root, and the changes that are not committed."""

    root: Path
    state: GitState
    patch: bytes


class CheckoutReader:
    """Starts git at once and is asked for the answer later, since git takes its time and needs no help.

    Args:
        folder: A folder that may be inside a repository.
    """

    def __init__(self, folder: Path) -> None:
        self._git = shutil.which("git") if _may_be_inside(folder) else None
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
        process = subprocess.Popen(  # noqa: S603 - a fixed program and fixed words
            [str(self._git), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        )
        atexit.register(process.kill)  # a mistake may end us before anybody wants the answer
        return process

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


def _may_be_inside(folder: Path) -> bool:
    """Whether a folder can be in a repository, which git looks for in the same places (https://git-scm.com/docs/git, GIT_DIR)."""
    try:
        path = folder.resolve()
    except OSError:
        return False  # the current folder is gone
    # Not Path's `exists`, which raises what it may not look at.
    return "GIT_DIR" in os.environ or any(os.path.exists(one / ".git") for one in (path, *path.parents))  # noqa: PTH110


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
