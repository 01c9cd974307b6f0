"""Lists: filters, sorting, spreadsheets, jobs that still run, and what this machine keeps of them."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.archive.experiments import (
    Archive,
    State,
    Summary,
    headline_of,
    read_experiment,
    seals,
)
from sagemaker_launcher.archive.headline import Headline
from sagemaker_launcher.archive.history import Filter, History, Live, since, status_of
from sagemaker_launcher.archive.history_cache import HistoryCache, Scan, recent_names
from sagemaker_launcher.archive.listing import print_csv
from sagemaker_launcher.archive.manifest import Author, Intent, Launch, Manifest
from sagemaker_launcher.errors import UsageError
from sagemaker_launcher.naming import S3Uri, job_name
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import FolderStorage, StoredObject
from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import ARCHIVE, launch, rehearse

ROOT = S3Uri.parse(ARCHIVE)
NOW = datetime.now(timezone.utc).replace(microsecond=0)
AGES = tuple(timedelta(hours=10 * number) for number in range(12))  # some within the last day, most before


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what this machine keeps."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAGEMAKER_LAUNCHER_CACHE", str(folder))
    return folder


class Counted(FolderStorage):
    """A folder that counts what is read and listed."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads = 0
        self.listed = 0

    def read(self, uri: S3Uri, limit: int) -> bytes:
        self.reads += 1
        return super().read(uri, limit)

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        for item in super().list(prefix, limit):
            self.listed += 1
            yield item


@pytest.fixture
def storage(tmp_path: Path) -> Counted:
    (tmp_path / "s3" / "team").mkdir(parents=True)
    return Counted(tmp_path / "s3")


def add(storage: FolderStorage, age: timedelta, headline: Headline | None, *, target: str = "aws") -> str:
    """An experiment that has ended and has a headline, or one that was started and has none."""
    archive, second = Archive(storage, ROOT), NOW - age
    name = headline.experiment_name if headline else "digits/running"
    job = job_name(name, second, "abcdef")
    author = Author(headline.user if headline else "alice", "laptop", 1)
    created = second.isoformat(timespec="milliseconds")
    folder = archive.reserve(Intent(job, name, target, created, author, "0" * 64))
    if headline:
        archive.record_result(folder, JobResult(headline.status, metrics=headline.metrics), headline)
    else:
        request = b'{"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 3}}'
        files = {"request.json": request}
        manifest = Manifest(
            *(
                job,
                name,
                target,
                created,
                author,
                ("launch",),
                {},
                "1",
                "us-east-1",
                "image:1",
                "",
                seals(files),
            )
        )
        sealed = archive.seal(folder, files, manifest)
        archive.record_launch(folder, Launch(f"arn:{job}", created, sealed.manifest_sha256))
    return job


def headline(number: int, **changes: Any) -> Headline:
    made = Headline(
        f"digits/number-{number % 3}",
        (NOW - AGES[number]).isoformat(timespec="milliseconds"),
        ("alice", "bob")[number % 2],
        "aws",
        ("Completed", "Failed")[number == 5],
        60 * number,
        60 * number,
        "1 x ml.m5.large",
        metrics={"accuracy": (number * 7 % 12) / 10} if number != 5 else {},
    )
    return replace(made, **changes)


@pytest.fixture
def jobs(storage: Counted) -> list[str]:
    """The job names of twelve experiments, newest first."""
    return [add(storage, age, headline(number)) for number, age in enumerate(AGES)]


def history(storage: FolderStorage, live: Live | None = None, key: str = "here") -> History:
    return History(Archive(storage, ROOT), HistoryCache(key), live)


def names(summaries: Sequence[Summary]) -> list[str]:
    return [summary.job_name for summary in summaries]


# --- which, and in which order ---


