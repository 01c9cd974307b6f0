"""A launch as it is going to be: where, with what, at what cost, and what is new in it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sagemaker_launcher.differences import Difference
from sagemaker_launcher.errors import UnsafeError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.planning.costs import Rate, dollars, longest, machines_of
from sagemaker_launcher.planning.questions import Unknown

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Identity
    from sagemaker_launcher.launch import Plan

_SHOWN = 12  # differences
_Row = tuple[str, str]


@frozen
class LastRun:
    """The last run of the same experiment, and what is going to be different; the status is empty when it is not known."""

    folder: S3Uri
    status: str
    differences: tuple[Difference, ...]


@frozen
class Overview:
    """What is known of a launch before it begins.

    Attributes:
        plan: The launch.
        identity: Who AWS says we are.
        image_digest: What the image's tag means now.
        rate: What the machines cost.
        last_run: The last run of the same experiment; None when there is none.
        offline: Why AWS was asked nothing; empty when it was asked.
    """

    plan: Plan
    identity: Identity | Unknown
    image_digest: str | Unknown
    rate: Rate | Unknown
    last_run: LastRun | Unknown | None
    offline: str = ""

    @property
    def budget_usd(self) -> float:
        """What the job may cost at most by its config, in US dollars; 0 when that does not say."""
        budget: float = self.plan.configs.sagemaker["BUDGET_USD"]
        return budget

    @property
    def max_cost_usd(self) -> float | None:
        """The most that the job can cost, in US dollars; None when the price is not known."""
        return None if isinstance(self.rate, Unknown) else self.rate.cost(longest(self.plan.job))

    def cost_usd(self, billable_s: int | None) -> float | None:
        """What the job did cost, in US dollars; None when that is not known."""
        return None if isinstance(self.rate, Unknown) or billable_s is None else self.rate.cost(billable_s)

    def cost_rows(self, billable_s: int | None) -> Iterator[_Row]:
        """What the job did cost, for people; nothing when that is not known."""
        if not isinstance(self.rate, Unknown) and billable_s is not None:
            yield "cost", f"{self.rate.arithmetic(billable_s)}, without storage"

    def refuse_beyond_budget(self) -> None:
        """Raises UnsafeError when the job can cost more than its config allows, or when nobody can say what it can cost."""
        if not self.budget_usd or not self._on_aws:
            return
        budget = f"BUDGET_USD is {dollars(self.budget_usd)}"
        if isinstance(self.rate, Unknown):
            raise UnsafeError(
                f"{budget}, and what the job can cost is unknown: {self.rate.reason}",
                hint="--yes launches it all the same",
                code="over_budget",
            )
        most = longest(self.plan.job)
        if self.rate.cost(most) > self.budget_usd:
            raise UnsafeError(
                f"{budget}, and the job can cost {dollars(self.rate.cost(most))}: {self.rate.arithmetic(most)}",
                hint="lower ESTIMATOR.MAX_RUN, take fewer or cheaper instances, or raise BUDGET_USD; "
                "--yes launches it all the same",
                code="over_budget",
            )

    def rows(self) -> Iterator[_Row]:
        """For people; of a rehearsal only what is of use there."""
        plan, job = self.plan, self.plan.job
        if self._on_aws:
            yield from self._whose()
        machines = ", ".join(map(str, machines_of(job)))
        yield "instances", f"{machines}, spot" if job.limits.spot else machines
        yield "limits", self._limits()
        if self._on_aws:
            yield from self._money()
        yield "archive", str(plan.experiment)
        yield from ((name, uri) for name, uri in self._places().items() if name != "archive")
        if self._on_aws:
            yield from ((f"  {name}", uri) for name, uri in self._channels().items())
        yield from self._since_then()

    def document(self) -> dict[str, Any]:
        """For programs. What is not known is null, and `unknown` says why."""
        job = self.plan.job
        rate = None if isinstance(self.rate, Unknown) else self.rate
        return {
            "account": self._known("identity", "account"),
            "arn": self._known("identity", "arn"),
            "region": job.region,
            "role": job.role,
            "image": job.image.uri,
            "digest": self._known("image_digest"),
            "instances": [
                {
                    **asdict(one),
                    "usd_per_hour": rate.prices[one.instance_type].usd_per_hour if rate else None,
                }
                for one in machines_of(job)
            ],
            "spot": job.limits.spot,
            "max_run_s": job.limits.max_run_s,
            "max_wait_s": job.limits.max_wait_s or None,
            "price": {"usd_per_hour": rate.usd_per_hour, "as_of": rate.as_of, "source": rate.source}
            if rate
            else None,
            "max_cost_usd": self.max_cost_usd,
            "budget_usd": self.budget_usd or None,
            "places": {**self._places(), "channels": self._channels()},
            "last_run": self._last_run_document(),
            "unknown": self._unknown(),
        }

    @property
    def _on_aws(self) -> bool:
        return self.plan.target == "aws"

    def _known(self, attribute: str, member: str = "") -> str | None:
        value = getattr(self, attribute)
        if isinstance(value, Unknown):
            return None
        text: str = getattr(value, member) if member else value
        return text

    def _unknown(self) -> dict[str, str]:
        answers = {
            "account": self.identity,
            "digest": self.image_digest,
            "price": self.rate,
            "last_run": self.last_run,
        }
        return {
            name: value.reason
            for name, value in answers.items()
            if isinstance(value, Unknown) and value.reason
        }

    def _whose(self) -> Iterator[_Row]:
        job, identity, digest = self.plan.job, self.identity, self.image_digest
        if self.offline:
            yield "offline", f"AWS was asked nothing: {self.offline}"
        elif isinstance(identity, Unknown):
            yield "account", _unknown(identity.reason)
        else:
            yield "account", f"{identity.account}, as {identity.arn}"
        yield "region", job.region
        yield "role", job.role
        yield "image", job.image.uri
        if not isinstance(digest, Unknown):
            yield "digest", digest
        elif not self.offline:
            yield "digest", _unknown(digest.reason)

    def _limits(self) -> str:
        limits, keep_alive = self.plan.job.limits, self.plan.job.machines.keep_alive_s
        text = f"at most {limits.max_run_s:,} s of running"
        if limits.spot:
            text += f", {limits.max_wait_s:,} s with waiting"
        return f"{text}; the machines are kept for {keep_alive:,} s" if keep_alive else text

    def _money(self) -> Iterator[_Row]:
        if isinstance(self.rate, Unknown):
            yield "price", _unknown(self.rate.reason)
        else:
            source = f"AWS's price list, as of {self.rate.as_of[:10]}"
            if self.rate.source != "price list":
                source += ", kept on this machine"
            yield "price", f"{dollars(self.rate.usd_per_hour)} an hour on demand, without storage ({source})"
            text = self.rate.arithmetic(longest(self.plan.job))
            spot = "; spot costs less, and AWS does not say beforehand how much"
            yield "at most", text + (spot if self.plan.job.limits.spot else "")
        if self.budget_usd:
            unpriced = "; without a price, a launch needs --yes" if isinstance(self.rate, Unknown) else ""
            yield "budget", f"{dollars(self.budget_usd)}{unpriced}"

    def _places(self) -> dict[str, str]:
        job = self.plan.job
        places = {
            "archive": str(self.plan.experiment),
            "outputs": f"{job.outputs_uri}/{job.name}/output/",
            "checkpoints": job.checkpoints_uri,
        }
        return {name: uri for name, uri in places.items() if uri}

    def _channels(self) -> dict[str, str]:
        job = self.plan.job
        channels = {
            channel.name: channel.s3_uri
            or (
                f"{channel.file_system.file_system_id}:{channel.file_system.directory_path}"
                if channel.file_system
                else ""
            )
            for channel in job.channels
        }
        return {**channels, job.model_channel_name: job.model_uri} if job.model_uri else channels

    def _since_then(self) -> Iterator[_Row]:
        last = self.last_run
        if isinstance(last, Unknown):
            if last.reason and not self.offline:
                yield "last run", _unknown(last.reason)
        elif last is None:
            yield "last run", f"none of {self.plan.job.experiment_name} yet"
        else:
            told = f"{last.folder.name} {last.status}".rstrip()
            original = self.plan.original
            if original and original.folder == last.folder:
                yield "last run", f"{told}, which this repeats"
                return
            yield "last run", f"{told}; " + ("these differ:" if last.differences else "nothing differs")
            for one in last.differences[:_SHOWN]:
                yield "", f"{one.area}  {one.name}: {one.before} -> {one.after}"
            if len(last.differences) > _SHOWN:
                yield "", f"... and {len(last.differences) - _SHOWN} more"

    def _last_run_document(self) -> Mapping[str, Any] | None:
        if self.last_run is None or isinstance(self.last_run, Unknown):
            return None
        return {
            "experiment": str(self.last_run.folder),
            "status": self.last_run.status or None,
            "differences": [asdict(one) for one in self.last_run.differences],
        }


def _unknown(reason: str) -> str:
    return f"unknown: {reason}"
