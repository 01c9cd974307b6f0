"""Every signal at every moment of a command: what is left is told right, repaired, and in nobody's way.

A cell of the matrix is a process, stopped or killed at a moment of its own. Afterwards the list says how far it came,
`doctor --repair` settles it, the same command does what it should, and nothing else of the first one is there any more.
"""

from __future__ import annotations

import json
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.preflight import CHECKS
from sagemaker_launcher.s3_storage import S3Storage
from tests.fault_rows import provokes
from tests.killing import (
    MOMENTS,
    REPAIRED,
    SHIELDED,
    WRITES_MUCH,
    Desk,
    every_end,
    every_signal,
    expected,
    stopped_at,
    told,
)
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.faults import RecordedRequest
from tests.servers.proxy import RecordingProxy
from tests.servers.seaweed import SeaweedServer
from tests.stand_in import is_running, rehearse
from tests.warm import Warm, WarmProcess, warm

_WAIT_S = 90.0
# All that AWS is asked before anything is written takes half of the time; it is asked where that is the moment.
_UNCHECKED = tuple(word for name in CHECKS for word in ("--skip-check", name))


@pytest.fixture(scope="module")
def warm_process() -> Iterator[Warm]:
    with warm() as process:
        yield process


@pytest.fixture
def desk(warm_process: Warm, project: Project, home: Path) -> Iterator[Desk]:
    yield Desk.at_folder(warm_process, project, home, {})
    warm_process.abandon()


# --- a rehearsal ---


@every_signal
@pytest.mark.parametrize("moment", MOMENTS)
@provokes(61, 63, 66, 67)
def test_a_rehearsal(desk: Desk, moment: str, number: int) -> None:
    words: tuple[str | Path, ...] = ("launch", desk.project.config, "--on", "process", *desk.where)
    stopped_at(desk, moment, number, *words)
    left = desk.listed() if number == signal.SIGKILL else desk.states()
    assert left == expected(moment, number)
    assert desk.repaired() == [REPAIRED[state] for state in left]
    assert desk.run(*words).code == 0
    assert sorted(desk.states()) == sorted(["finished", *(REPAIRED[one] for one in expected(moment, number))])
    assert len(list((desk.project.s3 / "team/outputs").iterdir())) == 1
    assert desk.leftovers() == []


@every_signal
@pytest.mark.parametrize("moment", ["indexed", "sealed", "recorded"])
@provokes(63, 66, 67)
def test_a_rerun(desk: Desk, moment: str, number: int) -> None:
    first = desk.run("launch", desk.project.config, "--on", "process", "--json", *desk.where)
    words: tuple[str | Path, ...] = ("rerun", first.json["experiment"], "--on", "process", *desk.where)
    stopped_at(desk, moment, number, *words)
    left = expected(moment, number)
    assert sorted(desk.states()) == sorted(["finished", *left])
    assert sorted(desk.repaired()) == sorted(["finished", *(REPAIRED[state] for state in left)])
    assert desk.run(*words).code == 0
    assert desk.states().count("finished") == 2
    assert desk.leftovers() == []


ESCAPES = """\
import os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
escaped = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"],
    start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
(base / "model" / "m").write_text("x")
print("running", os.getpid(), escaped.pid, flush=True)
time.sleep(300)
"""


@every_end
@provokes(65, 66, 67)
def test_a_rehearsal_whose_program_runs(desk: Desk, number: int) -> None:
    desk.project.program(ESCAPES)
    words: tuple[str | Path, ...] = ("launch", desk.project.config, "--on", "process", *desk.where)
    process = desk.start(*words)
    pids = [int(word) for word in process.read_until("| running").split()[-2:]]
    told(process, number)
    killed = number == signal.SIGKILL
    assert desk.states() == ["started" if killed else "finished"]
    assert desk.repaired() == ["abandoned" if killed else "finished"]
    desk.project.program("print('the next')")
    assert desk.run(*words).code == 0
    assert not any(is_running(pid) for pid in pids)
    assert desk.leftovers() == []
    assert len(list((desk.project.s3 / "team/outputs").glob("*"))) == (0 if killed else 1)


