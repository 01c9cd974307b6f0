"""Who launches which code: real git repositories, and machines without git."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.archive.manifest import to_bytes
from sagemaker_launcher.checkout import CheckoutReader
from sagemaker_launcher.provenance import author, source_state, versions
from tests.commands import ROOT, CommandLine, Finished
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import document, launch, local, nothing_written, rehearsal
from tests.unprivileged import Unprivileged, prefix

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


def test_a_file_may_be_called_as_gits_names_are(repository: Repository) -> None:
    (repository.folder / "HEAD").write_text("a file\n")
    main = repository.folder / "code" / "main.py"
    main.write_text(main.read_text() + "print('changed')\n")
    assert repository.state().patch_omitted == ""
    assert b"+print('changed')" in repository.patch()


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
    assert "with uncommitted changes (not archived: larger than 1,048,576 bytes)" in shown.out


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


@provokes(128)
def test_a_git_that_fails_is_like_none(cli: CommandLine, project: Project, tmp_path: Path) -> None:
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\necho broken >&2\nexit 128\n")
    git.chmod(0o755)
    (project.folder / ".git").mkdir()
    done = launch(cli, project, PATH=f"{git.parent}:{os.environ['PATH']}")
    assert done.code == 0, done.err
    assert "git does not say which code this is, and nothing of it is archived: broken" in done.err
    assert document(local(project, done.json["experiment"]), "manifest.json")["git"] is None


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


@provokes(128)
def test_changes_of_binary_files_are_named_and_all_others_can_be_applied(repository: Repository) -> None:
    folder = repository.folder
    binary = ("logo.png", "gone.bin", "old name.bin", "caf\u00e9.bin", 'quo"te.bin')
    for name in (*binary, "moved.bin"):
        (folder / name).write_bytes(b"\0one" + name.encode() * 99)
    repository.commit()
    main = folder / "code" / "main.py"
    # What looks like git's own words, in the middle of a file.
    main.write_text(
        main.read_text() + "print('changed')\nBinary files a/x and b/x differ\ndiff --git a/x b/x\n"
    )
    for name in ("logo.png", "caf\u00e9.bin", 'quo"te.bin', "new.bin"):
        (folder / name).write_bytes(b"\0two")
    (folder / "gone.bin").unlink()
    (folder / "old name.bin").write_bytes((folder / "old name.bin").read_bytes() + b"more")
    repository.git("mv", "old name.bin", "new name.bin")
    repository.git("mv", "moved.bin", "moved as it is.bin")  # needs no content
    repository.git("add", "--all")
    checkout = CheckoutReader(folder).read()
    assert checkout
    assert checkout.state.patch_omitted == (
        'binary: caf\u00e9.bin, gone.bin, logo.png, new name.bin, new.bin, quo\\"te.bin'
    )
    assert b"two" not in checkout.patch
    changed = main.read_bytes()
    repository.git("stash")
    subprocess.run([GIT, "apply"], cwd=folder, input=checkout.patch, check=True)
    assert main.read_bytes() == changed
    assert (folder / "moved as it is.bin").exists()
    assert (folder / "logo.png").read_bytes().startswith(b"\0one")


def test_many_binary_files_are_counted(repository: Repository) -> None:
    for number in range(25):
        (repository.folder / f"{number:02}.bin").write_bytes(b"\0")
    repository.git("add", "--all")
    assert repository.patch() == b""
    omitted = repository.state().patch_omitted
    assert omitted.startswith("binary: 00.bin, 01.bin, ")
    assert omitted.endswith(", 19.bin and 5 more")


@pytest.fixture
def submodule(repository: Repository, tmp_path: Path) -> Repository:
    """A repository in `lib` of another, committed; the user wants to see what changes in submodules."""
    other = Repository(tmp_path / "other")
    other.folder.mkdir()
    other.git("init", "--quiet")
    (other.folder / "lib.py").write_text("one\n")
    other.commit()
    repository.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.folder), "lib"
    )
    repository.commit()
    repository.git("config", "diff.submodule", "diff")
    return Repository(repository.folder / "lib")


@provokes(128)
@pytest.mark.parametrize("ignore", ["none", "all"])
def test_changes_in_a_submodule_are_said_to_be_missing(
    repository: Repository, submodule: Repository, ignore: str
) -> None:
    repository.git("config", "submodule.lib.ignore", ignore)
    repository.git("config", "diff.ignoreSubmodules", ignore)
    (submodule.folder / "lib.py").write_text("two\n")
    assert (repository.state().dirty, repository.patch()) == (True, b"")
    assert repository.state().patch_omitted == "changes in the submodule: lib"


def test_another_commit_of_a_submodule_can_be_applied(
    repository: Repository, submodule: Repository, tmp_path: Path
) -> None:
    clone = Repository(tmp_path / "clone")
    repository.git("clone", "--quiet", str(repository.folder), str(clone.folder))
    (submodule.folder / "lib.py").write_text("two\n")
    commit = submodule.commit()
    assert repository.state().patch_omitted == ""
    (submodule.folder / "lib.py").write_text("three\n")
    assert repository.state().patch_omitted == "changes in the submodule: lib"
    main = repository.folder / "code" / "main.py"
    main.write_text("changed\n")
    (tmp_path / "patch").write_bytes(repository.patch())
    clone.git("apply", "--index", str(tmp_path / "patch"))
    assert clone.git("ls-files", "--stage", "lib").split()[1] == commit
    assert (clone.folder / "code" / "main.py").read_bytes() == main.read_bytes()


def test_a_diff_that_fails_half_way_is_no_patch_and_the_reason_is_told(repository: Repository) -> None:
    for name in ("one.txt", "two.txt"):
        (repository.folder / name).write_text(f"{name}\n")
    repository.commit()
    lost = repository.git("rev-parse", "HEAD:two.txt")
    (repository.folder / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    for name in ("one.txt", "two.txt"):
        (repository.folder / name).write_text("changed\n")
    checkout = CheckoutReader(repository.folder).read()
    assert checkout
    assert checkout.patch == b""
    assert checkout.state.patch_omitted == f"git gave none: fatal: unable to read {lost}"


# --- a git that refuses, or fails ---


def spoil_head(repository: Repository, _: pytest.MonkeyPatch) -> str:
    (repository.folder / ".git" / "HEAD").write_text("garbage\n")
    return "fatal: not a git repository (or any of the parent directories): .git"


def lose_repository(_: Repository, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    return "fatal: not a git repository: '/nonexistent'"


def change_owner(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, for its tests
    return f"fatal: detected dubious ownership in repository at '{repository.folder}'"


def spoil_settings(repository: Repository, _: pytest.MonkeyPatch) -> str:
    (repository.folder / ".git" / "config").write_text("[core\n")
    return "fatal: bad config line 1 in file .git/config"


@pytest.mark.parametrize("happens", [spoil_head, lose_repository, change_owner, spoil_settings])
def test_a_git_that_refuses_has_said_why(
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Repository, pytest.MonkeyPatch], str],
) -> None:
    reader = CheckoutReader(repository.folder)
    assert (reader.problem, bool(reader.read())) == ("", True)
    said = happens(repository, monkeypatch)
    reader = CheckoutReader(repository.folder)
    assert (reader.problem, reader.read()) == (said, None)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'warning: a\n\nfatal: b' >&2; exit 128", "fatal: b"),
        ("echo c >&2; exit 128", "c"),
        ("exit 3", "it ended with 3 and said nothing"),
        ("kill -9 $$", "it ended with -9 and said nothing"),
        ("head -c 300000 /dev/zero >&2; exit 1", "\ufffd" * 200),
    ],
)
def test_whatever_git_does_one_line_is_made_of_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    (project.folder / ".git").mkdir()
    (tmp_path / "bin").mkdir()
    git = tmp_path / "bin" / "git"
    git.write_text(f"#!/bin/sh\n{script}\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    reader = CheckoutReader(project.folder)
    assert (reader.problem, reader.read()) == (said, None)


def test_a_program_that_cannot_be_started_is_a_problem(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    git = tmp_path / "bin" / "git"
    git.write_bytes(b"\0")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    reader = CheckoutReader(repository.folder)
    assert (reader.problem, reader.read()) == ("Exec format error", None)


def test_no_git_and_no_repository_are_no_problems(
    project: Project, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CheckoutReader(tmp_path).problem == ""
    assert repository.state()
    monkeypatch.setenv("PATH", str(tmp_path))
    reader = CheckoutReader(project.folder)
    assert (reader.problem, reader.read()) == ("", None)


def test_looking_at_a_repository_does_not_write_to_it(repository: Repository) -> None:
    index = repository.folder / ".git" / "index"
    # What makes git refresh the index: `status` in general, `diff` when the times differ by seconds from those in it.
    for path, age in ((index, 100), (repository.folder / "code" / "main.py", 50)):
        os.utime(path, (time.time() - age,) * 2)
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
    for name, target in (("dangling", "nowhere"), ("circle", "circle"), ("no-folder", "main.py/x")):
        (code / name).symlink_to(target)
    os.mkfifo(code / "pipe")
    assert source_state(code, None).sha256 == before


def test_the_same_code_has_the_same_hash_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "main.py").write_text("a")
    assert source_state(tmp_path / "one", None).sha256 == source_state(tmp_path / "two", None).sha256


def test_the_hash_of_ordinary_names_is_the_one_that_archives_have(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "sub").mkdir(parents=True)
    (code / "main.py").write_text("a")
    (code / "sub" / "caf\u00e9.txt").write_text("bc")
    known = hashlib.sha256("main.py\0001\0asub/caf\u00e9.txt\0002\0bc".encode()).hexdigest()
    assert source_state(code, None).sha256 == known


def test_names_that_are_not_utf_8_are_hashed_like_all_others(cli: CommandLine, project: Project) -> None:
    code = project.folder / "code"
    seen = {source_state(code, None).sha256}
    for name in (b"caf\xe9.txt", b"caf\xe8.txt"):
        path = Path(os.fsdecode(os.fsencode(code) + b"/" + name))
        path.write_text("x")
        seen.add(source_state(code, None).sha256)
        done = launch(cli, project)
        assert done.code == 0, done.err
        path.unlink()
    assert len(seen) == 3


def test_the_place_of_code_is_text_even_below_a_name_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/code"))
    code.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    state = source_state(code, None)
    assert (state.path, to_bytes(state)[:1]) == ("caf\ufffd/code", b"{")


@provokes(129)
@pytest.mark.parametrize("name", ["secret.txt", "sub"])
def test_code_that_cannot_be_read_is_named_and_nothing_is_launched(
    cli: CommandLine, project: Project, name: str
) -> None:
    code = project.folder / "code"
    (code / "secret.txt").write_text("x")
    (code / "sub").mkdir()
    (code / "sub" / "inside.py").write_text("x")
    (code / name).chmod(0)
    with nothing_written(project.s3):
        done = launch(Unprivileged.of(cli), project)
    (code / name).chmod(0o755)
    assert (done.code, done.has_traceback) == (15, False), done.err
    told = done.json["error"]
    assert told["code"] == "no_source"
    assert told["message"] == f"cannot copy {code}: {name} (Permission denied)"
    assert "SOURCE.DIR" in told["hint"]


@provokes(129)
@pytest.mark.parametrize("mode", [0, 0o444])
def test_code_that_is_not_copied_but_cannot_be_read_is_named(
    cli: CommandLine, project: Project, mode: int
) -> None:
    folder = project.folder / "code" / "sub"
    folder.mkdir()
    (folder / "inside.py").write_text("x")
    folder.chmod(mode)
    Unprivileged.of(cli)  # or this test is skipped
    program = "import sys; from pathlib import Path; from sagemaker_launcher.provenance import source_state"
    command = [
        *prefix(),
        sys.executable,
        "-c",
        f"{program}; source_state(Path(sys.argv[1]), None)",
        str(folder),
    ]
    environment = {**cli.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    named = folder if mode == 0 else folder / "inside.py"
    assert f"cannot read {named}, a part of the training code: Permission denied" in done.stderr


def test_what_is_no_source_may_be_unreadable(cli: CommandLine, project: Project) -> None:
    folder = project.folder / "code" / ".venv"
    folder.mkdir()
    folder.chmod(0)
    done = launch(Unprivileged.of(cli), project)
    folder.chmod(0o755)
    assert done.code == 0, done.err


def test_a_launch_from_a_folder_that_was_deleted_is_refused(
    cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with nothing_written(project.s3):
        done = from_deleted(gone, cli, *rehearsal(project, "--json"))
    assert (done.code, done.has_traceback) == (15, False), done.err
    assert done.json["error"]["code"] == "no_current_folder"
    assert done.json["error"]["message"] == "the current folder was deleted"
    assert "cd" in done.json["error"]["hint"]


def from_deleted(folder: Path, cli: CommandLine, *words: str | Path) -> Finished:
    """Runs a command in a folder that is deleted before it begins."""
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *cli.command(*words)],
        cwd=folder,
        env=dict(cli.environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_the_author_is_the_user_the_machine_and_the_process() -> None:
    found = author("arn:aws:iam::123456789012:user/me")
    assert (found.pid, found.arn) == (os.getpid(), "arn:aws:iam::123456789012:user/me")
    assert found.user
    assert found.host
    assert found.pid_space == author().pid_space


def test_a_user_whose_name_is_no_text_launches_and_finds_it_again(cli: CommandLine, project: Project) -> None:
    variables = {"LOGNAME": os.fsdecode(b"jos\xe9")}
    done = launch(cli, project, **variables)
    assert done.code == 0, done.err
    author = document(local(project, done.json["experiment"]), "manifest.json")["author"]
    assert author["user"] == "jos\ufffd"
    words = ("show", "@me", "--s3-root", project.s3, "--config", project.config, "--json")
    assert cli(*words, env=variables).json["experiment"] == done.json["experiment"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells machines and their processes apart")
def test_another_namespace_of_processes_is_told_from_this_one() -> None:
    asked = [
        sys.executable,
        "-c",
        "from sagemaker_launcher.provenance import author; print(author().pid_space)",
    ]
    same, other = (
        subprocess.run([*before, *asked], capture_output=True, text=True, check=False)
        for before in ((), ("unshare", "--user", "--map-root-user", "--pid", "--fork"))
    )
    assert same.stdout.strip() == author().pid_space != ""
    if other.returncode:
        pytest.skip(f"no namespaces here: {other.stderr}")
    assert other.stdout.strip() not in {"", author().pid_space}


def test_packages_that_are_not_installed_have_no_version() -> None:
    assert set(versions("click", "no-such-package")) == {"launcher", "python", "click"}
