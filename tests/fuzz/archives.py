"""An archive that somebody with write access to the bucket has prepared, in the hands of every command that reads it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from sagemaker_launcher import config
from sagemaker_launcher.archive.experiments import Archive, headline_of, seals
from sagemaker_launcher.archive.headline import Headline, key_of
from sagemaker_launcher.archive.manifest import (
    Author,
    GitState,
    Intent,
    Launch,
    Manifest,
    SourceState,
    to_bytes,
)
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.documents import read_document
from sagemaker_launcher.job import CONFIG_SHA256_VARIABLE
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.request import create_training_job_request
from sagemaker_launcher.result import Interruption, JobResult, Transition
from sagemaker_launcher.storage import FolderStorage
from tests.project import Project

from .screen import command
from .subject import Input, Random, Subject, random_for
from .tars import TARS, packed_model
from .texts import mutated, retold, spoiled, word

_ARCHIVE = "s3://team/experiments"
_DOCUMENTS = ("intent.json", "manifest.json", "request.json", "launch.json", "result.json")
_CONFIGS = ("sagemaker_config.yaml", "training_config.yaml")
_JOB, _NOW = "team-tiny-20260102-030405-abcdef", "2026-01-02T03:04:05+00:00"


def _make(random: Random) -> Input:
    objects = dict(_honest())
    for _ in range(random.choice((1, 1, 2, 3))):
        kind = random.random()
        if kind < 0.62:
            _change_document(random, objects)
        elif kind < 0.76:
            _change_any(random, objects)
        elif kind < 0.86:
            _change_headline(random, objects)
        elif kind < 0.93:
            _add(random, objects)
        else:
            objects[_path("outputs", "model.tar.gz")] = TARS.make(random)["model.tar.gz"]
    if random.random() < 0.85:
        _seal(objects)
    return objects


def _judge(pieces: Input, folder: Path) -> str:
    for name in os.listdir(folder):
        shutil.rmtree(folder / name)
    root = folder / "s3"
    for key, data in pieces.items():
        path = root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError:
            continue  # no folder can hold this key
    (root / "team").mkdir(parents=True, exist_ok=True)
    os.environ["SAGEMAKER_LAUNCHER_CACHE"] = str(folder / "cache")
    before = _files(root)
    codes = []
    for words in random_for(len(pieces[min(pieces)]) if pieces else 0, "".join(pieces), 0).sample(
        _commands(folder), 8
    ):
        code, out, _ = command(*words, "--s3-root", str(root))
        codes.append(code)
        if words[0] == "list" and "--archive" in words[:2]:
            assert out.count("\n") <= 1 + sum("/_index/" in path for path in pieces), (
                f"a line of its own: {out}"
            )
    assert {path: data for path, data in _files(root).items() if path in before} == before, (
        "an object was changed"
    )
    assert set(os.listdir(folder)) <= {"s3", "cache", "download"}, os.listdir(folder)
    for path in (folder / "download").rglob("*"):
        assert path.resolve().is_relative_to(folder / "download"), path
    refused = [code for code in codes if code not in {0, 10, 11, 12}]
    return "accepted" if not refused else f"exit codes {' '.join(map(str, sorted(set(refused))))}"


def _commands(folder: Path) -> tuple[tuple[str, ...], ...]:
    job = _folder().rpartition("/")[2]
    uri, archive = f"s3://{_folder()}", ("--archive", _ARCHIVE)
    return (
        ("list", *archive),
        ("list", "--sort", "loss", "--json", *archive),
        ("list", "--csv", *archive),
        ("show", job, "--all", *archive),
        ("show", uri, "--unverified", "--json"),
        ("diff", uri, f"s3://{_folder()}", "--unverified", "--all"),
        ("diff", uri, "@latest", "--unverified", *archive),
        ("verify", uri, "--deep"),
        ("rerun", uri, "--on", "process", "--dry-run", "--yes"),
        ("rerun", uri, "--on", "process", "--dry-run", "--resume", "--yes", "--json"),
        ("download", uri, "--to", str(folder / "download")),
        ("status", "@me", *archive),
        ("logs", job, *archive),
        ("doctor", "--repair", *archive),
        ("list", "--limit", "1000", *archive),
    )


def _change_document(random: Random, objects: Input) -> None:
    """Another value somewhere in a document, or in several of them alike."""
    path = _path("experiments", random.choice((*_DOCUMENTS, *_DOCUMENTS, *_CONFIGS)))
    if path.endswith(".yaml"):
        objects[path] = spoiled(random, objects.get(path, b""))
        return
    values = _json(objects.get(path, b"{}"))
    for _ in range(random.choice((1, 1, 3))):
        values = random.choice((mutated, retold, retold, retold))(random, values)
    objects[path] = _bytes(values)
    if path.endswith("intent.json") and random.random() < 0.7:
        objects[_index()] = objects[path]


def _change_any(random: Random, objects: Input) -> None:
    path = random.choice(sorted(objects))
    kind = random.randrange(5)
    if kind == 0:
        del objects[path]
    elif kind == 1:
        objects[path] = spoiled(random, objects[path])
    elif kind == 2:
        objects[path] = random.choice(
            (b"", b"{}", b"[]", b"null", b"[" * 5000, b'"\\ud800"', b"1" * 5000, b"\xff\xfe")
        )
    elif kind == 3:
        objects[path] = random.choice(objects[min(objects)].splitlines() or [b""])
    else:
        objects[path] = b" " * (5 * 2**20)


def _change_headline(random: Random, objects: Input) -> None:
    """Another headline in the key, the object, or both."""
    path = next((path for path in objects if "/_headlines/" in path), "")
    if not path:
        return
    values = retold(random, _json(objects.pop(path)))
    stem = path.rpartition("/_headlines/")[2].partition(".")[0]
    try:
        key = key_of(stem, read_document(Headline, values), 100)
    except (TypeError, ValueError, OverflowError):
        key = f"{stem}.1{random.choice(('', 'AAAA', '====', '-_-_', 'x' * 200))}"
    if random.random() < 0.2:
        key = spoiled(random, key.encode()).decode("latin-1").replace("\0", "")
    objects[f"{path.partition('/_headlines/')[0]}/_headlines/{key}"] = _bytes(values)


def _add(random: Random, objects: Input) -> None:
    """One more object, at a place that has a meaning or nearly has."""
    name = word(random).replace("\0", "").encode("utf-8", "replace").decode()[:80] or "x"
    places = (
        _path("experiments", f"logs/{name}"),
        _path("experiments", "not_started.json"),
        _path("experiments", "abandoned.json"),
        _path("experiments", name),
        _path("outputs", name),
        f"team/experiments/_index/{name}.json",
        f"{_index()[:-5]}-x.json",
        f"team/experiments/_headlines/{name}",
        f"team/experiments/_reruns/{_folder().rpartition('/')[2]}/{name}.json",
    )
    path = random.choice(places)
    if ".." in path.split("/") or "" in path.split("/") or path.endswith(("/.", "/")):
        path = path.replace("..", "x").replace("//", "/x/") + "x"
    objects[path] = random.choice((b"", b"{}", b"loss=1e308\n" * 3, b"a" * 30 + b"b\n", os.fsencode(name)))


def _seal(objects: Input) -> None:
    """Makes the manifest fit what it seals, as whoever changes one can change the other."""
    _tell_training_config(objects)
    path = _path("experiments", "manifest.json")
    manifest = _json(objects.get(path, b"{}"))
    if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict):
        for name in manifest["files"]:
            data = objects.get(_path("experiments", name))
            if data is not None:
                manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        objects[path] = _bytes(manifest)
    place = _path("experiments", "launch.json")
    launch = _json(objects.get(place, b"{}"))
    if isinstance(launch, dict) and "manifest_sha256" in launch and path in objects:
        objects[place] = _bytes({**launch, "manifest_sha256": hashlib.sha256(objects[path]).hexdigest()})


def _tell_training_config(objects: Input) -> None:
    """Makes the request tell the hash of the training config, where it tells one."""
    path, data = (
        _path("experiments", "request.json"),
        objects.get(_path("experiments", "training_config.yaml")),
    )
    request = _json(objects.get(path, b"{}"))
    variables = request.get("Environment") if isinstance(request, dict) else None
    if data is not None and isinstance(variables, dict) and CONFIG_SHA256_VARIABLE in variables:
        variables[CONFIG_SHA256_VARIABLE] = hashlib.sha256(data).hexdigest()
        objects[path] = _bytes(request)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return {}


def _bytes(values: Any) -> bytes:
    return json.dumps(values, ensure_ascii=True).encode()


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _folder() -> str:
    """The experiment's folder, without the scheme."""
    return next(path for path in _honest() if path.endswith("/intent.json")).rpartition("/")[0]


