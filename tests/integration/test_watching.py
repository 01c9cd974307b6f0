"""Waiting for jobs: requests, rates, and every way in which AWS, the network and the machine are away for a while."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import ExitCode, JobStillRunningError
from sagemaker_launcher.jobs.contact import Contact, Pace
from sagemaker_launcher.jobs.watching import Sight, Watch, see, wait_for_all, worst
from sagemaker_launcher.naming import job_name
from sagemaker_launcher.result import NOT_FOUND
from tests.events_heard import Heard
from tests.fault_rows import provokes
from tests.servers.aws import AwsServer
from tests.servers.clients import Client
from tests.servers.samples import training_request

REGION = "us-east-1"


@pytest.fixture
def client(aws: AwsServer) -> Client:
    aws.auto_complete = None
    return aws.client("sagemaker", region=REGION)


@pytest.fixture
def make(client: Client) -> Callable[..., list[str]]:
    """Makes jobs, named by this tool."""
    numbers = itertools.count()

    def jobs(count: int, experiment: str = "team/tiny") -> list[str]:
        now = datetime.now(timezone.utc)
        names = [job_name(experiment, now, f"{next(numbers):06d}") for _ in range(count)]
        for name in names:
            client.create_training_job(**training_request(name))
        return names

    return jobs


@pytest.fixture
def contact(
    aws: AwsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[Contact, Heard]]:
    """Makes a contact of somebody whose credentials are in a file."""

    def make_one(**options: object) -> tuple[Contact, Heard]:
        credentials = tmp_path / "credentials"
        credentials.write_text("[default]\naws_access_key_id = key\naws_secret_access_key = secret\n")
        monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        listener = Heard()
        return Contact(Aws(REGION), listener, **options), listener  # type: ignore[arg-type]

    return make_one


def statuses(watch: Watch) -> dict[str, str]:
    return {sight.job_name: sight.result.status for sight in watch.sights}


def test_many_jobs_are_seen_with_a_request_for_a_hundred(
    aws: AwsServer, client: Client, make: Callable[..., list[str]]
) -> None:
    names = make(150)
    make(60, "somebody/else")
    aws.requests.clear()
    before = len(aws.requests)
    watch = Watch(lambda: client, names, Pace(0))
    while not watch.seen:
        watch.look()
    made = [request.operation for request in aws.requests[before:]]
    assert made == ["ListTrainingJobs"] * 2
    assert set(statuses(watch)) == set(names)


def test_a_few_jobs_are_described(aws: AwsServer, client: Client, make: Callable[..., list[str]]) -> None:
    names = make(3)
    before = len(aws.requests)
    sights = see(client, names)
    assert [request.operation for request in aws.requests[before:]] == ["DescribeTrainingJob"] * 3
    assert all(sight.description for sight in sights.values())


def test_only_what_has_ended_is_described_and_only_once(
    aws: AwsServer, client: Client, make: Callable[..., list[str]]
) -> None:
    names = make(30)
    watch = Watch(lambda: client, names, Pace(0))
    while not watch.seen:
        watch.look()
    aws.finish(names[3], metrics={"loss": 0.5})
    aws.finish(names[7], "Failed", failure_reason="AlgorithmError: , exit code: 137")
    for name in names[10:]:
        aws.advance(name, "Training")
    seen: list[Sight] = []
    deadline = time.monotonic() + 60
    while len([sight for sight in watch.sights if sight.complete]) < 2 and time.monotonic() < deadline:
        seen += watch.look()
        time.sleep(0.02)
    assert sorted(call.params["TrainingJobName"] for call in aws.calls("DescribeTrainingJob")) == sorted(
        [names[3], names[7]]
    )
    ended = {sight.job_name: sight for sight in watch.sights if sight.complete}
    assert ended[names[3]].result.metrics == {"loss": 0.5}
    assert ended[names[7]].result.exit_code == 137
    assert {sight.job_name for sight in seen if sight.result.secondary_status == "Training"} == set(
        names[10:]
    )


def test_names_of_other_tools_and_missing_jobs_among_many(
    client: Client, make: Callable[..., list[str]]
) -> None:
    names = [*make(8), "made-by-hand", "never-was"]
    client.create_training_job(**training_request("made-by-hand"))
    watch = Watch(lambda: client, names, Pace(0))
    while not watch.seen:
        watch.look()
    assert statuses(watch)["never-was"] == NOT_FOUND
    assert statuses(watch)["made-by-hand"] == "InProgress"


@provokes(112)
def test_a_very_large_account_is_not_listed_for_two_missing_jobs(
    aws: AwsServer, client: Client, make: Callable[..., list[str]]
) -> None:
    make(400)
    names = [*make(5), "x1", "x2"]
    watch = Watch(lambda: client, names, Pace(0))
    while not watch.seen:
        watch.look()
    assert len(aws.calls("ListTrainingJobs")) == 3
    assert len(aws.calls("DescribeTrainingJob")) == 2


def test_without_permission_to_list_jobs_are_described(
    aws: AwsServer, client: Client, make: Callable[..., list[str]]
) -> None:
    names = make(6)
    aws.fail_next("ListTrainingJobs", "AccessDeniedException", "not authorized", times=99)
    watch = Watch(lambda: client, names, Pace(0))
    deadline = time.monotonic() + 60
    while not watch.seen and time.monotonic() < deadline:
        watch.look()
    assert len(statuses(watch)) == 6


@provokes(110)
def test_a_job_deleted_meanwhile_is_noticed(
    aws: AwsServer, client: Client, make: Callable[..., list[str]]
) -> None:
    (name,) = make(1)
    watch = Watch(lambda: client, [name], Pace(0))
    watch.look()
    aws.finish(name)
    client.delete_training_job(TrainingJobName=name)
    deadline = time.monotonic() + 60
    while not watch.over and time.monotonic() < deadline:
        watch.look()
        time.sleep(0.05)
    assert statuses(watch) == {name: NOT_FOUND}
    assert watch.sights[0].exit_code == 6


@provokes(107)
def test_a_status_that_nobody_knows_is_shown_and_taken_for_running(
    aws: AwsServer, client: Client, make: Callable[..., list[str]]
) -> None:
    (name,) = make(1)
    aws.advance(name, "Hibernating", "a phase of the future")
    sight = see(client, [name])[name]
    assert sight.result.secondary_status == "Hibernating"
    assert not sight.ended
    assert sight.exit_code == 12


def test_the_pace_holds_whoever_asks(
    aws: AwsServer, contact: Callable[..., tuple[Contact, Heard]], make: Callable[..., list[str]]
) -> None:
    names = make(12)
    talk, _ = contact()
    pace = Pace(0.3)
    watches = [
        (talk, Watch(talk.sagemaker, names[:6], pace)),
        (talk, Watch(talk.sagemaker, names[6:], pace)),
    ]
    for name in names:
        aws.finish(name)
    before = len(aws.requests)
    wait_for_all(watches, lambda _: None)
    times = [request.at for request in aws.requests[before:]]
    assert len(times) >= 14
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.2


@provokes(108)
def test_throttling_and_faults_are_outlasted_and_told_once(
    aws: AwsServer, contact: Callable[..., tuple[Contact, Heard]], make: Callable[..., list[str]]
) -> None:
    (name,) = make(1)
    talk, listener = contact()
    aws.fail_next("DescribeTrainingJob", "ThrottlingException", "Rate exceeded", times=2)
    watch = Watch(talk.sagemaker, [name], Pace(0))
    before = time.monotonic()
    talk.ask(watch.look)
    assert time.monotonic() - before >= 2
    assert len(aws.calls("DescribeTrainingJob")) == 3
    assert len([note for note in listener.notes if "Rate exceeded" in note]) == 1
    assert listener.notes[-1] == "AWS answers again"


def test_expired_credentials_are_waited_for(
    aws: AwsServer, contact: Callable[..., tuple[Contact, Heard]], make: Callable[..., list[str]]
) -> None:
    (name,) = make(1)
    talk, listener = contact()
    first = talk.sagemaker()
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=1)
    watch = Watch(talk.sagemaker, [name], Pace(0))
    talk.ask(watch.look)
    assert statuses(watch) == {name: "InProgress"}
    assert "aws sso login" in listener.notes[0]
    assert talk.sagemaker() is not first, "the old client has the old credentials"


def test_expired_credentials_end_the_wait_when_nobody_is_there(
    aws: AwsServer, contact: Callable[..., tuple[Contact, Heard]], make: Callable[..., list[str]]
) -> None:
    (name,) = make(1)
    talk, _ = contact(waits_for_login=False)
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=9)
    with pytest.raises(JobStillRunningError, match="the job goes on"):
        talk.ask(Watch(talk.sagemaker, [name], Pace(0)).look)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in environment variables, which win over those of files."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@provokes(32)
@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("attended", [True, False])
def test_expired_credentials_of_variables_end_the_wait_whoever_is_there(
    aws: AwsServer,
    contact: Callable[..., tuple[Contact, Heard]],
    make: Callable[..., list[str]],
    attended: bool,
) -> None:
    (name,) = make(1)
    talk, listener = contact(waits_for_login=attended)
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=9)
    with pytest.raises(JobStillRunningError, match="the job goes on") as caught:
        talk.ask(Watch(talk.sagemaker, [name], Pace(0)).look)
    assert "export new ones" in caught.value.hint
    assert "log in" not in caught.value.hint
    assert not listener.notes
    assert len(aws.calls("DescribeTrainingJob")) == 1


@pytest.mark.usefixtures("variables")
def test_a_clock_that_is_set_right_ends_the_trouble_of_credentials_in_variables_too(
    aws: AwsServer, contact: Callable[..., tuple[Contact, Heard]], make: Callable[..., list[str]]
) -> None:
    (name,) = make(1)
    talk, listener = contact()
    aws.fail_next("DescribeTrainingJob", "RequestTimeTooSkewed", "The difference is too large", times=1)
    watch = Watch(talk.sagemaker, [name], Pace(0))
    talk.ask(watch.look)
    assert statuses(watch) == {name: "InProgress"}
    assert "set the clock" in listener.notes[0]


@provokes(108)
def test_a_timeout_holds_during_trouble_too(
    aws: AwsServer, contact: Callable[..., tuple[Contact, Heard]], make: Callable[..., list[str]]
) -> None:
    (name,) = make(1)
    talk, _ = contact(timeout_s=2.0)
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=99)
    before = time.monotonic()
    with pytest.raises(JobStillRunningError, match="not ended within 2 s"):
        talk.ask(Watch(talk.sagemaker, [name], Pace(0)).look)
    assert time.monotonic() - before < 30


def test_a_change_that_a_list_shows_late_is_not_lost(
    aws: AwsServer, client: Client, make: Callable[..., list[str]]
) -> None:
    names = make(6)
    watch = Watch(lambda: client, names, Pace(0))
    while not watch.seen:
        watch.look()
    sweep = next(call for call in aws.calls("ListTrainingJobs"))
    assert (
        sweep.params["CreationTimeAfter"] < (datetime.now(timezone.utc) - timedelta(minutes=50)).timestamp()
    )
    deadline = time.monotonic() + 60
    while len(aws.calls("ListTrainingJobs")) < 2 and time.monotonic() < deadline:
        watch.look()
        time.sleep(0.05)
    after = aws.calls("ListTrainingJobs")[1].params["LastModifiedTimeAfter"]
    assert after < (datetime.now(timezone.utc) - timedelta(minutes=4)).timestamp()


def test_the_worst_of_several_jobs_decides() -> None:
    codes = [
        ExitCode.DONE,
        ExitCode.JOB_RUNNING,
        ExitCode.NOT_FOUND,
        ExitCode.JOB_STOPPED,
        ExitCode.JOB_FAILED,
    ]
    for number, code in enumerate(codes):
        assert worst(codes[: number + 1]) == code
    assert worst([]) == ExitCode.DONE
