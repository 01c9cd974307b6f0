"""What the engine's program says, and what is made of it; a script stands in for the program, no engine is needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sagemaker_launcher.engine import Engine, EngineError
from sagemaker_launcher.errors import EnvironmentProblemError
from tests.commands import ROOT


def engine(folder: Path, script: str) -> Engine:
    """An engine whose program is a shell script."""
    program = folder / "engine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Engine(str(program))


@pytest.mark.parametrize(
    ("entry_point", "expected"),
    [(None, ()), ([], ()), ([""], ()), (["train"], ("train",)), (["", "x"], ("", "x")), ("sh", ("sh",))],
)
def test_an_entry_point_of_one_empty_word_is_none(
    tmp_path: Path, entry_point: object, expected: tuple[str, ...]
) -> None:
    answer = json.dumps([{"Id": "sha256:1", "Config": {"Entrypoint": entry_point}}])
    assert engine(tmp_path, f"echo '{answer}'").image("x").entry_point == expected


def test_a_registry_that_has_no_address_is_not_taken_for_an_engine_that_does_not_answer(
    tmp_path: Path,
) -> None:
    said = "Error response from daemon: Get https://1.dkr.ecr/v2/: dial tcp: lookup 1.dkr.ecr: no such host"
    with pytest.raises(EngineError, match="no such host"):
        engine(tmp_path, f"echo '{said}' >&2; exit 1").call("pull", "image")


@pytest.mark.parametrize(
    ("said", "is_the_engines"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            True,
        ),
        ("Got permission denied: dial unix /var/run/docker.sock: connect: permission denied", True),
        ("Error response from daemon: cannot remove container: could not kill it: permission denied", False),
    ],
)
def test_what_the_user_may_not_is_told_from_what_the_engine_may_not(
    tmp_path: Path, said: str, is_the_engines: bool
) -> None:
    with pytest.raises(EnvironmentProblemError) as raised:
        engine(tmp_path, f"echo '{said}' >&2; exit 1").call("rm", "container")
    assert ("sudo usermod" in raised.value.hint) == is_the_engines
    assert (said in raised.value.message) != is_the_engines


ASKS = """\
import sys
from sagemaker_launcher.engine import Engine
from sagemaker_launcher.interrupts import Interrupted, raise_on_signals, shielded
raise_on_signals()
try:
    with shielded():
        print(Engine(sys.argv[1]).call("rm", "x").strip(), flush=True)
except Interrupted:
    print("interrupted afterwards")
"""


def test_ctrl_c_in_a_terminal_does_not_end_what_is_asked_in_a_shielded_moment(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    program = engine(tmp_path, f"touch '{asked}'; sleep 0.5; echo removed").program
    with subprocess.Popen(
        [sys.executable, "-c", ASKS, program],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        while not asked.exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        out, _ = process.communicate(timeout=60)
    assert out == "removed\ninterrupted afterwards\n"
