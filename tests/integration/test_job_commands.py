"""`status`, `wait`, `logs` and `stop` as their users see them, on an AWS whose jobs do what a test wants."""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sagemaker_launcher.jobs import jobs
from tests.commands import CommandLine, Finished
from tests.fault_rows import provokes
from tests.integration.test_launch_aws import names, read, wait_for
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.faults import Kind, RecordedRequest
from tests.servers.proxy import RecordingProxy
from tests.servers.samples import training_request
from tests.servers.seaweed import SeaweedServer
from tests.terminals import on_terminal

REGION = ("--region", "us-east-1")


@pytest.fixture
def job(aws: AwsServer) -> Callable[..., str]:
    """Makes a job that no archive knows, and that stays as it is."""
    aws.auto_complete = None

    def make(name: str = "by-hand", **members: object) -> str:
        request = training_request(name, **members)
        aws.client("sagemaker", region="us-east-1").create_training_job(**request)
        return name

    return make


@pytest.fixture
def archived(aws_cli: CommandLine, project: Project, aws: AwsServer) -> dict[str, str]:
    """A detached launch: its job's name and its experiment."""
    aws.auto_complete = None
    answer = aws_cli("launch", project.config, "--detach", "--json").json
    return {"job": answer["job_name"], "uri": answer["experiment"]}


def words_of(status: str) -> tuple[str, str]:
    return {"Failed": ("Failed", "AlgorithmError: boom, exit code: 137")}.get(status, (status, ""))


# the ways back


