"""Who we are, where, until when, and by what clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from sagemaker_launcher.aws import clock_problem
from sagemaker_launcher.errors import ExitCode
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World


def identity_checks(subject: Subject, world: World) -> tuple[Check, ...]:
    """What can be said as soon as STS has answered."""
    return (
        Check("credentials", (lambda: _credentials(subject, world),)),
        Check("account", (lambda: _account(subject, world),)),
        Check("clock", (lambda: _clock(world),)),
    )


def _credentials(subject: Subject, world: World) -> Iterator[Finding]:
    """A job needs its role's credentials and not ours: those that end only end the waiting for it."""
    arn, end = world.identity.arn, world.aws.credentials_end
    longest = timedelta(seconds=max(subject.job.limits.max_run_s, subject.job.limits.max_wait_s))
    if end and end < datetime.now(timezone.utc) + longest:
        yield Finding(
            "credentials",
            "warning",
            f"{arn}; the credentials end at {end:%Y-%m-%d %H:%M} UTC, before the job may: it goes on without you",
            "log in again then, and `wait` or `logs -f` comes back to it",
        )
    else:
        yield Finding("credentials", "ok", arn)


def _account(subject: Subject, world: World) -> Iterator[Finding]:
    wanted, found, region = subject.job.account, world.identity.account, subject.job.region
    if wanted and wanted != found:
        yield failed(
            "account",
            f"these are credentials of account {found}, and AWS.ACCOUNT is {wanted}",
            "choose other credentials (AWS.PROFILE, AWS_PROFILE), or correct AWS.ACCOUNT",
            ExitCode.UNSAFE,
            "wrong_account",
        )
    else:
        pinned = "as AWS.ACCOUNT says" if wanted else "AWS.ACCOUNT names none"
        yield Finding("account", "ok", f"{found} in {region}; {pinned}")


def _clock(world: World) -> Iterator[Finding]:
    problem = clock_problem(world.identity.clock_lead)
    if problem:
        fix = "set it: AWS refuses requests that are more than five minutes off"
        yield failed("clock", problem, fix, ExitCode.CREDENTIALS, "clock_skew")
    else:
        seconds = abs(world.identity.clock_lead.total_seconds())
        yield Finding("clock", "ok", f"at most {int(seconds) + 1} s off")
