"""Downloads: whole or not there, gone on with, never over something else, and nothing outside of the folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from sagemaker_launcher.archive.experiments import read_experiment
from sagemaker_launcher.archive.fetching import Fetching
from sagemaker_launcher.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    UnavailableError,
    UnsafeError,
)
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.storage import Check, FolderStorage, Storage, StoredObject, no_check
from tests.commands import CommandLine
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import ARCHIVE, Listener, launch, local, rehearse, snapshot

PROGRAM = """\
import os, pathlib
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
(base / "model" / "weights.bin").write_bytes(os.urandom(3_000_000))
(base / "output" / "data" / "curve.csv").write_text("1,2")
print("loss=0.5")
"""


@pytest.fixture
def experiment(project: Project) -> S3Uri:
    """The folder of an experiment with a model of three megabytes."""
    project.program(PROGRAM)
    name = rehearse(project).request["TrainingJobName"]
    return S3Uri.parse(f"{ARCHIVE}/team/tiny/{name}/")


def outputs(project: Project, experiment: S3Uri) -> Path:
    return project.s3 / "team/outputs" / experiment.name / "output"


def fetching(project: Project, experiment: S3Uri, folder: Path, storage: Storage | None = None) -> Fetching:
    found = read_experiment(FolderStorage(project.s3), experiment)
    return Fetching(storage or FolderStorage(project.s3), found, folder, Listener())


class Breaking(FolderStorage):
    """A network that breaks after a million bytes of an object; the position that each download began at is kept."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.times = times
        self.starts: list[int] = []

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
        self.starts.append(file.tell())
        if len(self.starts) > self.times:
            return super().download(uri, file, tag, check)
        with self._open(uri) as source:
            source.seek(file.tell())
            file.write(source.read(10**6))
        raise UnavailableError(f"cannot download {uri}: the connection was reset")


class Named(FolderStorage):
    """An S3 with keys that no file system has, of ten bytes each."""

    def __init__(self, root: Path, *names: str) -> None:
        super().__init__(root)
        self._names = names

    def list(self, prefix: S3Uri, limit: int = 0) -> Iterator[StoredObject]:
        if prefix.key.endswith("/output/model/"):
            return iter(
                [StoredObject(S3Uri(prefix.bucket, prefix.key + name), 10, "tag") for name in self._names]
            )
        return super().list(prefix, limit)

    def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:  # noqa: ARG002 - the interface of Storage
        file.write(b"x" * 10)


def test_everything_that_an_experiment_left_comes_and_is_what_was_saved(
    cli: CommandLine, project: Project
) -> None:
    done = launch(cli, project).json
    got = cli("download", done["job_name"], "--s3-root", project.s3, "--archive", ARCHIVE, "--json")
    assert got.code == 0, got.err
    folder = project.folder / done["job_name"]
    assert got.json["parts"] == [
        {"part": part, "path": f"{done['job_name']}/{part}", "files": files}
        for part, files in (("model", 1), ("output", 1), ("logs", 1), ("configs", 3))
    ]
    archived = local(project, done["experiment"])
    assert (folder / "model/model.txt").read_text() == "weights"
    assert (folder / "output/data/curve.csv").exists() or (folder / "output/curve.csv").exists()
    assert (folder / "configs/training_config.yaml").read_bytes() == (
        archived / "training_config.yaml"
    ).read_bytes()
    [log] = (folder / "logs").iterdir()
    assert log.read_bytes() == (archived / "logs" / log.name).read_bytes()
    assert {path.name for path in folder.iterdir()} == {".experiment", "model", "output", "logs", "configs"}


def test_only_the_parts_that_are_named_come_and_archives_may_stay_packed(
    cli: CommandLine, project: Project, experiment: S3Uri
) -> None:
    words = ("download", str(experiment), "--s3-root", project.s3, "--to", "here/below")
    assert cli(*words, "--model", "--configs").code == 0
    folder = project.folder / "here/below"
    assert {path.name for path in folder.iterdir()} == {".experiment", "model", "configs"}
    assert cli(*words, "--model", "--packed").code == 0
    assert (folder / "model.tar.gz").read_bytes() == (
        outputs(project, experiment) / "model.tar.gz"
    ).read_bytes()