def pasted(cli: CommandLine, said: str, name: str) -> Finished:
    """A command that was printed, run from the same folder."""
    [command] = [line.partition(f"{name}: ")[2] for line in said.splitlines() if f"{name}: " in line]
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=cli.folder,
        env=dict(cli.environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def test_the_ways_back_to_a_job_of_another_region_lead_there(aws_cli: CommandLine, aws: AwsServer) -> None:
    aws.auto_complete = None
    sagemaker = aws.client("sagemaker", region="eu-west-1")
    sagemaker.create_training_job(**training_request("foreign"))
    done = aws_cli("wait", "foreign", "--region", "eu-west-1", "--timeout", "0.1")
    assert done.code == 12
    for name in ("look", "stop"):
        back = pasted(aws_cli, done.err, name)
        assert back.code == 0, back.err
    assert sagemaker.describe_training_job(TrainingJobName="foreign")["TrainingJobStatus"] in {
        "Stopping",
        "Stopped",
    }


def test_the_ways_back_name_no_option_that_is_not_needed(
    aws_cli: CommandLine, archived: dict[str, str], project: Project
) -> None:
    for words in ((), REGION):
        done = aws_cli("wait", archived["uri"], *words, "--timeout", "0.1")
        assert f" status {archived['uri']}\n" in done.err
    done = aws_cli("wait", archived["job"], "--config", project.config, "--timeout", "0.1")
    assert f" status {archived['uri']} --config {project.config}\n" in done.err


@pytest.mark.parametrize("where", ["file", "default", "set"])
def test_what_a_launch_prints_finds_the_credentials_that_it_had(
    aws_cli: CommandLine, aws: AwsServer, project: Project, home: Path, where: str
) -> None:
    aws.auto_complete = None
    variables = dict(aws_cli.environment)
    keys = "".join(
        f"{name.lower()} = {variables.pop(name)}\n" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_text(f"[p]\n{keys}")
    cli = CommandLine(aws_cli.folder, variables)
    if where != "set":
        project.write(AWS={"PROFILE": "p"})
    config = "sagemaker_config.yaml"
    if where == "default":
        shutil.copytree(
            project.folder, project.folder / "configs", ignore=shutil.ignore_patterns("s3", "configs")
        )
        config = "configs/sagemaker_config.yaml"
    words = ("--set", "AWS.PROFILE", "p") if where == "set" else ()
    done = cli("launch", config, *words, "--detach")
    assert done.code == 0, done.err
    said = done.err
    assert ("--config" in said, "AWS_PROFILE=p " in said) == (where == "file", where == "set")
    for name in ("look", "stop"):
        back = pasted(cli, said, name)
        assert back.code == 0, back.err
    again = next(line for line in done.out.splitlines() if line.startswith("run again "))
    repeated = pasted(cli, again.replace("run again ", "again: ") + " --dry-run", "again")
    assert repeated.code == 0, repeated.err


def test_a_job_that_was_archived_and_never_started_is_not_looked_for_elsewhere(
    aws_cli: CommandLine, archived: dict[str, str], aws: AwsServer, s3: SeaweedServer
) -> None:
    aws.reset()
    key = archived["uri"].removeprefix("s3://team/")
    hints = {}
    for name in ("launch.json", "manifest.json"):  # as after a launcher that was killed before the start
        s3.client().delete_object(Bucket="team", Key=f"{key}{name}")
        for words in (("status",), ("logs",), ("logs", "-f"), ("stop",)):
            done = aws_cli(words[0], archived["uri"], *words[1:])
            assert (done.code, done.has_traceback) == (6, False), done.err
            hints[name, words] = done.err
    for (name, _), hint in hints.items():
        assert "AWS.PROFILE" not in hint
        if name == "launch.json":
            assert "never started; `doctor --repair` settles that" in hint
            assert f"rerun {archived['uri']}" in hint
        else:
            assert "its upload was never finished, so nothing was started" in hint


# status


def test_a_running_job_is_one_screen(
    aws_cli: CommandLine, aws: AwsServer, archived: dict[str, str], project: Project
) -> None:
    aws.advance(archived["job"], "Training", "Training in progress")
    shown = aws_cli("status", archived["uri"])
    assert shown.code == 0, shown.err
    for text in (
        f"job         {archived['job']}",
        "status      InProgress (Training)",
        "instances   1 x ml.m5.large in us-east-1",
        "Starting  Starting the training job",
        "Training  Training in progress",
        f"experiment  {archived['uri']}",
        f"#/jobs/{archived['job']}",
    ):
        assert text in shown.out
    document = aws_cli("status", archived["job"], "--config", project.config, "--json").json["jobs"][0]
    assert document["result"]["secondary_status"] == "Training"
    assert document["experiment"] == archived["uri"]


@provokes(105)
def test_a_failure_is_explained(aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]) -> None:
    name = job()
    aws.put_log(name, "algo-1", [f"line {number}" for number in range(30)])
    aws.finish(name, "Failed", failure_reason="AlgorithmError: boom, exit code: 137")
    shown = aws_cli("status", name, *REGION)
    assert shown.code == 0
    for text in (
        "AlgorithmError: boom",
        "137: killed, most often for want of memory",
        "algo-1 | line 29",
        "try: choose an instance type with more memory",
        "logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FTrainingJobs",
    ):
        assert text in shown.out
    assert "line 9\n" not in shown.out


def test_several_jobs_are_a_line_each_and_a_missing_one_is_named(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    for name in ("one", "two", "three"):
        job(name)
    aws.finish("two", metrics={"loss": 0.25})
    shown = aws_cli("status", "one", "two", "three", "two", *REGION)
    assert shown.code == 0, shown.err
    header, *lines = [line.split("\t") for line in shown.out.splitlines()]
    assert header[:3] == ["job", "status", "phase"]
    assert [line[:3] for line in lines] == [
        ["one", "InProgress", "Starting"],
        ["two", "Completed", ""],
        ["three", "InProgress", "Starting"],
    ]
    assert lines[1][5] == "loss 0.25"
    missing = aws_cli("status", "one", "nobodys", *REGION)
    assert missing.code == 6
    assert "nobodys\tnot found" in missing.out
    alone = aws_cli("status", "nobodys", *REGION, "--json")
    assert alone.code == 6
    assert alone.json["error"]["code"] == "job_not_found"


@provokes(111)
def test_the_archives_region_wins_and_is_said(aws_cli: CommandLine, archived: dict[str, str]) -> None:
    shown = aws_cli("status", archived["uri"], "--region", "eu-west-1")
    assert shown.code == 0, shown.err
    assert f"{archived['job']} is in us-east-1, says the archive; asking there, not in eu-west-1" in shown.err


@pytest.mark.parametrize("command", ["status", "wait"])
def test_whoever_looks_first_collects_the_result(
    aws_cli: CommandLine, aws: AwsServer, s3: SeaweedServer, archived: dict[str, str], command: str
) -> None:
    aws.finish(archived["job"], metrics={"loss": 0.5}, billable_seconds=9)
    assert "result.json" not in names(s3, archived["uri"])
    assert aws_cli(command, archived["uri"]).code == 0
    result = json.loads(read(s3, archived["uri"] + "result.json"))
    assert (result["status"], result["billable_seconds"], result["metrics"]) == (
        "Completed",
        9,
        {"loss": 0.5},
    )
    again = aws_cli(command, archived["uri"])
    assert (again.code, again.err.count("the archive does not have")) == (0, 0)
    assert aws_cli("show", archived["uri"], "--json").json["state"] == "finished"


@provokes(93)
def test_what_a_failure_reason_says_to_the_terminal_is_shown_and_not_done(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    aws.finish(name, "Failed", failure_reason="\x1b]0;title\x07 \x1b[2J \u202egnihton")
    shown = aws_cli("status", name, *REGION)
    assert "\x1b" not in shown.out
    assert r"\x1b]0;title\x07" in shown.out


def test_a_rehearsal_is_answered_by_the_archive_alone(cli: CommandLine, project: Project) -> None:
    answer = cli("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json").json
    place = ("--s3-root", project.s3, "--config", project.config)
    shown = cli("status", "@latest", *place)
    assert shown.code == 0, shown.err
    assert "status      Completed" in shown.out
    assert cli("wait", answer["job_name"], *place).code == 0
    log = cli("logs", answer["job_name"], *place)
    assert log.out.splitlines()[0] == "algo-1 | first line"
    assert cli("logs", answer["job_name"], "--tail", "1", *place).out.count("\n") == 1
    assert cli("logs", answer["job_name"], "--host", "algo-2", *place).out == ""
    assert cli("logs", answer["job_name"], "--since", "1h", *place).code == 2
    stopped = cli("stop", answer["job_name"], *place)
    assert stopped.code == 0
    assert "it has ended, Completed" in stopped.out


def test_a_failed_rehearsal_shows_the_end_of_its_log(cli: CommandLine, project: Project) -> None:
    project.program("print('the last words', flush=True)\nraise SystemExit(3)\n")
    cli("launch", project.config, "--on", "process", "--s3-root", project.s3)
    place = ("--s3-root", project.s3, "--config", project.config)
    shown = cli("status", "@latest", *place)
    assert "algo-1 | the last words" in shown.out
    assert cli("wait", "@latest", *place).code == 10


def test_the_exit_code_of_a_wait_for_rehearsals_alone_is_the_worst_ones(
    cli: CommandLine, project: Project
) -> None:
    ways = {
        "completed": ("print('fine')\n", 0),
        "failed": ("raise SystemExit(3)\n", 10),
        "stopped": ("import time\ntime.sleep(60)\n", 11),
    }
    jobs_of = {}
    for way, (program, code) in ways.items():
        project.program(program)
        limit = ("--set", "ESTIMATOR.MAX_RUN", "1") if way == "stopped" else ()
        done = cli("launch", project.config, "--on", "process", "--s3-root", project.s3, "--json", *limit)
        assert done.code == code, done.err
        jobs_of[way] = done.json["job_name"]
    place = ("--s3-root", project.s3, "--config", project.config)
    for words, code in (
        (("failed", "stopped"), 10),
        (("stopped", "completed", "failed"), 10),
        (("stopped", "completed"), 11),
        (("completed",), 0),
    ):
        done = cli("wait", *(jobs_of[word] for word in words), *place)
        assert done.code == code, done.err


@pytest.mark.parametrize("text", ["no/such name", "x" * 64, "-x"])
def test_what_cannot_be_a_jobs_name_is_a_mistake_of_the_command_line(aws_cli: CommandLine, text: str) -> None:
    done = aws_cli("status", *REGION, "--", text)
    assert done.code == 2
    assert not done.has_traceback


# wait


@pytest.mark.parametrize(
    ("endings", "code"),
    [
        (("Completed",), 0),
        (("Failed",), 10),
        (("Stopped",), 11),
        (("Completed", "Stopped", "Completed"), 11),
        (("Stopped", "Failed", "Completed"), 10),
    ],
)
def test_the_exit_code_of_a_wait_is_the_worst_jobs(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str], endings: tuple[str, ...], code: int
) -> None:
    made = [job(f"job-{number}") for number in range(len(endings))]
    process = aws_cli.start("wait", *made, *REGION)
    wait_for(process, "Starting" if len(made) == 1 else "InProgress")
    for name, ending in zip(made, endings, strict=True):
        status, reason = words_of(ending)
        aws.finish(name, status, failure_reason=reason)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert all(ending in out for ending in endings)
    assert ("killed, most often for want of memory" in out) == ("Failed" in endings)


def test_a_wait_whose_time_is_over_says_so_and_what_it_knows(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    job("fine")
    job("slow")
    aws.finish("fine")
    start = time.monotonic()
    done = aws_cli("wait", "fine", "slow", "--timeout", "4", *REGION)
    assert done.code == 12
    assert time.monotonic() - start < 60
    assert "not ended within 4 s" in done.err
    assert "fine\tCompleted" in done.out
    assert "slow\tInProgress" in done.out
    assert " wait slow --region us-east-1\n" in done.err
    document = aws_cli("wait", "slow", "--timeout", "1", *REGION, "--json").json
    assert document["jobs"][0]["result"]["status"] == "InProgress"
    assert document["error"]["code"] == "timeout"


@provokes(65)
@pytest.mark.parametrize("command", [["wait"], ["logs", "-f"]])
def test_ctrl_c_leaves_the_job_alone_and_says_how_to_come_back(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str], command: list[str]
) -> None:
    name = job()
    process = aws_cli.start(*command, name, *REGION)
    wait_for(process, "Starting")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the job goes on" in err
    for verb in ("status", "logs -f", "wait", "stop"):
        assert f" {verb} {name} --region us-east-1\n" in err
    assert "Traceback" not in err
    assert not aws.calls("StopTrainingJob")


@provokes(65)
def test_a_second_ctrl_c_ends_at_once(aws_cli: CommandLine, job: Callable[..., str]) -> None:
    process = aws_cli.start("wait", job(), *REGION)
    wait_for(process, "Starting")
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    _, err = process.communicate(timeout=60)
    assert process.returncode in {130, -signal.SIGINT}
    assert "Traceback" not in err


@provokes(110)
def test_a_job_that_is_deleted_meanwhile_is_missing(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    process = aws_cli.start("wait", name, *REGION)
    wait_for(process, "Starting")
    aws.finish(name)
    aws.client("sagemaker", region="us-east-1").delete_training_job(TrainingJobName=name)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 6
    assert "not found" in out


def log_in(cli: CommandLine, key: str = "OLDKEY") -> CommandLine:
    """The command line of somebody whose credentials are in a file and in no variable; a later login changes the file."""
    file = cli.folder / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
    kept = {name: value for name, value in cli.environment.items() if "ACCESS_KEY" not in name}
    return CommandLine(cli.folder, {**kept, "AWS_SHARED_CREDENTIALS_FILE": str(file)})


@provokes(32)
def test_without_a_terminal_expired_credentials_end_the_wait_and_say_how_to_log_in(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=9)
    done = log_in(aws_cli)("wait", name, *REGION)
    assert done.code == 12
    assert "the job goes on" in done.err
    assert "aws sso login" in done.err
    assert f" wait {name} --region us-east-1\n" in done.err


@provokes(32)
def test_a_wait_goes_on_after_somebody_has_logged_in_again(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    process = log_in(aws_cli, "OLDKEY").start("wait", name, "--timeout", "60", *REGION)
    wait_for(process, "Starting")
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=1)
    wait_for(process, "aws sso login")
    log_in(aws_cli, "NEWKEY")
    wait_for(process, "AWS answers again")
    aws.finish(name)
    process.communicate(timeout=60)
    assert process.returncode == 0
    keys = [
        call.headers["authorization"].split("=")[1].split("/")[0] for call in aws.calls("DescribeTrainingJob")
    ]
    assert keys[0] == "OLDKEY"
    assert keys[-1] == "NEWKEY"


def test_on_a_terminal_expired_credentials_are_waited_for(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=1)
    office = log_in(aws_cli)
    with on_terminal(office.command("wait", name, *REGION), office.folder, office.environment) as terminal:
        assert "aws sso login" in terminal.until("AWS answers again")
        terminal.process.send_signal(signal.SIGINT)
        terminal.rest()
    assert terminal.process.returncode == 130


@provokes(32)
@pytest.mark.parametrize("command", [["wait"], ["logs", "-f"]])
def test_credentials_of_variables_that_have_expired_are_waited_for_by_nobody(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str], command: list[str]
) -> None:
    name = job()
    aws.fail_next("DescribeTrainingJob", "ExpiredTokenException", "The security token is expired", times=99)
    words = aws_cli.command(*command, name, *REGION)
    with on_terminal(words, aws_cli.folder, aws_cli.environment) as terminal:
        seen = terminal.until(f" wait {name}")
        terminal.rest()
    assert terminal.process.returncode == 12
    assert "export new ones" in seen
    assert "so does this command" not in seen
    assert len(aws.calls("DescribeTrainingJob")) == 1


@provokes(71)
def test_a_machine_that_slept_looks_again_with_new_connections(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    process = aws_cli.start("wait", name, *REGION)
    wait_for(process, "Starting")
    time.sleep(0.3)
    process.send_signal(signal.SIGSTOP)
    time.sleep(12)
    aws.finish(name)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "this machine slept for 1 min" in err
    assert "Completed" in err


@pytest.mark.parametrize("kind", ["reset", "drop", "throttled", "slow_down", "html", "truncate"])
def test_no_fault_of_the_network_ends_a_wait(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str], kind: Kind
) -> None:
    name = job()
    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        process = aws_cli.start("wait", name, *REGION, env={"AWS_ENDPOINT_URL": proxy.url})
        wait_for(process, "Starting")
        proxy.fail(lambda request: request.operation == "DescribeTrainingJob", kind, times=1)
        aws.finish(name)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "AWS answers again" in err


# logs


def test_lines_appear_within_three_seconds_once_and_in_order(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    process = aws_cli.start("logs", "-f", name, *REGION)
    wait_for(process, "Starting")
    assert process.stdout is not None
    delays: list[float] = []
    for number in range(4):
        aws.put_log(name, f"algo-{1 + number % 2}", [f"line {number}"])
        written = time.monotonic()
        assert process.stdout.readline() == f"algo-{1 + number % 2} | line {number}\n"
        delays.append(time.monotonic() - written)
    assert statistics.median(delays) < 3
    aws.put_log(name, "algo-1", ["the last words"])
    aws.finish(name, "Failed", failure_reason="AlgorithmError: , exit code: 1")
    time.sleep(4)
    aws.put_log(name, "algo-2", ["later than the end"])
    out, err = process.communicate(timeout=60)
    assert out == "algo-1 | the last words\nalgo-2 | later than the end\n"
    assert process.returncode == 10
    assert "Failed" in err


@provokes(109)
def test_a_spot_restart_and_a_lost_connection_do_not_disturb_a_followed_log(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        process = aws_cli.start("logs", "-f", name, *REGION, env={"AWS_ENDPOINT_URL": proxy.url})
        wait_for(process, "Starting")
        expected = []
        for attempt in (1, 2, 3):
            lines = [f"attempt {attempt} line {number}" for number in range(5)]
            aws.put_log(name, "algo-1", lines, attempt=attempt)
            expected += lines
            proxy.fail(lambda request: request.operation == "GetLogEvents", "reset", times=1)
            aws.advance(name, "Interrupted")
            time.sleep(1.5)
        aws.finish(name)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.splitlines() == [f"algo-1 | {line}" for line in expected]


def test_a_log_without_follow_ends_and_can_be_cut(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    aws.put_log(name, "algo-1", ["one", "two"])
    time.sleep(0.01)
    aws.put_log(name, "algo-2", ["three"])
    assert aws_cli("logs", name, *REGION).out == "algo-1 | one\nalgo-1 | two\nalgo-2 | three\n"
    assert aws_cli("logs", name, "--tail", "2", *REGION).out == "algo-1 | two\nalgo-2 | three\n"
    assert aws_cli("logs", name, "--host", "algo-2", *REGION).out == "algo-2 | three\n"
    assert aws_cli("logs", name, "--since", "1h", *REGION).out.count("\n") == 3
    assert aws_cli("logs", name, "--since", "2036-01-31", *REGION).out == ""
    assert aws_cli("logs", name, "--since", "soon", *REGION).code == 2
    document = aws_cli("logs", name, "--tail", "1", *REGION, "--json").json
    assert document["lines"] == [{"host": "algo-2", "text": "three"}]
    assert aws_cli("logs", name, "-f", *REGION, "--json").code == 2


@provokes(93, 94)
def test_a_log_line_cannot_steer_the_terminal_nor_fill_it(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    aws.put_log(name, "algo-1", ["\x1b[2J\x1b]52;c;AAAA\x07", "y" * 200_000])
    out = aws_cli("logs", name, *REGION).out
    assert "\x1b" not in out
    assert r"\x1b[2J\x1b]52;c;AAAA\x07" in out
    assert len(out) < 9_000


def test_a_job_without_lines_is_told_from_no_job(aws_cli: CommandLine, job: Callable[..., str]) -> None:
    none = aws_cli("logs", job(), *REGION)
    assert (none.code, none.out) == (0, "")
    assert "the job is Starting" in none.err
    assert aws_cli("logs", "nobodys", *REGION).code == 6


@provokes(98)
def test_a_reader_of_the_log_that_has_gone_is_no_error(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    aws.put_log(name, "algo-1", [f"line {number}" for number in range(9_000)])
    with aws_cli.start("logs", name, *REGION) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "algo-1 | line 0\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_who_may_not_read_the_log_can_still_follow_the_job(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    name = job()
    aws.fail_next("DescribeLogStreams", "AccessDeniedException", "not authorized", times=99)
    process = aws_cli.start("logs", "-f", name, *REGION)
    wait_for(process, "the log cannot be shown")
    aws.finish(name)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.count("not authorized") == 0, "it was said once, before"


# stop


def test_a_stop_says_what_is_kept_and_a_second_one_that_there_is_nothing_to_do(
    aws_cli: CommandLine, aws: AwsServer, archived: dict[str, str]
) -> None:
    aws.stopping_seconds = 3.0
    first = aws_cli("stop", archived["uri"])
    assert first.code == 0, first.err
    assert "asked for; its program has 120 seconds" in first.out
    assert f"s3://team/outputs/{archived['job']}/output/model.tar.gz" in first.out
    assert archived["uri"] in first.out
    time.sleep(3.2)
    second = aws_cli("stop", archived["uri"], "--json")
    assert second.code == 0
    assert second.json["jobs"][0]["message"] == "nothing to do: it has ended, Stopped"
    assert len(aws.calls("StopTrainingJob")) == 1


def test_a_stop_can_wait_for_the_end_and_collects_it(
    aws_cli: CommandLine, aws: AwsServer, s3: SeaweedServer, archived: dict[str, str]
) -> None:
    aws.stopping_seconds = 2.0
    done = aws_cli("stop", archived["uri"], "--wait")
    assert done.code == 0, done.err
    assert "Stopped" in done.err
    assert json.loads(read(s3, archived["uri"] + "result.json"))["status"] == "Stopped"


def test_the_checkpoints_of_a_stopped_job_are_named(aws_cli: CommandLine, job: Callable[..., str]) -> None:
    name = job(CheckpointConfig={"S3Uri": "s3://team/checkpoints/x/"})
    assert "s3://team/checkpoints/x/" in aws_cli("stop", name, *REGION).out


def test_a_job_that_ends_before_the_stop_arrives_is_no_error(aws: AwsServer, job: Callable[..., str]) -> None:
    name = job()
    client = aws.client("sagemaker", region="us-east-1")
    aws.finish(name)
    assert jobs.stop(client, name) is False


def test_an_interrupted_stop_says_whether_it_was_asked_for(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    job("one")
    job("two")
    slow = {"StopTrainingJob": False}

    def hangs(request: RecordedRequest) -> bool:
        slow["StopTrainingJob"] |= request.operation == "StopTrainingJob" and b"two" in request.body
        return request.operation == "StopTrainingJob" and b"two" in request.body

    with RecordingProxy(upstream=aws.endpoint_url) as proxy:
        proxy.fail(hangs, "hang", times=9, seconds=20)
        process = aws_cli.start("stop", "one", "two", *REGION, env={"AWS_ENDPOINT_URL": proxy.url})
        deadline = time.monotonic() + 30
        while not slow["StopTrainingJob"] and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the stop of one was asked for, and goes on" in err
    assert "whether the stop of two was asked for, its status tells" in err
    assert " status one two --region us-east-1\n" in err


def test_nothing_is_stopped_when_one_of_several_is_not_there(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    job("one")
    job("two")
    refused = aws_cli("stop", "one", "nobodys", "two", *REGION)
    assert refused.code == 6
    assert "there is no job nobodys" in refused.err
    assert "nothing was stopped" in refused.err
    assert not aws.calls("StopTrainingJob")


def test_a_stop_that_is_refused_keeps_no_other_job_from_being_stopped(
    aws_cli: CommandLine, aws: AwsServer, job: Callable[..., str]
) -> None:
    for name in ("one", "two", "three"):
        job(name)
    aws.fail_next("StopTrainingJob", "AccessDeniedException", "not authorized", times=1)
    done = aws_cli("stop", "one", "two", "three", "--json", *REGION)
    assert [one["job_name"] for one in done.json["jobs"]] == ["two", "three"]
    assert done.json["error"]["exit"] == done.code == 5
    assert "stop the job one" in done.json["error"]["message"]
    assert len(aws.calls("StopTrainingJob")) == 3

    aws.fail_next("StopTrainingJob", "AccessDeniedException", "not authorized", times=1)
    told = aws_cli("stop", "one", "two", *REGION)
    assert told.code == 5
    assert "two" in told.out
    assert "stop the job one" in told.err


def test_nobody_can_stop_what_is_not_there(aws_cli: CommandLine, aws: AwsServer) -> None:
    done = aws_cli("stop", "nobodys", *REGION)
    assert done.code == 6
    assert not aws.calls("StopTrainingJob")
