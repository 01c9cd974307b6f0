"""Metrics read from the log."""

from __future__ import annotations

import math
import os
import signal
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.rehearsal.metrics import MetricReader
from tests.fidelity import reproduces

NUMBER = r"([-+0-9.eE]+)"


def reader(**expressions: str) -> MetricReader:
    definitions = [{"Name": name, "Regex": expression} for name, expression in expressions.items()]
    return MetricReader({"AlgorithmSpecification": {"MetricDefinitions": definitions}})


@reproduces("metrics")
@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-05", 1e-05), ("5.000e-06", 5e-06), ("1E+3", 1000.0), ("-0.25", -0.25), (".5", 0.5), ("3", 3.0)],
)
def test_a_number_is_read_in_every_form_that_programs_print(written: str, value: float) -> None:
    metrics = reader(loss=f"loss={NUMBER}")
    metrics.read(f"epoch=1 loss={written} time=3s")
    assert metrics.values == {"loss": value}


@settings(deadline=None, max_examples=100)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_that_python_prints_comes_back(value: float) -> None:
    metrics = reader(loss=f"loss={NUMBER}")
    metrics.read(f"loss={value!r}")
    assert metrics.values == {"loss": value}


@reproduces("metrics")
def test_the_last_value_wins_for_each_metric_on_its_own() -> None:
    metrics = reader(loss=f" loss={NUMBER}", accuracy=f"acc={NUMBER}")
    for line in ("epoch=1 loss=0.5 acc=0.1", "epoch=2 loss=0.25", "epoch=3 acc=0.75", "done"):
        metrics.read(line)
    assert metrics.values == {"loss": 0.25, "accuracy": 0.75}


def test_the_first_group_is_the_number() -> None:
    metrics = reader(loss=r"loss=(\d+)/(\d+)")
    metrics.read("loss=3/4")
    assert metrics.values == {"loss": 3.0}


@pytest.mark.parametrize(
    "line", ["loss=low", "loss=", "loss=1.2.3", "loss=nan", "loss=inf", "loss=-inf", "no loss"]
)
def test_what_is_no_number_is_no_value_and_keeps_the_last_one(line: str) -> None:
    metrics = reader(loss=r"loss=(\S*)")
    metrics.read(line)
    assert metrics.values == {}
    metrics.read("loss=1")
    metrics.read(line)
    assert metrics.values == {"loss": 1.0}
    assert all(math.isfinite(value) for value in metrics.values.values())


def test_a_group_that_took_no_part_in_the_match_is_no_value() -> None:
    metrics = reader(loss=r"loss(=\d+)?")
    metrics.read("loss")
    assert metrics.values == {}
    assert metrics.never_seen == ("loss",)


def test_metrics_that_no_line_had_are_named() -> None:
    metrics = reader(loss=f"loss={NUMBER}", accuracy=f"acc={NUMBER}", auc=f"auc={NUMBER}")
    metrics.read("acc=0.5")
    assert metrics.never_seen == ("loss", "auc")


@pytest.mark.parametrize("text", ["nan", "inf", "1,234.5", "1e400", "high"])
def test_what_is_no_number_is_told_from_what_no_line_had(text: str) -> None:
    metrics = reader(loss=r"loss=(\S+)", accuracy=r"acc=(\S+)", auc=r"auc=(\S+)")
    metrics.read(f"loss=0 acc={text}")
    metrics.read(f"loss={text}")
    assert metrics.values == {"loss": 0.0}
    assert metrics.no_numbers == {"accuracy": text}
    assert metrics.never_seen == ("auc",)


def test_a_job_may_define_no_metrics() -> None:
    metrics = MetricReader({"AlgorithmSpecification": {}})
    metrics.read("loss=1")
    assert (metrics.values, metrics.never_seen) == ({}, ())


@pytest.mark.parametrize("place", [0, 3000, 4090, 4096, 100_000, 249_980])
def test_a_number_is_found_wherever_it_is_in_a_long_line_and_whole(place: int) -> None:
    metrics = reader(loss=f"loss={NUMBER}", greedy=f".*loss={NUMBER}.*", bounded=r"\bloss=(\S+)\b")
    metrics.read(f"{' ' * place}loss=0.12345678{' ' * (250_000 - place)}")
    assert metrics.values == dict.fromkeys(("loss", "greedy", "bounded"), 0.12345678)


