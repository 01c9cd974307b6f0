"""What users may call an experiment: its S3 URI, its job name, the beginning of it, `@latest`, `@me`."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagemaker_launcher.archive.experiments import Archive
from sagemaker_launcher.archive.manifest import Author, Intent
from sagemaker_launcher.archive.references import Reference, locate, resolve, resolve_job
from sagemaker_launcher.errors import IntegrityError, LauncherError, NotFoundError, UsageError
from sagemaker_launcher.naming import S3Uri, job_name
from sagemaker_launcher.storage import FolderStorage
from tests.commands import CommandLine
from tests.project import Project
from tests.stand_in import ARCHIVE, document, local, rehearse

ROOT = S3Uri.parse(ARCHIVE)
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Here:
    """A place for references without a command line."""

    storage: FolderStorage
    user: str = "me"
    s3_root: Path | None = None

    @property
    def archive(self) -> Archive:
        return Archive(self.storage, ROOT)


@dataclass(frozen=True)
class Nowhere(Here):
    """A place where nothing names the archive."""

    @property
    def archive(self) -> Archive:
        raise UsageError("which archive?")


def reserve(place: Here, experiment: str, number: int, user: str = "me") -> str:
    second = NOON + timedelta(seconds=number)
    name = job_name(experiment, second, f"{number:06d}")
    intent = Intent(
        name, experiment, "aws", "2026-01-02T12:00:00.000+00:00", Author(user, "laptop", 1), "0" * 64
    )
    place.archive.reserve(intent)
    return name


@pytest.fixture
def place(tmp_path: Path) -> Here:
    (tmp_path / "team").mkdir()
    return Here(FolderStorage(tmp_path))


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.create(tmp_path_factory.mktemp("references") / "project")
    rehearse(project)
    return project


def name_of(project: Project) -> str:
    [folder] = (project.s3 / "team/experiments/team/tiny").iterdir()
    return folder.name


def test_every_kind_of_reference_leads_to_the_same_experiment(rehearsed: Project) -> None:
    name = name_of(rehearsed)
    folder = f"{ARCHIVE}/team/tiny/{name}"
    [author] = [document(local(rehearsed, folder), "intent.json")["author"]["user"]]
    place = Here(FolderStorage(rehearsed.s3), author)
    wanted = Reference(name, S3Uri.parse(f"{folder}/"), "us-east-1", "process")
    for text in (
        folder,
        f"{folder}/",
        f"{folder}/result.json",
        name,
        name[:-1],
        "team/tiny",
        "@latest",
        "@me",
    ):
        assert resolve(text, place) == wanted, text
        assert resolve_job(text, place) == wanted, text


def test_the_beginning_of_several_names_is_refused_and_they_are_named(place: Here) -> None:
    first, second = reserve(place, "digits/a", 1), reserve(place, "digits/b", 2)
    with pytest.raises(UsageError, match="beginning of several") as refused:
        locate("digits", place)
    assert refused.value.hint.splitlines() == [second, first]
    with pytest.raises(UsageError, match="beginning of several"):
        resolve_job("digits", place)
    assert locate("digits-a", place).name == first
    assert locate("digits/b", place).name == second


def test_a_whole_name_that_begins_another_means_itself(place: Here) -> None:
    short = reserve(place, "digits", 1)
    reserve(place, short, 2)
    assert locate(short, place).name == short


def test_of_very_many_names_only_some_are_shown(place: Here) -> None:
    for number in range(9):
        reserve(place, "digits", number)
    with pytest.raises(UsageError) as refused:
        locate("digits", place)
    assert len(refused.value.hint.splitlines()) == 6
    assert refused.value.hint.endswith("...")


def test_latest_is_the_newest_and_me_the_newest_of_mine(place: Here) -> None:
    with pytest.raises(NotFoundError, match="no experiment yet"):
        locate("@latest", place)
    names = [reserve(place, "digits", number, user) for number, user in enumerate(["me", "me", "you", "you"])]
    assert locate("@latest", place).name == names[3]
    assert locate("@me", place).name == names[1]
    with pytest.raises(NotFoundError, match="'nobody'"):
        locate("@me", Here(place.storage, "nobody"))


def test_of_several_in_one_second_the_latest_is_the_one_that_was_made_last(place: Here) -> None:
    made = {"000002": 500, "000003": 900, "000001": 700}  # names and milliseconds, in another order
    names = {}
    for token, milliseconds in made.items():
        names[milliseconds] = job_name("digits", NOON, token)
        created_at = f"2026-01-02T12:00:00.{milliseconds}+00:00"
        author = Author("me", "laptop", 1)
        place.archive.reserve(Intent(names[milliseconds], "digits", "aws", created_at, author, "0" * 64))
    assert locate("@latest", place).name == names[900]
    assert locate("@me", place).name == names[900]


def test_a_spoiled_entry_hides_no_experiment_of_mine(place: Here, tmp_path: Path) -> None:
    name = reserve(place, "digits", 1)
    reserve(place, "digits", 2)
    newest = min((tmp_path / "team/experiments/_index").iterdir())
    newest.write_text("{")
    assert locate("@me", place).name == name


@pytest.mark.parametrize("text", ["@yesterday", "s3:/x/y", "s3://team/../x"])
def test_what_is_no_reference_is_refused(place: Here, text: str) -> None:
    for find in (resolve, resolve_job):
        with pytest.raises(UsageError):
            find(text, place)


@pytest.mark.parametrize("text", ["di", "nothing", "../../etc", "digits-20260102-120001-00000X"])
def test_what_begins_no_name_is_not_found(place: Here, text: str) -> None:
    reserve(place, "digits", 1)
    with pytest.raises(NotFoundError):
        resolve(text, place)


def test_a_job_that_no_archive_has_is_taken_by_its_name(place: Here) -> None:
    wanted = Reference("somebody-elses-job", None, "", "")
    assert resolve_job("somebody-elses-job", place) == wanted
    assert resolve_job("somebody-elses-job", Nowhere(place.storage)) == wanted
    for text in ("@latest", "s3://nobody/x/digits-20260102-120001-000001/"):
        with pytest.raises(LauncherError):
            resolve_job(text, Nowhere(place.storage))


def test_where_a_folder_stands_in_for_s3_no_job_is_elsewhere(place: Here, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no experiment 'somebody-elses-job'"):
        resolve_job("somebody-elses-job", Here(place.storage, s3_root=tmp_path))
    with pytest.raises(UsageError, match="which archive"):
        resolve_job("somebody-elses-job", Nowhere(place.storage, s3_root=tmp_path))


@pytest.mark.parametrize("command", ["status", "wait", "logs", "stop"])
def test_no_command_asks_aws_for_a_job_that_is_not_in_the_folder(
    cli: CommandLine, rehearsed: Project, tmp_path: Path, command: str
) -> None:
    place = ("--s3-root", rehearsed.s3)
    elsewhere = CommandLine(tmp_path, cli.environment)  # where no config names an archive
    missing = elsewhere(command, "nosuchjob", *place, "--archive", ARCHIVE, "--region", "us-east-1")
    assert (missing.code, missing.out) == (6, ""), missing.err
    assert f"error: the archive {ARCHIVE} has no experiment 'nosuchjob'\nhint: `list`" in missing.err
    unsaid = elsewhere(command, "nosuchjob", *place)
    assert (unsaid.code, "which archive?" in unsaid.err) == (2, True), unsaid.err


@pytest.mark.parametrize("command", ["status", "wait"])
def test_a_job_that_is_not_in_the_folder_hides_none_of_the_others(
    cli: CommandLine, rehearsed: Project, command: str
) -> None:
    name, place = name_of(rehearsed), ("--s3-root", rehearsed.s3, "--archive", ARCHIVE)
    told = cli(command, name, "nosuchjob", *place)
    assert told.code == 6, told.err
    assert [line.split("\t")[:2] for line in told.out.splitlines()[1:]] == [
        [name, "Completed"],
        ["nosuchjob", "not found"],
    ]
    jobs = cli(command, "nosuchjob", name, *place, "--json").json["jobs"]
    assert [one["result"]["status"] for one in jobs] == ["not found", "Completed"]
    assert "has no experiment 'nosuchjob'" in jobs[0]["result"]["failure_reason"]


def test_nothing_is_stopped_when_one_of_several_is_not_in_the_folder(
    cli: CommandLine, rehearsed: Project
) -> None:
    place = ("--s3-root", rehearsed.s3, "--archive", ARCHIVE)
    refused = cli("stop", name_of(rehearsed), "nosuchjob", *place)
    assert (refused.code, refused.out) == (6, "")
    assert "has no experiment 'nosuchjob'" in refused.err


def test_a_reservation_without_a_manifest_has_no_region(place: Here) -> None:
    name = reserve(place, "digits", 1)
    assert resolve(name, place) == Reference(name, S3Uri.parse(f"{ARCHIVE}/digits/{name}/"), "", "")


def test_the_manifest_of_another_job_is_refused(rehearsed: Project, tmp_path: Path) -> None:
    root = shutil.copytree(rehearsed.s3, tmp_path / "s3")
    name = name_of(rehearsed)
    path = root / "team/experiments/team/tiny" / name / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "job_name": "other"}))
    with pytest.raises(IntegrityError, match="another job: 'other'"):
        resolve(name, Here(FolderStorage(root)))


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_finds_an_experiment_or_says_why_not(rehearsed: Project, text: str) -> None:
    try:
        folder = locate(text, Here(FolderStorage(rehearsed.s3)))
    except LauncherError as error:
        told = error.message
        assert told
    else:
        assert folder.key.endswith("/")


def test_the_command_line_takes_references_everywhere(cli: CommandLine, rehearsed: Project) -> None:
    place = ("--s3-root", rehearsed.s3, "--archive", ARCHIVE)
    for text in ("@latest", "team/tiny", name_of(rehearsed)[:-2]):
        shown = cli("show", text, *place, "--json")
        assert shown.code == 0, shown.err
        assert shown.json["manifest"]["job_name"] == name_of(rehearsed)
    again = cli("rerun", "@latest", *place, "--dry-run", "--json")
    assert again.json["rerun_of"].endswith(f"/{name_of(rehearsed)}/")


def test_a_wait_without_a_number_of_seconds_is_refused(cli: CommandLine) -> None:
    done = cli("wait", "x", "--timeout", "nan")
    assert (done.code, done.has_traceback) == (2, False)
    assert "nan is no number of seconds" in done.err
