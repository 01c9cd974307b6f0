"""The plan of a launch on AWS: what it asks, what it shows, what it refuses, and what a job did cost."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine, Finished
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.price_list import PriceListServer, price_list
from tests.servers.seaweed import SeaweedServer

RATE = 0.115
RATES = {
    ("us-east-1", "ml.m5.large"): f"{RATE}0000000",
    ("eu-west-1", "ml.m5.large"): "9",
    ("us-east-1", "ml.g5.2xlarge"): "1.5150000000",
}
READ_ONLY = {"GetCallerIdentity", "BatchGetImage", "GetDownloadUrlForLayer"}


@dataclass(frozen=True)
class Office:
    """The command line of somebody with an account, and the price list that it asks."""

    cli: CommandLine
    project: Project
    prices: PriceListServer

    def __call__(self, *words: str | Path) -> Finished:
        return self.cli("launch", self.project.config, *words)

    def plan(self, *words: str | Path) -> dict[str, Any]:
        done = self("--dry-run", "--json", *words)
        assert done.code == 0, done.err + done.out
        plan: dict[str, Any] = done.json["plan"]
        return plan


@pytest.fixture
def office(project: Project, aws_cli: CommandLine) -> Iterator[Office]:
    with price_list() as prices:
        prices.rates = RATES
        environment = {**aws_cli.environment, "AWS_ENDPOINT_URL_PRICING": prices.endpoint_url}
        yield Office(CommandLine(project.folder, environment), project, prices)


def objects(s3: SeaweedServer) -> int:
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket="team")
    return sum(page["KeyCount"] for page in pages)


def test_a_launch_and_its_dry_run_tell_the_same_and_a_budget_holds_for_both(
    office: Office, aws: AwsServer, s3: SeaweedServer
) -> None:
    office.project.write(
        EXPERIMENT_NAME="plan/told", BUDGET_USD=0.2, ESTIMATOR={"MAX_RUN": 3600, "INSTANCE_COUNT": 2}
    )
    before = objects(s3)
    for words in ((), ("--dry-run",)):
        refused = office(*words, "--json")
        assert refused.code == 14
        error = refused.json["error"]
        assert (error["code"], error["exit"]) == ("over_budget", 14)
        assert error["message"] == (
            "BUDGET_USD is $0.20, and the job can cost $0.23: 2 x $0.115 an hour x 3,600 s = $0.23"
        )
        assert "--yes" in error["hint"]
    assert objects(s3) == before
    assert not aws.calls("CreateTrainingJob")
    done = office("--yes", "--json")
    assert done.code == 0, done.err
    assert re.search(r"^budget +\$0\.20$", done.err, re.MULTILINE)
    launched = done.json
    assert launched["plan"]["last_run"] is None
    assert launched["plan"]["max_cost_usd"] == 0.23
    billed = launched["result"]["billable_seconds"]
    assert launched["cost_usd"] == pytest.approx(RATE * 2 * billed / 3600, abs=1e-6)
    office.project.write(EXPERIMENT_NAME="plan/told", ESTIMATOR={"MAX_RUN": 3600, "INSTANCE_COUNT": 2})
    before = objects(s3)
    asked = len(aws.requests)
    plan = office.plan("--train", "SEED", "9")
    assert objects(s3) == before
    made = {request.operation for request in aws.requests[asked:]}
    assert {operation for operation in made if not operation.startswith("GET /")} <= READ_ONLY
    assert (plan["account"], plan["unknown"]) == (aws.account, {})
    assert plan["digest"] == launched["plan"]["digest"]
    assert plan["digest"].startswith("sha256:")
    assert plan["price"]["usd_per_hour"] == 0.23
    assert plan["price"]["source"] == "price list"
    assert plan["instances"] == [
        {"group": "", "instance_type": "ml.m5.large", "count": 2, "usd_per_hour": RATE}
    ]
    assert plan["max_cost_usd"] == 0.23
    assert plan["last_run"] == {
        "experiment": launched["experiment"],
        "status": "Completed",
        "differences": [
            {"area": "sagemaker config", "name": "BUDGET_USD", "before": "0.2", "after": "0.0"},
            {"area": "training config", "name": "SEED", "before": "0", "after": "9"},
        ],
    }
    assert plan["places"]["outputs"].startswith("s3://team/outputs/plan-told-")
    assert set(plan["places"]["channels"]) == {"training", "config"}
    assert office.prices.requests[-1] == {
        "ServiceCode": "AmazonSageMaker",
        "Filters": [
            {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "us-east-1"},
            {"Type": "TERM_MATCH", "Field": "component", "Value": "Training"},
            {"Type": "TERM_MATCH", "Field": "instanceName", "Value": "ml.m5.large"},
        ],
    }
    again = office.cli("rerun", launched["experiment"], "--dry-run", "--yes")
    assert again.code == 0, again.err
    assert json.loads(again.out)["ResourceConfig"]["InstanceCount"] == 2
    assert f"{launched['job_name']} Completed, which this repeats" in again.err
    assert "2 x $0.115 an hour x 3,600 s = $0.23" in again.err


def test_the_price_is_that_of_the_last_answer_when_there_is_none_and_never_a_guess(
    office: Office, aws: AwsServer
) -> None:
    office.prices.refusal = "AccessDeniedException"
    plan = office.plan()
    assert (plan["price"], plan["max_cost_usd"]) == (None, None)
    assert "AccessDeniedException" in plan["unknown"]["price"]
    assert plan["account"] == aws.account
    # Whoever cannot know whether it is too much does not launch it either.
    office.prices.refusal, office.prices.rates = "", {}
    refused = office("--dry-run", "--set", "BUDGET_USD", "1")
    assert refused.code == 14
    unpriced = "AWS's price list has no price for training on ml.m5.large in us-east-1"
    assert f"BUDGET_USD is $1.00, and what the job can cost is unknown: {unpriced}" in refused.err
    office.prices.rates = RATES
    first = office.plan()["price"]
    assert first["source"] == "price list"
    # A list that hangs is not waited for.
    office.prices.delay_s = 60
    began = time.monotonic()
    assert office.plan()["price"] == {**first, "source": "cache"}
    assert time.monotonic() - began < 45
    asked, received = len(office.prices.requests), len(aws.requests)
    offline = office("--dry-run", "--offline", "--set", "ESTIMATOR.MAX_RUN", "3600")
    assert (len(office.prices.requests), len(aws.requests)) == (asked, received)
    assert "1 x $0.115 an hour x 3,600 s = $0.115" in offline.err
    assert "kept on this machine" in offline.err
    # Another machine's price is not this one's, and another endpoint is another list.
    unknown = office.plan("--offline", "--set", "ESTIMATOR.INSTANCE_TYPE", "ml.g5.2xlarge")
    assert (unknown["price"], unknown["unknown"]["price"]) == (None, "--offline")


def test_credentials_that_do_not_work_keep_no_dry_run_back(office: Office, aws: AwsServer) -> None:
    aws.fail_next("GetCallerIdentity", "ExpiredToken", "The security token is expired", status=403, times=9)
    office.prices.refusal = "ExpiredTokenException"
    plan = office.plan()
    assert (plan["account"], plan["price"], plan["last_run"]) == (None, None, None)
    assert all("ExpiredToken" in plan["unknown"][name] for name in ("account", "price", "last_run"))
    nobody = CommandLine(office.cli.folder, {**office.cli.environment, "AWS_PROFILE": "nobody"})
    done = nobody("launch", office.project.config, "--dry-run")
    assert done.code == 0, done.err
    assert "nobody" in done.err.splitlines()[0]
