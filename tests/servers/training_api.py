"""The API of training jobs with the refusals and the answers of the service, where moto is laxer."""

from __future__ import annotations

import copy
import json
from typing import Any, ClassVar

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult, EmptyResult
from moto.sagemaker.exceptions import ResourceInUseException, ResourceNotFound, ValidationError
from moto.sagemaker.models import FakeTrainingJob
from moto.sagemaker.responses import SageMakerResponse

from .constraints import violations
from .training_jobs import FINAL_STATUSES, TrainingJobs
from .training_pages import page

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
            self.jobs.admit(request, self.region)
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

    def list_training_jobs(self) -> ActionResult:
        """A page of the jobs of a region."""
        query = json.loads(self.body)
        self._refuse_invalid("ListTrainingJobs", query)
        with self.jobs.lock:
            return ActionResult(page(query, self.sagemaker_backend.training_jobs.values()))

    def delete_training_job(self) -> EmptyResult:
        """Forgets a job that has ended."""
        with self.jobs.lock:
            name = self._job().training_job_name
            status = self.sagemaker_backend.training_jobs[name].training_job_status
            if status not in FINAL_STATUSES:
                raise ValidationError(
                    message=f"Training job {name} is {status}: stop it before you delete it."
                )
            del self.sagemaker_backend.training_jobs[name]
            self.jobs.delete(name)
        return EmptyResult()

    def add_tags(self) -> ActionResult:
        """Tags of a resource; a key that it has gets the new value. ResourceNotFound when there is no such job."""
        request = json.loads(self.body)
        kind, _, name = request["ResourceArn"].rpartition(":")[2].partition("/")
        if kind != "training-job":
            return super().add_tags()
        job = self.sagemaker_backend.training_jobs.get(name)
        if job is None:
            raise ResourceNotFound(message=f"Could not find {request['ResourceArn']}")
        with self.jobs.lock:
            merged = {tag["Key"]: tag for tag in [*job.tags, *request["Tags"]]}
            job.tags = list(merged.values())
        return ActionResult({"Tags": job.tags})

    def _job(self) -> FakeTrainingJob:
        name = json.loads(self.body)["TrainingJobName"]
        if name not in self.sagemaker_backend.training_jobs:
            raise ValidationError(message="Requested resource not found.")
        return self.sagemaker_backend.training_jobs[name]

    def _refuse_invalid(self, operation: str, request: dict[str, Any]) -> None:
        if not self.jobs.validate:
            return
        found = violations(operation, request)
        needed = _NEEDED if operation == "CreateTrainingJob" else ()
        found += [f"Member {member} must not be null" for member in needed if member not in request]
        if found:
            plural = "s" if len(found) > 1 else ""
            raise ValidationError(
                message=f"{len(found)} validation error{plural} detected: {'; '.join(found)}"
            )


def responder(jobs: TrainingJobs) -> type[TrainingResponse]:
    """The class that answers for the jobs of one server."""
    return type("ServerTrainingResponse", (TrainingResponse,), {"jobs": jobs})