@every_signal
@provokes(62, 66, 67)
def test_a_rehearsal_that_packs_its_model(desk: Desk, number: int) -> None:
    desk.project.program(WRITES_MUCH)
    words: tuple[str | Path, ...] = ("launch", desk.project.config, "--on", "process", *desk.where)
    process = desk.start(*words)
    process.read_until("Uploading")
    time.sleep(0.05)
    told(process, number)
    killed = number == signal.SIGKILL
    assert desk.states() == ["started" if killed else "finished"]
    assert desk.repaired() == ["abandoned" if killed else "finished"]
    packed = list(desk.project.s3.glob("team/outputs/**/*.gz"))
    assert len(packed) == (0 if killed else 1)
    assert killed or result_of(desk)["status"] == "Completed"
    desk.project.program("print('the next')")
    assert desk.run(*words).code == 0
    assert desk.leftovers() == []


def result_of(desk: Desk) -> Any:
    (path,) = desk.project.s3.rglob("result.json")
    return json.loads(path.read_text())


@provokes(126)
def test_what_a_job_left_is_saved_however_often_ctrl_c_is_hit_at_once(desk: Desk) -> None:
    desk.project.program(
        "import pathlib, os, signal, sys, time\n"
        "model = pathlib.Path(os.environ['SM_MODEL_DIR'], 'm')\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(model.write_bytes(os.urandom(2**22))))\n"
        "print('running', flush=True)\n"
        "time.sleep(300)\n"
    )
    process = desk.start("launch", desk.project.config, "--on", "process", *desk.where)
    process.read_until("| running")
    process.send_signal(signal.SIGINT)
    process.read_until("Uploading")
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    done = process.ended()
    assert (done.code, done.err.count("Ctrl-C once more gives it up")) == (130, 1), done.err
    assert "the job was stopped, and what it left is saved" in done.err
    assert len(list(desk.project.s3.glob("team/outputs/**/*.gz"))) == 1
    assert desk.leftovers() == []


@pytest.mark.parametrize(
    ("code", "status", "reason"), [(0, "Stopped", ""), (3, "Failed", "AlgorithmError: boom, exit code: 3")]
)
def test_saving_is_given_up_by_a_second_thought(desk: Desk, code: int, status: str, reason: str) -> None:
    desk.project.program(
        "import os, pathlib, sys\n"
        "base = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'])\n"
        "with (base / 'model' / 'm').open('wb') as file: file.truncate(2**36)\n"  # minutes of packing
        "(base / 'output' / 'failure').write_text('boom')\n"
        f"sys.exit({code})\n"
    )
    process = desk.start("launch", desk.project.config, "--on", "process", *desk.where)
    process.read_until("Uploading")
    process.send_signal(signal.SIGINT)
    process.read_until("what the job left is being saved; Ctrl-C once more gives it up")
    time.sleep(1.1)
    told(process, signal.SIGINT)
    result = result_of(desk)
    assert (result["status"], result["failure_reason"], result["artifacts"]) == (status, reason, {})
    assert not list(desk.project.s3.glob("team/outputs/**/*.gz"))
    assert desk.leftovers() == []


# --- S3 and AWS, with requests that are on their way ---


@dataclass(frozen=True)
class Servers:
    """AWS and S3, what stands before them, and who looks at S3 for the tests."""

    aws: AwsServer
    to_aws: RecordingProxy
    to_s3: RecordingProxy
    keys: tuple[str, str]
    client: Any
    storage: S3Storage


@pytest.fixture(scope="module")
def servers(s3: SeaweedServer) -> Iterator[Servers]:
    with (
        AwsServer() as aws,
        RecordingProxy(aws.endpoint_url) as to_aws,
        RecordingProxy(s3.endpoint_url) as to_s3,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_ACCESS_KEY_ID", s3.admin[0])
        patch.setenv("AWS_SECRET_ACCESS_KEY", s3.admin[1])
        patch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint_url)
        storage = S3Storage(Aws("us-east-1"), {"team": AwsServer.account})
        list(storage.list(S3Uri("team", "none")))  # makes the client
        yield Servers(aws, to_aws, to_s3, s3.admin, s3.client(), storage)