def _path(kind: str, name: str) -> str:
    if kind == "experiments":
        return f"{_folder()}/{name}"
    return f"team/outputs/{_folder().rpartition('/')[2]}/output/{name}"


def _index() -> str:
    return next(path for path in _honest() if "/_index/" in path)


@cache
def _honest() -> Input:
    """An archive with one experiment that has ended well, the same one in every process."""
    with tempfile.TemporaryDirectory(prefix="fuzz-honest-") as folder:
        project = Project.create(Path(folder, "project"))
        project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"})
        configs = config.load(project.config)
        job = configs.job(_JOB)
        storage = FolderStorage(project.s3)
        archive = Archive(storage, S3Uri.parse(_ARCHIVE))
        files = {
            "sagemaker_config.yaml": configs.sagemaker_yaml,
            "training_config.yaml": configs.training_yaml,
            "request.json": to_bytes(create_training_job_request(job)),
        }
        who = Author("root", "laptop", 4_194_303, "arn:aws:iam::123456789012:user/x")
        manifest = Manifest(
            *(
                job.name,
                job.experiment_name,
                "process",
                _NOW,
                who,
                ("launch", "x.yaml"),
                {"sagemaker": "2.257.7"},
            ),
            *(
                "123456789012",
                job.region,
                job.image.uri,
                "",
                seals(files),
                GitState("0" * 40, "main", dirty=True),
            ),
            *(SourceState("code", "1" * 64), ""),
            changed={"SOLVER.BASE_LR": "0.5"},
        )
        intent = Intent(job.name, job.experiment_name, "process", _NOW, who, sha256(files["request.json"]))
        place = archive.reserve(intent)
        sealed = archive.seal(place, files, manifest)
        archive.record_launch(
            place, Launch("arn:aws:sagemaker:us-east-1:1:training-job/x", _NOW, sealed.manifest_sha256)
        )
        model = S3Uri("team", f"outputs/{job.name}/output/model.tar.gz")
        result = JobResult(
            *("Completed", "Completed", "", 12, 13, {"model": str(model)}, {"loss": 0.25}, _NOW, _NOW),
            (Transition("Training", _NOW, _NOW, "in progress"),),
            0,
            (Interruption(_NOW, 1.5, 0.5),),
        )
        archive.record_result(place, result, headline_of(manifest, create_training_job_request(job), result))
        storage.create(place / "logs/algo-1-1.log", b"loss=0.5\nloss=0.25\n" + b"a" * 40 + b"b\n")
        storage.create(model, packed_model())
        return _files(project.s3)


ARCHIVES = Subject("archives", 2_000, 4.0, _make, _judge, sample=20)
