"""What can go wrong for a user, and the exit code that each kind of failure has."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from sagemaker_launcher.frozen import frozen

PROBLEMS_SHOWN = 100  # of a config; nobody reads more at once


class ExitCode(IntEnum):
    """The exit codes of every command; README.md explains them to users."""

    DONE = 0
    BUG = 1
    USAGE = 2
    CONFIG = 3
    CREDENTIALS = 4
    ACCESS_DENIED = 5
    NOT_FOUND = 6
    CONFLICT = 7
    CAPACITY = 8
    UNAVAILABLE = 9
    JOB_FAILED = 10
    JOB_STOPPED = 11
    JOB_RUNNING = 12
    INTEGRITY = 13
    UNSAFE = 14
    ENVIRONMENT = 15
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class LauncherError(Exception):
    """A failure that a user can understand and act on; anything else is a bug and keeps its traceback.

    Args:
        message: What failed, and on what exactly.
        hint: What to do now; empty when there is nothing to add.
        code: A stable word for programs (`--json`), such as `bucket_not_found`.
    """

    exit_code: int = ExitCode.BUG
    code = "error"
    problems: tuple[Problem, ...] = ()

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code


@frozen
class Problem:
    """One thing wrong in a config file or an override.

    Attributes:
        where: `file:line:column`, or the option it came from (`--set ESTIMATOR.VOLUME_SIZE`).
        message: What is wrong, in one sentence without the place.
        key: The dotted key, when there is one.
        value: The value as written, shortened; empty when it does not help.
        expected: What would have been right; empty when the message says it.
        suggestion: The nearest valid key or value; empty when nothing is near.
    """

    where: str
    message: str
    key: str = ""
    value: str = ""
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: "
        if self.key and not self.where.endswith(f" {self.key}"):
            text += f"{self.key}: "
        text += self.message
        if self.expected:
            text += f"; expected {self.expected}"
        if self.value:
            text += f", got {self.value}"
        if self.suggestion:
            text += f" (did you mean {self.suggestion}?)"
        return text


class ConfigError(LauncherError):
    """Both configs and the overrides are read to the end; this holds everything wrong in them."""

    exit_code = ExitCode.CONFIG
    code = "config_invalid"

    def __init__(self, problems: Iterable[Problem], *, hint: str = "", code: str = "") -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:PROBLEMS_SHOWN]]
        if len(self.problems) > PROBLEMS_SHOWN:
            lines.append(f"and {len(self.problems) - PROBLEMS_SHOWN:,} more problems")
        super().__init__("\n".join(lines), hint=hint, code=code)


class UsageError(LauncherError):
    """The command line itself is wrong."""

    exit_code = ExitCode.USAGE
    code = "usage"


class CredentialsError(LauncherError):
    """AWS credentials are missing, expired or wrong."""

    exit_code = ExitCode.CREDENTIALS
    code = "credentials"


class AccessDeniedError(LauncherError):
    """AWS knows who we are and says no."""

    exit_code = ExitCode.ACCESS_DENIED
    code = "access_denied"


class NotFoundError(LauncherError):
    """A bucket, an object, an experiment or a job does not exist."""

    exit_code = ExitCode.NOT_FOUND
    code = "not_found"


class ConflictError(LauncherError):
    """A name that must be new is taken."""

    exit_code = ExitCode.CONFLICT
    code = "name_taken"


class CapacityError(LauncherError):
    """A quota or the capacity of AWS is exhausted."""

    exit_code = ExitCode.CAPACITY
    code = "capacity"


class UnavailableError(LauncherError):
    """The network or AWS does not answer."""

    exit_code = ExitCode.UNAVAILABLE
    code = "unavailable"


class JobStillRunningError(LauncherError):
    """Contact with a job was lost while it ran; the job goes on."""

    exit_code = ExitCode.JOB_RUNNING
    code = "job_running"


class IntegrityError(LauncherError):
    """What the archive holds is not what was sealed."""

    exit_code = ExitCode.INTEGRITY
    code = "integrity"


class UnsafeError(LauncherError):
    """Refused because going on could harm: a secret, a path that escapes, a foreign bucket."""

    exit_code = ExitCode.UNSAFE
    code = "unsafe"


class EnvironmentProblemError(LauncherError):
    """This machine lacks something: a program, a library version, disk space, a permission."""

    exit_code = ExitCode.ENVIRONMENT
    code = "environment"


class ChecksFailedError(LauncherError):
    """What AWS was asked before a launch says that the job cannot run; all of it at once.

    Args:
        problems: What is wrong: the name of each check, and what it found.
        exit_code: Of the first class of failures; see `preflight.report`.
        hint: What to do now.
        code: Of the first problem.
    """

    def __init__(self, problems: Iterable[Problem], *, exit_code: ExitCode, hint: str, code: str) -> None:
        self.problems = tuple(problems)
        self.exit_code = exit_code
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint, code=code)


class CommandInterrupted(LauncherError):  # noqa: N818 - being interrupted is no error of anybody's
    """A signal ended the command, and the message says what that leaves behind.

    Args:
        message: What goes on, what was kept and what was not done.
        signal_number: The signal; the exit code is 128 + this number (129 for SIGHUP, 130 for Ctrl-C, 143 for SIGTERM).
        hint: How to come back or to stop what goes on.
    """

    code = "interrupted"

    def __init__(self, message: str, *, signal_number: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number
