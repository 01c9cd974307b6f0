"""The reader of CloudWatch's logs: every line once and in order, whatever the log and the network do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

from sagemaker_launcher.errors import UnavailableError
from sagemaker_launcher.jobs.job_log import JobLog, LogLine, last_lines
from tests.fault_rows import provokes
from tests.servers.aws import AwsServer
from tests.servers.clients import Client, sealed_client
from tests.servers.faults import RecordedRequest
from tests.servers.proxy import RecordingProxy

GROUP = "/aws/sagemaker/TrainingJobs"
JOB = "digits-20260101-000000-abcdef"
START_MS = int(time.time() * 1000) - 3_600_000  # CloudWatch takes no events that are older than two weeks


@pytest.fixture
def logs(aws: AwsServer) -> Client:
    return aws.client("logs", region="us-east-1")


@pytest.fixture
def write(logs: Client) -> Callable[..., None]:
    """Writes lines, as pairs of milliseconds since the start and text, to a stream."""

    def put(host: str, *lines: tuple[int, str], started: int = 1_700_000_000, job: str = JOB) -> None:
        stream = f"{job}/{host}-{started}"
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=GROUP)
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        events = [{"timestamp": START_MS + at, "message": text} for at, text in lines]
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)

    return put


def texts(lines: Sequence[LogLine]) -> list[str]:
    return [line.text for line in lines]


@provokes(105)
def test_a_log_that_does_not_exist_yet_has_no_lines(logs: Client) -> None:
    log = JobLog(lambda: logs, JOB)
    assert list(log.look()) == []
    assert list(log.look(last=True)) == []


@provokes(109)
def test_each_line_comes_once_with_its_host(logs: Client, write: Callable[..., None]) -> None:
    log = JobLog(lambda: logs, JOB)
    write("algo-1", (0, "one"), (1, "two"))
    assert [(line.host, line.text) for line in log.look()] == [("algo-1", "one"), ("algo-1", "two")]
    assert list(log.look()) == []
    write("algo-1", (2, "three"))
    assert texts(list(log.look())) == ["three"]


def test_another_job_whose_name_begins_alike_stays_out(logs: Client, write: Callable[..., None]) -> None:
    write("algo-1", (0, "ours"))
    write("algo-1", (0, "theirs"), job=f"{JOB}-2")
    assert texts(list(JobLog(lambda: logs, JOB).look())) == ["ours"]


def test_the_lines_of_all_hosts_are_in_the_order_of_their_times(
    logs: Client, write: Callable[..., None]
) -> None:
    for host in range(1, 4):
        write(f"algo-{host}", *((10 * number + host, f"{number}.{host}") for number in range(50)))
    lines = list(JobLog(lambda: logs, JOB).look())
    assert texts(lines) == [f"{number}.{host}" for number in range(50) for host in range(1, 4)]


def test_a_new_line_waits_for_the_earlier_ones_of_slower_hosts(
    logs: Client, write: Callable[..., None]
) -> None:
    write("algo-1", (0, "a"))
    write("algo-2", (0, "b"))
    log = JobLog(lambda: logs, JOB)
    list(log.look())
    ahead = 7_200_000  # newer than the beginning of the reading
    write("algo-1", (ahead + 5, "later"))
    assert list(log.look()) == []
    write("algo-2", (ahead + 1, "earlier, and late"))
    assert texts(list(log.look())) == ["earlier, and late", "later"]


def test_a_last_look_waits_for_nothing(logs: Client, write: Callable[..., None]) -> None:
    write("algo-1", (0, "a"))
    write("algo-2", (7_200_000, "b"))
    log = JobLog(lambda: logs, JOB)
    assert texts(list(log.look())) == ["a"]
    assert texts(list(log.look(last=True))) == ["b"]


@provokes(109)
def test_a_spot_restart_brings_new_streams_of_the_same_hosts(
    logs: Client, write: Callable[..., None]
) -> None:
    log = JobLog(lambda: logs, JOB)
    write("algo-1", (0, "first start"))
    list(log.look())
    write("algo-1", (1, "second start"), started=1_700_000_900)
    assert [(line.host, line.text) for line in log.look(last=True)] == [("algo-1", "second start")]


def test_more_than_fifty_streams_are_all_read(logs: Client, write: Callable[..., None]) -> None:
    for host in range(1, 61):
        write(f"algo-{host}", (host, f"line {host}"))
    assert texts(list(JobLog(lambda: logs, JOB).look())) == [f"line {host}" for host in range(1, 61)]


@provokes(109)
def test_a_backlog_of_megabytes_comes_page_by_page(logs: Client, write: Callable[..., None]) -> None:
    for batch in range(3):
        write("algo-1", *((batch * 9_000 + at, f"{batch * 9_000 + at} {'x' * 100}") for at in range(9_000)))
    write("algo-2", (13_500, "in the middle"))
    lines = texts(list(JobLog(lambda: logs, JOB).look()))
    assert len(lines) == 27_001
    assert lines.index("in the middle") in {13_500, 13_501}
    assert [line.split()[0] for line in lines if line != "in the middle"] == [str(at) for at in range(27_000)]


def test_chosen_hosts_and_times(logs: Client, write: Callable[..., None]) -> None:
    write("algo-1", (0, "old"), (5_000, "new"))
    write("algo-2", (0, "old too"), (5_000, "new too"))
    assert texts(list(JobLog(lambda: logs, JOB, hosts=["algo-2"]).look())) == ["old too", "new too"]
    since = JobLog(lambda: logs, JOB, since_ms=START_MS + 1_000)
    assert sorted(texts(list(since.look()))) == ["new", "new too"]
    write("algo-1", (6_000, "newest"))
    assert texts(list(since.look(last=True))) == ["newest"]


@pytest.mark.parametrize("count", [0, 1, 3, 7, 100])
def test_a_tail_is_the_end_over_all_hosts_and_goes_on_from_there(
    logs: Client, write: Callable[..., None], count: int
) -> None:
    write("algo-1", *((2 * number, f"{2 * number}") for number in range(5)))
    write("algo-2", *((2 * number + 1, f"{2 * number + 1}") for number in range(5)))
    log = JobLog(lambda: logs, JOB)
    log.start_at_tail(count)
    everything = [str(number) for number in range(10)]
    assert texts(list(log.look(last=True))) == everything[len(everything) - min(count, 10) :]
    write("algo-1", (20, "afterwards"))
    assert texts(list(log.look(last=True))) == ["afterwards"]


def test_a_tail_that_is_longer_than_a_page(logs: Client, write: Callable[..., None]) -> None:
    for batch in range(3):
        write("algo-1", *((batch * 9_000 + at, str(batch * 9_000 + at)) for at in range(9_000)))
    log = JobLog(lambda: logs, JOB)
    log.start_at_tail(15_000)
    assert texts(list(log.look())) == [str(at) for at in range(12_000, 27_000)]


def get_log_events(request: RecordedRequest) -> bool:
    return request.operation == "GetLogEvents"


@pytest.fixture
def through(aws: AwsServer) -> Callable[[RecordingProxy], Client]:
    return lambda proxy: sealed_client("logs", proxy.url, aws.credentials, region="us-east-1")


@provokes(108)
def test_a_tail_that_is_asked_for_again_after_a_throttled_request_is_the_same_tail(
    aws: AwsServer, write: Callable[..., None], through: Callable[[RecordingProxy], Client]
) -> None:
    for number in range(3):
        write("algo-1", (10 * number, f"a{number}"))
        write("algo-2", (10 * number + 1, f"b{number}"))
    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        client = through(proxy)
        log = JobLog(lambda: client, JOB)
        proxy.fail(
            lambda request: get_log_events(request) and b"algo-2" in request.body, "throttled", times=1
        )
        with pytest.raises(UnavailableError):
            log.start_at_tail(4)
        log.start_at_tail(4)
        assert texts(list(log.look(last=True))) == ["a1", "b1", "a2", "b2"]
        # What was read twice counts once where reading goes on without a token.
        write("algo-1", (20, "a2"))
        proxy.fail_with(get_log_events, 400, "InvalidParameterException", "The nextToken is invalid.")
        assert texts(list(log.look(last=True))) == ["a2"]


@provokes(109)
def test_a_network_that_fails_in_between_loses_and_repeats_no_line(
    aws: AwsServer, write: Callable[..., None], through: Callable[[RecordingProxy], Client]
) -> None:
    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        client = through(proxy)
        log, seen = JobLog(lambda: client, JOB), []
        for number in range(12):
            for host in ("algo-1", "algo-2"):
                write(host, (10 * number, f"{number} {host}"))
            proxy.fail(get_log_events, "reset" if number % 2 else "drop", times=1)
            for _ in range(3):
                with suppress(UnavailableError):
                    for line in log.look(last=True):
                        seen.append(line.text)  # noqa: PERF401 - also the lines before an error count
    assert sorted(seen) == sorted(f"{number} {host}" for number in range(12) for host in ("algo-1", "algo-2"))


@provokes(109)
def test_a_token_that_has_expired_repeats_no_line(
    aws: AwsServer, write: Callable[..., None], through: Callable[[RecordingProxy], Client]
) -> None:
    write("algo-1", (0, "one"), (5, "twice"), (5, "twice"), (5, "other"))
    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        client = through(proxy)
        log = JobLog(lambda: client, JOB)
        assert texts(list(log.look())) == ["one", "twice", "twice", "other"]
        for added, expected in (((5, "twice"), ["twice"]), ((6, "new"), ["new"]), ((6, "new"), ["new"])):
            write("algo-1", added)
            proxy.fail_with(get_log_events, 400, "InvalidParameterException", "The nextToken is invalid.")
            assert texts(list(log.look())) == expected


def test_a_request_that_is_refused_for_another_reason_ends_the_reading(
    aws: AwsServer, write: Callable[..., None], through: Callable[[RecordingProxy], Client]
) -> None:
    write("algo-1", (0, "one"))
    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        client = through(proxy)
        proxy.fail_with(get_log_events, 400, "InvalidParameterException", "no", times=50)
        with pytest.raises(Exception, match="no"):
            list(JobLog(lambda: client, JOB).look())


def test_a_stream_that_is_deleted_meanwhile_just_ends(logs: Client, write: Callable[..., None]) -> None:
    write("algo-1", (0, "one"))
    log = JobLog(lambda: logs, JOB)
    list(log.look())
    logs.delete_log_stream(logGroupName=GROUP, logStreamName=f"{JOB}/algo-1-1700000000")
    assert list(log.look()) == []


def test_the_last_lines_of_a_job_that_ended_long_ago_are_not_waited_for(aws: AwsServer, logs: Client) -> None:
    assert last_lines(logs, JOB, 20, "2026-01-01T00:00:00.000+00:00") == []
    assert len(aws.calls("DescribeLogStreams")) == 2  # where the end begins, and what it says: once each
