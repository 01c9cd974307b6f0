"""`rerun`: a teammate repeats an archived experiment, and what somebody changed in the archive is never launched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sagemaker_launcher.archive.manifest import to_bytes
from sagemaker_launcher.digest import sha256
from tests.commands import CommandLine, clean_environment
from tests.fault_rows import provokes
from tests.project import SCHEMA, Project
from tests.stand_in import ARCHIVE, document, launch, local, nothing_written, rehearse

CONFIGS = ("sagemaker_config.yaml", "training_config.yaml")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=me", "-c", "user.email=me@example.com", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
        (folder / ".gitignore").write_text("s3/\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a commit")
    return git(folder, "rev-parse", "HEAD")


@dataclass(frozen=True)
class Archived:
    """An experiment of the project."""

    uri: str
    job_name: str
    folder: Path


def archived(project: Project, *settings: tuple[str, str]) -> Archived:
    name = rehearse(project, *settings).request["TrainingJobName"]
    uri = f"{ARCHIVE}/team/tiny/{name}/"
    return Archived(uri, name, local(project, uri))


@pytest.fixture
def experiment(project: Project, monkeypatch: pytest.MonkeyPatch) -> Archived:
    monkeypatch.chdir(project.folder)
    return archived(project)


@pytest.fixture
def teammate(tmp_path: Path, project: Project) -> CommandLine:
    """Another user in an empty folder, who has the stand-in folder and nothing else of the project."""
    home = tmp_path / "teammate"
    (home / "desk").mkdir(parents=True)
    return CommandLine(home / "desk", clean_environment(home, SAGEMAKER_LAUNCHER_S3_ROOT=str(project.s3)))


def rerun(cli: CommandLine, *words: str | Path) -> Any:
    """The answer of a rerun that works."""
    done = cli("rerun", *words, "--json")
    assert done.code == 0, done.err + done.out
    return done.json


def refused(cli: CommandLine, project: Project, experiment: Archived, *words: str) -> dict[str, Any]:
    """The error of a rerun that must launch nothing."""
    with nothing_written(project.s3):
        done = cli("rerun", experiment.uri, "--s3-root", project.s3, "--json", *words)
    assert not done.has_traceback
    error: dict[str, Any] = done.json["error"]
    assert error["exit"] == done.code
    return error


# --- repeating ---


def test_a_rerun_has_the_same_configs_byte_for_byte_and_says_what_it_repeats(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    answer = rerun(cli, experiment.uri, "--s3-root", project.s3)
    again = local(project, answer["experiment"])
    assert again != experiment.folder
    for name in CONFIGS:
        assert (again / name).read_bytes() == (experiment.folder / name).read_bytes()
    assert answer["rerun_of"] == document(again, "manifest.json")["rerun_of"] == experiment.uri
    assert answer["differences"] == []
    assert answer["result"]["metrics"] == {"loss": 5e-06}
    first = document(experiment.folder, "request.json")
    expected = json.loads(json.dumps(first).replace(experiment.job_name, answer["job_name"]))
    assert answer["request"] == expected
    shown = cli("show", answer["experiment"], "--s3-root", project.s3)
    assert f"rerun of {experiment.uri}" in " ".join(shown.out.split())


def test_a_rerun_keeps_bytes_that_this_version_would_write_differently(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    for name in CONFIGS:
        forge(experiment, name, b"# by another version\n" + (experiment.folder / name).read_bytes())
    again = local(project, rerun(cli, experiment.uri, "--s3-root", project.s3)["experiment"])
    for name in CONFIGS:
        assert (again / name).read_bytes() == (experiment.folder / name).read_bytes()


def test_a_rerun_of_a_rerun_is_still_the_same(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    second = rerun(cli, experiment.uri, "--s3-root", project.s3)
    third = rerun(cli, second["job_name"], "--s3-root", project.s3, "--archive", ARCHIVE)
    assert third["rerun_of"] == second["experiment"]
    for name in CONFIGS:
        assert (local(project, third["experiment"]) / name).read_bytes() == (
            experiment.folder / name
        ).read_bytes()


def test_without_differences_that_is_said(cli: CommandLine, project: Project, experiment: Archived) -> None:
    done = cli("rerun", experiment.uri, "--s3-root", project.s3)
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == "nothing differs from the archived experiment"


def test_the_original_stays_as_it_is(cli: CommandLine, project: Project, experiment: Archived) -> None:
    with nothing_written(experiment.folder):
        rerun(cli, experiment.uri, "--s3-root", project.s3)


@pytest.mark.parametrize("how", ["option", "variable", "config"])
def test_a_job_name_is_enough_where_the_archive_is_known(
    cli: CommandLine, project: Project, experiment: Archived, how: str
) -> None:
    words = {"option": ["--archive", ARCHIVE], "variable": [], "config": ["--config", str(project.config)]}[
        how
    ]
    variables = {"SAGEMAKER_LAUNCHER_ARCHIVE": ARCHIVE} if how == "variable" else {}
    done = cli("rerun", experiment.job_name, "--s3-root", project.s3, "--json", *words, env=variables)
    assert done.code == 0, done.out
    assert done.json["rerun_of"] == experiment.uri


# --- teammates ---


def test_a_teammate_needs_the_uri_and_the_code(
    teammate: CommandLine, project: Project, experiment: Archived, tmp_path: Path
) -> None:
    code = shutil.copytree(project.folder / "code", tmp_path / "elsewhere" / "code")
    answer = rerun(teammate, experiment.uri, "--set", "SOURCE.DIR", code)
    assert answer["result"]["status"] == "Completed"
    again = local(project, answer["experiment"])
    for name in CONFIGS:
        assert (again / name).read_bytes() == (experiment.folder / name).read_bytes()
    assert answer["differences"] == []


def test_a_teammate_without_the_code_is_told_how_to_name_it(
    teammate: CommandLine, project: Project, experiment: Archived
) -> None:
    error = refused(teammate, project, experiment)
    assert (error["exit"], error["code"]) == (15, "no_source")
    assert "--set SOURCE.DIR" in error["hint"]


def test_in_a_clone_of_the_repository_the_code_is_found_by_itself(
    teammate: CommandLine, cli: CommandLine, project: Project
) -> None:
    commit(project.folder)
    first = launch(cli, project).json
    clone = teammate.folder / "clone"
    git(project.folder, "clone", "--quiet", str(project.folder), str(clone))
    for folder in (clone, clone / "code"):
        colleague = CommandLine(folder, teammate.environment)
        answer = rerun(colleague, first["experiment"])
        assert answer["differences"] == []
        manifest = document(local(project, answer["experiment"]), "manifest.json")
        assert manifest["git"]["commit"] == git(clone, "rev-parse", "HEAD")


def test_the_archived_config_can_be_launched_as_it_is(
    teammate: CommandLine, project: Project, experiment: Archived
) -> None:
    for name in CONFIGS:
        shutil.copy(experiment.folder / name, teammate.folder / name)
    words = (
        "launch",
        "sagemaker_config.yaml",
        "--on",
        "process",
        "--set",
        "SOURCE.DIR",
        str(project.folder / "code"),
    )
    done = teammate(*words, "--json")
    assert done.code == 0, done.out
    again = local(project, done.json["experiment"])
    for name in CONFIGS:
        assert (again / name).read_bytes() == (experiment.folder / name).read_bytes()
    assert "rerun_of" not in done.json


# --- what differs ---


def differences(answer: Any) -> set[tuple[str, str, str, str]]:
    return {
        tuple(difference[key] for key in ("area", "name", "before", "after"))
        for difference in answer["differences"]
    }


def test_overrides_are_shown_as_differences_and_change_only_their_file(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    words = ("--train", "SOLVER.BASE_LR", "0.25", "--train", "SEED", "3")
    answer = rerun(cli, experiment.uri, "--s3-root", project.s3, *words)
    assert differences(answer) == {
        ("training config", "SOLVER.BASE_LR", "0.5", "0.25"),
        ("training config", "SEED", "0", "3"),
    }
    again = local(project, answer["experiment"])
    assert (again / CONFIGS[0]).read_bytes() == (experiment.folder / CONFIGS[0]).read_bytes()
    assert yaml.safe_load((again / CONFIGS[1]).read_text())["SOLVER"]["BASE_LR"] == 0.25

    shown = cli(
        "rerun", experiment.uri, "--s3-root", project.s3, "--dry-run", "--set", "ESTIMATOR.VOLUME_SIZE", "50"
    )
    assert "sagemaker config  ESTIMATOR.VOLUME_SIZE: 30 -> 50\n" in shown.err


def test_another_image_is_a_difference(cli: CommandLine, project: Project, experiment: Archived) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tiny:2.0"
    answer = rerun(cli, experiment.uri, "--s3-root", project.s3, "--set", "ESTIMATOR.IMAGE_URI", image)
    (difference,) = differences(answer)
    assert difference == ("sagemaker config", "ESTIMATOR.IMAGE_URI", image.replace("2.0", "1.0"), image)


def test_changed_code_is_a_difference(cli: CommandLine, project: Project) -> None:
    before = commit(project.folder)
    first = launch(cli, project).json
    project.program("print('loss=1')")
    dirty = rerun(cli, first["experiment"], "--s3-root", project.s3)
    assert {(area, name) for area, name, *_ in differences(dirty)} == {("code", "commit"), ("code", "source")}
    assert ("code", "commit", before, f"{before} with uncommitted changes") in differences(dirty)
    after = commit(project.folder)
    clean = rerun(cli, first["experiment"], "--s3-root", project.s3)
    assert ("code", "commit", before, after) in differences(clean)
    assert clean["result"]["metrics"] == {"loss": 1.0}


def test_another_target_is_a_difference(cli: CommandLine, project: Project, experiment: Archived) -> None:
    answer = rerun(cli, experiment.uri, "--s3-root", project.s3, "--on", "aws", "--dry-run")
    assert differences(answer) == {("target", "target", "process", "aws")}


def test_other_versions_are_a_difference(cli: CommandLine, project: Project, experiment: Archived) -> None:
    change_manifest(experiment, versions={"launcher": "0.0.1", "python": "2.7", "gone": "1"})
    found = differences(rerun(cli, experiment.uri, "--s3-root", project.s3, "--dry-run"))
    assert {("versions", "gone", "1", "nothing")} < found
    assert {name for area, name, *_ in found if area == "versions"} >= {"launcher", "python", "gone", "boto3"}


def test_wrong_overrides_are_told_all_at_once(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    error = refused(
        cli,
        project,
        experiment,
        "--set",
        "ESTIMATOR.VOLUME_SIZ",
        "5",
        "--train",
        "SEED",
        "x",
        "--train",
        "NO.SUCH",
        "1",
    )
    assert error["exit"] == 3
    for text in ("ESTIMATOR.VOLUME_SIZE", "SEED", "NO.SUCH"):
        assert text in error["message"]


# --- the rules of the training code ---

RULE = """

