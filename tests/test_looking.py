"""`show` on one screen, `diff`, `verify`, and reruns on purpose: from other places, from checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.archive.curves import ASCII, BLOCKS, courses, drawn
from sagemaker_launcher.digest import sha256
from tests.commands import CommandLine, Finished
from tests.fault_rows import provokes
from tests.project import Project
from tests.stand_in import ARCHIVE, document, launch, local

CHECKPOINTS = ("--set", "S3.CHECKPOINTS", "s3://team/checkpoints")
COUNTING = """\
import os, pathlib
folder = pathlib.Path("/opt/ml/checkpoints")
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
folder = base / "checkpoints" if not folder.is_dir() else folder
state = folder / "epoch"
epoch = int(state.read_text()) + 1 if state.exists() else 1
state.write_text(str(epoch))
print(f"loss={epoch}.5")
"""


def place(project: Project) -> tuple[str | Path, ...]:
    return ("--s3-root", project.s3, "--archive", ARCHIVE)


def ran(done: Finished) -> Any:
    assert done.code == 0, done.err
    return done.json


# --- show ---


def test_one_screen_says_what_it_was_how_it_went_and_how_to_repeat_it(
    cli: CommandLine, project: Project
) -> None:
    first = ran(launch(cli, project, "--train", "SEED", "7"))
    again = ran(cli("rerun", first["job_name"], *place(project), "--json"))
    shown = cli("show", first["job_name"], *place(project))
    assert shown.code == 0, shown.err
    rows = [line.split(None, 1) for line in shown.out.splitlines()]
    words = " ".join(shown.out.split())
    assert ["status", "Completed"] in rows
    assert "training config SEED: 7 SOLVER.BASE_LR: 0.5 sagemaker config" in words
    assert "ESTIMATOR.INSTANCE_TYPE: ml.m5.large" in words
    assert "DISTRIBUTION" not in words
    assert "data training: s3://team/data/train/" in words
    assert "time line Starting 0 s > Downloading" in words
    assert "curve loss 1e-05 █▁ 5e-06" in words
    assert f"rerun by {again['job_name']}" in words
    assert f"rerun of {first['experiment']}" in " ".join(cli("show", "@latest", *place(project)).out.split())
    assert len(shown.out.splitlines()) < 50


@provokes(97)
def test_a_terminal_without_unicode_gets_a_curve_in_ascii(cli: CommandLine, project: Project) -> None:
    launch(cli, project)
    shown = cli("show", "@latest", *place(project), env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert "loss  1e-05 @_ 5e-06" in shown.out


@provokes(76)
def test_what_was_tampered_with_is_only_shown_on_purpose(cli: CommandLine, project: Project) -> None:
    done = ran(launch(cli, project))
    (local(project, done["experiment"]) / "training_config.yaml").write_text("SEED: 666\n")
    for words in (
        ("show", done["job_name"]),
        ("diff", done["job_name"], "@latest"),
        ("rerun", done["job_name"]),
    ):
        refused = cli(*words, *place(project))
        assert (refused.code, refused.has_traceback) == (13, False), words
    for words in (("show", done["job_name"], "--all"), ("diff", done["job_name"], "@latest")):
        shown = cli(*words, *place(project), "--unverified")
        assert shown.code == 0, shown.err
        assert "training_config.yaml was changed" in shown.err
    for name in ("request.json", "sagemaker_config.yaml", "training_config.yaml"):
        (local(project, done["experiment"]) / name).unlink()
        for words in (("show", done["job_name"], "--all"), ("diff", done["job_name"], "@latest")):
            shown = cli(*words, *place(project), "--unverified")
            assert (shown.code, f"{name} was deleted" in shown.err) == (0, True), shown.err


def test_what_the_readme_says_of_what_is_refused(cli: CommandLine, project: Project) -> None:
    done = ran(launch(cli, project))
    folder, job = local(project, done["experiment"]), done["job_name"]

    def codes(*commands: tuple[str, ...]) -> list[int]:
        return [cli(*words, *place(project)).code for words in commands]

    result = document(folder, "result.json")
    (folder / "result.json").write_text(json.dumps({**result, "training_seconds": 999}))
    assert codes(("show", job), ("rerun", job, "--dry-run"), ("verify", job)) == [0, 0, 13]
    (folder / "result.json").write_text(json.dumps(result))
    manifest = document(folder, "manifest.json")
    (folder / "manifest.json").write_text(json.dumps({**manifest, "command": ["another"]}))
    refusing = [("show", job), ("diff", job, job), ("status", job), ("download", job), ("verify", job)]
    assert codes(*refusing) == [13] * len(refusing)
    assert codes(("show", job, "--unverified"), ("logs", job), ("list",)) == [0, 0, 0]
    (folder / "result.json").write_bytes(b"\xff")
    assert codes(("show", job, "--unverified"), ("logs", job), ("list",)) == [13, 0, 0]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=200))
@settings(deadline=None, max_examples=100)
def test_any_values_are_drawn_in_one_line(values: list[float]) -> None:
    for levels in (BLOCKS, ASCII):
        line = drawn(values, levels)
        assert len(line) <= 40
        assert set(line) <= set(levels)
        assert bool(line) == (len(values) > 1)


def test_a_curve_rises_and_falls_with_its_values() -> None:
    assert drawn([0, 1, 2, 3, 4, 5, 6, 7], BLOCKS) == BLOCKS
    assert drawn([1.7e308, -1.7e308], BLOCKS) == "█▁"
    assert drawn([3, 3], BLOCKS) == "▁▁"


def test_expressions_that_do_not_compile_have_no_courses() -> None:
    request = {"AlgorithmSpecification": {"MetricDefinitions": [{"Name": "loss", "Regex": "("}]}}
    assert courses(request, ["loss=1"]) == {}
    assert courses({}, ["loss=1"]) == {}


# --- diff ---


def test_only_what_differs_is_told(cli: CommandLine, project: Project) -> None:
    first = ran(launch(cli, project))
    second = ran(launch(cli, project, "--train", "SEED", "7", "--set", "ESTIMATOR.INSTANCE_COUNT", "1"))
    third = ran(
        launch(cli, project, "--set", "ESTIMATOR.VOLUME_SIZE", "50", "--set", "EXPERIMENT_NAME", "other")
    )
    pair = [first["job_name"], second["job_name"]]
    told = ran(cli("diff", *pair, *place(project), "--json"))
    assert told["experiments"] == [first["experiment"], second["experiment"]]
    assert told["differences"] == [{"area": "training config", "name": "SEED", "before": "0", "after": "7"}]
    assert cli("diff", *pair, *place(project)).out.split() == ["training", "config", "SEED:", "0", "->", "7"]
    told = ran(cli("diff", first["job_name"], third["job_name"], *place(project), "--json"))
    assert {(one["area"], one["name"]) for one in told["differences"]} == {
        ("sagemaker config", "ESTIMATOR.VOLUME_SIZE"),
        ("sagemaker config", "EXPERIMENT_NAME"),
        ("request", "ResourceConfig.VolumeSizeInGB"),
        ("request", "InputDataConfig.config.DataSource.S3DataSource.S3Uri"),
    }


def test_code_and_metrics_are_compared(cli: CommandLine, project: Project) -> None:
    launch(cli, project)
    project.program("print('loss=0.25')\n")
    launch(cli, project)
    names = [one["job_name"] for one in ran(cli("list", *place(project), "--json"))["experiments"]]
    told = ran(cli("diff", names[1], names[0], *place(project), "--json"))["differences"]
    areas = {(one["area"], one["name"]): (one["before"], one["after"]) for one in told}
    assert areas["metrics", "loss"] in {("5e-06", "0.25"), ("0.25", "5e-06")}
    assert ("code", "source") in areas


def test_equal_experiments_differ_only_in_what_always_differs(cli: CommandLine, project: Project) -> None:
    first = ran(launch(cli, project))
    second = ran(cli("rerun", first["job_name"], *place(project), "--json"))
    pair = (first["job_name"], second["job_name"])
    assert cli("diff", *pair, *place(project)).out == "they do not differ\n"
    names = {
        one["name"] for one in ran(cli("diff", *pair, *place(project), "--all", "--json"))["differences"]
    }
    assert names == {"job", "created", "command"}


def test_the_exit_code_tells_only_when_asked(cli: CommandLine, project: Project) -> None:
    first, second = (ran(launch(cli, project, "--train", "SEED", seed))["job_name"] for seed in ("1", "2"))
    assert cli("diff", first, second, *place(project)).code == 0
    assert cli("diff", first, second, *place(project), "--exit-code").code == 1
    assert cli("diff", first, first, *place(project), "--exit-code").code == 0
    missing = cli("diff", first, "nothing-here", *place(project), "--exit-code")
    assert (missing.code, missing.has_traceback) == (6, False)


# --- verify ---


def test_what_is_as_it_was_is_verified(cli: CommandLine, project: Project) -> None:
    launch(cli, project)
    checks = ran(cli("verify", "@latest", *place(project), "--deep", "--json"))["checks"]
    assert {(one["group"], one["name"], one["verdict"]) for one in checks} == {
        *(("archive", name, "ok") for name in ("seal", "intent", "index", "headline")),
        *(("elsewhere", name, "ok") for name in ("model", "output")),
    }


@provokes(76, 77)
@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("training_config.yaml", "seal"),
        ("manifest.json", "seal"),
        ("intent.json", "intent"),
        ("result.json", "headline"),
    ],
)
def test_what_was_changed_is_found(cli: CommandLine, project: Project, name: str, check: str) -> None:
    done = ran(launch(cli, project))
    path = local(project, done["experiment"]) / name
    if name == "training_config.yaml":
        path.write_text("SEED: 666\n")
    else:
        changes: dict[str, dict[str, Any]] = {
            "manifest.json": {"created_at": "yesterday"},
            "intent.json": {"request_sha256": "0" * 64},
            "result.json": {"metrics": {"loss": 0.0}},
        }
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes[name]}))
    verified = cli("verify", done["job_name"], *place(project), "--json")
    assert (verified.code, verified.has_traceback) == (13, False)
    assert check in {one["name"] for one in verified.json["checks"] if one["verdict"] == "failed"}


@provokes(78)
@pytest.mark.parametrize(
    ("name", "check"),
    [("training_config.yaml", "seal"), ("intent.json", "intent"), ("result.json", "result")],
)
def test_what_was_deleted_is_found(cli: CommandLine, project: Project, name: str, check: str) -> None:
    done = ran(launch(cli, project))
    (local(project, done["experiment"]) / name).unlink()
    verified = cli("verify", done["job_name"], *place(project), "--json")
    assert (verified.code, verified.has_traceback) == (13, False)
    [failed] = [one for one in verified.json["checks"] if one["verdict"] == "failed"]
    assert failed["name"] == check
    assert f"{name} was deleted" in failed["message"]


@provokes(77)
def test_a_manifest_whose_start_is_not_recorded_is_doubted(cli: CommandLine, project: Project) -> None:
    done = ran(launch(cli, project))
    folder = local(project, done["experiment"])
    (folder / "launch.json").unlink()  # as after a launcher that was killed just then
    checks = ran(cli("verify", done["job_name"], *place(project), "--json"))["checks"]
    [doubted] = [one for one in checks if one["verdict"] != "ok"]
    assert (doubted["name"], doubted["verdict"]) == ("launch", "warning")

    data = b"SEED: 666\n"
    (folder / "training_config.yaml").write_bytes(data)
    manifest = document(folder, "manifest.json")
    manifest["files"]["training_config.yaml"] = {"sha256": sha256(data), "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for words in (("verify",), ("rerun", "--dry-run"), ("show",), ("download",)):
        refused = cli(*words, done["job_name"], *place(project))
        assert (refused.code, refused.has_traceback) == (13, False), words
        assert "training_config.yaml is not the one that request.json names" in refused.out + refused.err


def test_an_experiment_that_has_not_ended_is_verified_without_a_result(
    cli: CommandLine, project: Project
) -> None:
    done = ran(launch(cli, project))
    folder = local(project, done["experiment"])
    (folder / "result.json").unlink()
    for headline in (project.s3 / "team/experiments/_headlines").rglob("*"):
        if headline.is_file():
            headline.unlink()
    checks = ran(cli("verify", done["job_name"], *place(project), "--json"))["checks"]
    assert {one["name"] for one in checks} == {"seal", "intent", "index", "result"}
    assert {one["verdict"] for one in checks} == {"ok"}


def test_outputs_that_are_gone_are_a_warning_of_the_deep_look_alone(
    cli: CommandLine, project: Project
) -> None:
    done = ran(launch(cli, project))
    local(project, done["result"]["artifacts"]["model"]).unlink()
    for words, verdicts in (((), {"ok"}), (("--deep",), {"ok", "warning"})):
        checks = ran(cli("verify", done["job_name"], *place(project), *words, "--json"))["checks"]
        assert {one["verdict"] for one in checks} == verdicts


def test_an_object_with_a_longer_name_is_not_taken_for_the_model(cli: CommandLine, project: Project) -> None:
    done = ran(launch(cli, project))
    model = local(project, done["result"]["artifacts"]["model"])
    model.rename(model.with_name("model.tar.gz.bak"))
    checks = ran(cli("verify", done["job_name"], *place(project), "--deep", "--json"))["checks"]
    assert {one["name"]: one["verdict"] for one in checks if one["group"] == "elsewhere"} == {
        "model": "warning",
        "output": "ok",
    }


@pytest.mark.parametrize("slash", ["/", ""])
def test_loose_outputs_are_verified_by_their_folder(cli: CommandLine, project: Project, slash: str) -> None:
    done = ran(launch(cli, project, "--set", "ESTIMATOR.DISABLE_OUTPUT_COMPRESSION", "true"))
    result = local(project, done["experiment"]) / "result.json"
    values = json.loads(result.read_text())
    assert values["artifacts"]["model"].endswith("/output/model/")
    values["artifacts"]["model"] = values["artifacts"]["model"].removesuffix("/") + slash
    result.write_text(json.dumps(values))
    # A sibling that comes first in a listing is something else.
    (local(project, values["artifacts"]["model"]).parent / "model-old").write_text("x")

    def verdict() -> str:
        checks = ran(cli("verify", done["job_name"], *place(project), "--deep", "--json"))["checks"]
        [found] = [one["verdict"] for one in checks if one["name"] == "model"]
        return str(found)

    assert verdict() == "ok"
    shutil.rmtree(local(project, values["artifacts"]["model"]))
    assert verdict() == "warning"


# --- rerun ---


def test_a_rerun_goes_on_from_checkpoints_on_purpose_only(cli: CommandLine, project: Project) -> None:
    project.program(COUNTING)
    first = ran(launch(cli, project, *CHECKPOINTS))
    name = first["job_name"]
    fresh = ran(cli("rerun", name, *place(project), "--json"))
    assert fresh["result"]["metrics"] == {"loss": 1.5}
    resumed = ran(cli("rerun", name, "--resume", *place(project), "--json"))
    assert resumed["result"]["metrics"] == {"loss": 2.5}
    uri = f"s3://team/checkpoints/{name}/"
    assert resumed["request"]["CheckpointConfig"]["S3Uri"] == uri
    assert {"area": "checkpoints", "name": "goes on from", "before": "nothing", "after": uri} in resumed[
        "differences"
    ]
    assert document(local(project, resumed["experiment"]), "request.json") == resumed["request"]


def test_without_checkpoints_there_is_nothing_to_go_on_from(cli: CommandLine, project: Project) -> None:
    name = ran(launch(cli, project))["job_name"]
    refused = cli("rerun", name, "--resume", *place(project), "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "usage")


def test_a_job_that_may_still_run_is_not_joined(cli: CommandLine, project: Project) -> None:
    project.program(COUNTING)
    done = ran(launch(cli, project, *CHECKPOINTS))
    (local(project, done["experiment"]) / "result.json").unlink()
    refused = cli("rerun", done["job_name"], "--resume", *place(project), "--json")
    assert (refused.code, refused.json["error"]["code"]) == (14, "may_still_run")
    assert cli("rerun", done["job_name"], "--resume", "--yes", *place(project)).code == 0


def resume(cli: CommandLine, project: Project, name: str, *words: str) -> Finished:
    return cli("rerun", name, "--resume", *words, *place(project), "--json")


def lose(project: Project, answer: Any, *names: str) -> None:
    """Takes the result of an experiment away, and further files of it, as if its launcher had been killed before."""
    for name in ("result.json", *names):
        (local(project, answer["experiment"]) / name).unlink()
    stem = "*" + answer["job_name"]
    for headline in (local(project, ARCHIVE) / "_headlines").glob(f"{stem}.*"):
        headline.unlink() if headline.is_file() else shutil.rmtree(headline)


def starts(answer: Any) -> list[tuple[str, str]]:
    """The differences in what a job goes on from."""
    return [(one["before"], one["after"]) for one in answer["differences"] if one["area"] == "checkpoints"]


def test_two_jobs_do_not_go_on_from_the_same_checkpoints_at_once(cli: CommandLine, project: Project) -> None:
    project.program(COUNTING)
    first = ran(launch(cli, project, *CHECKPOINTS))
    project.program("import time\nprint('running', flush=True)\ntime.sleep(60)\n")
    running = cli.start("rerun", first["job_name"], "--resume", *place(project))
    assert running.stderr is not None
    next(line for line in running.stderr if line == "algo-1 | running\n")
    try:
        refused = resume(cli, project, first["job_name"])
    finally:
        running.terminate()
        running.communicate()
    [name] = ran(cli("show", first["job_name"], *place(project), "--json"))["reruns"]
    error = refused.json["error"]
    assert (refused.code, error["code"], name in error["message"]) == (14, "may_still_run", True)
    project.program(COUNTING)
    assert ran(resume(cli, project, first["job_name"]))["result"]["metrics"] == {"loss": 2.5}


def test_whoever_else_writes_the_same_checkpoints_is_found_up_and_down_the_line(
    cli: CommandLine, project: Project
) -> None:
    project.program(COUNTING)
    first = ran(launch(cli, project, *CHECKPOINTS))
    second = ran(resume(cli, project, first["job_name"]))
    third = ran(resume(cli, project, second["job_name"]))
    fresh = ran(cli("rerun", first["job_name"], *place(project), "--json"))
    lose(project, fresh)  # it has checkpoints of its own
    names = [one["job_name"] for one in (first, second, third)]
    for number, writer in enumerate((third, second, first)):
        path = local(project, writer["experiment"]) / "result.json"
        result = path.read_bytes()
        path.unlink()
        for name in names:
            refused = resume(cli, project, name, "--dry-run")
            assert (refused.code, writer["job_name"] in refused.json["error"]["message"]) == (14, True), (
                number
            )
        assert resume(cli, project, names[0], "--dry-run", "--yes").code == 0
        path.write_bytes(result)
    assert resume(cli, project, names[1], "--dry-run").code == 0
    assert resume(cli, project, fresh["job_name"], "--dry-run").code == 14


@pytest.mark.parametrize("lost", [(), ("launch.json",)])
def test_whoever_is_known_not_to_write_any_more_keeps_nobody_from_going_on(
    cli: CommandLine, project: Project, lost: tuple[str, ...]
) -> None:
    project.program(COUNTING)
    first = ran(launch(cli, project, *CHECKPOINTS))
    second = ran(resume(cli, project, first["job_name"]))
    for one, other in ((second, first), (first, second)):
        lose(project, one, *lost)
        for name in (first["job_name"], second["job_name"]):
            assert resume(cli, project, name, "--dry-run").code == 14
        assert cli("doctor", "--repair", *place(project)).code == 0
        for name in (one["job_name"], other["job_name"]):
            assert resume(cli, project, name, "--dry-run").code == 0


def test_what_a_job_goes_on_from_is_compared_with_what_the_other_went_on_from(
    cli: CommandLine, project: Project
) -> None:
    project.program(COUNTING)
    first = ran(launch(cli, project, *CHECKPOINTS))
    again = ran(cli("rerun", first["job_name"], *place(project), "--json", "--dry-run"))
    assert starts(again) == []
    resumed = ran(resume(cli, project, first["job_name"]))
    uri = f"s3://team/checkpoints/{first['job_name']}/"
    fresh = ran(cli("rerun", resumed["job_name"], *place(project), "--json", "--dry-run"))
    assert starts(fresh) == [(uri, "nothing")]
    assert starts(ran(resume(cli, project, resumed["job_name"], "--dry-run"))) == []
    twice = ran(resume(cli, project, first["job_name"], "--dry-run"))
    assert starts(twice) == [("nothing", uri)]
    last = twice["plan"][
        "last_run"
    ]  # of two runs within one second, the index may take either for the last one
    assert starts(last) == ([] if last["experiment"] == resumed["experiment"] else [("nothing", uri)])
    without = ("--set", "S3.CHECKPOINTS", "")
    words = ("rerun", resumed["job_name"], *without, *place(project), "--json", "--dry-run")
    assert starts(ran(cli(*words))) == [(uri, "nothing")]


def test_an_experiment_is_repeated_in_another_account_region_and_bucket(
    cli: CommandLine, project: Project
) -> None:
    done = ran(launch(cli, project))
    (project.s3 / "other-team").mkdir()
    role = "arn:aws:iam::999999999999:role/Theirs"
    again = ran(
        cli(
            *("rerun", done["experiment"], "--s3-root", project.s3, "--json"),
            *("--set", "AWS.REGION", "eu-west-1", "--set", "ESTIMATOR.ROLE", role),
            *("--set", "S3.CONFIGS", "s3://other-team/archive", "--set", "S3.OUTPUTS", "s3://other-team/out"),
            *("--set", "ESTIMATOR.IMAGE_URI", "999999999999.dkr.ecr.eu-west-1.amazonaws.com/tiny:1.0"),
        )
    )
    assert again["experiment"].startswith("s3://other-team/archive/team/tiny/")
    assert again["rerun_of"] == done["experiment"]
    assert again["request"]["RoleArn"] == role
    assert {one["name"] for one in again["differences"]} >= {"AWS.REGION", "ESTIMATOR.ROLE", "S3.CONFIGS"}
    assert local(project, again["result"]["artifacts"]["model"]).is_file()