@dataclass
class FarDesk(Desk):
    """Somebody with an account, whose requests can be made slow."""

    servers: Servers

    def during(
        self,
        proxy: RecordingProxy,
        match: Callable[[RecordedRequest], bool],
        *words: str | Path,
        nth: int = 1,
    ) -> WarmProcess:
        """A command whose first request of a kind has arrived, or another one, and has no answer yet."""
        proxy.fail(match, "slow", seconds=0.7)
        process = self.start(*words)
        limit = time.monotonic() + _WAIT_S
        while sum(match(request) for request in proxy.requests) < nth:
            assert time.monotonic() < limit, process.ended().err
            time.sleep(0.005)
        return process

    @property
    def jobs(self) -> list[str]:
        """The names of this desk's jobs on AWS."""
        return [str(call.params["TrainingJobName"]) for call in self.servers.aws.calls("CreateTrainingJob")]

    def uploads(self) -> list[dict[str, Any]]:
        """What was uploaded in part."""
        name = self.archive.rpartition("/")[2]
        found = self.servers.client.list_multipart_uploads(Bucket="team", Prefix=f"outputs/{name}/")
        return list(found.get("Uploads", ()))


@pytest.fixture
def far_desk(servers: Servers, desk: Desk) -> FarDesk:
    servers.aws.reset()
    servers.aws.auto_complete = None
    servers.to_aws.reset()
    servers.to_s3.reset()
    name = f"kill-{time.time_ns():x}"
    archive = f"s3://team/{name}"
    desk.project.write(
        S3={"CONFIGS": archive, "OUTPUTS": f"s3://team/outputs/{name}"},
        CHANNELS={"training": f"{archive}-data/"},
    )
    servers.client.put_object(Bucket="team", Key=f"{name}-data/a.csv", Body=b"1,2\n")
    variables = {
        **desk.variables,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": servers.to_aws.url,
        "AWS_ENDPOINT_URL_S3": servers.to_s3.url,
        "AWS_ACCESS_KEY_ID": servers.keys[0],
        "AWS_SECRET_ACCESS_KEY": servers.keys[1],
    }
    return FarDesk(desk.warm, desk.project, desk.home, variables, (), servers.storage, archive, servers)


def puts(name: str) -> Callable[[RecordedRequest], bool]:
    return lambda request: request.method == "PUT" and request.path.partition("?")[0].endswith(name)


def gets(name: str) -> Callable[[RecordedRequest], bool]:
    return lambda request: request.method == "GET" and request.path.partition("?")[0].endswith(name)


def creates(request: RecordedRequest) -> bool:
    return request.operation == "CreateTrainingJob"


# Requests on their way, and what a launch is told as when it is killed then: S3 and AWS get them all the same.
ON_THE_WAY: dict[str, tuple[Callable[[RecordedRequest], bool], str]] = {
    "reserving": (puts("/intent.json"), "interrupted"),
    "uploading": (puts("/request.json"), "interrupted"),
    "sealing": (puts("/manifest.json"), "not confirmed"),
    "creating": (creates, "not confirmed"),
    "recording": (puts("/launch.json"), "started"),
}


@every_signal
@pytest.mark.parametrize("moment", [*MOMENTS, *ON_THE_WAY])
@provokes(61, 62, 63, 64, 66, 67)
def test_a_launch_on_aws(far_desk: FarDesk, moment: str, number: int) -> None:
    desk = far_desk
    checks = () if moment in {"planned", "prepared"} else _UNCHECKED
    words: tuple[str | Path, ...] = ("launch", desk.project.config, "--detach", *checks)
    if moment in MOMENTS:
        stopped_at(desk, moment, number, *words)
        left = expected(moment, number)
    else:
        match, state = ON_THE_WAY[moment]
        told(
            desk.during(desk.servers.to_aws if match is creates else desk.servers.to_s3, match, *words),
            number,
        )
        left = [state if number == signal.SIGKILL else SHIELDED.get(moment, state)]
        desk.servers.to_s3.reset()
    runs = moment in {"started", "recorded", "creating", "recording"}
    assert len(desk.jobs) == runs
    assert desk.states() == left
    if number in {signal.SIGKILL, signal.SIGINT}:  # what the others leave is what SIGINT leaves
        settled = ["started"] if runs else ["not started"] if left else []
        assert desk.repaired() == settled
    if number == signal.SIGKILL:
        assert desk.run(*words).code == 0
        assert sorted(desk.states()) == sorted([*settled, "started"])
        assert len(set(desk.jobs)) == len(desk.jobs) == runs + 1
    assert desk.leftovers() == []


