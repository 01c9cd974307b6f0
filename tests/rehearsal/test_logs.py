"""The logs of all hosts: shown in order, read for metrics, kept in files."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from sagemaker_launcher.archive.archived_job import log_lines
from sagemaker_launcher.archive.curves import courses
from sagemaker_launcher.archive.experiments import read_log
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.logs import Logs
from sagemaker_launcher.rehearsal.metrics import MetricReader
from sagemaker_launcher.rehearsal.program import OnLine
from sagemaker_launcher.storage import FolderStorage
from tests.stand_in import Listener

METRICS = {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]}}


def host(number: int) -> Host:
    return Host(f"algo-{number}", number, "ml.m5.large", "all")


def test_each_host_has_a_stream_with_the_lines_that_were_shown(tmp_path: Path) -> None:
    listener, kept = Listener(), list[Path]()
    logs = Logs(tmp_path, MetricReader(METRICS), listener)
    first, second = logs.open(host(1)), logs.open(host(2))
    first("loss=1 é \udcff")
    second("loss=2")
    first("")
    logs.close(kept.append)
    assert [re.sub(r"\d{10}", "TIME", path.name) for path in kept] == ["algo-1-TIME.log", "algo-2-TIME.log"]
    assert [path.read_text("utf-8") for path in kept] == ["loss=1 é ?\n\n", "loss=2\n"]
    assert (listener.lines_of("algo-1"), listener.lines_of("algo-2")) == (["loss=1 é \udcff", ""], ["loss=2"])


def test_attempts_within_the_same_second_have_streams_whose_names_are_in_their_order(tmp_path: Path) -> None:
    kept = list[Path]()
    logs = Logs(tmp_path, MetricReader(METRICS), Listener())
    for number in range(12):  # two digits, were they counted
        logs.open(host(1))(f"attempt {number}")
        logs.open(host(2))(f"attempt {number}")
    logs.close(kept.append)
    for name in ("algo-1", "algo-2"):
        streams = sorted(path for path in kept if path.name.startswith(name))
        assert [path.read_text() for path in streams] == [f"attempt {number}\n" for number in range(12)]
        assert all(re.fullmatch(rf"{name}-\d{{10}}\.log", path.name) for path in streams)


@pytest.mark.parametrize("tail", [None, 2])
def test_attempts_within_the_same_second_are_read_again_in_their_order(
    tmp_path: Path, tail: int | None
) -> None:
    experiment = S3Uri.parse("s3://team/experiment/")
    folder = tmp_path / "s3/team/experiment/logs"
    folder.mkdir(parents=True)
    logs = Logs(folder, MetricReader(METRICS), Listener())
    for number in range(4):
        logs.open(host(1))(f"loss={number}")
    logs.close(lambda _: None)
    storage = FolderStorage(tmp_path / "s3")
    told = [text for _, text in log_lines(storage, experiment, tail=tail)]
    assert told == ["loss=0", "loss=1", "loss=2", "loss=3"][-(tail or 4) :]
    assert courses(METRICS, read_log(storage, experiment)) == {"loss": [0, 1, 2, 3]}


def test_the_value_of_a_metric_is_that_of_the_line_that_was_shown_last(tmp_path: Path) -> None:
    for _ in range(10):
        metrics = MetricReader(METRICS)
        listener = Listener()
        logs = Logs(tmp_path, metrics, listener)

        def write(number: int, on_line: OnLine) -> None:
            for line in range(100):
                on_line(f"loss={number * 1000 + line}")

        writers = [threading.Thread(target=write, args=(n, logs.open(host(n)))) for n in (1, 2, 3)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        logs.close(lambda _: None)
        metrics.read_heard()
        assert len(listener.lines) == 300
        assert listener.lines_of("algo-2") == [f"loss={2000 + line}" for line in range(100)]
        assert listener.lines[-1] == f"loss={metrics.values['loss']:g}"


def test_a_line_that_comes_after_the_end_is_still_shown(tmp_path: Path) -> None:
    listener = Listener()
    logs = Logs(tmp_path, MetricReader(METRICS), listener)
    on_line = logs.open(host(1))
    logs.close(lambda _: None)
    on_line("late")
    assert listener.lines == ["late"]