def problems(cfg):
    if cfg.SOLVER.EPOCHS < 1:
        yield f"SOLVER.EPOCHS: expected at least 1, got {cfg.SOLVER.EPOCHS}"
    if cfg.SEED < LEAST_SEED:
        yield f"SEED: expected at least {LEAST_SEED}, got {cfg.SEED}"

LEAST_SEED = 0
"""
NO_EPOCHS = ("--train", "SOLVER.EPOCHS", "0")
ON_AWS = ("--on", "aws", "--dry-run", "--offline")


def schema_of(project: Project) -> Path:
    return project.folder / "code" / "config.py"


@pytest.mark.parametrize("words", [(), ON_AWS])
def test_the_rules_of_the_code_are_asked_about_overrides(
    cli: CommandLine, project: Project, experiment: Archived, words: tuple[str, ...]
) -> None:
    schema_of(project).write_text(SCHEMA + RULE)
    error = refused(cli, project, experiment, *NO_EPOCHS, *words)
    assert (error["exit"], error["code"]) == (3, "config_invalid")
    assert error["message"] == "--train SOLVER.EPOCHS: expected at least 1, got 0"


def test_a_value_that_the_codes_defaults_do_not_take_is_told_even_where_the_archive_would(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    schema_of(project).write_text(SCHEMA)
    changed_settings(experiment, "SOLVER", name=CONFIGS[1], STEPS=[])
    error = refused(cli, project, experiment, "--train", "SOLVER.STEPS", "[a]")
    assert "SOLVER.STEPS[0]: wrong type; expected a whole number, got a" in error["message"]


OPEN_DEFAULTS = """
_C.LR = 0.1
_C.LAYERS = []
_C.WIDTH = None
_C.EXTRA = CN(new_allowed=True)
_C.EXTRA.a = 1
_C.EMPTY = CN(new_allowed=True)