def test_what_stands_before_a_part_of_a_long_line_is_seen() -> None:
    metrics = reader(loss=f"(?<!val_)loss={NUMBER}", first=f"^loss={NUMBER}")
    metrics.read(f"{' ' * 2044}val_loss=0.5{' ' * 9000}")
    assert metrics.values == {}


def test_the_first_match_of_a_long_line_counts_as_in_a_short_one() -> None:
    metrics = reader(loss=f"loss={NUMBER}")
    metrics.read("#015 50% loss=0.5" * 3 + "#015 60% loss=0.25" * 10_000)
    assert metrics.values == {"loss": 0.5}


@pytest.mark.parametrize("length", [250_000, 256 * 1024])
def test_the_longest_line_lets_others_go_on_and_ends(length: int) -> None:
    metrics = reader(loss=f".*loss={NUMBER}.*")
    cpu_s: list[float] = []

    def read() -> None:
        start = time.thread_time()
        metrics.read("x" * length)
        cpu_s.append(time.thread_time() - start)

    thread = threading.Thread(target=read)
    thread.start()
    longest, last = 0.0, time.monotonic()
    while thread.is_alive():
        thread.join(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert longest < 2
    assert cpu_s[0] < 10
    assert metrics.too_slow == ()


def test_an_expression_that_is_slow_again_and_again_is_given_up_and_named() -> None:
    metrics = reader(slow=r"(x+x+)+y=(\d)", loss=f"loss={NUMBER}", never=r"acc=(\d)")
    start = time.thread_time()
    for _ in range(100):
        metrics.read(f"{'x' * 23} loss=1")
        if metrics.too_slow:
            break
    assert time.thread_time() - start < 30
    assert metrics.too_slow == ("slow",)
    assert metrics.never_seen == ("never",)  # nobody knows whether a line had the other one
    start = time.thread_time()
    metrics.read(f"{'x' * 30} loss=2 acc=3")
    assert time.thread_time() - start < 1
    assert (metrics.values["loss"], metrics.values["never"]) == (2.0, 3.0)


NEVER_ENDS = r"(x+x+)+y=(\d)"


def test_a_search_that_never_ends_is_given_up_and_nothing_else_is_lost() -> None:
    metrics = reader(endless=NEVER_ENDS, loss=f"loss={NUMBER}")
    for line in ("loss=1", f"{'x' * 100} loss=2", "xxy=1", "loss=3"):
        metrics.hear(line)
    assert metrics.values == {}  # only the main thread searches
    start = time.thread_time()
    metrics.read_heard()
    assert time.thread_time() - start < 60
    assert (metrics.values, metrics.too_slow) == ({"loss": 3.0}, ("endless",))


def test_a_signal_ends_a_search_and_the_line_is_searched_again() -> None:
    metrics = reader(loss=f"loss={NUMBER}", endless=NEVER_ENDS)
    metrics.hear(f"{'x' * 100} loss=1")
    metrics.hear("loss=2")
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    sender = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    try:
        sender.start()  # it gets its turn, since the search's own limit interrupts it after a second
        with pytest.raises(KeyboardInterrupt):
            metrics.read_heard()
    finally:
        sender.join()
        signal.signal(signal.SIGINT, previous)
    assert metrics.values == {"loss": 1.0}
    metrics.read_heard()
    assert (metrics.values, metrics.too_slow) == ({"loss": 2.0}, ("endless",))


def test_of_too_many_lines_the_newest_are_searched() -> None:
    metrics = reader(loss=f"loss={NUMBER}")
    for number in range(100_010):
        metrics.hear(f"loss={number}")
    metrics.read_heard()
    assert metrics.values == {"loss": 100_009.0}
    metrics.read_heard()  # nothing is left
    assert metrics.values == {"loss": 100_009.0}


def test_many_lines_are_not_slow() -> None:
    metrics = reader(loss=f".*loss={NUMBER}.*")
    line = "x" * 2000
    start = time.thread_time()
    while time.thread_time() < start + 2.5:
        metrics.read(line)
    assert metrics.too_slow == ()
