"""The account's quotas for training, in Service Quotas.

Names of the quotas: https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from sagemaker_launcher.aws import asked
from sagemaker_launcher.comeback import console
from sagemaker_launcher.errors import EnvironmentProblemError, ExitCode, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.planning import prices
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World
from sagemaker_launcher.unfinished import unfinished
from sagemaker_launcher.user_cache import cache_folder, place

_SERVICE = "sagemaker"
_CODE = re.compile(r"[A-Za-z0-9-]{1,128}")
_LONGEST_RUN = "Longest run time for a training job"
_USAGE = "training job usage"
_CODES_FILE = "quota-codes.json"


@frozen
class _Need:
    """How much of a quota the job needs."""

    name: str
    amount: int
    unit: str


def quota_check(subject: Subject, world: World) -> Check:
    """Instances of each type, the warm pool, and how long a job may run."""
    needs = _needs(subject)
    known = _known_codes()
    if all(need.name in known for need in needs):
        return Check("quota", tuple(partial(_ask, subject, world, need, known[need.name]) for need in needs))
    return Check("quota", (lambda: _search(subject, world, needs),))


def _needs(subject: Subject) -> tuple[_Need, ...]:
    job = subject.job
    if job.machines.training_plan:
        return ()  # the capacity is the plan's
    counts: Counter[str] = Counter()
    for group in job.machines.groups:
        counts[group.instance_type] += group.instance_count
    if not job.machines.groups:
        counts[job.machines.instance_type] = job.machines.instance_count
    kinds = [f"spot {_USAGE}" if job.limits.spot else _USAGE]
    if job.machines.keep_alive_s:
        kinds.append("training warm pool usage")
    machines = [
        _Need(f"{name} for {kind}", count, "instances") for name, count in counts.items() for kind in kinds
    ]
    return (*machines, _Need(_LONGEST_RUN, job.limits.max_run_s, "seconds"))


def _ask(subject: Subject, world: World, need: _Need, code: str) -> Iterator[Finding]:
    """https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html."""
    try:
        answer = asked(
            world.client("service-quotas").get_service_quota,
            "Quota",
            f"ask for the quota {need.name!r}",
            ServiceCode=_SERVICE,
            QuotaCode=code,
        )
    except NotFoundError:
        # Its code is known from another region.
        yield _unlisted(need, subject, world)
        return
    yield _judged(need, answer["Quota"]["Value"], code, world)


def _search(subject: Subject, world: World, needs: tuple[_Need, ...]) -> Iterator[Finding]:
    """Finds quotas by their names, since nothing else tells their codes, which are then kept for the next time."""
    wanted = {need.name: need for need in needs}
    found: dict[str, str] = {}
    token = ""
    while wanted:
        page = asked(
            world.client("service-quotas").list_service_quotas,
            "Quotas",
            "list the quotas",
            ServiceCode=_SERVICE,
            MaxResults=100,
            **({"NextToken": token} if token else {}),
        )
        for quota in page["Quotas"]:
            need = wanted.pop(quota["QuotaName"], None)
            if need:
                found[need.name] = quota["QuotaCode"]
                yield _judged(need, quota["Value"], quota["QuotaCode"], world)
        token = page.get("NextToken", "")
        if not token:
            break
    _keep_codes(found)
    for need in wanted.values():
        yield _unlisted(need, subject, world)


def _unlisted(need: _Need, subject: Subject, world: World) -> Finding:
    """On a quota that is not there. A type of instance without quota and price is not offered in the region.

    One of both is not enough: some quotas are only listed once they were raised
    (https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_ListServiceQuotas.html).
    """
    region = subject.job.region
    message = f"Service Quotas has no {need.name!r} in {region}"
    instance_type, _, usage = need.name.partition(" for ")
    if usage.endswith(_USAGE):
        try:
            prices.ask(world.aws, region, instance_type)
        except NotFoundError:
            return failed(
                "quota",
                f"{message}, and the price list no {instance_type}: it is not offered there",
                "choose another ESTIMATOR.INSTANCE_TYPE, or another AWS.REGION",
                ExitCode.CONFIG,
                "instance_type_not_offered",
            )
        except LauncherError:
            pass  # nobody has to be allowed to ask for prices
    return Finding("quota", "unknown", message)


def _judged(need: _Need, value: float, code: str, world: World) -> Finding:
    shown = f"{need.name}: {value:,.0f} {need.unit}, and the job needs {need.amount:,}"
    if need.amount <= value:
        return Finding("quota", "ok", shown)
    region = world.client("service-quotas").meta.region_name
    link = f"{console(region)}/servicequotas/home/services/{_SERVICE}/quotas/{code}"
    return failed("quota", shown, f"ask for more: {link}", ExitCode.CAPACITY, "quota")


def _known_codes() -> dict[str, str]:
    """Codes by name, as far as this machine has seen them; they are the same in all accounts."""
    with suppress(OSError, ValueError):
        found = json.loads((place() / _CODES_FILE).read_bytes())
        if isinstance(found, dict):
            return {
                name: code for name, code in found.items() if isinstance(code, str) and _CODE.fullmatch(code)
            }
    return {}


def _keep_codes(found: dict[str, str]) -> None:
    with suppress(EnvironmentProblemError, OSError):  # where nothing can be kept, it only takes longer
        folder = cache_folder()
        with unfinished(folder / "incomplete") as path:
            path.write_text(json.dumps({**_known_codes(), **found}), "utf-8")
            path.replace(folder / _CODES_FILE)
