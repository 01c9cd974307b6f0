"""Who launches which code: real git repositories, and machines without git."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.checkout import CheckoutReader
from sagemaker_launcher.provenance import author, source_state, versions
from tests.commands import CommandLine
from tests.project import Project
from tests.stand_in import document, launch, local

GIT = shutil.which("git") or ""
pytestmark = pytest.mark.skipif(not GIT, reason="there is no git on this machine")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Repository:
    folder: Path

    def git(self, *words: str) -> str:
        settings = ("-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "init.defaultBranch=main")
        command: Sequence[str] = [GIT, *settings, *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self, message: str = "a commit") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def state(self) -> Any:
        checkout = CheckoutReader(self.folder).read()
        assert checkout
        return checkout.state

    def patch(self) -> bytes:
        checkout = CheckoutReader(self.folder).read()
        assert checkout
        return checkout.patch


@pytest.fixture
def repository(project: Project) -> Repository:
    """The project, committed; the stand-in folder is ignored."""
    repository = Repository(project.folder)
    repository.git("init", "--quiet")
    (project.folder / ".gitignore").write_text("s3/\n")
    repository.commit()
    return repository


# --- in the manifest ---


def test_a_clean_tree_is_recorded_by_commit_branch_and_remote(
    cli: CommandLine, project: Project, repository: Repository
) -> None:
    repository.git("remote", "add", "origin", "https://git.example.com/team/digits.git")
    done = launch(cli, project)
    folder = local(project, done.json["experiment"])
    manifest = document(folder, "manifest.json")
    assert manifest["git"] == {
        "commit": repository.git("rev-parse", "HEAD"),
        "branch": "main",
        "remote": "https://git.example.com/team/digits.git",
        "dirty": False,
        "untracked": 0,
        "patch_omitted": "",
    }
    assert not (folder / "uncommitted.patch").exists()
    assert manifest["source"]["path"] == "code"


def test_the_changes_of_a_dirty_tree_are_archived_and_can_be_applied(
    cli: CommandLine, project: Project, repository: Repository, tmp_path: Path
) -> None:
    main = project.folder / "code" / "main.py"
    main.write_text(main.read_text() + "print('changed')\n")
    (project.folder / "code" / "staged.py").write_text("staged = 1\n")
    repository.git("add", "code/staged.py")
    for number in range(3):
        (project.folder / "code" / f"untracked-{number}.txt").write_text("")
    done = launch(cli, project)
    folder = local(project, done.json["experiment"])
    manifest = document(folder, "manifest.json")
    assert (manifest["git"]["dirty"], manifest["git"]["untracked"]) == (True, 3)
    assert "uncommitted.patch" in manifest["files"]

    clone = Repository(tmp_path / "clone")
    repository.git("clone", "--quiet", str(repository.folder), str(clone.folder))
    clone.git("checkout", "--quiet", manifest["git"]["commit"])
    clone.git("apply", "--index", str(folder / "uncommitted.patch"))
    for name in ("main.py", "staged.py"):
        assert (clone.folder / "code" / name).read_bytes() == (project.folder / "code" / name).read_bytes()


def test_a_patch_that_is_too_large_is_left_out_with_the_reason(
    cli: CommandLine, project: Project, repository: Repository
) -> None:
    (project.folder / "notes.txt").write_text("")
    repository.commit()
    (project.folder / "notes.txt").write_text("a line of notes\n" * (MIB // 14))
    done = launch(cli, project)
    folder = local(project, done.json["experiment"])
    state = document(folder, "manifest.json")["git"]
    assert (state["dirty"], state["patch_omitted"]) == (True, "larger than 1,048,576 bytes")
    assert not (folder / "uncommitted.patch").exists()
    shown = cli("show", done.json["experiment"], "--s3-root", project.s3)
    assert "with uncommitted changes (larger than 1,048,576 bytes)" in shown.out


def test_without_git_on_the_path_a_launch_works_and_records_none(
    cli: CommandLine, project: Project, repository: Repository, tmp_path: Path
) -> None:
    assert repository.state()
    (tmp_path / "bin").mkdir()
    done = launch(cli, project, PATH=str(tmp_path / "bin"))
    assert done.code == 0, done.err
    manifest = document(local(project, done.json["experiment"]), "manifest.json")
    assert manifest["git"] is None
    assert manifest["source"]["path"] == "code"


def test_a_git_that_fails_is_like_none(cli: CommandLine, project: Project, tmp_path: Path) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho broken >&2\nexit 128\n")
    git.chmod(0o755)
    (project.folder / ".git").mkdir()
    done = launch(cli, project, PATH=f"{git.parent}:{os.environ['PATH']}")
    assert done.code == 0, done.err
    assert document(local(project, done.json["experiment"]), "manifest.json")["git"] is None
    assert "broken" not in done.err


@pytest.mark.parametrize("inside", [False, True])
def test_git_is_asked_only_where_there_may_be_a_repository(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, inside: bool
) -> None:
    (tmp_path / "bin").mkdir()
    git, asked = tmp_path / "bin" / "git", tmp_path / "asked"
    git.write_text(f"#!/bin/sh\necho $* >> '{asked}'\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    if inside:
        (project.folder / ".git").write_text("gitdir: elsewhere\n")
    assert CheckoutReader(project.folder / "code").read() is None
    assert asked.exists() == inside


def test_a_repository_may_be_elsewhere(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere.git"
    (repository.folder / ".git").rename(elsewhere)
    monkeypatch.setenv("GIT_DIR", str(elsewhere))
    checkout = CheckoutReader(repository.folder).read()
    assert checkout
    assert checkout.root == repository.folder


def test_what_was_begun_for_nothing_does_not_outlive_a_mistake(
    cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("git", "docker"):
        program = tmp_path / "bin" / name
        program.write_text(f"#!{sys.executable}\nimport time; time.sleep(300)\n")
        program.chmod(0o755)
    (project.folder / ".git").mkdir()
    project.config.write_text("WRONG: 1\n")
    words = ("launch", project.config, "--on", "docker", "--image", "x", "--s3-root", project.s3)
    done = cli(*words, env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    assert done.code == 3
    limit = time.monotonic() + 30
    while left := running(str(tmp_path / "bin")):
        assert time.monotonic() < limit, left


def running(text: str) -> list[str]:
    """The command lines that have a text in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            found.append(path.read_bytes().decode(errors="replace").replace("\0", " "))
    return [line for line in found if text in line]


