"""The training program's process: its log, its end and everything that it started."""

from __future__ import annotations

import ast
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagemaker_launcher.rehearsal.program import ProcessProgram
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.stand_in import is_running

PRELUDE = "import os, signal, subprocess, sys, time\n"
FOREVER = "time.sleep(600)"


class Log:
    """Collects lines with the time at which each came."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.times: list[float] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self.times.append(time.monotonic())
            self._changed.notify_all()

    def wait_for(self, line: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: line in self.lines, 20), self.lines


Start = Callable[[str], tuple[ProcessProgram, Log]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[ProcessProgram] = []

    def start(text: str) -> tuple[ProcessProgram, Log]:
        log = Log()
        environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
        program = ProcessProgram([sys.executable, "-c", PRELUDE + text], tmp_path, environment, log)
        started.append(program)
        return program, log

    yield start
    for program in started:
        program.kill()


def lines_of(start: Start, text: str) -> list[str]:
    program, log = start(text)
    program.wait()
    return log.lines


def test_a_line_arrives_when_it_is_printed_and_not_at_the_end(start: Start) -> None:
    program, log = start("print('early'); time.sleep(0.6); print('late')")
    assert (program.wait(), log.lines) == (0, ["early", "late"])
    assert log.times[1] - log.times[0] > 0.5


@reproduces("log")
def test_stdout_and_stderr_are_one_log_in_their_order(start: Start) -> None:
    text = "for i in range(50): print(i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)"
    assert lines_of(start, text) == [str(number) for number in range(50)]


@reproduces("log")
def test_control_characters_look_as_they_look_in_the_services_log(start: Start) -> None:
    assert lines_of(start, r"print('loss\t0.5 \x1b[31mred\x7f')") == ["loss#0110.5 #033[31mred#177"]


@provokes(94)
def test_bytes_that_are_no_utf8_are_shown_as_replaced(start: Start) -> None:
    assert lines_of(start, r"os.write(1, b'caf\xc3\xa9 \xff\xfe \x00 end\n')") == [
        "café \ufffd\ufffd #000 end"
    ]


def test_windows_line_ends_and_a_missing_last_one_make_no_difference(start: Start) -> None:
    assert lines_of(start, r"os.write(1, b'one\r\ntwo\n\nlast')") == ["one", "two", "", "last"]


def test_a_very_long_line_is_split_and_nothing_of_it_is_lost(start: Start) -> None:
    lines = lines_of(start, "print('x' * 1_000_000); print('next')")
    assert [len(line) for line in lines] == [262144, 262144, 262144, 213568, 4]


def test_much_output_is_read_to_its_end(start: Start) -> None:
    assert len(lines_of(start, "for i in range(20_000): print(i)")) == 20_000


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(7)", 7),
        ("raise ValueError('no')", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("os.abort()", 134),
    ],
)
def test_the_exit_code_is_the_one_that_a_shell_would_show(start: Start, text: str, exit_code: int) -> None:
    assert start(text)[0].wait() == exit_code


def test_a_program_that_is_asked_to_end_may_save_its_state(start: Start) -> None:
    saves = "def save(number, frame):\n    print('saved'); sys.exit(3)\nsignal.signal(signal.SIGTERM, save)\n"
    program, log = start(f"{saves}print('ready'); {FOREVER}")
    log.wait_for("ready")
    program.terminate()
    assert program.wait() == 3
    assert log.lines == ["ready", "saved"]


def test_only_the_program_itself_is_asked_and_not_what_it_started(start: Start) -> None:
    child = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: print('child asked', flush=True)); "
    child += f"print('child ready', flush=True); {FOREVER}"
    text = f"subprocess.Popen([sys.executable, '-c', {child!r}])\n"
    text += "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), os._exit(0)))\n"
    program, log = start(text + FOREVER)
    log.wait_for("child ready")
    program.terminate()
    assert program.wait() == 0
    assert log.lines == ["child ready"]


def test_a_program_that_does_not_listen_can_be_killed(start: Start) -> None:
    program, log = start(f"signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); {FOREVER}")
    log.wait_for("ready")
    program.terminate()
    program.kill()
    assert program.wait() == 137


def test_ending_an_ended_program_is_no_error(start: Start) -> None:
    program, _ = start("print('done')")
    assert program.wait() == 0
    program.terminate()
    program.kill()
    assert program.wait() == 0


def test_who_holds_the_output_open_does_not_hold_the_end_up_for_ever(start: Start) -> None:
    program, log = start(
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; {FOREVER}'], start_new_session=True)\n"
        "print(child.pid)"
    )
    before = time.monotonic()
    assert program.wait() == 0
    assert time.monotonic() - before < 60
    os.kill(int(log.lines[0]), signal.SIGKILL)


def test_the_end_is_told_with_the_signal_before_the_log_is_waited_for(tmp_path: Path) -> None:
    told: list[int] = []
    times: list[float] = []
    log = Log()
    text = f"import time; print('works', flush=True); {FOREVER}"
    text = f"child = subprocess.Popen([sys.executable, '-c', {text!r}], start_new_session=True)\nprint(child.pid)\n"
    text += "sys.stdout.flush(); time.sleep(0.5); os.abort()"

    def ended(code: int) -> None:
        told.append(code)
        times.append(time.monotonic())
        os.kill(int(next(line for line in log.lines if line.isdigit())), signal.SIGKILL)

    program = ProcessProgram([sys.executable, "-c", PRELUDE + text], tmp_path, dict(os.environ), log, ended)
    assert program.wait() == 134
    assert told == [-signal.SIGABRT]
    assert time.monotonic() - times[0] < 5  # as long as an output is waited for that stays open


CHILDREN = """
child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {grandchild!r}]).wait()"
grandchild = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
first = subprocess.Popen([sys.executable, "-c", child.format(grandchild=grandchild)])
print(first.pid)
"""


@pytest.mark.parametrize(
    ("ending", "kill"), [("time.sleep(0.5)", False), (FOREVER, True), ("time.sleep(0.5); os._exit(9)", False)]
)
def test_nothing_that_the_program_started_outlives_it(start: Start, ending: str, kill: bool) -> None:
    program, log = start(CHILDREN + ending)
    while len(log.lines) < 2:
        time.sleep(0.01)
    pids = [int(line) for line in log.lines]
    assert all(is_running(pid) for pid in pids)
    if kill:
        program.kill()
    program.wait()
    limit = time.monotonic() + 60
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_terminal_signal_to_us_does_not_reach_the_program(start: Start) -> None:
    program, log = start("print(os.getsid(0), os.getpgrp())")
    program.wait()
    session, group = (int(number) for number in log.lines[0].split())
    assert session != os.getsid(0)
    assert group != os.getpgrp()


def test_the_program_sees_the_given_folder_and_variables_and_no_others(start: Start, tmp_path: Path) -> None:
    os.environ["CANARY"] = "leaked"
    try:
        lines = lines_of(start, "print(os.getcwd()); print(sorted(os.environ))")
    finally:
        del os.environ["CANARY"]
    assert lines[0] == str(tmp_path)
    # Python adds LC_CTYPE itself where no locale is set.
    assert set(ast.literal_eval(lines[1])) - {"LC_CTYPE"} == {"PATH", "PYTHONUNBUFFERED"}
