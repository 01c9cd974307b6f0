"""AWS on loopback whose SageMaker trains: every service of moto, and jobs that run on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagemaker_launcher.engine import Engine
from tests.commands import ROOT
from tests.servers.aws import AwsServer
from tests.servers.clients import Client, sealed_client
from tests.servers.training_jobs import FINAL_STATUSES

from .fate import Fate
from .log_writer import LOG_GROUP
from .orders import Code
from .refusals import refuse
from .running_jobs import RunningJobs, Tell
from .settings import Settings
from .workers import Workers

if TYPE_CHECKING:
    from typing_extensions import Self

_EXAMPLE = Code("*", str(ROOT / "sagemaker_container"))
_IMAGE_CODE = Code("*", "")
_POLL_S = 0.02


def _tell_nobody(_: str) -> None:
    """A test asks when it wants to know."""


class Emulator(AwsServer):
    """The emulator, as long as the `with` block.

    Args:
        s3_url: An S3 server that has the data and gets the artifacts; empty: the S3 of this emulator.
        s3_credentials: Access key and secret key for that server.
        codes: Which program runs for which images, the first that fits; then the example of this project, or with
            `docker` what is in the image.
        place: `process` or `docker`: how programs run.
        stop_grace_s: Seconds between SIGTERM and SIGKILL.
        port: Where it listens; 0: where there is room.
        tell: Called with each step of each job, from any thread.

    Attributes:
        settings: How jobs run; a test may change it until the next reset.

    Raises:
        LauncherError: On entering, when no engine answers on `docker`.
    """

    def __init__(
        self,
        s3_url: str = "",
        s3_credentials: tuple[str, str] = AwsServer.credentials,
        *,
        codes: tuple[Code, ...] = (),
        place: str = "process",
        stop_grace_s: float = 120.0,
        port: int = 0,
        tell: Tell = _tell_nobody,
    ) -> None:
        codes = (*codes, _IMAGE_CODE if place == "docker" else _EXAMPLE)
        self._first_settings = Settings(codes, place, stop_grace_s=stop_grace_s)
        self._running = RunningJobs(copy.deepcopy(self._first_settings), self._refuse, tell)
        super().__init__(self._running, port)
        self._s3_url = s3_url
        self._s3_credentials = s3_credentials
        self._s3: Client = None

    def __enter__(self) -> Self:
        if self.settings.place == "docker":
            Engine().call("version")
        super().__enter__()
        self._s3 = sealed_client("s3", self.s3_url, self._s3_credentials)
        self._workers = Workers({**self.variables, "AWS_ACCOUNT_ID": self.account})
        self._running.open(self._workers)
        return self

    def __exit__(self, *details: object) -> None:
        self._running.forget()
        self._workers.close()
        super().__exit__(*details)

    def reset(self) -> None:
        """Ends every job, and forgets every resource, request, fault and setting."""
        self._running.forget()
        super().reset()
        self._running.settings = copy.deepcopy(self._first_settings)

    @property
    def settings(self) -> Settings:
        return self._running.settings

    @property
    def s3_url(self) -> str:
        """Where S3 is: for AWS_ENDPOINT_URL_S3."""
        return self._s3_url or self.endpoint_url

    @property
    def variables(self) -> dict[str, str]:
        """What a client needs in its environment."""
        key, secret = self._s3_credentials
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
        }

    def runs(self, folder: Path, entry_point: str = "main.py", images: str = "*") -> None:
        """From now on the code in a folder runs for images that match a pattern as of shells."""
        self.settings.codes = (Code(images, str(folder), entry_point), *self.settings.codes)

    def next_job(self, fate: Fate) -> None:
        """Orders what befalls the next job that is created; repeated: the one after it."""
        self.settings.next_fates.append(fate)

    def every_job(self, fate: Fate) -> None:
        """Orders what befalls every job from now on for which nothing else was ordered."""
        self.settings.fate = fate

    def quota(self, instance_type: str, limit: int) -> None:
        """From now on only so many instances of a type may be in use at once."""
        self.settings.quotas[instance_type] = limit

    def throttle(self, operation: str, times: int = 1) -> None:
        """Answers the next calls of an operation with ThrottlingException."""
        self.fail_next(operation, "ThrottlingException", "Rate exceeded", times=times)

    def break_down(self, operation: str, times: int = 1) -> None:
        """Answers the next calls of an operation with an internal error of the service."""
        self.fail_next(
            operation,
            "InternalFailure",
            "The request processing has failed because of an unknown error.",
            status=500,
            times=times,
        )

    def delete(self, job: str) -> None:
        """Deletes a job that has ended, as somebody else may do."""
        self.client("sagemaker", region=self._region(job)).delete_training_job(TrainingJobName=job)

    def delete_log(self, job: str) -> None:
        """Deletes the log streams of a job."""
        logs = self.client("logs", region=self._region(job))
        for stream in self.log_streams(job):
            logs.delete_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)

    def status(self, job: str) -> str:
        """A job's TrainingJobStatus. Raises KeyError when there is no such job."""
        return str(self._running.job(job).training_job_status)

    def phase(self, job: str) -> str:
        """A job's SecondaryStatus. Raises KeyError when there is no such job."""
        return str(self._running.job(job).secondary_status)

    def wait_for(self, job: str, phase: str = "", timeout_s: float = 60.0) -> str:
        """Waits until a job is in a phase, or without one until it has ended.

        Args:
            job: Its name.
            phase: A SecondaryStatus.
            timeout_s: Seconds until the test has failed.

        Returns:
            The job's TrainingJobStatus.

        Raises:
            AssertionError: It took too long, or the job ended first.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            status, now = self.status(job), self.phase(job)
            if now == phase or (not phase and status in FINAL_STATUSES):
                return status
            story = f"{job} is {status}, {now}; {self.notes(job)}; {self.worker_log}"
            assert status not in FINAL_STATUSES, story
            assert time.monotonic() < deadline, story
            time.sleep(_POLL_S)

    def wait_for_all(self, timeout_s: float = 120.0) -> None:
        """Waits until every job has ended."""
        for job in self._running.names():
            self.wait_for(job, timeout_s=timeout_s)

    def leftovers(self) -> list[Path]:
        """What jobs have left on this machine; nothing, once they have ended."""
        return self._workers.leftovers()

    def notes(self, job: str) -> list[str]:
        """What the rehearsal of a job noted, for whoever wonders."""
        return list(self._running.notes.get(job, ()))

    @property
    def worker_log(self) -> str:
        """What the processes of jobs said of their own troubles."""
        return self._workers.log()

    def log_streams(self, job: str) -> list[str]:
        """The names of a job's log streams in CloudWatch; none before the first line."""
        logs = self.client("logs", region=self._region(job))
        if not logs.describe_log_groups(logGroupNamePrefix=LOG_GROUP)["logGroups"]:
            return []
        found = logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job}/")
        return [stream["logStreamName"] for stream in found["logStreams"]]

    def log(self, job: str) -> list[str]:
        """All lines of a job that CloudWatch has, stream by stream, each after its host, such as `algo-1 epoch=1`."""
        return [
            f"{stream.removeprefix(f'{job}/').rpartition('-')[0]} {message}"
            for stream in self.log_streams(job)
            for message in self._messages(job, stream)
        ]

    def _messages(self, job: str, stream: str) -> Iterator[str]:
        logs = self.client("logs", region=self._region(job))
        position: dict[str, str] = {}
        while True:
            page = logs.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **position
            )
            if not page["events"]:
                return
            yield from (event["message"] for event in page["events"])
            position = {"nextToken": page["nextForwardToken"]}

    def _region(self, job: str) -> str:
        return str(self._running.job(job).arn.split(":")[3])

    def _refuse(self, request: dict[str, Any], region: str) -> None:
        if self.validate:
            refuse(request, region, self._running, self._s3)
