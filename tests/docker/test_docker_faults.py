"""What goes wrong with engines, images, programs and disks: the cause is named, and nothing is left."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.docker.launching import Desk, OrdinaryUser, ended, open_folder, read_until
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.servers.engine import BASE_IMAGE, Engine
from tests.stand_in import nothing_written


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Desk:
    return Desk.set_up(tmp_path, engine)


# --- no engine ---


@provokes(113)
def test_a_docker_program_that_is_not_there_is_named(desk: Desk) -> None:
    with nothing_written(desk.project.s3):
        done = desk.launch("--docker", "docker-of-nobody")
    assert (done.code, done.error["code"]) == (15, "no_docker")
    assert "docker-of-nobody is not installed" in done.error["message"]
    assert "--docker podman" in done.error["hint"]
    assert "--on process" in done.error["hint"]


@provokes(113)
@pytest.mark.parametrize("host", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:9"])
def test_an_engine_that_does_not_run_is_named_with_its_address(desk: Desk, host: str) -> None:
    with nothing_written(desk.project.s3):
        done = desk.launch(env={"DOCKER_HOST": host})
    assert (done.code, done.error["code"]) == (15, "no_docker")
    assert f"no engine answers docker at {host}" in done.error["message"]
    assert "--on process" in done.error["hint"]


@provokes(113)
def test_a_socket_that_is_closed_to_the_user_is_told_from_an_engine_that_does_not_run(
    engine: Engine,
) -> None:
    if os.getuid() or not engine.host.startswith("unix://"):
        pytest.skip("only root can become somebody who may not use the engine's socket")
    if Path(engine.host.removeprefix("unix://")).stat().st_mode & 0o006:
        pytest.skip("everybody may use the engine's socket")
    tried = subprocess.run(
        OrdinaryUser.command("--version"), cwd="/", capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"an ordinary user cannot run the launcher here: {tried.stderr.strip()}")
    with open_folder() as folder:
        desk = Desk.set_up(folder, engine, command_line=OrdinaryUser)
        done = desk.launch()
    assert (done.code, done.error["code"]) == (15, "no_docker")
    assert "you may not talk to the engine" in done.error["message"]
    assert "usermod -aG docker" in done.error["hint"]


class Relay:
    """Stands between the launcher and the engine, on a socket of its own, until it is broken."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine.host.removeprefix("unix://")
        self._path = path
        self._open: list[socket.socket] = []
        self.host = f"unix://{path}"

    def listen(self) -> None:
        self._path.unlink(missing_ok=True)
        server = self._keep(socket.socket(socket.AF_UNIX))
        server.bind(str(self._path))
        server.listen()
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def break_down(self) -> None:
        """Ends all connections, as an engine that crashes."""
        self._path.unlink()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _keep(self, one: socket.socket) -> socket.socket:
        self._open.append(one)
        return one

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, far = self._keep(server.accept()[0]), self._keep(socket.socket(socket.AF_UNIX))
                far.connect(self._engine)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_an_engine_that_goes_away_during_the_job_is_told_and_cleared_up_after_by_the_next_launch(
    engine: Engine, tmp_path: Path
) -> None:
    if not engine.host.startswith("unix://"):
        pytest.skip("the engine has no socket on this machine")
    relay = Relay(engine, tmp_path / "engine.sock")
    relay.listen()
    desk = Desk.set_up(tmp_path, engine)
    desk.program("tell(identifier=identifier)\ntime.sleep(100)")
    with desk.launching(env={"DOCKER_HOST": relay.host}) as process:
        before = read_until(process, "identifier")
        identifier = desk.identifier()
        relay.break_down()
        done = ended(process, before)
    assert (done.code, done.error["code"]) == (15, "no_docker")
    assert f"no engine answers docker at {relay.host}" in done.error["message"]
    assert desk.containers(identifier)
    desk.program("")
    assert desk.launch().code == 0
    assert desk.left(identifier) == []