# --- states of a repository ---


def test_a_detached_head_has_no_branch(repository: Repository) -> None:
    commit = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "--quiet", "--detach")
    state = repository.state()
    assert (state.commit, state.branch) == (commit, "")


def test_a_repository_without_commits_has_none(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.git("init", "--quiet")
    (tmp_path / "new").write_text("")
    state = repository.state()
    assert (state.commit, state.branch, state.dirty, state.untracked) == ("", "main", False, 1)


def test_staged_files_without_any_commit_have_no_patch_and_the_reason_is_told(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.git("init", "--quiet")
    (tmp_path / "new").write_text("")
    repository.git("add", "new")
    state = repository.state()
    assert (state.dirty, state.patch_omitted) == (True, "git gave none")
    assert repository.patch() == b""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:s3cr3t@git.example.com/a.git", "https://git.example.com/a.git"),
        ("https://glpat-token@git.example.com/a.git", "https://git.example.com/a.git"),
        ("https://me:p@ss@git.example.com/a.git", "https://git.example.com/a.git"),
        ("ssh://me@git.example.com:22/a.git", "ssh://git.example.com:22/a.git"),
        ("git@git.example.com:team/a.git", "git@git.example.com:team/a.git"),
        ("/somewhere/a@b.git", "/somewhere/a@b.git"),
        ("https://git.example.com/a@b.git", "https://git.example.com/a@b.git"),
    ],
)
def test_the_remote_is_recorded_without_credentials(repository: Repository, url: str, shown: str) -> None:
    repository.git("remote", "add", "origin", url)
    assert repository.state().remote == shown


def test_untracked_files_are_counted_one_by_one_and_ignored_ones_not(repository: Repository) -> None:
    repository.git("config", "status.showUntrackedFiles", "no")
    (repository.folder / "new").mkdir()
    for name in ("a", "b", "c d"):
        (repository.folder / "new" / name).write_text("")
    assert repository.state().untracked == 3
    assert not repository.state().dirty


