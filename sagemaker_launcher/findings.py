"""What a check has found: the unit that `check`, `doctor` and `verify` report."""

from __future__ import annotations

from typing import Literal

from sagemaker_launcher.errors import ExitCode
from sagemaker_launcher.frozen import frozen

Verdict = Literal["ok", "warning", "failed", "unknown"]


@frozen
class Finding:
    """The outcome of one check.

    Attributes:
        name: The check, in a word.
        verdict: `failed`: a job would fail; `warning`: it would lose something; `unknown`: it could not be found out.
        message: What was found, on what exactly.
        fix: What to do about it; empty when all is well.
        exit_code: What a command ends with when this check failed.
        code: A stable word for programs, such as `bucket_not_found`, when the check failed.
    """

    name: str
    verdict: Verdict
    message: str
    fix: str = ""
    exit_code: ExitCode = ExitCode.ENVIRONMENT
    code: str = "check_failed"
