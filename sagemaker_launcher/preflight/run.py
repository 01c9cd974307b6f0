"""Asks AWS all that a job needs, at once, and reports."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from threading import Thread

from sagemaker_launcher.aws import Aws
from sagemaker_launcher.errors import ExitCode, LauncherError, UnavailableError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.preflight import CHECKS
from sagemaker_launcher.preflight.buckets import bucket_checks
from sagemaker_launcher.preflight.check import Check, Question, failed, unanswered
from sagemaker_launcher.preflight.data import DataCheck
from sagemaker_launcher.preflight.identity import identity_checks
from sagemaker_launcher.preflight.image import ImageCheck
from sagemaker_launcher.preflight.keys import key_check
from sagemaker_launcher.preflight.metrics import metric_findings
from sagemaker_launcher.preflight.network import NetworkCheck
from sagemaker_launcher.preflight.quota import quota_check
from sagemaker_launcher.preflight.report import Report
from sagemaker_launcher.preflight.role import role_checks
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World

_PATIENCE_S = 20.0
# The checks that ask a service besides S3.
_SERVICES = {
    "s3": {"buckets", "public", "data"},
    "iam": {"archive", "role", "pass-role", "role-access"},
    "ecr": {"image"},
    "service-quotas": {"quota"},
    "kms": {"keys"},
    "ec2": {"network"},
}


def run_checks(subject: Subject, aws: Aws, skip: Collection[str] = ()) -> Report:
    """Finds out all that can be known before a job is started, and changes nothing.

    Args:
        subject: What is checked.
        aws: Whom to ask.
        skip: The names of checks to leave out.
    """
    world = World(aws, subject.owners)
    who = _Asking("credentials", lambda: [Finding("", "ok", world.identity.arn)])
    who.start()
    image = ImageCheck(subject, world)
    # Making clients is work for the processor: it is done while the first answer is on its way.
    wanted = _wanted(subject, skip)
    for service, names in _SERVICES.items():
        if names & wanted:
            world.client(service)
    who.join()
    if who.error:
        return Report((_unreachable(who.error),))
    first = _answers([check for check in identity_checks(subject, world) if check.name in wanted])
    if any(finding.verdict == "failed" for finding in first):
        # In the wrong account, or at the wrong time, every other answer would be wrong, too.
        return Report(tuple(first), world.identity)
    patterns = list(metric_findings(subject)) if "metrics" in wanted else []  # not in a thread of its own
    checks = [
        *bucket_checks(subject, world),
        DataCheck(subject, world).check,
        *role_checks(subject, world),
        image.check,
        quota_check(subject, world),
        NetworkCheck(subject, world).check,
        key_check(subject, world),
        Check("metrics", (lambda: patterns,)),
    ]
    found = _answers([check for check in checks if check.name in wanted])
    return Report((*first, *found), world.identity, image.digest)


def _wanted(subject: Subject, skip: Collection[str]) -> set[str]:
    """The checks that are neither left out nor pointless for this job."""
    pointless = set()
    if not subject.job.network.subnets:
        pointless.add("network")
    if not subject.job.machines.volume_kms_key and not subject.job.output_kms_key:
        pointless.add("keys")
    return set(CHECKS) - set(skip) - pointless


def _answers(checks: list[Check]) -> list[Finding]:
    """The findings of some checks, in their order; all questions are asked at the same time."""
    asked = [(check, [_Asking(check.name, question) for question in check.questions]) for check in checks]
    everyone = [asking for _, askings in asked for asking in askings]
    for asking in everyone:
        asking.start()
    end = time.monotonic() + _PATIENCE_S
    for asking in everyone:
        asking.join(max(end - time.monotonic(), 0.0))
    found: list[Finding] = []
    for check, askings in asked:
        for asking in askings:
            found += asking.findings()
        found += check.conclude()
    return _once(found)


def _once(findings: Iterable[Finding]) -> list[Finding]:
    """An unreachable S3 is one failure, however many questions met it."""
    found = list(dict.fromkeys(findings))
    network = [finding for finding in found if finding.code == "unavailable"]
    return [finding for finding in found if finding not in network[1:]]


def _unreachable(error: LauncherError) -> Finding:
    """The finding on an error after which nothing else can be asked."""
    code = ExitCode(error.exit_code)
    return failed("credentials", error.message, error.hint, code, error.code)


class _Asking(Thread):
    """A question while it is being asked. A thread that nobody has to wait for when the command ends."""

    def __init__(self, name: str, question: Question) -> None:
        super().__init__(daemon=True)
        self._check = name
        self._question = question
        self._found: list[Finding] | None = None
        self._bug: BaseException | None = None
        self.error: LauncherError | None = None

    def run(self) -> None:
        """See Thread."""
        try:
            self._found = list(self._question())
        except LauncherError as error:
            self.error = error
        except BaseException as bug:  # noqa: BLE001 - it is raised where it can be seen
            self._bug = bug

    def findings(self) -> list[Finding]:
        """The answer, or why there is none."""
        if self._bug:
            raise self._bug
        if self.error:
            return [self._from(self.error)]
        if self._found is None:
            return [self._from(UnavailableError(f"{self._check}: no answer in {_PATIENCE_S:g} s"))]
        return self._found

    def _from(self, error: LauncherError) -> Finding:
        if isinstance(error, UnavailableError) and self._check == "buckets":
            # The launch itself needs S3; of everything else it can do without the answer.
            return failed("buckets", error.message, error.hint, ExitCode.UNAVAILABLE, "unavailable")
        return unanswered(self._check, error)