def get"""


def test_what_a_launch_takes_for_a_key_a_rerun_takes_too_and_nothing_else_of_the_code_enters(
    cli: CommandLine, project: Project
) -> None:
    schema_of(project).write_text(SCHEMA.replace("\n\ndef get", OPEN_DEFAULTS))
    first = launch(cli, project, "--train", "WIDTH", "5", "--train", "LAYERS", "[64]").json["experiment"]
    # The code has gone on since.
    later = OPEN_DEFAULTS.replace("EXTRA.a = 1", "EXTRA.b = 2").replace("_C.LR", "_C.NEW = 1\n_C.LR")
    schema_of(project).write_text(SCHEMA.replace("\n\ndef get", later))
    words = ("WIDTH", "null"), ("LAYERS", "[a]"), ("EXTRA.c", "2"), ("EMPTY.x", "1"), ("LR", "1")
    train = [word for pair in words for word in ("--train", *pair)]
    again = rerun(cli, first, "--s3-root", project.s3, *train)
    before, after = (
        yaml.safe_load((local(project, uri) / CONFIGS[1]).read_text()) for uri in (first, again["experiment"])
    )
    changes = {"WIDTH": None, "LAYERS": ["a"], "EXTRA": {"a": 1, "c": 2}, "EMPTY": {"x": 1}, "LR": 1.0}
    assert after == {**before, **changes}
    error = cli("rerun", first, "--s3-root", project.s3, "--json", "--train", "LR", "fast").json["error"]
    assert error["message"] == "--train LR: wrong type; expected a number, got fast"


def test_values_that_do_not_fit_the_code_are_their_own_measure(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    schema_of(project).write_text(SCHEMA.replace('_C.NAME = "plain"', "_C.NAME = 7"))
    again = rerun(cli, experiment.uri, "--s3-root", project.s3, "--train", "NAME", "other")
    assert yaml.safe_load((local(project, again["experiment"]) / CONFIGS[1]).read_text())["NAME"] == "other"


def test_the_rules_of_another_source_folder_are_asked_where_the_user_names_it(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    other = project.folder / "other"
    shutil.copytree(project.folder / "code", other)
    (other / "config.py").write_text(SCHEMA + RULE)
    error = refused(cli, project, experiment, *NO_EPOCHS, "--set", "SOURCE.DIR", str(other))
    assert error["exit"] == 3


def test_code_that_a_user_leaves_out_is_left_out(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    schema_of(project).write_text(SCHEMA + RULE)
    error = refused(cli, project, experiment, *NO_EPOCHS, "--set", "SOURCE.DIR", "")
    assert (error["exit"], error["code"]) == (15, "no_source")


def test_without_an_override_of_the_training_config_no_rules_are_asked(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    schema_of(project).write_text("raise SystemExit\n")
    done = cli(
        "rerun", experiment.uri, "--s3-root", project.s3, "--set", "ESTIMATOR.MAX_RUN", "60", "--dry-run"
    )
    assert (done.code, "config.py" in done.err) == (0, False)


def test_without_the_code_no_rules_are_asked(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    shutil.rmtree(project.folder / "code")
    done = cli("rerun", experiment.uri, "--s3-root", project.s3, *NO_EPOCHS, *ON_AWS)
    assert done.code == 0, done.err
    assert "rules" not in done.err


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (SCHEMA.replace("_C.SEED = 0\n", "") + RULE, "SEED: unknown key"),
        (SCHEMA.replace("EPOCHS = 2", "EPOCHS = 'two'") + RULE, ""),
        (SCHEMA.replace("SEED = 0", "SEED = 'x'").replace("BASE_LR = 0.1", "BASE_LR = 1") + RULE, "BASE_LR"),
        ("import no_such_module\n", "ModuleNotFoundError"),
    ],
)
def test_code_that_is_of_another_time_than_the_config_is_not_asked_and_that_is_told(
    cli: CommandLine, project: Project, experiment: Archived, schema: str, why: str
) -> None:
    schema_of(project).write_text(schema)
    done = cli("rerun", experiment.uri, "--s3-root", project.s3, *NO_EPOCHS, "--dry-run")
    assert done.code == 0, done.err
    if why:
        assert f"the training code's own rules were not asked about --train, since {schema_of(project)}" in (
            done.err.replace("\n", " ")
        )
        assert why in done.err


def test_what_the_archived_config_has_already_is_no_fault_of_an_override(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    schema_of(project).write_text(SCHEMA + RULE.replace("LEAST_SEED = 0", "LEAST_SEED = 1"))
    words = ("rerun", experiment.uri, "--s3-root", project.s3, "--dry-run")
    assert cli(*words, "--train", "SOLVER.EPOCHS", "3").code == 0
    error = refused(cli, project, experiment, *NO_EPOCHS)
    assert error["message"] == "--train SOLVER.EPOCHS: expected at least 1, got 0"


# --- what somebody changed ---


def change_manifest(experiment: Archived, **values: Any) -> None:
    """Replaces the manifest, and its hash in launch.json: all that a writer of the bucket can do."""
    path = experiment.folder / "manifest.json"
    path.write_text(json.dumps({**document(experiment.folder, "manifest.json"), **values}))
    started = document(experiment.folder, "launch.json")
    started["manifest_sha256"] = sha256(path.read_bytes())
    (experiment.folder / "launch.json").write_text(json.dumps(started))


def forge(experiment: Archived, name: str, data: bytes) -> None:
    """Replaces a file and seals it anew; of a training config, the request tells the hash, too."""
    if name == "training_config.yaml":
        request = document(experiment.folder, "request.json")
        request["Environment"]["TRAINING_CONFIG_SHA256"] = sha256(data)
        forge(experiment, "request.json", to_bytes(request))
    (experiment.folder / name).write_bytes(data)
    files = document(experiment.folder, "manifest.json")["files"]
    files[name] = {"sha256": sha256(data), "size": len(data)}
    change_manifest(experiment, files=files)


def tampered(experiment: Archived) -> None:
    path = experiment.folder / "training_config.yaml"
    path.write_text(path.read_text().replace("BASE_LR: 0.5", "BASE_LR: 5.0"))


def deleted(experiment: Archived) -> None:
    (experiment.folder / "request.json").unlink()


def replaced(experiment: Archived) -> None:
    path = experiment.folder / "manifest.json"
    path.write_text(path.read_text().replace('"region": "us-east-1"', '"region": "eu-west-1"'))


def added(experiment: Archived) -> None:
    files = document(experiment.folder, "manifest.json")["files"]
    change_manifest(experiment, files={**files, "../../../../.bashrc": {"sha256": "0" * 64, "size": 1}})


def grown(experiment: Archived) -> None:
    (experiment.folder / "sagemaker_config.yaml").write_bytes(b"x: 1\n" * 2_000_000)


@provokes(76, 77, 78)
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (tampered, "training_config.yaml was changed"),
        (deleted, "request.json was deleted"),
        (replaced, "manifest.json was changed"),
        (added, ".bashrc is sealed, but no such file belongs to an experiment"),
        (grown, "is larger than"),
    ],
)
def test_what_is_not_what_was_sealed_is_not_launched(
    cli: CommandLine, project: Project, experiment: Archived, spoil: Callable[[Archived], None], words: str
) -> None:
    spoil(experiment)
    error = refused(cli, project, experiment)
    assert error["exit"] == 13
    assert words in error["message"]
    shown = cli("show", experiment.uri, "--s3-root", project.s3)
    assert (shown.code, shown.has_traceback) == (13, False)


def test_an_experiment_that_was_never_sealed_is_not_launched(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    (experiment.folder / "manifest.json").unlink()
    error = refused(cli, project, experiment)
    assert (error["exit"], error["code"]) == (6, "experiment_interrupted")


SENTINEL = "executed"


@provokes(79)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("sagemaker_config.yaml", b"VERSION: !!python/object/apply:os.system ['touch executed']\n"),
        ("training_config.yaml", b"SEED: !!python/object/apply:os.system ['touch executed']\n"),
        ("training_config.yaml", b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
        ("sagemaker_config.yaml", b"VERSION: 1\nVERSION: 1\n"),
        ("training_config.yaml", b"x: " + b"[" * 5000),
        ("training_config.yaml", b"".join(b"key_%d: 1\n" % number for number in range(150_000))),
        ("training_config.yaml", b"\xff\xfe\x00"),
        ("sagemaker_config.yaml", b""),
        ("training_config.yaml", b"- a list\n"),
        ("sagemaker_config.yaml", b"VERSION: 99\n"),
    ],
)
def test_an_archived_config_is_read_as_strictly_as_a_users_own(
    cli: CommandLine, project: Project, experiment: Archived, name: str, data: bytes
) -> None:
    forge(experiment, name, data)
    error = refused(cli, project, experiment)
    assert error["exit"] == 3
    assert f"{experiment.uri}{name}" in error["message"]
    assert not (cli.folder / SENTINEL).exists()


@provokes(84)
def test_an_archive_has_no_hooks(cli: CommandLine, project: Project, experiment: Archived) -> None:
    hooks = b"HOOKS: {BEFORE: touch executed}\nLOCAL: {COMMAND: touch executed}\n"
    before = {name: (experiment.folder / name).read_bytes() for name in CONFIGS}
    forge(experiment, CONFIGS[0], before[CONFIGS[0]] + hooks)
    error = refused(cli, project, experiment)
    assert error["exit"] == 3
    for key in ("HOOKS", "LOCAL"):
        assert re.search(rf"{CONFIGS[0]}:\d+:1: {key}: unknown key", error["message"])
    forge(experiment, CONFIGS[0], before[CONFIGS[0]])
    forge(experiment, CONFIGS[1], before[CONFIGS[1]] + hooks)
    rerun(
        cli, experiment.uri, "--s3-root", project.s3
    )  # to the training code these are values like any other
    assert not (cli.folder / SENTINEL).exists()


@pytest.mark.parametrize(
    "path", ["../outside", "code/../../outside", "{outside}", "/", "..", "~", "co\0de", "x" * 5000, "\ud800"]
)
def test_the_archive_cannot_choose_code_outside_the_checkout(
    cli: CommandLine, project: Project, experiment: Archived, path: str
) -> None:
    outside = project.folder.parent / "outside"
    shutil.copytree(project.folder / "code", outside)
    (outside / "main.py").write_text("print('outside')\n")
    change_manifest(experiment, source={"path": path.format(outside=outside), "sha256": "0" * 64})
    error = refused(cli, project, experiment)
    assert (error["exit"], error["code"]) == (15, "no_source")


def test_a_link_out_of_the_checkout_is_not_followed(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    outside = project.folder.parent / "outside"
    shutil.copytree(project.folder / "code", outside)
    (project.folder / "link").symlink_to(outside)
    change_manifest(experiment, source={"path": "link", "sha256": "0" * 64})
    assert refused(cli, project, experiment)["code"] == "no_source"


def changed_settings(experiment: Archived, section: str, *, name: str = CONFIGS[0], **values: Any) -> None:
    path = experiment.folder / name
    values_before = yaml.safe_load(path.read_text())
    values_before[section].update(values)
    forge(experiment, path.name, yaml.safe_dump(values_before, sort_keys=False).encode())


@pytest.mark.parametrize("entry_point", ["../outside.py", "/etc/passwd", "-c", "sub/../../outside.py"])
def test_the_archive_cannot_choose_a_program_outside_the_code(
    cli: CommandLine, project: Project, experiment: Archived, entry_point: str
) -> None:
    (project.folder / "outside.py").write_text("print('outside')\n")
    changed_settings(experiment, "SOURCE", ENTRY_POINT=entry_point)
    error = refused(cli, project, experiment)
    assert error["code"] in {"config_invalid", "no_source"}
    assert "ENTRY_POINT" in error["message"] + error["hint"]


@provokes(83)
def test_the_archive_cannot_set_dangerous_variables(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    changed_settings(experiment, "ESTIMATOR", ENVIRONMENT={"LD_PRELOAD": "/tmp/x.so"})
    error = refused(cli, project, experiment)
    assert (error["exit"], error["code"]) == (14, "dangerous_environment")


def test_the_archives_word_for_the_source_folder_does_not_count(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    outside = project.folder.parent / "outside"
    shutil.copytree(project.folder / "code", outside)
    (outside / "main.py").write_text("print('loss=666')\n")
    changed_settings(experiment, "SOURCE", DIR=str(outside))
    for words in ((), ("--set", "SOURCE.ENTRY_POINT", "main.py")):
        answer = rerun(cli, experiment.uri, "--s3-root", project.s3, *words)
        assert answer["result"]["metrics"] == {"loss": 5e-06}


def test_a_target_that_this_version_does_not_know_is_not_guessed(
    cli: CommandLine, project: Project, experiment: Archived
) -> None:
    change_manifest(experiment, target="moon")
    error = refused(cli, project, experiment)
    assert error["exit"] == 2
    assert "moon" in error["message"]
    assert rerun(cli, experiment.uri, "--s3-root", project.s3, "--on", "process")["target"] == "process"