@every_signal
@pytest.mark.parametrize("moment", ["sealed", "started"])
@provokes(63, 64, 67)
def test_a_rerun_on_aws(far_desk: FarDesk, moment: str, number: int) -> None:
    desk = far_desk
    first = desk.run("launch", desk.project.config, "--detach", "--json", *_UNCHECKED)
    words = ("rerun", first.json["experiment"], "--detach", "--archive", desk.archive, *_UNCHECKED)
    stopped_at(desk, moment, number, *words)
    runs = moment == "started"
    assert len(desk.jobs) == 1 + runs
    assert sorted(desk.states()) == sorted(["started", *expected(moment, number)])
    assert sorted(desk.repaired()) == sorted(["started", "started" if runs else "not started"])
    assert desk.run(*words).code == 0
    assert len(set(desk.jobs)) == len(desk.jobs) == 2 + runs
    assert desk.leftovers() == []


@every_end
@provokes(65, 66, 67)
def test_a_launch_that_waits_for_its_job_on_aws(far_desk: FarDesk, number: int) -> None:
    desk = far_desk
    process = desk.start("launch", desk.project.config, *_UNCHECKED)
    process.read_until("Started")
    done = told(process, number)
    if number != signal.SIGKILL:
        assert "goes on, and is billed" in done.err
    assert len(desk.jobs) == 1
    assert desk.repaired() == ["started"]
    desk.servers.aws.finish(desk.jobs[0])
    assert desk.repaired() == ["finished"]
    assert len(desk.jobs) == 1


@every_signal
@provokes(62, 66, 67)
def test_a_rehearsal_that_fetches_its_data(far_desk: FarDesk, number: int) -> None:
    desk = far_desk
    words: tuple[str | Path, ...] = ("launch", desk.project.config, "--on", "process")
    told(desk.during(desk.servers.to_s3, gets("-data/a.csv"), *words), number)
    killed = number == signal.SIGKILL
    assert desk.states() == ["started" if killed else "finished"]
    desk.servers.to_s3.reset()
    assert desk.run(*words).code == 0
    assert desk.leftovers() == []
    assert sorted(desk.repaired()) == sorted(["finished", "abandoned" if killed else "finished"])


@every_signal
@provokes(62, 66, 67)
def test_a_rehearsal_that_uploads_its_model_in_parts(far_desk: FarDesk, number: int) -> None:
    desk = far_desk
    desk.project.program(WRITES_MUCH)
    words: tuple[str | Path, ...] = ("launch", desk.project.config, "--on", "process")
    told(desk.during(desk.servers.to_s3, lambda request: "partNumber=" in request.path, *words), number)
    killed = number == signal.SIGKILL
    assert desk.states() == ["started" if killed else "finished"]
    assert len(desk.uploads()) == killed
    desk.servers.to_s3.reset()
    assert desk.repaired() == ["abandoned" if killed else "finished"]
    assert desk.uploads() == []
    desk.project.program("print('the next')")
    assert desk.run(*words).code == 0
    assert desk.leftovers() == []


# --- a download ---


@pytest.fixture(scope="module")
def model() -> bytes:
    """A model.tar.gz that takes some time to unpack."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for number in range(40):
            info = tarfile.TarInfo(f"part-{number}")
            info.size = 2**20
            tar.addfile(info, BytesIO(bytes([number]) * 2**20))
    return packed.getvalue()


@every_signal
@pytest.mark.parametrize("moment", ["asked", "half", "unpacking"])
@provokes(52, 66, 67)
def test_a_download(far_desk: FarDesk, model: bytes, tmp_path: Path, moment: str, number: int) -> None:
    desk = far_desk
    rehearsed = rehearse(desk.project, storage=desk.storage)
    place = rehearsed.result.artifacts["model"].removeprefix("s3://team/")
    desk.servers.client.put_object(Bucket="team", Key=place, Body=model)
    target = tmp_path / "download"
    words = ("download", "@latest", "--model", "--archive", desk.archive, "--to", target)
    if moment == "unpacking":
        process = desk.start(*words)
        process.read_until("Unpacking")
    else:
        if moment == "half":
            desk.servers.to_s3.fail(gets("model.tar.gz"), "truncate")
        process = desk.during(desk.servers.to_s3, gets("model.tar.gz"), *words, nth=1 + (moment == "half"))
    told(process, number)
    assert {path.name for path in target.iterdir()} <= {".experiment", ".incomplete"}
    desk.servers.to_s3.reset()
    assert desk.run(*words).code == 0
    assert {path.name for path in target.iterdir()} == {".experiment", "model"}
    found = {path.name: path.read_bytes() for path in (target / "model").iterdir()}
    assert found == {f"part-{part}": bytes([part]) * 2**20 for part in range(40)}
    assert desk.leftovers() == []