def test_the_end_of_the_docker_program_is_not_the_end_of_the_job(desk: Desk) -> None:
    desk.program(
        "tell(identifier=identifier)\nwhile not (model / 'go').exists(): time.sleep(0.02)\nsys.exit(3)"
    )
    with desk.launching() as process:
        before = read_until(process, "identifier")
        [name] = desk.containers(desk.identifier())
        [client] = [one for one in psutil.Process(process.pid).children() if name in one.cmdline()]
        client.kill()
        next((desk.cache / "rehearsals").glob("*/attempt-1/algo-1/opt/ml/model")).joinpath("go").touch()
        done = ended(process, before)
    assert (done.code, done.result["exit_code"]) == (10, 3)
    assert desk.left(done.told()["identifier"]) == []


def test_a_container_that_cannot_be_removed_costs_nothing_of_what_the_job_left(
    desk: Desk, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    script = f"""#!/bin/sh
if [ "$1" = rm ] && [ ! -e {tmp_path}/able ]; then
  echo "cannot remove: permission denied" >&2
  exit 1
fi
exec {shutil.which("docker")} "$@"
"""
    program.write_text(script)
    program.chmod(0o755)
    desk.program("(model / 'm').write_text('x')")
    done = desk.launch("--docker", program)
    assert (done.code, done.result["status"]) == (0, "Completed")
    assert desk.path(done.result["artifacts"]["model"]).is_file()
    (told,) = [note for note in done.notes if "leaves" in note]
    assert "cannot remove: permission denied" in told
    (tmp_path / "able").touch()
    identifier = desk.identifier()
    assert len(desk.containers(identifier)) == 1
    assert desk.launch().code == 0
    assert desk.left(identifier) == []


# --- no image ---


@provokes(114)
def test_an_image_that_is_not_here_comes_with_the_login_to_its_registry(desk: Desk) -> None:
    with nothing_written(desk.project.s3):
        done = desk.launch("--image", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/nobody:1.0")
    assert (done.code, done.error["code"]) == (15, "no_image")
    assert "nobody:1.0 is not on this machine and cannot be pulled" in done.error["message"]
    assert "aws ecr get-login-password --region eu-west-1" in done.error["hint"]
    assert "123456789012.dkr.ecr.eu-west-1.amazonaws.com" in done.error["hint"]
    assert "build_and_push.sh --local" in done.error["hint"]


def test_an_image_of_no_registry_is_to_be_built(desk: Desk) -> None:
    done = desk.launch("--image", "127.0.0.1:9/never-built:1")
    assert (done.code, done.error["code"]) == (15, "no_image")
    assert "aws ecr" not in done.error["hint"]
    assert "build_and_push.sh --local" in done.error["hint"]


@provokes(120)
@reproduces("image form", "docker")
def test_an_image_for_another_processor_is_warned_of(desk: Desk, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY train /train\nENTRYPOINT ["/train"]\n')
    (tmp_path / "train").write_bytes(b"\x7fELF of another processor")
    (tmp_path / "train").chmod(0o755)
    image = "sagemaker-launcher-tests/arm64:1"
    engine("build", "--platform", "linux/arm64", "--tag", image, tmp_path)
    done = desk.launch("--image", image)
    [note] = [note for note in done.notes if "arm64" in note]
    assert "SageMaker's instances are linux/amd64" in note
    assert (done.code, done.result["status"]) == (10, "Failed")
    assert "exec format error" in done.done.err + done.result["failure_reason"]


# --- programs that fail ---


@reproduces("failure", "docker")
def test_an_image_without_program_says_so_in_the_reason(desk: Desk) -> None:
    done = desk.launch("--image", BASE_IMAGE)
    assert (done.code, done.result["exit_code"]) == (10, 127)
    reason = done.result["failure_reason"]
    assert reason.startswith("AlgorithmError: ")
    assert '"train": executable file not found' in reason
    assert reason.endswith(", exit code: 127")


def test_a_program_that_may_not_be_executed_says_so_in_the_reason(desk: Desk, engine: Engine) -> None:
    image = engine.build("mode", "COPY train /usr/local/bin/train", {"train": "no first line"})
    done = desk.launch("--image", image)
    assert (done.code, done.result["exit_code"]) in [(10, 126), (10, 127)]
    assert (
        "permission denied" in done.result["failure_reason"] or "not found" in done.result["failure_reason"]
    )


@provokes(116)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sys.exit(1)", 1),
        ("sys.exit(3)", 3),
        ("sys.exit(126)", 126),
        ("sys.exit(255)", 255),
        ("import ctypes; ctypes.string_at(0)", 139),
    ],
)
@reproduces("failure", "docker")
def test_the_programs_exit_code_is_told(desk: Desk, text: str, code: int) -> None:
    desk.program(f"(model / 'm').touch(); (base / 'output/failure').write_text('because')\n{text}")
    done = desk.launch()
    assert (done.code, done.result["exit_code"]) == (10, code)
    assert done.result["failure_reason"] == f"AlgorithmError: because, exit code: {code}"
    assert "model" in done.result["artifacts"]


@provokes(116)
def test_a_program_that_ran_out_of_memory_has_that_as_its_reason(desk: Desk, engine: Engine) -> None:
    desk.program(
        "tell(identifier=identifier)\nwhile not (model / 'go').exists(): time.sleep(0.02)\n"
        "full = [bytearray(os.urandom(2**20)) for _ in range(2**10)]"
    )
    with desk.launching() as process:
        before = read_until(process, "identifier")
        [name] = desk.containers(desk.identifier())
        limit = engine("update", "--memory", "64m", "--memory-swap", "64m", name, check=False)
        if limit.returncode:
            pytest.skip(f"the engine limits no memory here: {limit.stderr.strip()}")
        next((desk.cache / "rehearsals").glob("*/attempt-1/algo-1/opt/ml/model")).joinpath("go").touch()
        done = ended(process, before)
    assert (done.code, done.result["exit_code"]) == (10, 137)
    assert "ran out of memory" in done.result["failure_reason"]


# --- disks and paths ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no small file system can be had here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@provokes(121)
def test_a_disk_that_is_full_fails_the_job_and_is_empty_afterwards(
    engine: Engine, tmp_path: Path, small_disk: Path
) -> None:
    desk = Desk.set_up(tmp_path, engine, SAGEMAKER_LAUNCHER_CACHE=str(small_disk))
    desk.program("tell(identifier=identifier)\n(model / 'm').write_bytes(os.urandom(2**24))")
    done = desk.launch()
    assert (done.code, done.result["status"]) == (10, "Failed")
    assert done.lines()[-1] == "OSError: [Errno 28] No space left on device"
    assert [note for note in done.notes if "No space left on device" in note]
    assert desk.left(done.told()["identifier"]) == []
    assert desk.path(done.answer["experiment"]).joinpath("result.json").is_file()


@provokes(119)
def test_a_cache_with_an_odd_name_does_no_harm(engine: Engine, tmp_path: Path) -> None:
    cache = tmp_path / 'of é\'s "cache", with: all, \\ and $HOME 日本'
    desk = Desk.set_up(tmp_path, engine, SAGEMAKER_LAUNCHER_CACHE=str(cache))
    desk.project.write(
        CHANNELS={"training": {"S3_URI": "s3://team/data/train/", "INPUT_MODE": "FastFile"}},
        S3={"CHECKPOINTS": "s3://team/checkpoints"},
    )
    desk.program(
        "tell(text=(base / 'input/data/training/a.csv').read_text(), places=os.listdir(base))\n(model / 'm').write_text('1')"
    )
    done = desk.launch()
    assert done.code == 0, done.done.err
    assert done.told()["text"] == "1,2\n"
    assert sorted(done.told()["places"]) == ["checkpoints", "code", "input", "model", "output"]
    assert "model" in done.result["artifacts"]
    assert list((cache / "rehearsals").iterdir()) == []
