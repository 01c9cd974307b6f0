"""The programs of all hosts: waiting for them, and stopping them within a grace period."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.interrupts import Interrupted
from sagemaker_launcher.rehearsal.crew import Crew
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.program import ProcessProgram

PRELUDE = "import os, signal, sys, time\n"
SLEEPS = "print('ready', flush=True); time.sleep(60)"
SAVES = f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.2), sys.exit(3)))\n{SLEEPS}"
SAVES_ONCE_ALL_ARE_ASKED = f"""
def save(*_):
    open(f'asked-{{os.getpid()}}', 'w').close()
    while len([name for name in os.listdir() if name.startswith('asked-')]) < 3:
        time.sleep(0.01)
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
{SLEEPS}"""
IGNORES = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPS}"
Hire = Callable[..., Crew]


def host(number: int) -> Host:
    return Host(f"algo-{number}", number, "ml.m5.large", "all")


class Said:
    """Hears a program's first word."""

    def __init__(self) -> None:
        self.ready = threading.Event()

    def __call__(self, line: str) -> None:
        assert line == "ready"
        self.ready.set()


@pytest.fixture
def hire(tmp_path: Path) -> Iterator[Hire]:
    """Makes a crew of one program per text; every one that says when it is ready is."""
    crews: list[Crew] = []

    def hire(*texts: str) -> Crew:
        crew = Crew()
        crews.append(crew)
        for number, text in enumerate(texts, start=1):
            said = Said()
            command = [sys.executable, "-c", PRELUDE + text]
            crew.add(host(number), ProcessProgram(command, tmp_path, {}, said))
            if "ready" in text:
                assert said.ready.wait(60)
        return crew

    yield hire
    for crew in crews:
        crew.kill()


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def codes(crew: Crew) -> dict[str, int]:
    return {ended.host.name: ended.exit_code for ended in crew.ended}


def test_the_end_of_all_is_the_end(hire: Hire) -> None:
    crew = hire("time.sleep(0.3)", "")
    assert crew.wait(soon(60))
    assert [ended.host.name for ended in crew.ended] == ["algo-2", "algo-1"]
    assert crew.failed is None


def test_one_that_fails_is_the_end_while_others_run(hire: Hire) -> None:
    crew = hire(SLEEPS, "sys.exit(7)")
    assert crew.wait(soon(60))
    assert crew.failed
    assert (crew.failed.host.name, crew.failed.exit_code) == ("algo-2", 7)
    crew.stop(5)
    assert codes(crew) == {"algo-1": 143, "algo-2": 7}
    assert crew.failed.host.name == "algo-2"  # not who was stopped because of it


def test_when_the_time_is_up_all_still_run(hire: Hire) -> None:
    crew = hire(SLEEPS, "")
    before = time.monotonic()
    assert not crew.wait(before + 0.5)
    assert 0.5 <= time.monotonic() - before < 30
    assert codes(crew) == {"algo-2": 0}


def test_an_end_in_time_counts_even_if_nobody_looked_before_the_time_was_up(hire: Hire) -> None:
    crew, limit = hire(""), soon(60)
    while not crew.wait(soon(-1)):
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_all_are_asked_at_once_and_may_save_their_state(hire: Hire) -> None:
    crew = hire(*[SAVES_ONCE_ALL_ARE_ASKED] * 3)
    crew.stop(60)
    assert codes(crew) == {"algo-1": 3, "algo-2": 3, "algo-3": 3}


def test_who_does_not_listen_is_killed_after_the_grace_period(hire: Hire) -> None:
    crew = hire(IGNORES, SAVES, IGNORES)
    before = time.monotonic()
    crew.stop(0.7)
    assert 0.7 <= time.monotonic() - before < 30
    assert codes(crew) == {"algo-1": 137, "algo-2": 3, "algo-3": 137}


def test_without_grace_nobody_can_save_anything(hire: Hire) -> None:
    crew = hire(IGNORES, IGNORES)
    before = time.monotonic()
    crew.stop(0)
    assert time.monotonic() - before < 30
    assert codes(crew) == {"algo-1": 137, "algo-2": 137}


def test_a_signal_to_us_cuts_the_grace_period_short_and_leaves_nobody(hire: Hire) -> None:
    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    crew = hire(IGNORES, IGNORES)
    previous = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    before = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            crew.stop(60)
    finally:
        signal.signal(signal.SIGUSR1, previous)
        timer.join()
    assert time.monotonic() - before < 30
    assert codes(crew) == {"algo-1": 137, "algo-2": 137}


class Lost:
    """A program whose engine has gone."""

    def wait(self) -> int:
        raise EnvironmentProblemError("no contact")

    def terminate(self) -> None:
        pass

    def kill(self) -> None:
        pass


def test_a_program_that_nobody_can_see_any_more_is_an_error() -> None:
    crew = Crew()
    crew.add(host(1), Lost())
    with pytest.raises(EnvironmentProblemError, match="no contact"):
        crew.wait(soon(60))
