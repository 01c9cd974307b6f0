"""ListTrainingJobs answers as the service does: filters, orders, pages that may be empty."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

import pytest

from .aws import AwsServer
from .clients import Client
from .samples import refusal, training_request


@pytest.fixture
def server(running_server: AwsServer) -> AwsServer:
    """Five jobs: b and d are Completed."""
    running_server.reset()
    client = running_server.client("sagemaker")
    for letter in "cabed":
        client.create_training_job(**training_request(f"job-{letter}"))
        time.sleep(0.002)
    for letter in "bd":
        running_server.finish(f"job-{letter}")
    return running_server


def letters(answer: dict[str, Any]) -> str:
    return "".join(job["TrainingJobName"][-1] for job in answer["TrainingJobSummaries"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "cabed"),
        ({"SortOrder": "Descending"}, "debac"),
        ({"SortBy": "Name"}, "abcde"),
        ({"SortBy": "Name", "SortOrder": "Descending"}, "edcba"),
        ({"SortBy": "Status", "SortOrder": "Ascending"}, "bdace"),
        ({"NameContains": "b-a"}, "a"),
        ({"StatusEquals": "Completed"}, "bd"),
        ({"StatusEquals": "InProgress", "SortBy": "Name"}, "ace"),
    ],
)
def test_jobs_are_chosen_and_ordered(sagemaker: Client, query: dict[str, Any], expected: str) -> None:
    assert letters(sagemaker.list_training_jobs(**query)) == expected


@pytest.mark.parametrize("member", ["CreationTime", "LastModifiedTime"])
def test_jobs_are_chosen_by_their_times(sagemaker: Client, member: str) -> None:
    jobs = sagemaker.list_training_jobs(SortBy="Name")["TrainingJobSummaries"]
    times = {job["TrainingJobName"][-1]: job[member] for job in jobs}
    border = sorted(times.values())[2]

    later = letters(sagemaker.list_training_jobs(**{f"{member}After": border}))
    earlier = letters(sagemaker.list_training_jobs(**{f"{member}Before": border}))

    assert set(later) == {letter for letter, at in times.items() if at > border}
    assert set(earlier) == {letter for letter, at in times.items() if at < border}
    assert later
    assert earlier


def test_a_summary_has_what_a_watcher_needs(sagemaker: Client) -> None:
    [job] = sagemaker.list_training_jobs(NameContains="job-b")["TrainingJobSummaries"]

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert (
        job["CreationTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"] <= datetime.now(timezone.utc)
    )
    [job] = sagemaker.list_training_jobs(NameContains="job-a")["TrainingJobSummaries"]
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("InProgress", "Starting")
    assert "TrainingEndTime" not in job


def test_pages_together_have_every_job_once_though_new_ones_come(sagemaker: Client) -> None:
    first = sagemaker.list_training_jobs(MaxResults=2, SortOrder="Descending")
    sagemaker.create_training_job(**training_request("job-z"))
    second = sagemaker.list_training_jobs(MaxResults=2, SortOrder="Descending", NextToken=first["NextToken"])
    third = sagemaker.list_training_jobs(MaxResults=2, SortOrder="Descending", NextToken=second["NextToken"])

    assert [letters(page) for page in (first, second, third)] == ["de", "ba", "c"]
    assert "NextToken" not in third


def test_a_page_is_cut_before_other_statuses_leave_it(sagemaker: Client) -> None:
    first = sagemaker.list_training_jobs(MaxResults=2, StatusEquals="Completed")

    assert letters(first) == ""
    assert letters(sagemaker.list_training_jobs(MaxResults=5, StatusEquals="Completed")) == "bd"
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        StatusEquals="Completed", PaginationConfig={"PageSize": 2}
    )
    assert [letters(page) for page in pages] == ["", "b", "d"]


def test_a_page_has_ten_jobs_when_nobody_says_how_many(sagemaker: Client) -> None:
    for number in range(10):
        sagemaker.create_training_job(**training_request(f"more-{number}"))

    answer = sagemaker.list_training_jobs()

    assert len(answer["TrainingJobSummaries"]) == 10
    assert answer["NextToken"]


@pytest.mark.parametrize(
    "query", [{"MaxResults": 101}, {"SortBy": "Colour"}, {"NextToken": "!"}, {"StatusEquals": "Finished"}]
)
def test_a_query_that_makes_no_sense_is_refused(sagemaker: Client, query: dict[str, Any]) -> None:
    assert refusal(sagemaker.list_training_jobs, **query)[0] == "ValidationException"


def test_a_region_has_jobs_of_its_own(server: AwsServer, sagemaker: Client) -> None:
    elsewhere = server.client("sagemaker", region="us-west-2")
    elsewhere.create_training_job(**training_request("far-away"))

    assert letters(elsewhere.list_training_jobs()) == "y"
    assert letters(sagemaker.list_training_jobs()) == "cabed"


def test_a_job_that_was_deleted_is_not_listed_and_its_name_is_free(sagemaker: Client) -> None:
    sagemaker.delete_training_job(TrainingJobName="job-b")

    assert letters(sagemaker.list_training_jobs()) == "caed"
    assert refusal(sagemaker.delete_training_job, TrainingJobName="job-a")[0] == "ValidationException"
    sagemaker.create_training_job(**training_request("job-b"))
