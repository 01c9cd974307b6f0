"""The rest of AWS for the tests: moto in this process, with training jobs that behave as the service's do."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import timezone
from threading import Thread
from typing import TYPE_CHECKING, Any

from flask import Flask
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.logs.models import logs_backends
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.sagemaker import urls
from werkzeug.serving import BaseWSGIServer, make_server

from .account import Account
from .clients import REGION, Client, sealed_client
from .recording import ApiRequest, Failure, RecordingGate
from .training_api import responder
from .training_jobs import TrainingJobs

if TYPE_CHECKING:
    from typing_extensions import Self

_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_ROUTE = "{0}/$"


class AwsServer:
    """AWS on loopback that lives as long as the `with` block; other processes can use it too.

    Servers of one process share moto's resources, and a reset of one clears them for all.

    Args:
        jobs: What becomes of training jobs.
        port: Where it listens; 0: where there is room.

    Attributes:
        endpoint_url: For AWS_ENDPOINT_URL.
        credentials: An access key and a secret key; moto takes any.
        state: The account's role, images, quotas and permissions.
    """

    account = DEFAULT_ACCOUNT_ID
    credentials = ("TESTACCESSKEY", "test-secret-key")

    def __init__(self, jobs: TrainingJobs | None = None, port: int = 0) -> None:
        self.endpoint_url = ""
        self._port = port
        self._jobs = jobs or TrainingJobs()
        moto = DomainDispatcherApplication(create_backend_app)
        moto.app_instances["sagemaker"] = _sagemaker_app(self._jobs)
        self.state = Account()
        self._gate = RecordingGate(moto, self.state.answer)
        self._server: BaseWSGIServer | None = None

    def __enter__(self) -> Self:
        self._server = make_server(
            "127.0.0.1", self._port, self._gate, threaded=True, request_handler=_QuietHandler
        )
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self.reset()

    def reset(self) -> None:
        """Forgets every resource, request and ordered failure, as if the server had just started.

        What is left is an account with what a launch of the tests' projects needs.
        """
        moto_api_backend.reset()
        self._jobs.forget()
        self._gate.requests.clear()
        self._gate.failures.clear()
        self.state.furnish()

    def client(self, service: str, *, region: str = REGION) -> Client:
        """A client of one service that never tries twice."""
        return sealed_client(service, self.endpoint_url, self.credentials, region=region)

    @property
    def requests(self) -> list[ApiRequest]:
        """Every request since the start or the last reset, in order."""
        return list(self._gate.requests)

    def calls(self, operation: str) -> list[ApiRequest]:
        """The requests for one operation, in order."""
        return [request for request in self.requests if request.operation == operation]

    def fail_next(
        self,
        operation: str,
        code: str,
        message: str = "",
        *,
        status: int = 400,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Answers the next calls of an operation with an error.

        Args:
            operation: As `ApiRequest.operation` has it.
            code: Such as `ThrottlingException`.
            message: The text for people.
            status: The HTTP status.
            times: How many calls fail.
            after: The call is executed all the same, so the caller believes wrongly that it failed.
        """
        self._gate.failures.append(Failure(operation, code, message, status, times, after))

    def drop_next(self, operation: str, *, times: int = 1, after: bool = True) -> None:
        """Closes the connection instead of answering the next calls; they are executed when `after` is true."""
        self._gate.failures.append(Failure(operation, "", "", 0, times, after))

    @property
    def auto_complete(self) -> float | None:
        """Jobs created from now on are Completed by themselves after that many seconds; None: never."""
        return self._jobs.auto_complete

    @auto_complete.setter
    def auto_complete(self, seconds: float | None) -> None:
        self._jobs.auto_complete = seconds

    @property
    def validate(self) -> bool:
        """Whether requests that break the API's model are refused."""
        return self._jobs.validate

    @validate.setter
    def validate(self, refuse: bool) -> None:
        self._jobs.validate = refuse

    @property
    def stopping_seconds(self) -> float:
        """How long a job is Stopping before it is Stopped."""
        return self._jobs.stopping_seconds

    @stopping_seconds.setter
    def stopping_seconds(self, seconds: float) -> None:
        self._jobs.stopping_seconds = seconds

    def created(self, job: str) -> dict[str, Any]:
        """The CreateTrainingJob parameters as they were received. Raises KeyError when there is no such job."""
        return self._jobs.request(job)

    def advance(self, job: str, secondary: str, message: str = "") -> None:
        """Moves a job to another secondary status, such as `Training` or `Interrupted`."""
        self._jobs.advance(job, secondary, message)

    def finish(
        self,
        job: str,
        status: str = "Completed",
        *,
        secondary: str | None = None,
        failure_reason: str = "",
        metrics: Mapping[str, float] | None = None,
        billable_seconds: int | None = None,
    ) -> None:
        """Ends a job.

        Args:
            job: Its name.
            status: `Completed`, `Failed` or `Stopped`.
            secondary: Such as `MaxRuntimeExceeded`; the same as the status when not given.
            failure_reason: Such as `AlgorithmError: , exit code: 1`.
            metrics: Final metrics by name.
            billable_seconds: When not given, all the time since training began.
        """
        self._jobs.finish(
            job,
            status,
            secondary=secondary,
            failure_reason=failure_reason,
            metrics=metrics,
            billable_seconds=billable_seconds,
        )

    def put_log(self, job: str, host: str, lines: Iterable[str], *, attempt: int = 1) -> str:
        """Appends to a host's log in CloudWatch.

        Args:
            job: The job's name.
            host: Such as `algo-1`.
            lines: One event each, in order.
            attempt: A job that starts again after an interruption of its spot instance writes to a new stream.

        Returns:
            The name of the stream, `<job>/<host>-<epoch seconds>`.
        """
        record = self._jobs.job(job)
        created = record.creation_time.replace(tzinfo=timezone.utc)
        stream = f"{job}/{host}-{int(created.timestamp()) + attempt - 1}"
        logs = logs_backends[self.account][record.arn.split(":")[3]]
        logs.ensure_log_group(_LOG_GROUP)
        logs.ensure_log_stream(_LOG_GROUP, stream)
        now_ms = int(time.time() * 1000)
        logs.put_log_events(_LOG_GROUP, stream, [{"timestamp": now_ms, "message": line} for line in lines])
        return stream


def _sagemaker_app(jobs: TrainingJobs) -> Flask:
    """moto's SageMaker with our training jobs in place of its own."""
    original = urls.url_paths[_ROUTE]
    urls.url_paths[_ROUTE] = responder(jobs).dispatch
    try:
        return create_backend_app("sagemaker")
    finally:
        urls.url_paths[_ROUTE] = original


class _QuietHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The gate remembers the requests; nobody needs them on stderr."""