def test_the_newest_come_first_and_are_told_without_reading_anything(
    storage: Counted, jobs: list[str]
) -> None:
    storage.reads = storage.listed = 0
    found = history(storage).newest(5)
    assert names(found) == jobs[:5]
    assert [summary.headline for summary in found] == [headline(number) for number in range(5)]
    assert storage.reads == 0
    assert storage.listed == 10


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Filter(experiment="digits/number-1"), [1, 4, 7, 10]),
        (Filter(experiment="digits/"), list(range(12))),
        (Filter(experiment="digits/number"), []),
        (Filter(user="bob"), [1, 3, 5, 7, 9, 11]),
        (Filter(status="failed"), [5]),
        (Filter(status="FINISHED"), list(range(12))),
        (Filter(since=NOW - timedelta(hours=25)), [0, 1, 2]),
        (Filter(user="alice", since=NOW - AGES[4]), [0, 2, 4]),
    ],
)
def test_filters_choose_on_the_first_look_and_on_the_second(
    storage: Counted, jobs: list[str], wanted: Filter, numbers: list[int]
) -> None:
    for _ in range(3):
        assert names(history(storage).newest(99, wanted)) == [jobs[number] for number in numbers]


def test_the_best_come_first_and_those_without_the_metric_are_left_out(
    storage: Counted, jobs: list[str]
) -> None:
    for _ in range(2):
        best = history(storage).best("accuracy", 3, Filter(), ascending=False)
        assert [summary.headline.metrics["accuracy"] for summary in best] == [1.0, 0.9, 0.8]
        least = history(storage).best("accuracy", 99, Filter(), ascending=True)
        assert len(least) == 11
        assert jobs[5] not in names(least)
        assert names(least)[0] == jobs[0]
    assert history(storage).best("nothing", 9, Filter(), ascending=False) == ()


def test_a_metric_that_its_key_had_no_room_for_is_read(storage: Counted) -> None:
    many = {f"metric-{number:02d}-{'x' * 20}": number / 7 for number in range(60)}
    job = add(storage, AGES[1], headline(1, metrics=many))
    storage.reads = 0
    [found] = history(storage).best(list(many)[-1], 9, Filter(), ascending=False)
    assert found.job_name == job
    assert storage.reads == 1


def test_experiments_without_a_headline_are_read_from_their_folders(
    storage: Counted, jobs: list[str], tmp_path: Path
) -> None:
    running = add(storage, timedelta(minutes=5), None)
    for old in (tmp_path / "s3/team/experiments/_headlines").iterdir():
        if jobs[0] in old.name:
            old.unlink()
    found = history(storage).newest(4)
    assert names(found) == [jobs[0], running, *jobs[1:3]]
    assert [status_of(summary) for summary in found] == ["interrupted", "started", "Completed", "Completed"]
    assert found[1].headline.instances == "3 x ml.m5.large"


def test_a_real_experiment_without_its_headline_is_told_just_the_same(project: Project) -> None:
    rehearse(project)
    archive = Archive(FolderStorage(project.s3), ROOT)
    told = History(archive, HistoryCache("")).newest(9)
    [key] = (project.s3 / "team/experiments/_headlines").iterdir()
    key.unlink()
    assert History(archive, HistoryCache("")).newest(9) == told
    experiment = read_experiment(FolderStorage(project.s3), told[0].folder)
    assert told[0].headline == headline_of(experiment.manifest, experiment.request, experiment.result)


def test_a_headline_that_leads_out_of_the_archive_is_not_followed(storage: Counted) -> None:
    job = add(storage, AGES[1], headline(1))
    path = next((storage._root / "team/experiments/_headlines").iterdir())
    path.unlink()
    Archive(storage, ROOT).record_headline(job, headline(1, experiment_name="../../etc"))
    [found] = history(storage).newest(9)
    assert ".." not in str(found.folder)
    assert found.state.value == "interrupted"


# --- joined with AWS ---


@pytest.mark.usefixtures("jobs")
def test_unfinished_jobs_are_joined_with_what_aws_says(storage: Counted) -> None:
    running, ended, unknown = (add(storage, timedelta(minutes=minute), None) for minute in (5, 6, 7))
    rehearsal = add(storage, timedelta(minutes=8), None, target="process")
    asked: list[Sequence[str]] = []

    def live(job_names: Sequence[str]) -> Mapping[str, JobResult]:
        asked.append(job_names)
        return {running: JobResult("InProgress", "Training"), ended: JobResult("Failed", training_seconds=7)}

    statuses = {one.job_name: status_of(one) for one in history(storage, live).newest(20)}
    assert asked == [[running, ended, unknown]]
    assert statuses[running] == "InProgress"
    assert statuses[ended] == "Failed"
    assert statuses[unknown] == statuses[rehearsal] == "started"
    assert names(history(storage, live).newest(9, Filter(status="inprogress"))) == [running]


