"""What a preflight has found out, and what a command ends with because of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sagemaker_launcher.errors import ChecksFailedError, ExitCode, Problem
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.frozen import frozen

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Identity

# Which failure a command ends with when there are several: the one that has to be mended first. Without credentials and
# a network nothing is known; what is unsafe matters more than what is wrong, and what is wrong more than what is missing.
ORDER = (
    ExitCode.CREDENTIALS,
    ExitCode.UNAVAILABLE,
    ExitCode.UNSAFE,
    ExitCode.INTEGRITY,
    ExitCode.CONFIG,
    ExitCode.NOT_FOUND,
    ExitCode.ACCESS_DENIED,
    ExitCode.CAPACITY,
    ExitCode.ENVIRONMENT,
)

# What nobody should be led past: without these there is no launch, or none that is safe.
_FINAL = {ExitCode.CREDENTIALS, ExitCode.UNAVAILABLE, ExitCode.UNSAFE}


@frozen
class Report:
    """The outcome of all checks.

    Attributes:
        findings: In the order of the checks.
        identity: Who AWS says we are; None when that could not be found out.
        image_digest: The image's digest in the registry, such as `sha256:...`; empty when it could not be found out.
    """

    findings: tuple[Finding, ...]
    identity: Identity | None = None
    image_digest: str = ""

    def of(self, verdict: str) -> tuple[Finding, ...]:
        """The findings with a verdict."""
        return tuple(finding for finding in self.findings if finding.verdict == verdict)

    @property
    def exit_code(self) -> ExitCode:
        """DONE when nothing failed, else the code of the failure that comes first in ORDER."""
        failed = self.of("failed")
        return _first(failed).exit_code if failed else ExitCode.DONE

    def refuse(self) -> None:
        """Raises ChecksFailedError, with every failure, when there is one."""
        failed = self.of("failed")
        if not failed:
            return
        fixes = dict.fromkeys(line for finding in failed for line in finding.fix.split("\n") if line)
        hint = [*fixes, "nothing was written"]
        if not any(finding.exit_code in _FINAL for finding in failed):
            names = " ".join(f"--skip-check {name}" for name in dict.fromkeys(one.name for one in failed))
            hint[-1] += f"; to launch all the same: {names}"
        raise ChecksFailedError(
            [Problem(finding.name, finding.message) for finding in failed],
            exit_code=self.exit_code,
            hint="\n".join(hint),
            code=_first(failed).code,
        )


def _first(failed: Sequence[Finding]) -> Finding:
    ranks = {code: rank for rank, code in enumerate(ORDER)}
    return min(failed, key=lambda finding: ranks.get(finding.exit_code, len(ranks)))
