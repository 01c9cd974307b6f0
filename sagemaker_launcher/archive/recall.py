"""Asks AWS what it remembers of a job.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTags.html
"""

from __future__ import annotations

from typing import Any

from sagemaker_launcher.archive.recalled import RecalledJob
from sagemaker_launcher.aws import Aws, asked
from sagemaker_launcher.clock import utc
from sagemaker_launcher.jobs import jobs


class AwsRecall:
    """A `Recall` with one client per region.

    Args:
        region: The region of jobs whose experiments name none; empty: what the environment or the profile says.
        profile: The profile; empty: the usual credential chain.
    """

    def __init__(self, region: str, profile: str) -> None:
        self._region = region
        self._profile = profile
        self._clients: dict[str, Any] = {}

    def __call__(self, job_name: str, region: str) -> RecalledJob:
        """The job. Raises NotFoundError, and the other errors of `aws_errors`."""
        client = self._client(region or self._region)
        description = jobs.describe(client, job_name)
        arn = description["TrainingJobArn"]
        answer = asked(client.list_tags, "Tags", f"look whose job {job_name} is", ResourceArn=arn)
        created = description.get("CreationTime")
        return RecalledJob(
            arn,
            utc(created) if created else "",
            {tag["Key"]: tag["Value"] for tag in answer["Tags"]},
            jobs.result_of(description),
        )

    def account(self, region: str) -> str:
        """The account that is asked, by its credentials. Raises CredentialsError, and the other errors of `aws_errors`."""
        return Aws(region or self._region, self._profile).account

    def _client(self, region: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        if region not in self._clients:
            self._clients[region] = Aws(region, self._profile).client("sagemaker")
        return self._clients[region]
