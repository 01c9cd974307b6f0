"""Experiments whose launcher died: classified, adopted, marked, and never touched while somebody may be at work."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from sagemaker_launcher.archive.experiments import Archive, State
from sagemaker_launcher.archive.history import History, status_of
from sagemaker_launcher.archive.history_cache import HistoryCache
from sagemaker_launcher.archive.manifest import SEAL_TAG, Author, Intent, Launch, Manifest
from sagemaker_launcher.archive.recalled import Recall, RecalledJob
from sagemaker_launcher.archive.repair import Repair
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import NotFoundError, UnavailableError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.naming import S3Uri, job_name
from sagemaker_launcher.provenance import author
from sagemaker_launcher.result import JobResult, Transition
from sagemaker_launcher.storage import FolderStorage
from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import ARCHIVE, document, launch, local, nothing_written, rehearse, snapshot

ROOT = S3Uri.parse(ARCHIVE)
NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
ELSEWHERE = Author("me", "another-machine", 1)
ENDED = JobResult(
    "Failed", "Failed", "AlgorithmError", 7, 7, transitions=(Transition("Training", "2026-11-21"),)
)


def cache_of(cli: CommandLine) -> Path:
    return Path(cli.environment["HOME"], ".cache", "sagemaker-launcher")


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


class Team:
    """An archive, and an AWS that knows some jobs."""

    def __init__(self, folder: Path) -> None:
        (folder / "team").mkdir()
        self.storage = FolderStorage(folder)
        self.archive = Archive(self.storage, ROOT)
        self.jobs: dict[str, RecalledJob] = {}
        self.account = "1"

    def experiment(
        self,
        state: State,
        *,
        target: str = "aws",
        age: timedelta = timedelta(hours=2),
        author: Author = ELSEWHERE,
    ) -> S3Uri:
        second = NOW - age
        job, created = (
            job_name("digits", second, f"{len(list(self.archive.names())):06d}"),
            second.isoformat(),
        )
        intent = Intent(job, "digits", target, created, author, "0" * 64)
        folder = self.archive.reserve(intent)
        if state is State.INTERRUPTED:
            return folder
        manifest = Manifest(
            job, "digits", target, created, author, (), {}, "1", "us-east-1", "image:1", "", {}
        )
        request = json.dumps(
            {
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
                "OutputDataConfig": {"S3OutputPath": "s3://team/outputs"},
            }
        ).encode()
        sealed = self.archive.seal(folder, {"request.json": request}, manifest)
        if state is State.STARTED:
            self.archive.record_launch(folder, Launch("arn", created, sealed.manifest_sha256))
        return folder

    def knows(self, folder: S3Uri, result: JobResult, seal: str = "") -> None:
        own = sha256(self.storage.read(folder / "manifest.json", 10**6))
        self.jobs[folder.name] = RecalledJob(
            f"arn:{folder.name}", "2026-11-21T10:00:00+00:00", {SEAL_TAG: seal or own}, result
        )

    def recall(self, name: str, region: str) -> RecalledJob:
        assert region == "us-east-1"
        if name not in self.jobs:
            raise NotFoundError(f"there is no job {name}")
        return self.jobs[name]

    def repair(self, *, change: bool = True, recall: Recall | None = None) -> list[Finding]:
        return list(self.at_work(recall or self.recall).run(change=change))

    def at_work(self, recall: Recall) -> Repair:
        return Repair(self.storage, self.archive, recall, lambda: NOW, lambda _: self.account)

    def statuses(self) -> Mapping[str, str]:
        found = History(self.archive, HistoryCache("")).newest(99)
        return {summary.job_name: status_of(summary) for summary in found}


@pytest.fixture
def team(tmp_path: Path) -> Team:
    (tmp_path / "s3").mkdir()
    return Team(tmp_path / "s3")


def test_a_job_that_started_unseen_is_adopted_with_its_result(team: Team) -> None:
    running, ended = team.experiment(State.NOT_CONFIRMED), team.experiment(State.NOT_CONFIRMED)
    team.knows(running, JobResult("InProgress", "Training"))
    team.knows(ended, ENDED)
    assert [finding.verdict for finding in team.repair()] == ["ok", "ok"]
    assert team.statuses() == {running.name: "started", ended.name: "Failed"}
    folder = team.storage._root / "team" / ended.key
    assert document(folder, "launch.json")["job_arn"] == f"arn:{ended.name}"
    assert document(folder, "result.json") == {
        **ENDED.to_json(),
        "transitions": [ENDED.transitions[0].__dict__],
    } | {"interruptions": []}
    assert len(team.repair()) == 1  # the running one


def test_a_job_that_ended_unobserved_gets_its_result(team: Team) -> None:
    folder = team.experiment(State.STARTED)
    team.knows(folder, ENDED)
    [finding] = team.repair()
    assert finding.message == "settled: the job is Failed on AWS"
    assert team.statuses() == {folder.name: "Failed"}
    assert team.repair() == []


@pytest.mark.parametrize("state", [State.INTERRUPTED, State.NOT_CONFIRMED])
def test_what_never_started_is_marked_once_nobody_can_be_at_work(team: Team, state: State) -> None:
    young, old = team.experiment(state, age=timedelta(minutes=59)), team.experiment(state)
    assert {finding.name: finding.verdict for finding in team.repair()} == {young.name: "ok", old.name: "ok"}
    assert team.statuses() == {young.name: state.value, old.name: "not started"}
    assert [finding.name for finding in team.repair()] == [young.name]


def test_a_rehearsal_without_a_launcher_is_abandoned(team: Team) -> None:
    here = replace(author(), pid=dead_process())
    gone = team.experiment(State.STARTED, target="process", age=timedelta(minutes=1), author=here)
    elsewhere = team.experiment(State.STARTED, target="docker")
    ancient = team.experiment(State.STARTED, target="docker", age=timedelta(days=31))
    team.repair()
    assert team.statuses() == {gone.name: "abandoned", elsewhere.name: "started", ancient.name: "abandoned"}


@pytest.mark.parametrize("pid_space", ["", "0f0e0d0c-0b0a-4948-8746-454443424140/4026531836"])
def test_a_process_of_another_machine_of_the_same_name_is_not_taken_for_one_of_this(
    team: Team, pid_space: str
) -> None:
    namesake = Author("me", platform.node(), dead_process(), pid_space=pid_space)
    sealed = team.experiment(State.NOT_CONFIRMED, target="process", age=timedelta(minutes=1), author=namesake)
    started = team.experiment(State.STARTED, target="process", author=namesake)
    ancient = team.experiment(State.STARTED, target="process", author=namesake, age=timedelta(days=31))
    assert {finding.verdict for finding in team.repair()} == {"ok"}
    assert team.statuses() == {
        sealed.name: "not confirmed",
        started.name: "started",
        ancient.name: "abandoned",
    }


def test_a_launcher_that_runs_here_is_left_at_work(team: Team) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = replace(author(), pid=process.pid)
        team.experiment(State.STARTED, target="process", author=here, age=timedelta(hours=50))
        before = snapshot(team.storage._root)
        assert [finding.verdict for finding in team.repair()] == ["ok"]
        assert snapshot(team.storage._root) == before
        process.communicate(b"\n")


def test_a_job_of_somebody_else_is_never_adopted(team: Team) -> None:
    folder = team.experiment(State.NOT_CONFIRMED)
    team.knows(folder, ENDED, seal="f" * 64)
    [finding] = team.repair()
    assert (finding.verdict, "another manifest" in finding.message) == ("failed", True)
    assert team.statuses() == {folder.name: "not confirmed"}


@pytest.mark.parametrize("account", ["2", ""])
def test_another_account_than_the_sealed_one_is_not_believed(team: Team, account: str) -> None:
    for state in (State.NOT_CONFIRMED, State.STARTED):
        team.experiment(state, age=timedelta(days=31))
    team.account = account
    before = snapshot(team.storage._root)
    findings = team.repair()
    assert [finding.verdict for finding in findings] == ["unknown", "unknown"]
    assert "launched in the account 1" in findings[0].message
    assert snapshot(team.storage._root) == before


def test_a_started_job_that_aws_has_forgotten_is_abandoned_only_when_it_cannot_run_any_more(
    team: Team,
) -> None:
    recent = team.experiment(State.STARTED, age=timedelta(days=29))
    ancient = team.experiment(State.STARTED, age=timedelta(days=31))
    assert {finding.name: finding.verdict for finding in team.repair()} == {
        recent.name: "unknown",
        ancient.name: "ok",
    }
    assert team.statuses() == {recent.name: "started", ancient.name: "abandoned"}


def test_without_an_answer_of_aws_nothing_is_decided(team: Team) -> None:
    def silent(name: str, region: str) -> RecalledJob:
        raise UnavailableError(f"no network to ask for {name} in {region}")

    team.experiment(State.NOT_CONFIRMED, age=timedelta(days=99))
    before = snapshot(team.storage._root)
    assert [finding.verdict for finding in team.repair(recall=silent)] == ["unknown"]
    assert [finding.verdict for finding in Repair(team.storage, team.archive, None).run(change=True)] == [
        "unknown"
    ]
    assert snapshot(team.storage._root) == before


def test_a_result_without_a_headline_gets_one(project: Project) -> None:
    rehearse(project)
    before = snapshot(project.s3)
    [headline] = (project.s3 / "team/experiments/_headlines").iterdir()
    headline.unlink()
    storage = FolderStorage(project.s3)
    list(Repair(storage, Archive(storage, ROOT), None).run(change=True))
    assert snapshot(project.s3) == before


def test_a_dry_run_says_what_would_be_settled_and_changes_nothing(team: Team) -> None:
    team.experiment(State.NOT_CONFIRMED)
    team.experiment(State.INTERRUPTED)
    with nothing_written(team.storage._root):
        assert [finding.verdict for finding in team.repair(change=False)] == ["warning", "warning"]


def test_a_late_start_outweighs_the_mark(team: Team) -> None:
    folder = team.experiment(State.NOT_CONFIRMED)
    team.repair()
    assert team.statuses() == {folder.name: "not started"}
    manifest = team.storage.read(folder / "manifest.json", 10**6)
    team.archive.record_launch(folder, Launch("arn", "now", sha256(manifest)))
    [told] = History(team.archive, HistoryCache("")).newest(1)
    team.archive.record_result(folder, JobResult("Completed"), replace(told.headline, status="Completed"))
    assert team.statuses() == {folder.name: "Completed"}


def test_spoiled_entries_are_told_and_hide_no_others(team: Team) -> None:
    folder = team.experiment(State.INTERRUPTED)
    (team.storage._root / "team/experiments/_index/0000000001-nonsense.json").write_text("{")
    findings = {finding.name: finding.verdict for finding in team.repair()}
    assert findings == {"nonsense": "failed", folder.name: "ok"}


def test_two_repairs_at_once_agree(team: Team) -> None:
    folder = team.experiment(State.NOT_CONFIRMED)
    first, second = (team.at_work(team.recall).run(change=True) for _ in range(2))
    assert next(first).verdict == "ok"
    assert list(second) == []
    assert team.statuses() == {folder.name: "not started"}


@provokes(67)
def test_the_doctor_settles_what_a_killed_launcher_left(cli: CommandLine, project: Project) -> None:
    project.program("import time\nprint('running', flush=True)\ntime.sleep(60)\n")
    words = ("launch", project.config, "--on", "process", "--s3-root", project.s3)
    process = cli.start(*words)
    assert process.stderr is not None
    next(line for line in process.stderr if line == "algo-1 | running\n")
    process.kill()
    process.communicate()
    place = ("--s3-root", project.s3, "--archive", ARCHIVE)
    told = cli("doctor", "--repair", "--dry-run", *place)
    assert (told.code, "doctor --repair settles it" in told.out) == (0, True)
    assert "doctor --repair removes it" in told.out
    [folder] = (cache_of(cli) / "rehearsals").glob("*/")
    done = cli("doctor", "--repair", *place, "--json")
    assert done.code == 0, done.err
    verdicts = {check["group"]: (check["verdict"], check["message"]) for check in done.json["checks"]}
    assert verdicts["leftovers"] == (
        "ok",
        f"removed: a killed rehearsal: {folder}, and what it has left running",
    )
    assert verdicts["experiments"][0] == "ok"
    assert not snapshot(cache_of(cli) / "rehearsals")
    [experiment] = cli("list", *place, "--json").json["experiments"]
    assert (experiment["state"], experiment["status"]) == ("abandoned", "abandoned")
    assert (local(project, experiment["experiment"]) / "abandoned.json").is_file()
    assert "every experiment is told to its end" in cli("doctor", "--repair", *place).out
    project.program("print('loss=1')\n")
    assert launch(cli, project).code == 0


@pytest.mark.parametrize(("lost", "state"), [("launch.json", "not started"), ("", "abandoned")])
def test_what_was_settled_is_told_alike_by_all_commands(
    cli: CommandLine, project: Project, lost: str, state: str
) -> None:
    first, second = (launch(cli, project).json for _ in range(2))
    for name in filter(None, ("result.json", lost)):
        (local(project, first["experiment"]) / name).unlink()
    [headline] = (local(project, ARCHIVE) / "_headlines").glob(f"*{first['job_name']}.*")
    headline.unlink()
    place = ("--s3-root", project.s3, "--archive", ARCHIVE)
    assert cli("doctor", "--repair", *place).code == 0
    listed = {one["job_name"]: one["state"] for one in cli("list", *place, "--json").json["experiments"]}
    assert listed == {first["job_name"]: state, second["job_name"]: "finished"}
    assert cli("show", first["job_name"], *place, "--json").json["state"] == state
    assert f"status {state}" in " ".join(cli("show", first["job_name"], *place).out.split())
    told = cli("diff", first["job_name"], second["job_name"], *place, "--json").json["differences"]
    assert [one["before"] for one in told if one["name"] == "status"] == [state]
