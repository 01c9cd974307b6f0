"""Contact with AWS that outlasts throttling, a dead network, expired credentials and a machine that slept."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sagemaker_launcher.aws import Aws, aws_errors
from sagemaker_launcher.clock import Stopwatch
from sagemaker_launcher.errors import (
    AccessDeniedError,
    CredentialsError,
    JobStillRunningError,
    LauncherError,
    UnavailableError,
)
from sagemaker_launcher.events import Events

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_LOGIN_PAUSE_S = 5.0
_SLEPT_S = 10.0  # a pause that takes so much longer than it should: the machine slept, or was stopped
_EXPORT = (
    "the credentials come from environment variables (AWS_ACCESS_KEY_ID and its siblings), which a running command cannot"
    " read again: export new ones, then come back to the job"
)
_Answer = TypeVar("_Answer")


class Pace:
    """Spaces requests out, for all who share it.

    Args:
        seconds: The time from one request to the next.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def wait(self) -> None:
        """Returns when a request may be made."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._seconds


class Contact:
    """Asks AWS the same until it answers: the jobs go on, whatever becomes of the machine that watches them.

    Args:
        aws: The region and the credentials.
        events: Who is told what is wrong, once, and when it is over.
        timeout_s: When to give up; None: never.
        waits_for_login: Whether to wait for new credentials when these have expired. Without that, and in silence,
            nobody could know that a login is needed.
        denied_s: How long a permission may be missing: those that depend on a new job's tags come after minutes.
    """

    def __init__(
        self,
        aws: Aws,
        events: Events,
        *,
        timeout_s: float | None = None,
        waits_for_login: bool = True,
        denied_s: float = 0.0,
    ) -> None:
        self._aws = aws
        self._events = events
        self._timeout_s = timeout_s
        self._waits_for_login = waits_for_login
        self._denied_s = denied_s
        self._clients: dict[str, Any] = {}
        self._began = Stopwatch()

    def sagemaker(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client of SageMaker. Ask for it each time: there is another one after a new login."""
        return self._client("sagemaker")

    def logs(self) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client of CloudWatch Logs; see `sagemaker`."""
        return self._client("logs")

    def _client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """A client that never repeats a call by itself: `ask` does, and every request counts."""
        if service not in self._clients:
            self._clients[service] = self._aws.single_attempt_client(service)
        return self._clients[service]

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """The answer to a question, however often it has to be asked.

        Raises:
            JobStillRunningError: The time is over, or the credentials have expired and nobody would renew them, or nobody
                could, since they are environment variables.
            LauncherError: AWS's answer is an error that waiting does not mend.
        """
        told, pause_s = "", _FIRST_PAUSE_S
        while True:
            try:
                answer = question()
            except CredentialsError as error:
                if not self._waits_for_login or self._kept_in_variables(error):
                    raise self._lost(error) from error
                told = self._tell(told, error, f"{error.hint}: the jobs go on, and so does this command then")
                self._renew()
                self.pause(_LOGIN_PAUSE_S)
            except UnavailableError as error:
                told = self._tell(told, error, "the jobs go on; trying again")
                # Full jitter: many watchers that were refused together must not come back together.
                self.pause(random.uniform(1.0, pause_s))  # noqa: S311 - no secret
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except AccessDeniedError as error:
                if self._began.seconds > self._denied_s:
                    raise
                told = self._tell(told, error, "a new job's permissions may take minutes; trying again")
                self.pause(_LOGIN_PAUSE_S)
            else:
                if told:
                    self._events.note("AWS answers again")
                return answer

    def pause(self, seconds: float) -> None:
        """Waits, but not beyond the timeout: there is one more look after the last pause.

        Raises:
            JobStillRunningError: The time is over.
        """
        if self._timeout_s is not None:
            left_s = self._timeout_s - self._began.seconds
            if left_s <= 0:
                raise JobStillRunningError(f"not ended within {self._timeout_s:g} s", code="timeout")
            seconds = min(seconds, left_s)
        paused = Stopwatch()
        time.sleep(seconds)
        if paused.seconds > seconds + _SLEPT_S:
            self._events.note(f"this machine slept for {_duration(paused.seconds)}; looking again")
            self._renew()  # its connections are dead, which takes a minute to find out

    def _renew(self) -> None:
        """New credentials, wherever they come from, and new connections."""
        self._aws.renew()
        self._clients.clear()

    def _kept_in_variables(self, error: CredentialsError) -> bool:
        """Whether the trouble is with environment variables, which nobody can change for a command that runs."""
        if error.code == "clock_skew":
            return False  # the clock can be set
        try:
            with aws_errors("read your credentials"):
                found = self._aws.session.get_credentials()
        except CredentialsError:
            return False  # of a file or a program, and a login mends it
        return found is not None and found.method == "env"

    def _lost(self, error: CredentialsError) -> JobStillRunningError:
        hint = _EXPORT if self._kept_in_variables(error) else error.hint
        return JobStillRunningError(
            f"contact is lost, and the job goes on: {error.message}", hint=hint, code="contact_lost"
        )

    def _tell(self, told: str, error: LauncherError, meanwhile: str) -> str:
        """Says what is wrong unless it has just been said; gives what has been said."""
        if told != error.code:
            self._events.note(f"{error.message}\n{meanwhile}")
        return error.code


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"  # noqa: PLR2004
