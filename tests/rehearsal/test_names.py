"""Names of hosts and read-only folders for a plain process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.names import Trial, resolve_here, wrapped, write_hosts_file
from tests.commands import ROOT
from tests.fidelity import reproduces

HOSTS = tuple(Host(f"algo-{number}", number, "ml.m5.large", "all") for number in (1, 2, 3))
AN_ORDINARY_USER = 12345


@pytest.fixture(autouse=True)
def namespaces(tmp_path: Path) -> None:
    if not Trial(tmp_path).succeeded:
        pytest.skip("this machine has no mount namespaces for its user")


@pytest.fixture
def hosts_file(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    write_hosts_file(path, HOSTS)
    return path


def shell(
    hosts_file: Path, script: str, *read_only: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    command = wrapped(["sh", "-c", script], hosts_file, read_only, environment)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_host_has_an_address_of_its_own_and_the_machines_names_stay(hosts_file: Path) -> None:
    lines = hosts_file.read_text().splitlines()
    assert lines[:3] == ["127.0.0.1 algo-1", "127.0.0.2 algo-2", "127.0.0.3 algo-3"]
    assert "\n".join(lines[3:]) == Path("/etc/hosts").read_text().rstrip("\n")


@reproduces("hosts", "process")
def test_the_program_knows_the_names_and_nobody_else_does(hosts_file: Path) -> None:
    before = Path("/etc/hosts").read_bytes()
    done = shell(hosts_file, "getent hosts algo-1 algo-3")
    assert done.stdout.split() == ["127.0.0.1", "algo-1", "127.0.0.3", "algo-3"]
    assert Path("/etc/hosts").read_bytes() == before
    assert not resolve_here(HOSTS)


def test_the_program_is_the_same_user_and_its_exit_code_is_its_own(hosts_file: Path) -> None:
    done = shell(hosts_file, "id -u; id -g; exit 42")
    assert (done.returncode, done.stdout.split()) == (42, [str(os.getuid()), str(os.getgid())])


@reproduces("fast file", "process")
def test_read_only_folders_are_so_even_for_root_and_nowhere_else(hosts_file: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "a channel", tmp_path / "another"]
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_text("x")
    script = 'for f in "$A" "$B"; do touch "$f/new"; rm "$f/file"; chmod 777 "$f"; cat "$f/file"; done; touch "$C/new"'
    variables = {"A": str(folders[0]), "B": str(folders[1]), "C": str(tmp_path)}
    done = shell(hosts_file, script, *folders, **variables)
    assert done.stdout == "xx"
    assert done.stderr.count("Read-only file system") == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a channel", "another", "hosts", "new"]
    (folders[0] / "new").touch()  # for us nothing has changed


def test_the_program_gets_exactly_the_variables_that_it_is_to_have(hosts_file: Path) -> None:
    names = {
        "SM_HP_SOLVER.BASE_LR": "0.1",
        "SM_HP_two-words": "a b",
        "SM_HP_é": "ü",
        "EMPTY": "",
        "X": "1\n2",
    }
    environment = {"PATH": os.environ["PATH"], **names}
    command = wrapped(["env", "-0"], hosts_file, (), environment)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert dict(word.split("=", 1) for word in done.stdout.split("\0") if word) == environment


def test_a_folder_that_does_not_exist_is_not_passed_over(hosts_file: Path, tmp_path: Path) -> None:
    done = shell(hosts_file, "echo started", tmp_path / "nowhere")
    assert done.returncode != 0
    assert done.stdout == ""


def test_a_machine_without_unshare_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "mount", "env", "true"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    assert not Trial(tmp_path).succeeded


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_has_the_same_view_and_stays_who_he_is() -> None:
    # A folder that is open to others from the root on.
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    try:
        hosts_file, channel = folder / "hosts", folder / "channel"
        write_hosts_file(hosts_file, HOSTS)
        channel.mkdir()
        for path in (folder, hosts_file, channel):
            os.chown(path, AN_ORDINARY_USER, AN_ORDINARY_USER)
        script = 'id -u; getent hosts algo-2; touch "$1/channel/new" || touch "$1/new"'
        inner = ["sh", "-c", script, "sh", str(folder)]
        as_user = ["setpriv", f"--reuid={AN_ORDINARY_USER}", f"--regid={AN_ORDINARY_USER}", "--clear-groups"]
        text = (
            "import subprocess, sys; from pathlib import Path\n"
            "from sagemaker_launcher.rehearsal.names import wrapped\n"
            f"sys.exit(subprocess.run(wrapped({inner!r}, Path({str(hosts_file)!r}), [Path({str(channel)!r})])).returncode)"
        )
        done = subprocess.run(
            [*as_user, sys.executable, "-c", text],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        unreadable = ("No module named", "Permission denied", "cannot open shared object file")
        if any(words in done.stderr for words in unreadable):
            pytest.skip("another user can read neither this Python nor this code")
        assert done.stdout.split() == [str(AN_ORDINARY_USER), "127.0.0.2", "algo-2"]
        assert (folder / "new").stat().st_uid == AN_ORDINARY_USER
        assert not (channel / "new").exists()
    finally:
        shutil.rmtree(folder)
