"""Jobs on AWS, looked at and stopped with boto3 alone.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopTrainingJob.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sagemaker_launcher.aws import Refusal, asked
from sagemaker_launcher.clock import utc
from sagemaker_launcher.errors import ConfigError, LauncherError, NotFoundError
from sagemaker_launcher.result import ENDED, JobResult, Transition

# FailureReason of a program that ended with an error: `AlgorithmError: ..., exit code: 137`.
_EXIT_CODE = re.compile(r"exit code:? (\d{1,3})\b", re.IGNORECASE)
_SAVING = {
    "Uploading",
    "Completed",
}  # secondary statuses; only a job that had one of them can have saved anything
_NOT_SAVED = "ClientError: Artifact upload failed"  # FailureReason


def describe(client: Any, job_name: str) -> dict[str, Any]:  # noqa: ANN401 - boto3 is untyped
    """DescribeTrainingJob. Raises NotFoundError when there is no such job."""
    try:
        action = f"describe the job {job_name}"
        return asked(client.describe_training_job, "TrainingJobStatus", action, TrainingJobName=job_name)
    except LauncherError as error:
        if _is_missing(error):
            raise NotFoundError(
                f"there is no job {job_name} in {client.meta.region_name}, in this account",
                hint="say where it is with --region or AWS.PROFILE; `show` tells what the archive knows of it",
                code="job_not_found",
            ) from error
        raise


def _is_missing(error: LauncherError) -> bool:
    """Whether the service itself says that there is no such job; whatever else speaks of something that was not found does not.

    It answers ValidationException, "Requested resource not found", where its model, sagemaker/2017-07-24, has ResourceNotFound.
    """
    refusal = Refusal.behind(error)
    if refusal.operation != "DescribeTrainingJob":
        return False  # what was asked to get credentials
    return isinstance(error, NotFoundError) or (
        refusal.code == "ValidationException" and "not found" in error.message.lower()
    )


def stop(client: Any, job_name: str) -> bool:  # noqa: ANN401 - boto3 is untyped
    """StopTrainingJob. Gives whether there was anything to stop: a job that has ended refuses it, and that is no error."""
    try:
        asked(client.stop_training_job, "", f"stop the job {job_name}", TrainingJobName=job_name)
    except ConfigError:
        if describe(client, job_name)["TrainingJobStatus"] not in ENDED:
            raise
        return False
    return True


def result_of(description: Mapping[str, Any]) -> JobResult:
    """What a description says of how the job ended, or how far it is."""
    reason = description.get("FailureReason", "")
    code = _EXIT_CODE.search(reason)
    return JobResult(
        status=description["TrainingJobStatus"],
        secondary_status=description["SecondaryStatus"],
        failure_reason=reason,
        training_seconds=description.get("TrainingTimeInSeconds"),
        billable_seconds=description.get("BillableTimeInSeconds"),
        artifacts=_saved(description),
        metrics={item["MetricName"]: item["Value"] for item in description.get("FinalMetricDataList", ())},
        started_at=_time(description.get("TrainingStartTime")),
        ended_at=_time(description.get("TrainingEndTime")),
        transitions=tuple(
            Transition(
                item["Status"],
                _time(item["StartTime"]),
                _time(item.get("EndTime")),
                item.get("StatusMessage", ""),
            )
            for item in description.get("SecondaryStatusTransitions", ())
        ),
        exit_code=int(code[1]) if code else None,
    )


def instances(description: Mapping[str, Any]) -> str:
    """What a job runs on, such as `2 x ml.m5.large, spot`."""
    resources = description.get("ResourceConfig", {})
    groups = resources.get("InstanceGroups") or [resources]
    shown = [
        f"{group['InstanceCount']} x {group['InstanceType']}" for group in groups if "InstanceType" in group
    ]
    return ", ".join([*shown, *(["spot"] if description.get("EnableManagedSpotTraining") else [])])


def kept_after_stop(description: Mapping[str, Any]) -> dict[str, str]:
    """What a stop leaves, by what it is: the checkpoints, and what is made of the output folders."""
    checkpoints = description.get("CheckpointConfig", {}).get("S3Uri", "")
    output = description.get("OutputDataConfig", {})
    # API_OutputDataConfig, CompressionType: "NONE" leaves the files as they are, below a prefix.
    model = "model/" if output.get("CompressionType") == "NONE" else "model.tar.gz"
    place = output.get("S3OutputPath", "").rstrip("/")
    return {
        "checkpoints": checkpoints or "none: the job has no S3.CHECKPOINTS",
        "model, as far as it is": f"{place}/{description['TrainingJobName']}/output/{model}",
    }


def _saved(description: Mapping[str, Any]) -> dict[str, str]:
    """What a job has saved, by name. The service tells where a model would be, even if there never was one."""
    model = description.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    phases = {step["Status"] for step in description.get("SecondaryStatusTransitions", ())}
    ended, reason = description["TrainingJobStatus"] in ENDED, description.get("FailureReason", "")
    # A failed program's model is saved as well: https://github.com/aws/sagemaker-python-sdk/pull/746
    saved = ended and phases & _SAVING and not reason.startswith(_NOT_SAVED)
    return {"model": model} if model and saved else {}


def _time(moment: datetime | None) -> str:
    return utc(moment) if moment else ""
