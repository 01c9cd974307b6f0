"""Asks all that a plan wants to know, at once and for a few seconds at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sagemaker_launcher.archive.experiments import Experiment
from sagemaker_launcher.differences import Difference
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import ImageUri
from sagemaker_launcher.planning import prices
from sagemaker_launcher.planning.costs import Rate, machines_of
from sagemaker_launcher.planning.last_run import last_run
from sagemaker_launcher.planning.overview import LastRun, Overview
from sagemaker_launcher.planning.prices import Price
from sagemaker_launcher.planning.questions import Question, Unknown
from sagemaker_launcher.storage import Storage

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Aws
    from sagemaker_launcher.launch import Plan

PATIENCE_S = 6.0
Compare = Callable[[Experiment], tuple[Difference, ...]]
_Answer = TypeVar("_Answer")


@frozen
class Sources:
    """Who can be asked.

    Attributes:
        aws: For the identity and the prices; None: nobody.
        storage: Where the archive is; None when it is not to be asked.
        image_digest: Finds out what the image's tag means; None when somebody else does.
        offline: Why AWS is not asked; empty when it is.
    """

    aws: Aws | None = None
    storage: Storage | None = None
    image_digest: Callable[[], str] | None = None
    offline: str = ""


class Inquiry:
    """Everything that a plan wants to know; all of it is being asked from the moment this is made.

    Args:
        plan: The launch.
        sources: Who is asked.
    """

    def __init__(self, plan: Plan, sources: Sources) -> None:
        job, aws, storage = plan.job, sources.aws, sources.storage
        self._plan, self._offline = plan, sources.offline
        self._deadline = time.monotonic() + PATIENCE_S
        self._identity = Question(lambda: aws.identity) if aws else None
        self._digest = Question(sources.image_digest) if sources.image_digest else None
        self._prices = {
            name: Question(partial(prices.ask, aws, job.region, name)) if aws else None
            for name in dict.fromkeys(job.machines.instance_types)
        }
        self._last_run = (
            Question(partial(last_run, storage, plan.archive_root, job.experiment_name)) if storage else None
        )

    def overview(self, compare: Compare, image_digest: str = "") -> Overview:
        """What has been found out.

        Args:
            compare: Tells what the launch changes against an experiment.
            image_digest: The image's digest, when somebody has found it out meanwhile.
        """
        written = ImageUri.parse(self._plan.job.image.uri).digest
        return Overview(
            plan=self._plan,
            identity=self._answer(self._identity),
            image_digest=image_digest or written or self._answer(self._digest),
            rate=self._rate(),
            last_run=self._compared(compare),
            offline=self._offline,
        )

    def _answer(self, question: Question[_Answer] | None) -> _Answer | Unknown:
        return question.answer(self._deadline) if question else Unknown(self._offline)

    def _rate(self) -> Rate | Unknown:
        job = self._plan.job
        if self._plan.target != "aws":
            return Unknown("")
        if job.machines.training_plan:
            return Unknown("the machines of a training plan are paid for with the plan")
        found = {}
        for name, question in self._prices.items():
            answer: Price | Unknown = self._answer(question)
            if isinstance(answer, Unknown):
                answer = prices.kept(job.region, name) or answer
            if isinstance(answer, Unknown):
                return answer
            found[name] = answer
        return Rate(machines_of(job), found)

    def _compared(self, compare: Compare) -> LastRun | Unknown | None:
        last = self._answer(self._last_run)
        if last is None or isinstance(last, Unknown):
            return last
        try:
            return LastRun(last.folder, last.result.status if last.result else "", compare(last))
        except LauncherError as error:
            return Unknown(error.message)
