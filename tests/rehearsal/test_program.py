"""The training program's process: its log, its time limit, its end and everything that it started."""

from __future__ import annotations

import ast
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagemaker_launcher.rehearsal.program import Program
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


Start = Callable[[str], tuple[Program, Log]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Program] = []

    def start(text: str) -> tuple[Program, Log]:
        log = Log()
        environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
        program = Program([sys.executable, "-c", PRELUDE + text], tmp_path, environment, log)
        started.append(program)
        return program, log

    yield start
    for program in started:
        program.kill()


def lines_of(start: Start, text: str) -> list[str]:
    program, log = start(text)
    program.wait(60)
    return log.lines


def test_a_line_arrives_when_it_is_printed_and_not_at_the_end(start: Start) -> None:
    program, log = start("print('early'); time.sleep(0.6); print('late')")
    assert (program.wait(60), log.lines) == (0, ["early", "late"])
    assert log.times[1] - log.times[0] > 0.5


def test_stdout_and_stderr_are_one_log_in_their_order(start: Start) -> None:
    text = "for i in range(50): print(i, file=(sys.stdout, sys.stderr)[i % 2], flush=True)"
    assert lines_of(start, text) == [str(number) for number in range(50)]


def test_tabs_look_as_they_look_in_the_services_log(start: Start) -> None:
    assert lines_of(start, r"print('loss\t0.5')") == ["loss#0110.5"]


def test_bytes_that_are_no_utf8_are_shown_as_replaced(start: Start) -> None:
    assert lines_of(start, r"os.write(1, b'caf\xc3\xa9 \xff\xfe \x00 end\n')") == [
        "café \ufffd\ufffd \x00 end"
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
    assert start(text)[0].wait(60) == exit_code


SAVES_ITS_STATE = (
    """
def save(number, frame):
    time.sleep(0.3)
    print("saved")
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
print("ready")
"""
    + FOREVER
)
IGNORES = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); {FOREVER}"


def test_when_the_time_is_up_the_program_may_save_its_state(start: Start) -> None:
    program, log = start(SAVES_ITS_STATE)
    log.wait_for("ready")
    assert program.wait(0.1) is None
    assert program.stop(20) == 3
    assert log.lines == ["ready", "saved"]


def test_a_program_that_ignores_the_end_of_its_time_is_killed_after_the_grace_period(start: Start) -> None:
    program, log = start(IGNORES)
    log.wait_for("ready")
    before = time.monotonic()
    assert program.wait(0.1) is None
    assert program.stop(0.5) == 137
    assert 0.6 <= time.monotonic() - before < 5


def test_stopping_at_once_asks_nobody(start: Start) -> None:
    program, log = start(IGNORES)
    log.wait_for("ready")
    assert program.stop(0) == 137


def test_a_program_that_ends_just_before_its_time_has_not_run_out_of_it(start: Start) -> None:
    program, log = start("print('done')")
    log.wait_for("done")
    time.sleep(0.2)
    assert program.wait(0.001) == 0


CHILDREN = """
child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {grandchild!r}]).wait()"
grandchild = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
first = subprocess.Popen([sys.executable, "-c", child.format(grandchild=grandchild)])
print(first.pid)
"""


@pytest.mark.parametrize(
    ("ending", "stop"), [("time.sleep(0.5)", False), (FOREVER, True), ("time.sleep(0.5); os._exit(9)", False)]
)
def test_nothing_that_the_program_started_outlives_it(start: Start, ending: str, stop: bool) -> None:
    program, log = start(CHILDREN + ending)
    while len(log.lines) < 2:
        time.sleep(0.01)
    pids = [int(line) for line in log.lines]
    assert all(is_running(pid) for pid in pids)
    program.stop(5) if stop else program.wait(60)
    limit = time.monotonic() + 5
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_terminal_signal_to_us_does_not_reach_the_program(start: Start) -> None:
    program, log = start("print(os.getsid(0), os.getpgrp())")
    program.wait(60)
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
