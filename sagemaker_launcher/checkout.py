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
from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.frozen import frozen

# Texts, which Python compiles at their first use: many launches ask git nothing, and none needs its answers at the start.
_USER_INFO = r"(?<=://)[^/]*@"
# A patch that `git apply` takes, whatever the user's settings are; without the content of binary files, which cannot be
# searched for secrets.
_APPLICABLE = (
    "--unified=3", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/",
    "--submodule=short", "--ignore-submodules=dirty"
)  # fmt: skip
_QUESTIONS = {
    "status": (
        "--no-optional-locks",
        "status",
        "--porcelain=v2",
        "--branch",
        "--untracked-files=all",
        "--ignore-submodules=none",
        "-z",
    ),
    "root": ("rev-parse", "--show-toplevel"),
    "remote": ("config", "--get", "remote.origin.url"),
    # No option keeps `git diff` from writing the index but this setting: https://git-scm.com/docs/git-config, diff.autoRefreshIndex
    # The end is marked since `HEAD` may be the name of a file, too.
    "diff": (
        "-c",
        "core.quotePath=false",
        "-c",
        "diff.autoRefreshIndex=false",
        "diff",
        *_APPLICABLE,
        "HEAD",
        "--",
    ),
}
# The parts of a patch. What stands in a file never begins a line there: each of its lines has a sign before it.
_FILE = rb"(?m)^(?=diff --git )"
_BINARY = rb"(?m)^Binary files .* differ$"
_MOVED = rb"(?m)^(?:rename|copy) to (.*)$"
# How a line of `git status` says that a submodule's own files have changed, and the name that ends the line.
_IN_SUBMODULE = r"(?s)(?:1|(2)) .. S.(?:M.|.U)(?: \S+){5}(?(1) \S+) (.*)"
_NAMED = 20  # files that are named, of those that cannot be in the patch
_TOLD = 200  # characters of what git says


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
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._not_started = ""
        try:
            for name, words in _QUESTIONS.items() if self._git else ():
                self._processes[name] = self._start(*words)
        except OSError as error:
            self._not_started = str(error.strerror or error)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - a fixed program and fixed words
            [str(self._git), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        )
        atexit.register(process.kill)  # a mistake may end us before anybody wants the answer
        return process

    def read(self) -> Checkout | None:
        """What git says; None outside a repository or without git, and when it says nothing: see `problem`."""
        return self._checkout

    @property
    def problem(self) -> str:
        """Why git tells nothing of the repository that seems to be here, in a line; empty when there is nothing to tell."""
        return self._not_started or (self._answers["status"].problem if self._answers else "")

    @cached_property
    def _answers(self) -> dict[str, _Answer]:
        return {name: _answer(process) for name, process in self._processes.items()}

    @cached_property
    def _checkout(self) -> Checkout | None:
        if self.problem or not self._answers:
            return None
        answers = {name: answer.out for name, answer in self._answers.items()}
        status = answers["status"].decode("utf-8", "replace")
        state = _state(status)
        patch, omitted = _patch(self._answers["diff"], state) if state.dirty else (b"", [])
        omitted += _named("changes in the submodule", _changed_submodules(status))
        if state.dirty and not patch and not omitted:
            omitted = ["git gave none"]  # before the first commit there is nothing to compare with
        remote = re.sub(_USER_INFO, "", answers["remote"].decode("utf-8", "replace").strip())
        root = Path(answers["root"].decode("utf-8", "surrogateescape").strip())
        told = "; ".join(omitted)
        state = GitState(state.commit, state.branch, remote, state.dirty, state.untracked, told)
        return Checkout(root, state, patch)


def current_folder() -> Path:
    """Where the user stands; the place of code that is in no repository is told from here.

    Raises:
        EnvironmentProblemError: It was deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise EnvironmentProblemError(
            "the current folder was deleted",
            hint="go to one that exists, with cd, and repeat the command",
            code="no_current_folder",
        ) from error


@frozen
class _Answer:
    """What git printed, and when it failed, why, in a line."""

    out: bytes
    problem: str


def _answer(process: subprocess.Popen[bytes]) -> _Answer:
    out, said = process.communicate()
    lines = [_printable(line) for line in said.splitlines() if line.strip()]
    causes = [
        line for line in lines if line.startswith(("fatal: ", "error: "))
    ]  # there may be warnings before
    told = [*causes, *lines, f"it ended with {process.returncode} and said nothing"][0]
    return _Answer(out, told[:_TOLD] if process.returncode else "")


def _patch(diff: _Answer, state: GitState) -> tuple[bytes, list[str]]:
    """The patch that can be applied, and what it lacks of the changes."""
    if diff.problem:
        return b"", [f"git gave none: {diff.problem}"] if state.commit else []
    if len(diff.out) > PATCH_MAX:
        return b"", [f"larger than {PATCH_MAX:,} bytes"]
    text: list[bytes] = []
    binary: list[bytes] = []
    for file in re.split(_FILE, diff.out):
        (binary if re.search(_BINARY, file) else text).append(file)
    # One binary file would keep all others from being applied.
    return b"".join(text), _named("binary", [_name_in(file) for file in binary])


def _name_in(file: bytes) -> str:
    """The file that a part of a patch is about, as git writes it: with escapes when it is peculiar."""
    moved = re.search(_MOVED, file)
    if moved:
        return _unquoted(moved[1])
    # `diff --git a/NAME b/NAME`: both halves are equally long, whatever is in the name.
    both = file.partition(b"\n")[0].removeprefix(b"diff --git ")
    return _unquoted(both[: len(both) // 2]).removeprefix("a/")


def _unquoted(name: bytes) -> str:
    return _printable(name[1:-1] if name.startswith(b'"') else name)


def _named(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = len(names) - _NAMED
    return [f"{what}: {', '.join(names[:_NAMED])}{f' and {more:,} more' if more > 0 else ''}"]


def _changed_submodules(status: str) -> list[str]:
    """The submodules in which something is not committed, of `git status --porcelain=v2 -z`."""
    found = (re.fullmatch(_IN_SUBMODULE, line) for line in status.split("\0"))
    return [_printable(match[2].encode()) for match in found if match]


def _printable(text: bytes) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text.decode("utf-8", "replace"))


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
