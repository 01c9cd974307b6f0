"""What befalls a job that on AWS befalls few: ordered by a test, or by words in the job's own tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

TAG = "emulator"  # the key of the tag whose value orders a fate
# Reasons that the service gives: https://docs.aws.amazon.com/sagemaker/latest/dg/ and public reports.
_FAILURES = {
    "capacity": "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type.",
    "internal": "InternalServerError: We encountered an internal error. Please try again.",
    "image": "ClientError: Cannot pull algorithm container. "
    "Either the image does not exist or its permissions are incorrect.",
}


@dataclass(frozen=True)
class Fate:
    """What befalls a job.

    Attributes:
        quota: CreateTrainingJob is refused with ResourceLimitExceeded.
        start_delay_s: So long it is Starting.
        stuck: It is Starting until it is stopped, or until its MaxWaitTimeInSeconds is over.
        failure: It fails after Starting: `capacity`, `internal`, `image`, or a FailureReason of your own.
        interrupt_after_s: When the spot instances of each attempt are reclaimed, in seconds of training; only for
            jobs with EnableManagedSpotTraining.
        log_delay_s: So much later its log lines are in CloudWatch.
    """

    quota: bool = False
    start_delay_s: float = 0.0
    stuck: bool = False
    failure: str = ""
    interrupt_after_s: tuple[float, ...] = ()
    log_delay_s: float = 0.0

    @property
    def failure_reason(self) -> str:
        """The FailureReason of a job that fails after Starting; empty for others."""
        return _FAILURES.get(self.failure, self.failure)


_Change = Callable[[Fate, str], Fate]
_WORDS: Mapping[str, _Change] = {
    "quota": lambda fate, _: replace(fate, quota=True),
    "start-delay": lambda fate, value: replace(fate, start_delay_s=float(value)),
    "stuck": lambda fate, _: replace(fate, stuck=True),
    "fail": lambda fate, value: replace(fate, failure=value),
    "interrupt": lambda fate, value: replace(fate, interrupt_after_s=(*fate.interrupt_after_s, float(value))),
    "log-delay": lambda fate, value: replace(fate, log_delay_s=float(value)),
}
WORDS = (
    "quota, start-delay=SECONDS, stuck, fail=capacity|internal|image, interrupt=SECONDS, log-delay=SECONDS"
)


def ordered(tags: Iterable[Mapping[str, str]], otherwise: Fate) -> Fate:
    """The fate that a job's tags order, such as `start-delay=5 fail=capacity`.

    Args:
        tags: As CreateTrainingJob has them.
        otherwise: The fate of a job without such a tag.

    Raises:
        ValueError: A word means nothing.
    """
    value = next((tag["Value"] for tag in tags if tag["Key"] == TAG), "")
    if not value:
        return otherwise
    fate = Fate()
    for word in value.split():
        name, _, argument = word.partition("=")
        if name not in _WORDS:
            raise ValueError(f"tag {TAG}: {word!r} is none of: {WORDS}")
        fate = _WORDS[name](fate, argument)
    return fate
