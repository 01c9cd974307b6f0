"""What an experiment leaves, that nothing of it is ever replaced, and how it is read again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from sagemaker_launcher import config
from sagemaker_launcher.archive.experiments import Archive, State, Summary, read_experiment, seals
from sagemaker_launcher.archive.headline import Headline
from sagemaker_launcher.archive.history import History
from sagemaker_launcher.archive.history_cache import HistoryCache
from sagemaker_launcher.archive.manifest import Author, Intent, Launch, to_bytes
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import ConflictError, IntegrityError, LauncherError, NotFoundError
from sagemaker_launcher.naming import S3Uri, job_name
from sagemaker_launcher.result import JobResult
from sagemaker_launcher.storage import FolderStorage
from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import Full, document, launch, local, rehearse, snapshot

ROOT = S3Uri.parse("s3://team/experiments")
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in folder with one finished experiment."""
    project = Project.create(tmp_path_factory.mktemp("archived") / "project")
    rehearse(project)
    return project.s3


@pytest.fixture
def bucket(archived: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be spoiled."""
    return shutil.copytree(archived, tmp_path / "s3")


def folder_of(bucket: Path) -> Path:
    (folder,) = (bucket / "team/experiments/team/tiny").iterdir()
    return folder


def read(bucket: Path) -> object:
    return read_experiment(
        FolderStorage(bucket), S3Uri("team", f"experiments/team/tiny/{folder_of(bucket).name}/")
    )


def intent(number: int = 0, **changes: str) -> Intent:
    second = NOON + timedelta(seconds=number)
    name = job_name("team/tiny", second, f"{number:06d}")
    made = Intent(
        name, "team/tiny", "process", "2026-01-02T12:00:00.000+00:00", Author("me", "laptop", 1), "0" * 64
    )
    return replace(made, **changes)  # type: ignore[arg-type]


HEADLINE = Headline("team/tiny", "2026-01-02T12:00:00.000+00:00", "me", "process", "Completed")


def recent(archive: Archive) -> tuple[Summary, ...]:
    return History(archive, HistoryCache("")).newest(20)


def archive_in(folder: Path) -> Archive:
    (folder / "team").mkdir(exist_ok=True)
    return Archive(FolderStorage(folder), ROOT)


# --- what a launch leaves ---


def test_an_experiment_is_exactly_these_files(cli: CommandLine, project: Project) -> None:
    before = set(snapshot(project.s3))
    done = launch(cli, project)
    assert done.code == 0, done.err
    name = done.json["job_name"]
    files = {path for path, data in snapshot(project.s3).items() if data is not None} - before
    (index,) = (path for path in files if path.startswith("team/experiments/_index/"))
    assert index.endswith(f"-{name}.json")
    (log,) = (path for path in files if path.startswith(f"team/experiments/team/tiny/{name}/logs/algo-1-"))
    (headline,) = (path for path in files if path.startswith("team/experiments/_headlines/"))
    assert f"-{name}.1" in headline
    assert files - {index, headline, log} == {
        *(
            f"team/experiments/team/tiny/{name}/{file}"
            for file in (
                "intent.json",
                "sagemaker_config.yaml",
                "training_config.yaml",
                "request.json",
                "manifest.json",
                "launch.json",
                "result.json",
            )
        ),
        f"team/outputs/{name}/output/model.tar.gz",
        f"team/outputs/{name}/output/output.tar.gz",
    }


def test_the_documents_agree_with_each_other_and_with_the_answer(cli: CommandLine, project: Project) -> None:
    done = launch(cli, project, "--train", "SEED", "7", "--set", "TAGS.team", "blue")
    answer = done.json
    folder = local(project, answer["experiment"])
    manifest, intent_, started = (
        document(folder, f"{name}.json") for name in ("manifest", "intent", "launch")
    )

    assert document(folder, "request.json") == answer["request"]
    assert document(folder, "result.json") == answer["result"]
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: sha256((folder / name).read_bytes())
        for name in ("sagemaker_config.yaml", "training_config.yaml", "request.json")
    }
    assert {name: entry["size"] for name, entry in manifest["files"].items()} == {
        name: (folder / name).stat().st_size for name in manifest["files"]
    }
    assert started["manifest_sha256"] == sha256((folder / "manifest.json").read_bytes())
    assert started["job_arn"] == f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{answer['job_name']}"
    assert intent_["request_sha256"] == sha256((folder / "request.json").read_bytes())
    (index,) = (project.s3 / "team/experiments/_index").iterdir()
    assert index.read_bytes() == (folder / "intent.json").read_bytes()
    for key in ("job_name", "experiment_name", "target", "created_at", "author"):
        assert manifest[key] == intent_[key]
    assert manifest["job_name"] == answer["job_name"]
    assert (manifest["experiment_name"], manifest["target"]) == ("team/tiny", "process")
    assert manifest["created_at"] <= started["started_at"] <= answer["result"]["ended_at"]
    assert manifest["command"][-6:] == ["--train", "SEED", "7", "--set", "TAGS.team", "blue"]
    assert {"launcher", "python", "sagemaker", "boto3", "botocore", "yacs"} == set(manifest["versions"])
    assert (manifest["account"], manifest["region"], manifest["rerun_of"]) == ("", "us-east-1", "")
    assert manifest["image_uri"] == answer["request"]["AlgorithmSpecification"]["TrainingImage"]
    assert manifest["image_digest"] == ""
    assert (manifest["git"], manifest["allowed_secrets"], manifest["schema"]) == (None, [], 1)
    assert manifest["source"]["path"] == "code"


def test_both_configs_are_complete_and_merged(cli: CommandLine, project: Project) -> None:
    done = launch(cli, project, "--train", "SEED", "7", "--set", "ESTIMATOR.VOLUME_SIZE", "50")
    folder = local(project, done.json["experiment"])
    training = yaml.safe_load((folder / "training_config.yaml").read_text())
    assert training == {
        "VERSION": 1,
        "SEED": 7,
        "NAME": "plain",
        "SOLVER": {"BASE_LR": 0.5, "EPOCHS": 2, "NESTEROV": False, "STEPS": [10, 20]},
        "DATA": {"TRAIN_CHANNEL": "training"},
    }
    sagemaker = yaml.safe_load((folder / "sagemaker_config.yaml").read_text())
    assert sagemaker["ESTIMATOR"]["VOLUME_SIZE"] == 50
    assert sagemaker["ESTIMATOR"]["MAX_RUN"] == 86400
    assert sagemaker["TRAINING_CONFIG"] == "training_config.yaml"


def test_the_job_reads_the_archived_training_config_and_knows_its_hash(project: Project) -> None:
    done = rehearse(project)
    channel = next(item for item in done.request["InputDataConfig"] if item["ChannelName"] == "config")
    archived = local(project, channel["DataSource"]["S3DataSource"]["S3Uri"])
    assert archived.name == "training_config.yaml"
    assert done.request["Environment"]["TRAINING_CONFIG_SHA256"] == sha256(archived.read_bytes())


def test_an_image_with_a_digest_is_recorded_with_it(project: Project) -> None:
    digest = "sha256:" + "a" * 64
    uri = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny@{digest}"
    rehearse(project, ("ESTIMATOR.IMAGE_URI", uri))
    assert document(folder_of(project.s3), "manifest.json")["image_digest"] == digest


def test_the_archived_config_is_a_config_like_any_other(project: Project) -> None:
    rehearse(project)
    folder = folder_of(project.s3)
    again = config.load(folder / "sagemaker_config.yaml")
    assert again.sagemaker_yaml == (folder / "sagemaker_config.yaml").read_bytes()
    assert again.training_yaml == (folder / "training_config.yaml").read_bytes()


def test_nothing_is_replaced_by_later_launches(project: Project) -> None:
    rehearse(project)
    before = snapshot(project.s3)
    rehearse(project)
    rehearse(project, ("TAGS.a", "b"))
    after = snapshot(project.s3)
    assert {name: after.get(name) for name in before} == before
    assert len(list((project.s3 / "team/experiments/team/tiny").iterdir())) == 3


# --- an archive that cannot be written ---


@pytest.mark.parametrize(
    "name", ["intent.json", "sagemaker_config.yaml", "training_config.yaml", "request.json", "manifest.json"]
)
def test_a_launch_whose_archive_cannot_be_written_starts_nothing(project: Project, name: str) -> None:
    with pytest.raises(LauncherError, match="no space left on device"):
        rehearse(project, storage=Full(project.s3, name))
    assert not (project.s3 / "team/outputs").exists()
    (summary,) = recent(Archive(FolderStorage(project.s3), ROOT))
    assert summary.state is State.INTERRUPTED


def test_a_job_that_was_started_goes_on_although_its_start_cannot_be_recorded(project: Project) -> None:
    done = rehearse(project, storage=Full(project.s3, "launch.json"))
    assert done.result.status == "Completed"
    (note,) = (note for note in done.events.notes if "has started, but the archive does not say so" in note)
    name = done.request["TrainingJobName"]
    assert f"the job arn:aws:sagemaker:us-east-1:123456789012:training-job/{name} has started" in note
    assert "no space left on device" in note
    assert {path.name for path in folder_of(project.s3).iterdir()} >= {"manifest.json", "result.json"}


def test_a_result_that_cannot_be_recorded_is_told_all_the_same(project: Project) -> None:
    done = rehearse(project, storage=Full(project.s3, "result.json"))
    assert done.result.status == "Completed"
    assert any(note.startswith("the archive does not have the result: ") for note in done.events.notes)


# --- reserving, listing, finding ---


@pytest.mark.parametrize(
    ("names", "state"),
    [
        (set(), "interrupted"),
        ({"intent.json"}, "interrupted"),
        ({"intent.json", "request.json", "training_config.yaml", "sagemaker_config.yaml"}, "interrupted"),
        ({"intent.json", "manifest.json"}, "not confirmed"),
        ({"intent.json", "manifest.json", "launch.json"}, "started"),
        ({"intent.json", "manifest.json", "launch.json", "result.json"}, "finished"),
        ({"intent.json", "manifest.json", "result.json"}, "finished"),
        ({"intent.json", "launch.json", "result.json"}, "interrupted"),
        ({"intent.json", "not_started.json"}, "not started"),
        ({"intent.json", "manifest.json", "not_started.json"}, "not started"),
        ({"intent.json", "manifest.json", "launch.json", "not_started.json"}, "started"),
        ({"intent.json", "manifest.json", "launch.json", "abandoned.json"}, "abandoned"),
        ({"intent.json", "manifest.json", "launch.json", "abandoned.json", "result.json"}, "finished"),
    ],
)
def test_what_exists_tells_how_far_a_launch_came(names: set[str], state: str) -> None:
    assert State.of(names) is State(state)


@provokes(55)
def test_a_taken_name_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    archive.reserve(intent())
    with pytest.raises(ConflictError, match=r"is taken by me@laptop since 2026-01-02T12:00:00"):
        archive.reserve(replace(intent(), author=Author("you", "desk", 2)))


def test_the_newest_come_first_and_only_as_many_as_asked_for(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for number in (3, 0, 4, 1, 2):
        archive.reserve(intent(number))
    assert [entry.job_name for entry in archive.entries(3)] == [
        intent(number).job_name for number in (4, 3, 2)
    ]
    assert list(archive.names()) == [intent(number).job_name for number in (4, 3, 2, 1, 0)]


def test_experiments_of_all_names_are_in_one_list(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for number, name in enumerate(("digits/baseline", "other", "a/b/c")):
        made = job_name(name, NOON + timedelta(seconds=number), "abcdef")
        archive.reserve(intent(experiment_name=name, job_name=made))
    assert [made.experiment_name for made in archive.intents(archive.entries())] == [
        "a/b/c",
        "other",
        "digits/baseline",
    ]


def test_an_empty_archive_has_an_empty_list(tmp_path: Path) -> None:
    assert recent(archive_in(tmp_path)) == ()


def test_a_job_name_alone_leads_to_its_experiment(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    folder = archive.reserve(intent())
    assert archive.find(intent().job_name) == folder


@pytest.mark.parametrize(
    "name", ["nothing", "team-tiny-20260102-120001-000000", "../../x", "team-tiny-20269999-120000-000000"]
)
def test_a_name_that_the_archive_does_not_have_is_told(tmp_path: Path, name: str) -> None:
    archive = archive_in(tmp_path)
    archive.reserve(intent())
    with pytest.raises(NotFoundError, match="has no experiment") as missing:
        archive.find(name)
    assert missing.value.code == "experiment_not_found"


def test_one_spoiled_entry_hides_no_other(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for number in range(4):
        archive.reserve(intent(number))
    index = sorted((tmp_path / "team/experiments/_index").iterdir())
    index[0].write_text("{")
    index[1].write_text(json.dumps({"job_name": 5}))
    escaping = {**json.loads(index[2].read_text()), "experiment_name": "../../../etc"}
    index[2].write_text(json.dumps(escaping))
    states = [summary.state for summary in recent(archive)]
    assert states == [State.UNREADABLE, State.UNREADABLE, State.UNREADABLE, State.INTERRUPTED]


# --- reading, and who changed it meanwhile ---


@pytest.mark.parametrize("status", ["Abandoned", "NotStarted"])
def test_a_result_outweighs_every_mark_for_all_who_ask(tmp_path: Path, status: str) -> None:
    archive = archive_in(tmp_path)
    for number in range(8):  # whose keys come before and after the mark's
        marked = intent(number)
        folder = archive.reserve(marked)
        archive.mark(folder, replace(HEADLINE, status=status), {"status": status})
        told = replace(HEADLINE, metrics={"loss": float(number)})
        archive.record_result(folder, JobResult("Completed"), told)
        assert archive.headline(marked.job_name) == told
        stem = archive.entry_of(marked.job_name).stem
        assert archive.headlines_of([stem]) == {stem: told}
        [summary] = (one for one in recent(archive) if one.job_name == marked.job_name)
        assert (summary.state, archive.full_headline(summary)) == (State.FINISHED, told)


def test_an_experiment_that_was_marked_before_its_result_came_is_the_same_everywhere(
    cli: CommandLine, project: Project
) -> None:
    rehearse(project)
    archive = Archive(FolderStorage(project.s3), ROOT)
    [summary] = recent(archive)
    for status in ("Abandoned", "NotStarted"):
        archive.mark(summary.folder, replace(summary.headline, status=status, metrics={}), {"status": status})
    place = ("--s3-root", project.s3, "--archive", str(ROOT), "--json")
    for words in ((), ("--experiment", "team/tiny")):
        [listed] = cli("list", *words, *place).json["experiments"]
        assert (listed["state"], listed["status"]) == ("finished", "Completed")
    assert cli("show", summary.job_name, *place).json["state"] == "finished"
    verified = cli("verify", summary.job_name, *place)
    assert verified.code == 0, verified.out


def test_an_experiment_is_read_with_everything_in_it(bucket: Path) -> None:
    experiment = read_experiment(
        FolderStorage(bucket), S3Uri("team", f"experiments/team/tiny/{folder_of(bucket).name}/")
    )
    assert experiment.state is State.FINISHED
    assert set(experiment.files) == {"sagemaker_config.yaml", "training_config.yaml", "request.json"}
    assert experiment.request["TrainingJobName"] == folder_of(bucket).name
    assert experiment.result
    assert experiment.result.status == "Completed"


def overwrite(name: str, data: str = "x") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(data)


def append(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"\n")


def delete(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def seal_also(name: str) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        manifest = document(folder, "manifest.json")
        manifest["files"][name] = {"sha256": sha256(b"x"), "size": 1}
        reseal(folder, manifest)

    return act


def unseal(name: str) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        manifest = document(folder, "manifest.json")
        del manifest["files"][name]
        reseal(folder, manifest)

    return act


def reseal(folder: Path, manifest: object) -> None:
    """Replaces the manifest, and its hash in launch.json with it, as an attacker would who knows how it works."""
    (folder / "manifest.json").write_text(json.dumps(manifest))
    started = document(folder, "launch.json")
    started["manifest_sha256"] = sha256((folder / "manifest.json").read_bytes())
    (folder / "launch.json").write_text(json.dumps(started))


def resize(name: str) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        manifest = document(folder, "manifest.json")
        manifest["files"][name]["size"] += 1
        reseal(folder, manifest)

    return act


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (overwrite("training_config.yaml"), "training_config.yaml was changed"),
        (append("sagemaker_config.yaml"), "sagemaker_config.yaml was changed"),
        (append("request.json"), "request.json was changed"),
        (append("manifest.json"), "manifest.json was changed"),
        (delete("training_config.yaml"), "training_config.yaml was deleted"),
        (delete("request.json"), "request.json was deleted"),
        (unseal("request.json"), "request.json is not sealed"),
        (
            seal_also("../../../../.bashrc"),
            "../../../../.bashrc is sealed, but no such file belongs to an experiment",
        ),
        (seal_also("/etc/passwd"), "/etc/passwd is sealed, but"),
        (seal_also("extra.sh"), "extra.sh is sealed, but"),
        (seal_also("uncommitted.patch"), "uncommitted.patch was deleted"),
        (resize("request.json"), "request.json was changed"),
        (overwrite("request.json", "x" * 5_000_000), "is larger than"),
        (overwrite("manifest.json", "{"), "is not what this tool writes"),
        (overwrite("manifest.json", "[]"), "is not what this tool writes"),
        (overwrite("manifest.json", "[" * 100_000), "is not what this tool writes"),
        (overwrite("manifest.json", '{"schema": 99}'), "has format 99"),
        (overwrite("launch.json", '{"a": 1}'), "is not what this tool writes"),
        (
            overwrite("result.json", '{"status": "Completed", "metrics": {"loss": "low"}}'),
            "is not what this tool writes",
        ),
        (overwrite("manifest.json", "x" * 5_000_000), "is larger than"),
    ],
)
def test_whatever_was_changed_later_is_named(
    bucket: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(folder_of(bucket))
    with pytest.raises(IntegrityError) as refused:
        read(bucket)
    assert words in refused.value.message


def test_all_that_was_changed_is_named_at_once(bucket: Path) -> None:
    folder = folder_of(bucket)
    append("training_config.yaml")(folder)
    delete("request.json")(folder)
    with pytest.raises(IntegrityError, match=r"request.json was deleted; training_config.yaml was changed"):
        read(bucket)


def test_an_experiment_of_a_version_that_knew_less_of_its_author_is_read_and_verified(
    cli: CommandLine, bucket: Path
) -> None:
    folder = folder_of(bucket)
    [index] = (bucket / "team/experiments/_index").iterdir()
    manifest, intent_ = document(folder, "manifest.json"), document(folder, "intent.json")
    del manifest["author"]["pid_space"], intent_["author"]["pid_space"]
    reseal(folder, manifest)
    for path in (folder / "intent.json", index):
        path.write_text(json.dumps(intent_))
    assert read(bucket)
    done = cli("verify", folder.name, "--s3-root", bucket, "--archive", str(ROOT))
    assert done.code == 0, done.out


def test_files_of_others_beside_an_experiment_do_no_harm(bucket: Path) -> None:
    (folder_of(bucket) / "notes.txt").write_text("looks good")
    (folder_of(bucket) / "plots").mkdir()
    (folder_of(bucket) / "plots" / "a.png").write_bytes(b"\0")
    assert read(bucket)


def test_a_place_without_an_experiment_is_told(bucket: Path) -> None:
    storage = FolderStorage(bucket)
    for key in ("experiments/team/tiny/nothing/", "experiments/team/tiny/", "experiments/", "data/train/"):
        with pytest.raises(NotFoundError) as missing:
            read_experiment(storage, S3Uri("team", key))
        assert missing.value.code == "experiment_not_found"


def test_a_record_that_comes_twice_is_refused_unless_it_is_the_same(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    folder = archive.reserve(intent())
    archive.record_launch(folder, Launch("arn", "now", "0" * 64))
    archive.record_launch(folder, Launch("arn", "now", "0" * 64))
    with pytest.raises(ConflictError):
        archive.record_launch(folder, Launch("another", "now", "0" * 64))
    archive.record_result(folder, JobResult("Completed"), HEADLINE)
    with pytest.raises(ConflictError):
        archive.record_result(folder, JobResult("Failed"), HEADLINE)


def test_equal_documents_are_equal_bytes() -> None:
    assert to_bytes({"b": 1, "a": {"d": 2, "c": "é"}}) == to_bytes({"a": {"c": "é", "d": 2}, "b": 1})
    assert to_bytes({"a": "é"}) == '{\n  "a": "é"\n}\n'.encode()
    assert seals({"a": b""})["a"].size == 0


def test_every_refusal_of_a_spoiled_archive_is_one_that_users_understand(bucket: Path) -> None:
    folder = folder_of(bucket)
    originals = {
        name: (folder / name).read_bytes() for name in ("manifest.json", "launch.json", "result.json")
    }
    for name, original in originals.items():
        values = json.loads(original)
        for key in values:
            for value in (None, 5, "x", [], {}, [None], {"": None}, True, 1e400):
                (folder / name).write_text(json.dumps({**values, key: value}))
                try:
                    read(bucket)
                except LauncherError:
                    continue
        (folder / name).write_bytes(original)
    assert read(bucket)
