"""Jobs of several hosts on the process target: trees, data, logs, names, failures and stops."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.rehearsal.names import Trial
from tests.commands import ROOT, CommandLine, clean_environment
from tests.fidelity import reproduces
from tests.project import Project
from tests.servers.ports import free_ports
from tests.stand_in import document, is_running, launch, local, rehearsal, rehearse, snapshot

AN_ORDINARY_USER = 12345
PRELUDE = """\
import json, os, pathlib, signal, socket, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
model, data, inputs = base / "model", base / "output" / "data", base / "input" / "data"
host = os.environ["SM_CURRENT_HOST"]
"""
TWO, THREE = (("ESTIMATOR.INSTANCE_COUNT", str(count)) for count in (2, 3))


def program(project: Project, text: str) -> None:
    project.program(PRELUDE + text)


def model_of(project: Project, result: Any) -> dict[str, bytes]:
    """The files of a model.tar.gz."""
    packed = local(project, result.artifacts["model"]).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        files = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
        return {name: file.read() for name, file in files if file}


# --- what each host has ---


@reproduces("hosts", "process")
@reproduces("files", "process")
def test_every_host_has_a_tree_of_its_own_and_knows_who_it_is(project: Project) -> None:
    program(
        project,
        "told = json.loads((base / 'input/config/resourceconfig.json').read_text())\n"
        "(model / host).write_text('x'); time.sleep(0.3)\n"
        "print(json.dumps([host, told['current_host'], told['hosts'], str(base), os.listdir(model)]))",
    )
    done = rehearse(project, THREE)
    assert done.result.status == "Completed"
    hosts = ["algo-1", "algo-2", "algo-3"]
    seen = [json.loads(line) for host in hosts for line in done.events.lines_of(host)]
    assert [one[:3] for one in seen] == [[host, host, hosts] for host in hosts]
    assert len({one[3] for one in seen}) == 3
    assert [one[4] for one in seen] == [[host] for host in hosts]


@reproduces("log", "process")
def test_the_lines_of_all_hosts_are_shown_with_their_names_and_kept_in_a_file_each(
    cli: CommandLine, project: Project
) -> None:
    program(project, "for i in range(3): print('line', i, 'of', host, flush=True)")
    done = launch(cli, project, "--set", *TWO)
    assert done.code == 0, done.err
    for host in ("algo-1", "algo-2"):
        shown = [
            line.removeprefix(f"{host} | ") for line in done.err.splitlines() if line.startswith(f"{host} | ")
        ]
        assert shown == [f"line {number} of {host}" for number in range(3)]
        (kept,) = (local(project, done.json["experiment"]) / "logs").glob(f"{host}-*.log")
        assert re.fullmatch(rf"{host}-\d{{10}}\.log", kept.name)
        assert kept.read_text().splitlines() == shown


@reproduces("sharding", "process")
def test_shards_are_disjoint_and_complete_and_other_channels_are_whole(project: Project) -> None:
    for number in range(7):
        project.put(f"s3://team/data/sharded/{number}.csv", str(number))
        project.put(f"s3://team/data/whole/{number}.csv", str(number))
    sharded = {"S3_URI": "s3://team/data/sharded/", "DISTRIBUTION": "ShardedByS3Key"}
    project.write(CHANNELS={"sharded": sharded, "whole": "s3://team/data/whole/"})
    program(project, "print(json.dumps({c: sorted(os.listdir(inputs / c)) for c in ('sharded', 'whole')}))")
    events = rehearse(project, THREE).events
    seen = [json.loads(events.lines_of(f"algo-{number}")[0]) for number in (1, 2, 3)]
    names = [f"{number}.csv" for number in range(7)]
    assert sorted(name for one in seen for name in one["sharded"]) == names
    assert [len(one["sharded"]) for one in seen] == [3, 2, 2]
    assert [one["whole"] for one in seen] == [names] * 3


@reproduces("groups", "process")
def test_a_channel_of_one_group_is_on_its_hosts_alone(project: Project) -> None:
    groups = [
        {"INSTANCE_GROUP_NAME": name, "INSTANCE_TYPE": "ml.m5.large", "INSTANCE_COUNT": count}
        for name, count in (("loaders", 1), ("trainers", 2))
    ]
    project.put("s3://team/data/images/1", "x")
    images = {"S3_URI": "s3://team/data/images/", "INSTANCE_GROUPS": ["loaders"]}
    project.write(
        CHANNELS={"images": images},
        ESTIMATOR={"INSTANCE_TYPE": "", "INSTANCE_GROUPS": groups},
    )
    program(project, "print(os.environ['SM_CURRENT_INSTANCE_GROUP'], *sorted(os.listdir(inputs)))")
    events = rehearse(project).events
    assert [events.lines_of(f"algo-{number}") for number in (1, 2, 3)] == [
        ["loaders config images training"],
        ["trainers config training"],
        ["trainers config training"],
    ]


@reproduces("artifacts", "process")
def test_the_model_is_what_all_hosts_left_and_collisions_are_told(project: Project) -> None:
    program(project, "(model / f'{host}.bin').write_text(host); (model / 'same').write_text(host)")
    done = rehearse(project, TWO)
    assert model_of(project, done.result) == {
        "algo-1.bin": b"algo-1",
        "algo-2.bin": b"algo-2",
        "same": b"algo-1",
    }
    note = next(note for note in done.events.notes if "same file" in note)
    assert note == "several hosts wrote the same file, and only one is kept: model/same (algo-1, algo-2)"


# --- one host fails ---


@reproduces("host failure", "process")
@pytest.mark.parametrize("listens", [True, False])
def test_one_host_that_fails_ends_the_job_and_the_others(
    cli: CommandLine, project: Project, listens: bool
) -> None:
    handler = "signal.SIG_DFL" if listens else "signal.SIG_IGN"
    program(
        project,
        f"signal.signal(signal.SIGTERM, {handler})\nprint(os.getpid(), flush=True)\n"
        "if host == 'algo-2':\n"
        "    time.sleep(0.5); (base / 'output/failure').write_text('no such shard'); sys.exit(42)\n"
        "(model / 'half').write_text('x'); time.sleep(60)",
    )
    start = time.monotonic()
    done = launch(cli, project, "--set", *THREE, "--stop-grace", "1")
    assert time.monotonic() - start < 45
    assert done.code == 10, done.err
    result = done.json["result"]
    assert (result["status"], result["exit_code"]) == ("Failed", 42)
    assert result["failure_reason"] == "AlgorithmError: no such shard, exit code: 42"
    assert list(result["artifacts"]) == ["model"]
    assert "algo-2 failed, which ends the job" in done.err
    pids = [int(pid) for pid in re.findall(r"^algo-\d \| (\d+)$", done.err, re.MULTILINE)]
    assert len(pids) == 3
    assert not any(is_running(pid) for pid in pids)


# --- names ---


def rendezvous(address: str) -> str:
    """A program of which algo-1 waits for all others, which come to `address`, and all print what they were told."""
    return (
        "port, hosts = int(os.environ['MASTER_PORT']), json.loads(os.environ['SM_HOSTS'])\n"
        f"address = {address}\n"
        "if host == 'algo-1':\n"
        "    with socket.create_server((address, port)) as server:\n"
        "        guests = [server.accept()[0] for _ in hosts[1:]]\n"
        "    names = sorted(guest.recv(100).decode() for guest in guests)\n"
        "    for guest in guests: guest.sendall(' '.join(names).encode()); guest.close()\n"
        "    print('met', *names)\n"
        "else:\n"
        "    for attempt in range(400):\n"
        "        try: connection = socket.create_connection((address, port)); break\n"
        "        except ConnectionRefusedError: time.sleep(0.05)\n"
        "    connection.sendall(host.encode())\n"
        "    print('met', connection.recv(100).decode())\n"
    )


MET = {host: ["met algo-2 algo-3"] for host in ("algo-1", "algo-2", "algo-3")}


def met(shown: str) -> dict[str, list[str]]:
    return {host: re.findall(rf"^{host} \| (met .*)$", shown, re.MULTILINE) for host in MET}


@pytest.fixture
def port() -> tuple[str, str]:
    return ("ESTIMATOR.ENVIRONMENT.MASTER_PORT", f"'{free_ports(1)[0]}'")


def skip_without_names(folder: Path) -> None:
    if not Trial(folder).succeeded:
        pytest.skip("this machine has no mount namespaces for its user")


@reproduces("hosts", "process")
@pytest.mark.parametrize("address", ["'algo-1'", "os.environ['MASTER_ADDR']", "hosts[0]"])
def test_hosts_meet_where_algo_1_listens(project: Project, port: tuple[str, str], address: str) -> None:
    skip_without_names(project.folder)
    program(project, rendezvous(address))
    events = rehearse(project, THREE, port, ("ESTIMATOR.ENVIRONMENT.MASTER_ADDR", "algo-1")).events
    assert {host: events.lines_of(host) for host in MET} == MET


def test_every_host_can_listen_on_the_same_port_of_its_own_name(
    project: Project, port: tuple[str, str]
) -> None:
    skip_without_names(project.folder)
    program(
        project,
        "server = socket.create_server((host, int(os.environ['MASTER_PORT'])))\n"
        "time.sleep(0.5); print('listened at', server.getsockname()[0])",
    )
    events = rehearse(project, THREE, port).events
    assert sorted(events.lines) == [f"listened at 127.0.0.{number}" for number in (1, 2, 3)]


def test_without_namespaces_the_user_is_told_and_master_addr_still_works(
    cli: CommandLine, project: Project, port: tuple[str, str], tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "git", "env"):
        (programs / name).symlink_to(str(shutil.which(name)))
    program(project, rendezvous("os.environ['MASTER_ADDR']"))
    words = (word for setting in (THREE, port) for word in ("--set", *setting))
    done = launch(cli, project, *words, PATH=str(programs))
    assert done.code == 0, done.err
    assert met(done.err) == MET
    assert "note: this machine does not let its user give names to hosts: algo-1 is 127.0.0.1" in done.err
    alone = launch(cli, project, PATH=str(programs))
    assert "names to hosts" not in alone.err


@pytest.fixture
def users_project() -> Iterator[Project]:
    """A project of an ordinary user, where nothing above it keeps him out."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp())
    try:
        yield Project.create(folder / "project")
    finally:
        shutil.rmtree(folder)


