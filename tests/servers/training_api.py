"""CreateTrainingJob, DescribeTrainingJob and StopTrainingJob with the refusals that the service makes and moto does not."""

from __future__ import annotations

import copy
import json
from typing import Any, ClassVar

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
from moto.sagemaker.models import FakeTrainingJob
from moto.sagemaker.responses import SageMakerResponse

from .constraints import violations
from .training_jobs import FINAL_STATUSES, TrainingJobs

# The service needs them for every job that is not serverless, although the model calls them optional.
_NEEDED = ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition")


class TrainingResponse(SageMakerResponse):
    """moto's SageMaker, with the refusals that the service makes; moto makes one for every request."""

    jobs: ClassVar[TrainingJobs]

    def call_action(self) -> TYPE_RESPONSE:
        """Answers any SageMaker request."""
        self.jobs.settle()
        return super().call_action()

    def create_training_job(self) -> ActionResult:
        """A job that is InProgress; ResourceInUse for a name that was used before."""
        request = json.loads(self.body)
        self._refuse_invalid("CreateTrainingJob", request)
        name = request["TrainingJobName"]
        with self.jobs.lock:
            known = self.sagemaker_backend.training_jobs
            if name in known:
                raise ResourceInUseException(
                    message=f"Training job names must be unique within an AWS account and region, and a training "
                    f"job with this name already exists ({known[name].arn})"
                )
            answer = super().create_training_job()
            self.jobs.adopt(known[name], request)
        return answer

    def describe_training_job(self) -> ActionResult:
        """The job; ValidationException when there is none."""
        with self.jobs.lock:
            return ActionResult(copy.deepcopy(self._job().response_object))

    def stop_training_job(self) -> EmptyResult:
        """Starts to stop a job; ValidationException when it has ended."""
        with self.jobs.lock:
            job = self._job()
            if job.training_job_status in FINAL_STATUSES:
                raise ValidationError(
                    message="The request was rejected because the training job is in status "
                    f"{job.training_job_status}."
                )
            self.jobs.stop(job.training_job_name)
        return EmptyResult()

    def _job(self) -> FakeTrainingJob:
        name = json.loads(self.body)["TrainingJobName"]
        if name not in self.sagemaker_backend.training_jobs:
            raise ValidationError(message="Requested resource not found.")
        return self.sagemaker_backend.training_jobs[name]

    def _refuse_invalid(self, operation: str, request: dict[str, Any]) -> None:
        if not self.jobs.validate:
            return
        found = violations(operation, request)
        found += [f"Member {member} must not be null" for member in _NEEDED if member not in request]
        if found:
            plural = "s" if len(found) > 1 else ""
            raise ValidationError(
                message=f"{len(found)} validation error{plural} detected: {'; '.join(found)}"
            )


def responder(jobs: TrainingJobs) -> type[TrainingResponse]:
    """The class that answers for the jobs of one server."""
    return type("ServerTrainingResponse", (TrainingResponse,), {"jobs": jobs})
