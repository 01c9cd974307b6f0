"""Every signal at every moment of a rehearsal in containers: none of them stays, nor anything else of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.launching import LABEL, RUNS_THE_CODE
from tests.fault_rows import provokes
from tests.killing import WRITES_MUCH, Desk, every_signal, stopped_at, told
from tests.project import Project
from tests.servers.engine import Engine
from tests.warm import Warm, warm

_WAITS = """\
import signal, time
signal.signal(signal.SIGTERM, lambda *_: exit(9))
print("running", flush=True)
time.sleep(300)
"""
_ENDS = WRITES_MUCH + "print('the end', flush=True)\n"
# Moments, with the program, how many hosts it has, the line that says that it is so far, and seconds after that line.
_DURING = {
    "the network is made": (_WAITS, 2, "Training", 0.0),
    "containers are made": (_WAITS, 2, "Training", 0.15),
    "the container runs": (_WAITS, 1, "| running", 0.0),
    "the container is removed": (_ENDS, 1, "| the end", 0.02),
    "the model is packed": (_ENDS, 1, "Uploading", 0.05),
}


@pytest.fixture(scope="module")
def warm_process() -> Iterator[Warm]:
    with warm() as process:
        yield process


@pytest.fixture
def desk(warm_process: Warm, project: Project, home: Path, engine: Engine) -> Iterator[Desk]:
    yield Desk.at_folder(warm_process, project, home, engine.variables)
    warm_process.abandon()


@pytest.fixture
def rehearsals(engine: Engine) -> Iterator[list[str]]:
    """The rehearsals of a test, which it names here; when it has failed, nothing of them stays all the same."""
    names: list[str] = []
    yield names
    for kind, remove in (("containers", ("rm", "--force")), ("networks", ("network", "rm"))):
        for thing in left(engine, names)[kind]:
            engine(*remove, thing)


@pytest.fixture
def words(desk: Desk, engine: Engine) -> tuple[str | Path, ...]:
    image = engine.build("code", RUNS_THE_CODE)
    return ("launch", desk.project.config, "--on", "docker", "--image", image, *desk.where)


def identifiers(desk: Desk) -> list[str]:
    """Of the rehearsals that are there, or whose launcher was killed."""
    return [path.stem for path in (desk.cache / "rehearsals").glob("*.lock")]


def left(engine: Engine, names: list[str]) -> dict[str, list[str]]:
    """The containers and networks of rehearsals."""
    found: dict[str, list[str]] = {"containers": [], "networks": []}
    for name in names:
        selection = ("--quiet", "--filter", f"label={LABEL}={name}")
        found["containers"] += engine("ps", "--all", *selection).stdout.split()
        found["networks"] += engine("network", "ls", *selection).stdout.split()
    return found


@every_signal
@provokes(67, 117)
def test_before_there_is_a_container(
    desk: Desk, engine: Engine, words: tuple[str | Path, ...], number: int
) -> None:
    stopped_at(desk, "recorded", number, *words)
    assert desk.states() == ["started"]
    assert desk.repaired() == ["abandoned"]
    assert not any(left(engine, identifiers(desk)).values())
    assert desk.leftovers() == []


@every_signal
@pytest.mark.parametrize("moment", _DURING)
@provokes(62, 66, 67, 117)
def test_while(
    desk: Desk,
    engine: Engine,
    words: tuple[str | Path, ...],
    rehearsals: list[str],
    moment: str,
    number: int,
) -> None:
    program, hosts, line, delay_s = _DURING[moment]
    desk.project.write(ESTIMATOR={"INSTANCE_COUNT": hosts})
    desk.project.program(program)
    process = desk.start(*words)
    process.read_until(line)
    rehearsals += identifiers(desk)
    time.sleep(delay_s)
    told(process, number)
    killed = number == signal.SIGKILL
    assert desk.states() == ["started" if killed else "finished"]
    assert desk.repaired() == ["abandoned" if killed else "finished"]
    assert len(rehearsals) == 1
    assert not any(left(engine, rehearsals).values())
    assert desk.leftovers() == []
    if killed:
        desk.project.write()
        desk.project.program("print('the next')")
        assert desk.run(*words).code == 0
