"""Prices, costs, the last run of an experiment, and plans that ask AWS nothing."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher import credentials, launch
from sagemaker_launcher.config import load
from sagemaker_launcher.errors import LauncherError, NotFoundError, UnavailableError
from sagemaker_launcher.naming import S3Uri, can_be_of, job_name, launch_second
from sagemaker_launcher.planning.costs import Rate, dollars, longest, machines_of
from sagemaker_launcher.planning.inquiry import Inquiry, Sources
from sagemaker_launcher.planning.last_run import last_run
from sagemaker_launcher.planning.overview import Overview
from sagemaker_launcher.planning.prices import Price, hourly_rate
from sagemaker_launcher.planning.questions import Question, Unknown
from sagemaker_launcher.storage import FolderStorage
from tests.commands import CommandLine
from tests.project import Project
from tests.servers.price_list import product

NOW = "2026-11-21T00:00:00+00:00"


def price(usd: float, as_of: str = NOW) -> Price:
    return Price(usd, as_of)


# --- prices ---


def test_a_product_of_the_price_list_has_one_price_an_hour() -> None:
    listed = json.dumps(product("ml.m5.large", "0.1150000000"))
    assert hourly_rate([listed, listed], "it") == 0.115


@pytest.mark.parametrize(
    "change",
    [
        {"usd": "0.0000000000"},
        {"usd": "nan"},
        {"unit": "Quantity"},
    ],
    ids=str,
)
def test_what_is_no_price_an_hour_is_not_taken_for_one(change: dict[str, str]) -> None:
    listed = json.dumps(product("ml.m5.large", **{"usd": "0.115", **change}))
    with pytest.raises(NotFoundError, match=r"no price for training on ml\.m5\.large"):
        hourly_rate([listed], "ml.m5.large")


def test_nobody_chooses_between_two_prices() -> None:
    listed = [json.dumps(product("ml.m5.large", usd)) for usd in ("0.115", "0.2")]
    with pytest.raises(UnavailableError, match=r"several prices .*: 0\.115, 0\.2"):
        hourly_rate(listed, "ml.m5.large")


@given(
    st.lists(
        st.recursive(
            st.none() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["terms", "OnDemand", "priceDimensions", "pricePerUnit", "USD", "unit"]),
                    inner,
                )
            ),
            max_leaves=8,
        ).map(json.dumps)
        | st.text()
    )
)
@settings(deadline=None, max_examples=200)
def test_any_answer_is_a_price_or_an_error_that_people_understand(listed: list[str]) -> None:
    with suppress(NotFoundError, UnavailableError):
        assert hourly_rate(listed, "it") > 0


# --- costs ---


def test_the_most_that_a_job_can_cost_counts_every_group_and_the_warm_pool(project: Project) -> None:
    groups = [
        {"INSTANCE_GROUP_NAME": "a", "INSTANCE_TYPE": "ml.m5.large", "INSTANCE_COUNT": 2},
        {"INSTANCE_GROUP_NAME": "b", "INSTANCE_TYPE": "ml.g5.2xlarge", "INSTANCE_COUNT": 1},
    ]
    project.write(ESTIMATOR={"INSTANCE_TYPE": "", "INSTANCE_GROUPS": groups, "MAX_RUN": 7200})
    job = load(project.config).job("x-20260101-000000-aaaaaa")
    rate = Rate(machines_of(job), {"ml.m5.large": price(0.115), "ml.g5.2xlarge": price(1.515)})
    assert [str(one) for one in machines_of(job)] == ["2 x ml.m5.large (a)", "1 x ml.g5.2xlarge (b)"]
    assert longest(job) == 7200
    assert longest(replace(job, machines=replace(job.machines, keep_alive_s=600))) == 7800
    assert rate.usd_per_hour == 1.745
    assert rate.arithmetic(7200) == "(2 x $0.115 + 1 x $1.515) an hour x 7,200 s = $3.49"


def test_people_are_told_what_a_job_did_cost_only_when_that_is_known(project: Project) -> None:
    plan = launch.plan(project.config, (), target="aws", command=())
    known = Rate(machines_of(plan.job), {"ml.m5.large": price(0.115)})
    unknown = Unknown("nobody answers")
    overview = Overview(plan, unknown, unknown, known, None)
    assert dict(overview.cost_rows(7200)) == {"cost": "1 x $0.115 an hour x 7,200 s = $0.23, without storage"}
    assert overview.cost_usd(0) == 0
    assert not list(overview.cost_rows(None))
    assert not list(replace(overview, rate=unknown).cost_rows(7200))


def test_reserved_machines_have_no_price_on_demand(project: Project) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-plan/reserved"
    project.write(ESTIMATOR={"TRAINING_PLAN": arn})
    plan = launch.plan(project.config, (), target="aws", command=())
    rate = Inquiry(plan, Sources()).overview(lambda _: ()).rate
    assert rate == Unknown("the machines of a training plan are paid for with the plan")


def test_several_prices_are_as_old_as_the_oldest() -> None:
    old = replace(price(1, "2026-01-01T00:00:00+00:00"), source="cache")
    rate = Rate((), {"ml.m5.large": price(2), "ml.g5.2xlarge": old})
    assert (rate.as_of[:10], rate.source) == ("2026-01-01", "cache")


@pytest.mark.parametrize(
    ("amount", "text"),
    [(2.76, "$2.76"), (0.115, "$0.115"), (12345.5, "$12,345.50"), (0.000032, "$0.000032"), (0, "$0.00")],
)
def test_dollars_have_as_many_digits_as_they_need(amount: float, text: str) -> None:
    assert dollars(amount) == text


# --- questions ---


def test_an_answer_that_takes_too_long_is_unknown_and_holds_nobody_up() -> None:
    question = Question(lambda: time.sleep(60))
    began = time.monotonic()
    assert question.answer(began + 0.1) == Unknown("no answer in time")
    assert time.monotonic() - began < 30


def test_a_refusal_is_unknown_and_a_bug_stays_a_bug() -> None:
    def refused() -> None:
        raise LauncherError("not you")

    soon = time.monotonic() + 30
    assert Question(refused).answer(soon) == Unknown("not you")
    with pytest.raises(ZeroDivisionError):
        Question(lambda: 1 / 0).answer(soon)


# --- the last run ---


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,80}", fullmatch=True))
@settings(deadline=None, max_examples=50)
def test_the_name_of_a_job_fits_the_experiment_that_it_was_made_for(experiment: str) -> None:
    second = launch_second("x-20260101-000000-aaaaaa")
    assert second
    assert can_be_of(job_name(experiment, second, "abc123"), experiment)
    assert not can_be_of(job_name(f"x{experiment}", second, "abc123"), "other")


def test_the_last_run_is_the_newest_sealed_one_of_just_this_experiment(
    cli: CommandLine, project: Project
) -> None:
    def launched(*words: str) -> str:
        done = cli("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json", *words)
        experiment: str = done.json["experiment"]
        return experiment

    def found(name: str) -> str:
        experiment = last_run(FolderStorage(project.s3), S3Uri.parse("s3://team/experiments"), name)
        return str(experiment.folder) if experiment else ""

    assert found("team/tiny") == ""
    own = launched()
    # Its jobs have the same names, and a reservation without a seal is no run.
    launched("--set", "EXPERIMENT_NAME", "team-tiny")
    newer = job_name("team/tiny", launch_second("x-20300101-000000-aaaaaa"), "abcdef")  # type: ignore[arg-type]
    project.put(f"s3://team/experiments/_index/8106600000-{newer}.json", "{}")
    assert found("team/tiny") == own
    plan = cli(
        "launch", project.config, "--on", "process", "--s3-root", project.s3, "--dry-run", "--json",
        "--train", "SEED", "9",
    ).json["plan"]  # fmt: skip
    assert plan["last_run"] == {
        "experiment": own,
        "status": "Completed",
        "differences": [{"area": "training config", "name": "SEED", "before": "0", "after": "9"}],
    }
    assert (plan["account"], plan["price"], plan["max_cost_usd"], plan["unknown"]) == (None, None, None, {})


def test_siblings_whose_jobs_have_the_same_names_hide_no_last_run(cli: CommandLine, project: Project) -> None:
    common = "speech/asr/conformer-large-librispeech-960h"
    words = ("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json")
    own = cli(*words, "--set", "EXPERIMENT_NAME", f"{common}-lr0.001").json["experiment"]
    sibling = S3Uri.parse(cli(*words, "--set", "EXPERIMENT_NAME", f"{common}-lr0.01").json["experiment"])
    assert sibling.name.rpartition("-")[0][:-15] == S3Uri.parse(own).name.rpartition("-")[0][:-15]
    archive = project.s3 / "team" / "experiments"
    # Newer ones that never were sealed, as many as anybody has, and an experiment below this one.
    for second in range(10):
        (archive / f"{common}-lr0.001" / f"{sibling.name[:-22]}-20300101-00000{second}-aaaaaa").mkdir()
    (archive / f"{common}-lr0.001" / "more").mkdir()
    plan = cli(*words, "--dry-run", "--set", "EXPERIMENT_NAME", f"{common}-lr0.001").json["plan"]
    assert plan["last_run"]["experiment"] == own


def test_of_very_many_launches_the_newest_of_the_archive_are_looked_at(
    cli: CommandLine, project: Project
) -> None:
    root = S3Uri.parse("s3://team/experiments")
    own = cli("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json").json[
        "experiment"
    ]
    folder, index = (project.s3 / "team" / "experiments" / name for name in ("team/tiny", "_index"))
    for number in range(1000):
        (folder / f"team-tiny-20200101-000000-{number:06}").mkdir()
    found = last_run(FolderStorage(project.s3), root, "team/tiny")
    assert found
    assert str(found.folder) == own
    for entry in index.iterdir():
        entry.unlink()
    with pytest.raises(LauncherError, match="too many launches, and none is among the newest 1,000"):
        last_run(FolderStorage(project.s3), root, "team/tiny")


# --- plans without AWS ---


@pytest.mark.parametrize(
    ("variables", "files", "expected"),
    [
        ({}, (), False),
        ({"AWS_ACCESS_KEY_ID": "x"}, (), True),
        ({"AWS_ACCESS_KEY_ID": ""}, (), False),
        ({"AWS_CONFIG_FILE": "other"}, ("other",), True),
        ({"AWS_CONFIG_FILE": "other"}, (".aws/config",), False),
        ({}, (".aws/credentials",), True),
    ],
    ids=str,
)
def test_credentials_are_looked_for_where_boto3_looks(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    files: tuple[str, ...],
    expected: bool,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert credentials.may_exist() == expected


def test_a_dry_run_without_credentials_says_so_and_what_it_knows(cli: CommandLine, project: Project) -> None:
    project.write(
        BUDGET_USD=1,
        S3={"CHECKPOINTS": "s3://team/checkpoints"},
        ESTIMATOR={"USE_SPOT_INSTANCES": True, "MAX_RUN": 60, "MAX_WAIT": 90, "INSTANCE_COUNT": 2},
    )
    done = cli("launch", project.config, "--dry-run")
    assert done.code == 0, done.err
    name = json.loads(done.out)["TrainingJobName"]
    rows = dict(line.split("  ", 1) for line in done.err.splitlines() if not line.startswith(" "))
    told = {key: value.strip() for key, value in rows.items()}
    reason = "there are no AWS credentials on this machine"
    assert told == {
        "offline": f"AWS was asked nothing: {reason}",
        "region": "us-east-1",
        "role": "arn:aws:iam::123456789012:role/SageMakerExecutionRole",
        "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tiny:1.0",
        "instances": "2 x ml.m5.large, spot",
        "limits": "at most 60 s of running, 90 s with waiting",
        "price": f"unknown: {reason}",
        "budget": "$1.00; without a price, a launch needs --yes",
        "archive": f"s3://team/experiments/team/tiny/{name}/",
        "outputs": f"s3://team/outputs/{name}/output/",
        "checkpoints": f"s3://team/checkpoints/{name}/",
    }


def test_only_a_dry_run_can_be_offline(cli: CommandLine, project: Project) -> None:
    done = cli("launch", project.config, "--offline")
    assert (done.code, "add --dry-run" in done.err) == (2, True)


@pytest.mark.parametrize("budget", ["-1", ".inf", "much"])
def test_a_budget_that_is_none_is_a_mistake_in_the_config(
    cli: CommandLine, project: Project, budget: str
) -> None:
    done: Any = cli("check", "--offline", project.config, "--set", "BUDGET_USD", budget)
    assert done.code == 3
    assert "BUDGET_USD" in done.err