def test_nobody_is_asked_when_everything_has_ended(storage: Counted, jobs: list[str]) -> None:
    def live(job_names: Sequence[str]) -> Mapping[str, JobResult]:
        raise AssertionError(job_names)

    assert names(history(storage, live).newest(20)) == jobs


# --- what this machine keeps ---


@pytest.mark.usefixtures("jobs")
def test_a_second_look_lists_only_what_is_new(storage: Counted) -> None:
    history(storage).best("accuracy", 3, Filter(), ascending=False)
    storage.listed = 0
    new = add(storage, timedelta(minutes=1), headline(0, metrics={"accuracy": 5.0}))
    found = history(storage).best("accuracy", 99, Filter(), ascending=False)
    assert names(found)[0] == new
    assert len(found) == 12
    assert storage.listed < 12


@pytest.mark.usefixtures("jobs")
def test_what_ran_when_it_was_kept_is_looked_at_again(storage: Counted) -> None:
    running = add(storage, timedelta(days=3, minutes=1), None)
    look = Filter(experiment="digits/running")
    assert [status_of(one) for one in history(storage).newest(9, look)] == ["started"]
    [summary] = history(storage).newest(9, look)
    done = replace(summary.headline, status="Completed")
    Archive(storage, ROOT).record_result(summary.folder, JobResult("Completed"), done)
    for _ in range(2):
        found = history(storage).newest(9, look)
        assert [(one.job_name, status_of(one)) for one in found] == [(running, "Completed")]


def test_what_is_kept_is_of_one_archive_only(storage: Counted, jobs: list[str]) -> None:
    history(storage, key="one").best("accuracy", 3, Filter(), ascending=False)
    known = HistoryCache("one").known()
    assert known is not None
    assert [stem.partition("-")[2] for stem, _ in known.experiments] == jobs[3:]
    assert HistoryCache("two").known() is None


def test_an_old_scan_is_not_relied_on(storage: Counted, jobs: list[str]) -> None:
    HistoryCache("here").keep((), Scan("0000000000", 1.0))
    assert names(history(storage).newest(99, Filter(user="alice"))) == jobs[::2]


