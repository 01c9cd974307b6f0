"""An engine's program that starts before its turn: it waits, and whatever becomes of us, it never goes on by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagemaker_launcher.rehearsal.head_start import HeadStart
from tests.commands import ROOT
from tests.stand_in import is_running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no head starts")

# Reads its file of variables as the engine's program does: all of it, before anything else, and in UTF-8 only.
WAITS = """\
#!{python}
import sys
from pathlib import Path
print("started", flush=True)
text = Path(sys.argv[sys.argv.index("--env-file") + 1]).read_bytes().decode() if "--env-file" in sys.argv else ""
assert not [line for line in text.splitlines() if line and not line.startswith("#")]
Path(sys.argv[0]).with_name("ran").write_text(" ".join(sys.argv[-2:]))
print("ran", *sys.argv[-2:], flush=True)
"""
# Such as sudo: whatever it was given to read is closed.
CLOSES = """\
#!{python}
import os, sys, time
if "--env-file" in sys.argv:
    os.closerange(3, 256)
    time.sleep(60)
"""
NEVER_READS = """\
#!{python}
import sys, time
time.sleep(60 if "--env-file" in sys.argv else 0)
"""
GIVES_UP = """\
#!{python}
import sys
sys.exit("unknown flag: --env-file")
"""
Make = Callable[[str], list[str]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(text: str) -> list[str]:
        program = tmp_path / "docker"
        program.write_text(text.format(python=sys.executable))
        program.chmod(0o755)
        return [str(program), "run", "image", "train"]

    return made


@pytest.fixture
def started() -> Iterator[list[HeadStart]]:
    """What a test starts, which must not outlive it."""
    made: list[HeadStart] = []
    yield made
    for one in made:
        assert one._process.stdout
        one._process.stdout.close()
        assert one._process.poll() is not None


def environment() -> dict[str, str]:
    return dict(os.environ)


def ran(command: list[str]) -> Path:
    return Path(command[0]).with_name("ran")


def test_it_waits_until_it_is_told_to_go(make: Make, started: list[HeadStart]) -> None:
    command = make(WAITS)
    head_start = HeadStart(command, environment())
    started.append(head_start)
    assert head_start._process.stdout
    assert head_start._process.stdout.readline() == b"started\n"
    time.sleep(0.3)
    assert not ran(command).exists()
    process = head_start.go(list(command))
    assert process
    assert process.stdout
    assert process.stdout.read() == b"ran image train\n"
    assert process.wait() == 0


def test_a_program_that_is_still_starting_is_waited_for(make: Make, started: list[HeadStart]) -> None:
    command = make(WAITS.replace("import sys\n", "import sys, time\ntime.sleep(0.3)\n", 1))
    head_start = HeadStart(command, environment())
    started.append(head_start)
    process = head_start.go(command)
    assert process
    assert process.wait() == 0
    assert ran(command).exists()


def test_it_does_not_run_anything_else(make: Make, started: list[HeadStart]) -> None:
    command = make(WAITS)
    head_start = HeadStart(command, environment())
    started.append(head_start)
    assert head_start.go([*command[:-1], "other"]) is None
    head_start._process.wait(10)
    assert not ran(command).exists()


@pytest.mark.parametrize("text", [CLOSES, NEVER_READS, GIVES_UP])
def test_a_program_that_does_not_wait_as_the_engines_own_does_is_not_used(
    make: Make, started: list[HeadStart], text: str
) -> None:
    command = make(text)
    head_start = HeadStart(command, environment())
    started.append(head_start)
    before = time.monotonic()
    assert head_start.go(command) is None
    assert time.monotonic() - before < 20
    head_start._process.wait(10)


def test_it_goes_only_once(make: Make, started: list[HeadStart]) -> None:
    command = make(
        WAITS.replace("import sys\n", "import sys, time\n").replace(
            'print("ran', 'time.sleep(0.5)\nprint("ran'
        )
    )
    head_start = HeadStart(command, environment())
    started.append(head_start)
    process = head_start.go(command)
    assert process
    with Path(os.devnull).open() as ours:  # which has the number of what was closed
        assert head_start.go(command) is None
        assert head_start.go([*command, "2"]) is None
        head_start.give_up()
        assert os.fstat(ours.fileno())
    assert process.wait() == 0


def test_what_is_given_up_has_done_nothing(make: Make, started: list[HeadStart]) -> None:
    command = make(WAITS)
    head_start = HeadStart(command, environment())
    started.append(head_start)
    assert head_start._process.stdout
    head_start._process.stdout.readline()
    head_start.give_up()
    head_start._process.wait(10)
    assert not ran(command).exists()


HOLDER = """\
import os, sys, time
from sagemaker_launcher.rehearsal.head_start import HeadStart
head_start = HeadStart(sys.argv[1:], dict(os.environ))
head_start._process.stdout.readline()
print(head_start._process.pid, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["ends", *map(int, (signal.SIGKILL, signal.SIGTERM))])
def test_it_ends_with_us_however_we_end(make: Make, how: str | int) -> None:
    command = make(WAITS)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin
        assert holder.stdout
        pid = int(holder.stdout.readline())
        assert is_running(pid)
        if isinstance(how, int):
            holder.send_signal(how)
        else:
            holder.stdin.close()
        holder.wait(10)
    until = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(pid)
    assert not ran(command).exists()


def test_a_program_that_cannot_be_started_leaves_no_open_file(tmp_path: Path) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match="nowhere"):
        HeadStart([str(tmp_path / "nowhere"), "run", "image"], environment())
    assert sorted(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize(
    ("program", "possible"),
    [("/usr/bin/docker", True), ("/usr/bin/podman", False), ("/opt/docker/finch", False)],
)
def test_only_of_the_engine_that_is_known_to_wait(program: str, possible: bool) -> None:
    assert HeadStart.possible(program) is possible
