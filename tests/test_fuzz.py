"""A small part of `make fuzz`, always the same; and that it would see what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.commands import ROOT
from tests.fault_rows import provokes
from tests.fuzz.course import judged
from tests.fuzz.subject import Input, Subject, random_for, read, written
from tests.fuzz.subjects import SUBJECTS

_COUNTS = {"configs": 50_000, "names": 20_000, "tars": 2_000, "archives": 2_000, "logs": 2_000}


@provokes(12, 23, 25, 79, 85, 93)
def test_nothing_hostile_breaks_anything(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--sample", "--seed", "1", "--workers", "1"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.findall(r"^(\w+): ([\d,]+) inputs", done.stdout, re.MULTILINE)
    counts = {name: int(count.replace(",", "")) for name, count in told}
    assert counts == {subject.name: subject.sample * subject.worth for subject in SUBJECTS}


def test_all_that_is_promised_is_made() -> None:
    assert {subject.name: subject.count * subject.worth for subject in SUBJECTS} == _COUNTS


def test_an_input_can_be_made_again_and_kept() -> None:
    for subject in SUBJECTS:
        once, again = (subject.make(random_for(7, subject.name, 3)) for _ in range(2))
        assert once == again == read(written(once))


def _story(act: Callable[[], object], folder: Path, limit_s: float = 10.0) -> str:
    """What is wrong with an input whose judge does this; nothing when it was accepted."""

    def judge(_: Input, __: Path) -> str:
        act()
        return "accepted"

    verdict, _, story = judged(Subject("made-up", 1, limit_s, lambda _: {}, judge, 1), {}, folder)
    assert (verdict == "accepted") == (story == "")
    return story


def test_an_error_a_warning_and_slowness_are_failures(tmp_path: Path) -> None:
    assert not _story(lambda: None, tmp_path)
    assert "ZeroDivisionError" in _story(lambda: 1 / 0, tmp_path)
    assert "UserWarning" in _story(lambda: warnings.warn("x", stacklevel=1), tmp_path)
    assert "0.001 s are allowed" in _story(lambda: sum(range(3_000_000)), tmp_path, limit_s=0.001)