def test_a_part_that_does_not_exist_is_told_only_when_it_was_asked_for(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    (outputs(project, experiment) / "output.tar.gz").unlink()
    parts = [one.part for one in fetching(project, experiment, tmp_path / "all").fetch(())]
    assert parts == ["model", "logs", "configs"]
    with pytest.raises(NotFoundError, match="has no output"):
        fetching(project, experiment, tmp_path / "one/below").fetch(("output",))
    assert not (tmp_path / "one").exists()


def test_what_brings_nothing_leaves_what_was_there(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    (outputs(project, experiment) / "output.tar.gz").unlink()
    (tmp_path / "empty").mkdir()
    fetching(project, experiment, tmp_path / "mine").fetch(("configs",))
    before = snapshot(tmp_path)
    for name in ("empty", "mine"):
        with pytest.raises(NotFoundError, match="has no output"):
            fetching(project, experiment, tmp_path / name).fetch(("output",))
    assert snapshot(tmp_path) == before


def test_a_download_that_broke_goes_on_where_it_was(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    broken = Breaking(project.s3, times=2)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            fetching(project, experiment, tmp_path / "to", broken).fetch(("model",))
        assert not (tmp_path / "to/model").exists()
    fetching(project, experiment, tmp_path / "to", broken).fetch(("model",))
    assert broken.starts == [0, 10**6, 2 * 10**6]
    with tarfile.open(outputs(project, experiment) / "model.tar.gz") as tar:
        saved = tar.extractfile("weights.bin")
        assert saved is not None
        assert (tmp_path / "to/model/weights.bin").read_bytes() == saved.read()
    assert not (tmp_path / "to/.incomplete").exists()


def test_what_is_replaced_meanwhile_is_not_mixed_with_what_has_come(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    broken = Breaking(project.s3, times=1)
    with pytest.raises(UnavailableError):
        fetching(project, experiment, tmp_path / "to", broken).fetch(("model",))
    with tarfile.open(outputs(project, experiment) / "model.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("new.txt")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"new"))
    fetching(project, experiment, tmp_path / "to", broken).fetch(("model",))
    assert broken.starts == [0, 0]
    assert snapshot(tmp_path / "to/model") == {"new.txt": b"new"}


def test_what_is_missing_because_the_job_still_runs_is_told(
    cli: CommandLine, project: Project, experiment: S3Uri
) -> None:
    folder = project.s3 / "team" / experiment.key
    (folder / "result.json").unlink()
    shutil.rmtree(folder / "logs")
    shutil.rmtree(outputs(project, experiment))
    done = cli("download", str(experiment), "--s3-root", project.s3, "--to", "to", "--json")
    assert done.code == 0, done.err
    assert [one["part"] for one in done.json["parts"]] == ["configs"]
    for part in ("model", "output", "logs"):
        assert f"the experiment has no {part}: nothing at s3://" in done.err
    assert "the archive knows of no end of the job" in done.err


def test_a_job_that_has_ended_and_left_little_is_not_asked_for_more(project: Project, tmp_path: Path) -> None:
    project.program("print('loss=0.5')")
    name = rehearse(project).request["TrainingJobName"]
    experiment = S3Uri.parse(f"{ARCHIVE}/team/tiny/{name}/")
    found, events = read_experiment(FolderStorage(project.s3), experiment), Listener()
    got = Fetching(FolderStorage(project.s3), found, tmp_path / "to", events).fetch(())
    assert ([one.part for one in got], events.notes) == (["logs", "configs"], [])


def test_an_output_that_is_gone_is_told(project: Project, experiment: S3Uri, tmp_path: Path) -> None:
    (outputs(project, experiment) / "output.tar.gz").unlink()
    found, events = read_experiment(FolderStorage(project.s3), experiment), Listener()
    Fetching(FolderStorage(project.s3), found, tmp_path / "to", events).fetch(())
    [note] = events.notes
    assert note.startswith("the experiment has no output: nothing at s3://")


@provokes(81)
def test_two_downloads_at_once_do_not_mix(
    cli: CommandLine, project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    folder, refusals = tmp_path / "to", list[ConflictError]()

    class Meanwhile(FolderStorage):
        """Somebody else begins the same while an object comes."""

        def download(self, uri: S3Uri, file: BinaryIO, tag: str = "", check: Check = no_check) -> None:
            before = snapshot(folder)
            with pytest.raises(ConflictError) as refused:
                fetching(project, experiment, folder).fetch(("model",))
            refusals.append(refused.value)
            other = cli("download", str(experiment), "--s3-root", project.s3, "--to", folder)
            assert (other.code, other.has_traceback) == (7, False)
            assert snapshot(folder) == before
            super().download(uri, file, tag, check)

    fetching(project, experiment, folder, Meanwhile(project.s3)).fetch(("model",))
    [refused] = refusals
    assert refused.message == f"another download writes to {folder}"
    assert "wait" in refused.hint
    assert (folder / "model/weights.bin").stat().st_size == 3_000_000
    assert fetching(project, experiment, folder).fetch(("output",))[0].files == 1


def test_what_was_killed_before_it_signed_its_folder_keeps_nobody_out(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to/.experiment").touch()
    fetching(project, experiment, tmp_path / "to").fetch(("configs",))
    assert (tmp_path / "to/.experiment").read_text() == f"{experiment}\n"


@provokes(81)
def test_nothing_is_ever_overwritten(project: Project, experiment: S3Uri, tmp_path: Path) -> None:
    folder = tmp_path / "to"
    fetching(project, experiment, folder).fetch(("model",))
    (folder / "model/weights.bin").write_text("mine")
    [again] = fetching(project, experiment, folder).fetch(("model",))
    assert again.files == 0
    assert (folder / "model/weights.bin").read_text() == "mine"
    (folder / "configs").symlink_to(tmp_path / "elsewhere")
    fetching(project, experiment, folder).fetch(("configs",))
    assert not (tmp_path / "elsewhere").exists()


@provokes(81)
def test_a_folder_of_something_else_is_left_alone(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    other = rehearse(project).request["TrainingJobName"]
    fetching(project, S3Uri.parse(f"{ARCHIVE}/team/tiny/{other}/"), tmp_path / "other").fetch(("configs",))
    before = snapshot(tmp_path / "mine"), snapshot(tmp_path / "other")
    for folder in ("mine", "other"):
        with pytest.raises(ConflictError):
            fetching(project, experiment, tmp_path / folder).fetch(())
    assert (snapshot(tmp_path / "mine"), snapshot(tmp_path / "other")) == before


@provokes(80)
@pytest.mark.parametrize("name", ["../escaped", "/etc/passwd", "a//b", "C:\\x", "a\x1b", "x" * 300])
def test_a_hostile_key_is_refused_before_anything_comes(
    project: Project, experiment: S3Uri, tmp_path: Path, name: str
) -> None:
    (outputs(project, experiment) / "model.tar.gz").unlink()
    storage = Named(project.s3, "harmless", name)
    with pytest.raises(UnsafeError) as refused:
        fetching(project, experiment, tmp_path / "to", storage).fetch(("model",))
    assert refused.value.exit_code == 14
    assert "--packed" not in refused.value.hint  # nothing is packed there
    assert not (tmp_path / "to").exists()


@provokes(80)
def test_keys_that_only_differ_in_case_are_refused(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    (outputs(project, experiment) / "model.tar.gz").unlink()
    with pytest.raises(UnsafeError, match="something else of that name"):
        fetching(project, experiment, tmp_path / "to", Named(project.s3, "Model.bin", "model.bin")).fetch(
            ("model",)
        )


def test_outputs_that_are_no_archive_come_as_files(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    whole = outputs(project, experiment)
    (whole / "model.tar.gz").unlink()
    (whole / "model/deep").mkdir(parents=True)
    (whole / "model/deep/weights.bin").write_bytes(b"weights")
    (whole / "model/empty").write_bytes(b"")
    fetching(project, experiment, tmp_path / "to").fetch(("model",))
    assert snapshot(tmp_path / "to/model") == {"deep": None, "deep/weights.bin": b"weights", "empty": b""}


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_job_without_compression_left_comes_as_files(
    cli: CommandLine, project: Project, *, packed: bool
) -> None:
    done = launch(cli, project, "--set", "ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", "true").json
    words = ("download", done["job_name"], "--s3-root", project.s3, "--archive", ARCHIVE, "--to", "to")
    for parts in (("--output",), ()):
        got = cli(*words, *parts, *(["--packed"] * packed))
        assert got.code == 0, got.err
    found = snapshot(project.folder / "to")
    assert found["output/curve.csv"] == b"1,2"
    assert found["model/model.txt"] == b"weights"
    names = {path.name for path in (project.folder / "to").iterdir()}
    assert names == {".experiment", "model", "output", "logs", "configs"}


def test_what_comes_file_by_file_is_not_fetched_while_it_may_still_come(
    cli: CommandLine, project: Project
) -> None:
    done = launch(cli, project, "--set", "ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", "true").json
    folder = local(project, done["experiment"])
    result = (folder / "result.json").rename(project.folder / "result.json")
    words = ("download", done["job_name"], "--s3-root", project.s3, "--archive", ARCHIVE, "--to", "to")
    for part, what in (("model", "model"), ("output", "output"), ("logs", "log")):
        refused = cli(*words, f"--{part}")
        assert refused.code == 6
        assert f"the {what} is not whole: the archive knows of no end of the job" in refused.err
    got = cli(*words, "--json")
    assert [one["part"] for one in got.json["parts"]] == ["configs"]
    assert "`wait` notes it; then run the same again" in got.err
    # Where nobody will ever know of an end, there is no more to come.
    (folder / "abandoned.json").write_text("{}")
    assert cli(*words, "--logs").code == 0
    (folder / "abandoned.json").unlink()
    result.rename(folder / "result.json")
    assert cli(*words).code == 0
    assert (project.folder / "to/model/model.txt").read_text() == "weights"


def test_the_place_of_the_outputs_is_the_sealed_request_s(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    result = project.s3 / "team" / experiment.key / "result.json"
    values = json.loads(result.read_text())
    values["artifacts"] = {"model": "s3://team/data/train/"}
    result.write_text(json.dumps(values))
    fetching(project, experiment, tmp_path / "to").fetch(("model",))
    assert set(snapshot(tmp_path / "to/model")) == {"weights.bin"}


def test_a_damaged_archive_leaves_nothing_that_looks_whole(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    model = outputs(project, experiment) / "model.tar.gz"
    model.write_bytes(model.read_bytes()[:-2000])
    with pytest.raises(IntegrityError, match="damaged"):
        fetching(project, experiment, tmp_path / "to").fetch(("model",))
    assert {path.name for path in (tmp_path / "to").iterdir()} == {".experiment", ".incomplete"}


@provokes(85)
def test_nothing_stays_of_an_archive_that_is_refused(
    project: Project, experiment: S3Uri, tmp_path: Path
) -> None:
    with tarfile.open(outputs(project, experiment) / "model.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"))
    folder = tmp_path / "to"
    with pytest.raises(UnsafeError) as refused:
        fetching(project, experiment, folder).fetch(("model",))
    assert "--packed" in refused.value.hint
    assert not folder.exists()
    # What has come of something else is still gone on with.
    fetching(project, experiment, folder).fetch(("configs",))
    (folder / ".incomplete").mkdir()
    (folder / ".incomplete/output-0123456789abcdef.tar.gz").write_bytes(b"half")
    with pytest.raises(UnsafeError):
        fetching(project, experiment, folder).fetch(("model",))
    assert {path.name for path in (folder / ".incomplete").iterdir()} == {"output-0123456789abcdef.tar.gz"}


def test_a_tampered_experiment_is_not_downloaded(
    cli: CommandLine, project: Project, experiment: S3Uri
) -> None:
    (project.s3 / "team" / experiment.key / "request.json").write_text("{}")
    done = cli("download", str(experiment), "--s3-root", project.s3, "--to", "to")
    assert (done.code, done.has_traceback) == (13, False)
    assert not (project.folder / "to").exists()


def test_ctrl_c_leaves_nothing_half_and_the_same_command_goes_on(
    cli: CommandLine, project: Project, experiment: S3Uri
) -> None:
    model = outputs(project, experiment) / "model.tar.gz"
    with tarfile.open(model, "w:gz", compresslevel=1) as tar:
        for number in range(150):
            info = tarfile.TarInfo(f"{number}.bin")
            info.size = 10**6
            tar.addfile(info, io.BytesIO(os.urandom(10**6)))
    words = ("download", str(experiment), "--s3-root", project.s3, "--to", "to", "--model")
    process = cli.start(*words)
    while not (project.folder / "to/.incomplete").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "what has come so far is in to\n" in err
    assert "run the same again" in err
    assert "Traceback" not in err
    assert not (project.folder / "to/model").exists()
    again = cli(*words)
    assert again.code == 0, again.err
    assert len(list((project.folder / "to/model").iterdir())) == 150
    with tarfile.open(model) as tar:
        content = tar.extractfile("149.bin")
        assert content is not None
        expected = hashlib.sha256(content.read()).digest()
    assert hashlib.sha256((project.folder / "to/model/149.bin").read_bytes()).digest() == expected