def test_the_users_own_git_settings_do_not_spoil_the_patch(repository: Repository, tmp_path: Path) -> None:
    folder = repository.folder
    (folder / "latin.txt").write_bytes("caf\u00e9\n".encode("latin-1"))
    (folder / "windows.txt").write_bytes(b"one\r\n")
    (folder / ".gitattributes").write_text("*.txt diff=shown\n")
    (folder / "code" / "long.py").write_text("".join(f"line_{number} = {number}\n" for number in range(100)))
    repository.commit()
    for setting, value in {
        "diff.noprefix": "true",
        "diff.relative": "true",
        "diff.external": "false",
        "diff.shown.textconv": "wc -c",
        "color.ui": "always",
        "core.pager": "false",
        "diff.context": "0",
    }.items():
        repository.git("config", setting, value)
    long = (folder / "code" / "long.py").read_text()
    (folder / "code" / "long.py").write_text(long.replace("line_50 = 50\n", ""))
    (folder / "latin.txt").write_bytes("th\u00e9\n".encode("latin-1"))
    (folder / "windows.txt").write_bytes(b"two\r\n")
    (folder / "code" / "main.py").write_text("print('changed')\n")
    checkout = CheckoutReader(folder / "code").read()
    assert checkout
    assert checkout.root == folder

    clone = Repository(tmp_path / "clone")
    repository.git("clone", "--quiet", str(folder), str(clone.folder))
    (tmp_path / "patch").write_bytes(checkout.patch)
    clone.git("apply", str(tmp_path / "patch"))
    for name in ("code/long.py", "latin.txt", "windows.txt", "code/main.py"):
        assert (clone.folder / name).read_bytes() == (folder / name).read_bytes()


def test_binary_files_are_named_in_the_patch_but_their_content_cannot_be_searched_and_stays_out(
    repository: Repository,
) -> None:
    (repository.folder / "data.bin").write_bytes(b"\0one")
    repository.commit()
    (repository.folder / "data.bin").write_bytes(b"\0two")
    assert repository.patch().splitlines()[-1] == b"Binary files a/data.bin and b/data.bin differ"


def test_looking_at_a_repository_does_not_write_to_it(repository: Repository) -> None:
    index = repository.folder / ".git" / "index"
    os.utime(repository.folder / "code" / "main.py")  # what would make `git status` refresh the index
    before = index.read_bytes(), index.stat().st_mtime_ns
    repository.state()
    assert (index.read_bytes(), index.stat().st_mtime_ns) == before


# --- source, author, versions ---


def test_the_source_hash_changes_with_every_change_of_the_code(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "sub").mkdir(parents=True)
    (code / "main.py").write_text("a")
    seen = {source_state(code, None).sha256}
    for path, text in (("main.py", "b"), ("sub/new.py", ""), ("sub/other.py", ""), ("main.pyx", "b")):
        (code / path).write_text(text)
        seen.add(source_state(code, None).sha256)
    (code / "sub/new.py").rename(code / "new.py")
    seen.add(source_state(code, None).sha256)
    assert len(seen) == 6


def test_what_running_leaves_does_not_change_the_source_hash(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text("a")
    before = source_state(code, None).sha256
    for path in ("__pycache__/main.pyc", ".git/index", "sub/__pycache__/x.pyc", ".venv/lib/x.py"):
        (code / path).parent.mkdir(parents=True, exist_ok=True)
        (code / path).write_text("x")
    (code / "dangling").symlink_to("nowhere")
    os.mkfifo(code / "pipe")
    assert source_state(code, None).sha256 == before


def test_the_same_code_has_the_same_hash_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "main.py").write_text("a")
    assert source_state(tmp_path / "one", None).sha256 == source_state(tmp_path / "two", None).sha256


def test_the_author_is_the_user_the_machine_and_the_process() -> None:
    found = author("arn:aws:iam::123456789012:user/me")
    assert (found.pid, found.arn) == (os.getpid(), "arn:aws:iam::123456789012:user/me")
    assert found.user
    assert found.host


def test_packages_that_are_not_installed_have_no_version() -> None:
    assert set(versions("click", "no-such-package")) == {"launcher", "python", "click"}
