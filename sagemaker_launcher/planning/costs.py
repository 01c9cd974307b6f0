"""What a job can cost at most, and what it did cost: rate x machines x time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.job import Job
from sagemaker_launcher.planning.prices import Price

_HOUR_S = 3600


@frozen
class Machines:
    """Machines of one type in a job; `group` is empty when they are all of a kind."""

    group: str
    instance_type: str
    count: int

    def __str__(self) -> str:
        return f"{self.count} x {self.instance_type}" + (f" ({self.group})" if self.group else "")


def machines_of(job: Job) -> tuple[Machines, ...]:
    """What a job runs on."""
    machines = job.machines
    if not machines.groups:
        return (Machines("", machines.instance_type, machines.instance_count),)
    return tuple(Machines(group.name, group.instance_type, group.instance_count) for group in machines.groups)


@frozen
class Rate:
    """What all machines of a job cost together on demand, without storage and the transfer of data.

    Attributes:
        machines: The machines.
        prices: By instance type.
    """

    machines: Sequence[Machines]
    prices: Mapping[str, Price]

    @property
    def usd_per_hour(self) -> float:
        """US dollars an hour."""
        return self.cost(_HOUR_S)

    @property
    def as_of(self) -> str:
        """When AWS said the oldest of the prices (ISO 8601, UTC)."""
        return self._oldest.as_of

    @property
    def source(self) -> str:
        """Where the oldest of the prices is from."""
        return self._oldest.source

    def cost(self, seconds: float) -> float:
        """What so long costs, in US dollars."""
        by_hour = sum(one.count * self.prices[one.instance_type].usd_per_hour for one in self.machines)
        return round(by_hour * seconds / _HOUR_S, 6)

    def arithmetic(self, seconds: int) -> str:
        """How that comes about, such as `2 x $0.115 an hour x 3,600 s = $0.23`."""
        parts = " + ".join(
            f"{one.count} x {dollars(self.prices[one.instance_type].usd_per_hour)}" for one in self.machines
        )
        rate = f"({parts})" if len(self.machines) > 1 else parts
        return f"{rate} an hour x {seconds:,} s = {dollars(self.cost(seconds))}"

    @property
    def _oldest(self) -> Price:
        return min(self.prices.values(), key=lambda price: price.as_of)


def longest(job: Job) -> int:
    """For how many seconds the machines of a job can be billed: its longest run, and the time that they are kept after it.

    https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools.html: a warm pool is billed while it waits.
    """
    return job.limits.max_run_s + job.machines.keep_alive_s


def dollars(amount: float) -> str:
    """An amount of US dollars, such as `$2.76` or `$0.0023`, with no more digits than it has."""
    text = f"{amount:,.4f}" if amount >= 1 else f"{amount:.6f}"
    whole, _, digits = text.partition(".")
    return f"${whole}.{digits.rstrip('0').ljust(2, '0')}"