def as_user(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as an ordinary user with a home of his own."""
    home = project.folder.parent / "home"
    home.mkdir(exist_ok=True)
    for path in (project.folder.parent, *project.folder.parent.rglob("*")):
        os.chown(path, AN_ORDINARY_USER, AN_ORDINARY_USER)
    user = ["setpriv", f"--reuid={AN_ORDINARY_USER}", f"--regid={AN_ORDINARY_USER}", "--clear-groups"]
    environment = clean_environment(home)
    able = subprocess.run(
        [*user, sys.executable, str(ROOT / "run_sagemaker_job.py"), "--version"],
        env=environment,
        cwd=project.folder,
        capture_output=True,
        check=False,
    )
    if able.returncode:
        pytest.skip("another user can read neither this Python nor this code")
    command = [*user, *CommandLine.command(*words)]
    return subprocess.run(
        command,
        env=environment,
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_ordinary_user_can_rehearse_many_hosts_too(users_project: Project, port: tuple[str, str]) -> None:
    text = rendezvous("os.environ['MASTER_ADDR']")
    program(users_project, f"{text}\nprint('user', os.getuid(), os.getgid())")
    settings = (THREE, port, ("ESTIMATOR.ENVIRONMENT.MASTER_ADDR", "algo-1"))
    words = [word for setting in settings for word in ("--set", *setting)]
    python = shutil.which("python3", path="/usr/bin:/bin")  # one that everybody may run
    if python is None:
        pytest.skip("this system has no Python")
    done = as_user(users_project, *rehearsal(users_project, "--python", python, *words))
    assert done.returncode == 0, done.stderr
    if "names to hosts" not in done.stderr:
        assert "algo-3 | user 12345 12345\n" in done.stderr
    assert met(done.stderr) == MET
    cache = users_project.folder.parent / "home" / ".cache" / "sagemaker-launcher"
    assert snapshot(cache / "rehearsals") == {}


# --- what a program may do with its input ---


def modes(mode: str) -> tuple[tuple[str, str], ...]:
    return (("ESTIMATOR.INPUT_MODE", mode), TWO)


@reproduces("fast file", "process")
def test_fast_file_data_is_read_only_even_for_root(project: Project) -> None:
    skip_without_names(project.folder)
    program(
        project,
        "for act in (lambda: (inputs / 'training/a.csv').write_text('x'), lambda: (inputs / 'training/b').touch(),\n"
        "            lambda: (inputs / 'training/a.csv').unlink()):\n"
        "    try: act(); print('done')\n"
        "    except OSError as error: print(error.strerror)\n"
        "print((inputs / 'training/a.csv').read_text())",
    )
    events = rehearse(project, *modes("FastFile")).events
    for host in ("algo-1", "algo-2"):
        assert events.lines_of(host) == [*["Read-only file system"] * 3, "1,2", ""]


@reproduces("input writable", "process")
def test_a_program_may_do_as_it_likes_in_the_folder_of_a_file_channel(project: Project) -> None:
    project.put("s3://team/data/train/deep/b.csv", "3,4\n")
    program(
        project,
        "folder = inputs / 'training'\n"
        "before = sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())\n"
        "(folder / 'index').write_text('x'); (folder / 'a.csv').unlink(); (folder / 'deep').rename(folder / 'new')\n"
        "(folder / 'new/b.csv').unlink(); (folder / 'new/b.csv').write_text('mine')\n"
        "print(before)",
    )
    source = snapshot(project.s3 / "team/data")
    for _ in range(2):
        done = rehearse(project, TWO)
        assert done.result.status == "Completed", done.result.failure_reason
        assert done.events.lines == ["['a.csv', 'deep/b.csv']"] * 2
    assert snapshot(project.s3 / "team/data") == source


def test_a_file_that_a_program_overwrites_in_place_is_right_again_in_the_next_run(project: Project) -> None:
    program(
        project,
        "path = inputs / 'training/a.csv'\nprint(path.read_text().strip())\n"
        "try:\n    path.chmod(0o644)\n    with path.open('r+') as file: file.write('9,9')\n"
        "except OSError as error: print(error)",
    )
    assert rehearse(project).events.lines == ["1,2"]
    assert rehearse(project).events.lines == ["1,2"]
    assert (project.s3 / "team/data/train/a.csv").read_text() == "1,2\n"


# --- stopping all ---

SAVES = """
def stop(number, frame):
    (model / host).write_text("last state")
    print("saved", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""
IGNORES = (
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', os.getpid(), flush=True)\ntime.sleep(60)\n"
)


def wait_until_ready(process: subprocess.Popen[str]) -> list[str]:
    """Reads the log until both hosts are ready; gives their words."""
    assert process.stderr
    words: list[str] = []
    for line in process.stderr:
        if " | ready" in line:
            words.append(line.rstrip().partition(" | ready")[2].strip())
        if len(words) == 2:
            return words
    raise AssertionError(words)


@reproduces("stop", "process")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_hosts_and_what_they_saved_is_the_model(
    cli: CommandLine, project: Project, number: signal.Signals, code: int
) -> None:
    program(project, SAVES)
    with cli.start(*rehearsal(project, "--set", *TWO)) as process:
        wait_until_ready(process)
        process.send_signal(number)
        _, err = process.communicate(timeout=90)
    assert process.returncode == code, err
    experiment = re.search(r"archived at (\S+)", err)
    assert experiment
    folder = local(project, experiment[1])
    result = document(folder, "result.json")
    assert (result["status"], result["secondary_status"]) == ("Stopped", "Stopped")
    packed = local(project, result["artifacts"]["model"]).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert sorted(tar.getnames()) == ["algo-1", "algo-2"]
    logs = {path.name[:6]: path.read_text() for path in (folder / "logs").iterdir()}
    assert logs == {"algo-1": "ready\nsaved\n", "algo-2": "ready\nsaved\n"}


def test_a_second_signal_ends_the_grace_of_all_hosts_at_once(cli: CommandLine, project: Project) -> None:
    program(project, IGNORES)
    with cli.start(*rehearsal(project, "--set", *TWO)) as process:
        pids = [int(pid) for pid in wait_until_ready(process)]
        process.send_signal(signal.SIGINT)
        assert process.stderr
        while "SIGKILL after 120 s" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(0.2)
        assert all(is_running(pid) for pid in pids)
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        process.communicate(timeout=90)
    assert process.returncode == 130
    assert time.monotonic() - before < 60
    assert not any(is_running(pid) for pid in pids)


def test_a_signal_while_a_failed_job_ends_hides_nothing_of_the_failure(
    cli: CommandLine, project: Project
) -> None:
    program(
        project,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\n"
        "if host == 'algo-1': time.sleep(300)\n"
        "(base / 'output' / 'failure').write_text('boom'); sys.exit(3)\n",
    )
    with cli.start(*rehearsal(project, "--set", *TWO)) as process:
        assert process.stderr
        while "algo-2 failed, which ends the job" not in process.stderr.readline():
            assert process.poll() is None  # it is told at once
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "the job had ended before: Failed" in err
    (path,) = project.s3.rglob("result.json")
    result = json.loads(path.read_text())
    assert (result["status"], result["exit_code"]) == ("Failed", 3)
    assert result["failure_reason"] == "AlgorithmError: boom, exit code: 3"