@provokes(74)
@pytest.mark.parametrize(
    "content", [b"", b"nothing of the kind" * 500, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_spoiled_file_is_made_anew(storage: Counted, jobs: list[str], cache: Path, content: bytes) -> None:
    cache.mkdir()
    (cache / "history.sqlite").write_bytes(content)
    for _ in range(2):
        assert names(history(storage).newest(99, Filter(user="alice"))) == jobs[::2]
    assert HistoryCache("here").known() is not None


@provokes(74)
def test_a_file_of_another_version_and_rows_of_another_kind_are_made_anew(
    storage: Counted, jobs: list[str], cache: Path
) -> None:
    history(storage).newest(99, Filter(user="alice"))
    for statement in ("UPDATE experiments SET headline = '{\"x\": 1}'", "PRAGMA user_version = 99"):
        database = sqlite3.connect(cache / "history.sqlite")
        with database:
            database.execute(statement)
        database.close()
        assert names(history(storage).newest(99, Filter(user="alice"))) == jobs[::2]
        assert names(history(storage).newest(99, Filter(user="bob"))) == jobs[1::2]


def test_without_a_place_for_it_nothing_is_kept_and_nothing_fails(
    storage: Counted, jobs: list[str], cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    assert names(history(storage).newest(3)) == jobs[:3]
    assert names(history(storage).newest(99, Filter(user="alice"))) == jobs[::2]
    assert recent_names(5) == ()


@provokes(75)
def test_many_at_once_keep_what_they_see(storage: Counted, jobs: list[str]) -> None:
    def look(_: int) -> list[str]:
        return names(history(storage).newest(99, Filter(user="alice")))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(look, range(24))) == [jobs[::2]] * 24
    script = (
        "from sagemaker_launcher.archive.history_cache import HistoryCache as H;"
        "from sagemaker_launcher.archive.headline import Headline as L;"
        "import sys;"
        "[H('many').keep([(f'{n}-{sys.argv[1]}', L('e', 'c', 'u', 't'))]) for n in range(20)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(number)]) for number in range(6)]
    assert [writer.wait() for writer in writers] == [0] * 6
    HistoryCache("many").keep((), Scan("", 1.0))
    known = HistoryCache("many").known()
    assert known is not None
    assert len(known.experiments) == 120


# --- the command line ---


@provokes(96)
def test_spreadsheets_get_a_column_for_each_metric_and_change_and_no_formulas(
    cli: CommandLine, project: Project
) -> None:
    name = launch(cli, project, "--train", "NAME", "=cmd|'/c calc'!A0").json["job_name"]
    done = cli("list", "--s3-root", project.s3, "--archive", ARCHIVE, "--csv")
    assert done.code == 0, done.err
    [row] = csv.DictReader(io.StringIO(done.out))
    assert row["job_name"] == name
    assert row["status"] == "Completed"
    assert float(row["loss"]) == 5e-06
    assert row["SOLVER.BASE_LR"] == "0.5"
    assert row["NAME"] == "'=cmd|'/c calc'!A0"


def test_no_two_columns_of_a_spreadsheet_have_one_name(cli: CommandLine, project: Project) -> None:
    measured = [{"Name": name, "Regex": f"{name}=([0-9.]+)"} for name in ("SEED", "status", "loss")]
    project.write(ESTIMATOR={"METRIC_DEFINITIONS": measured})
    project.program("print('SEED=0.25 status=2 loss=3')")
    launch(cli, project, "--train", "SEED", "7")
    done = cli("list", "--s3-root", project.s3, "--archive", ARCHIVE, "--csv")
    assert done.code == 0, done.err
    header, row = csv.reader(io.StringIO(done.out))
    assert len(set(header)) == len(header)
    found = dict(zip(header, row, strict=True))
    assert (float(found["metric SEED"]), found["config SEED"]) == (0.25, "7")
    assert (found["status"], float(found["metric status"]), float(found["loss"])) == ("Completed", 2, 3)
    assert "SEED" not in header


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("-3", "-3"),
        ("-1.5e-3", "-1.5e-3"),
        ("-1e999", "'-1e999"),
        ("-3+1", "'-3+1"),
        ("-", "'-"),
        ("+3", "'+3"),
    ],
)
def test_negative_numbers_are_no_formulas(capsys: pytest.CaptureFixture[str], value: str, cell: str) -> None:
    print_csv([Summary("digits-1", ROOT, State.FINISHED, headline(0, changed={"SHIFT": value}))])
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["SHIFT"] == cell


def test_options_of_lists_work_together(cli: CommandLine, project: Project) -> None:
    for rate in ("0.1", "0.3"):
        launch(cli, project, "--train", "SOLVER.BASE_LR", rate, "--set", "EXPERIMENT_NAME", f"rate/{rate}")
    place = ("--s3-root", project.s3, "--archive", ARCHIVE, "--json")

    def listed(*words: str) -> list[str]:
        done = cli("list", *place, *words)
        assert done.code == 0, done.err
        return [one["experiment_name"] for one in done.json["experiments"]]

    assert listed("--experiment", "rate/0.1") == ["rate/0.1"]
    assert sorted(listed("--sort", "loss", "--ascending", "--user", "@me", "--since", "1h")) == [
        "rate/0.1",
        "rate/0.3",
    ]
    assert listed("--since", "2020-01-01", "--status", "Failed") == []
    for words in (["--csv"], ["--ascending"], ["--since", "yesterday"]):
        refused = cli("list", *place, *words)
        assert (refused.code, refused.has_traceback) == (2, False)
    assert json.loads(refused.out)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=timezone.utc)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=timezone.utc)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=timezone.utc)),
        *(
            (text, datetime(1970, 1, 1, tzinfo=timezone.utc))
            for text in (
                *("9999w", "999999w", "99999999999w", "99999999999999999999m"),
                *("1969-12-31", "0001-01-01", "0001-01-01T00:00+14:00"),
            )
        ),
    ],
)
def test_times_are_read(text: str, moment: datetime) -> None:
    assert since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "d", "-1d", "7", "31.1.2026", "7d7d"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no time"):
        since(text, NOW)
