"""What a check is: questions that are asked at once, and a conclusion from their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sagemaker_launcher.errors import (
    AccessDeniedError,
    CredentialsError,
    ExitCode,
    LauncherError,
    NotFoundError,
    UnavailableError,
)
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.frozen import frozen

Question = Callable[[], Iterable[Finding]]


def nothing_more() -> Iterable[Finding]:
    """The conclusion of a check whose questions say it all."""
    return ()


@frozen
class Check:
    """One of `preflight.CHECKS` for one job.

    Attributes:
        name: Its name there.
        questions: Each asks AWS a few things one after the other; all of them are asked at the same time.
        conclude: Called when all questions of all checks have been answered.
    """

    name: str
    questions: tuple[Question, ...]
    conclude: Question = nothing_more


def failed(name: str, message: str, fix: str, exit_code: ExitCode, code: str) -> Finding:
    """The finding that a job cannot run like this."""
    return Finding(name, "failed", message, fix, exit_code, code)


def unanswered(name: str, error: LauncherError) -> Finding:
    """The finding on a question that AWS answered with an error.

    Who has no permission to ask cannot know, and so nobody may say that all is well.
    """
    if isinstance(error, (CredentialsError, NotFoundError)):
        return failed(name, error.message, error.hint, ExitCode(error.exit_code), error.code)
    fix = "" if isinstance(error, (AccessDeniedError, UnavailableError)) else error.hint
    return Finding(name, "unknown", error.message, fix)
