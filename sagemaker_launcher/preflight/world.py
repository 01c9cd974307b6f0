"""What checks ask with: clients, made once each, and who we are."""

from __future__ import annotations

from threading import Lock
from typing import Any

from sagemaker_launcher.aws import Aws, Identity, asked
from sagemaker_launcher.errors import AccessDeniedError
from sagemaker_launcher.s3_storage import demand_owner


class World:
    """AWS, as the checks of one job see it.

    Args:
        aws: Where clients come from.
        owners: The accounts of buckets that belong to others, by bucket.
    """

    def __init__(self, aws: Aws, owners: dict[str, str]) -> None:
        self._aws = aws
        self._owners = owners
        self._clients: dict[str, Any] = {}
        self._making = Lock()
        self._principal: str | None = None
        self._looking = Lock()

    @property
    def aws(self) -> Aws:
        return self._aws

    @property
    def identity(self) -> Identity:
        """Who we are. Raises the errors of `aws_errors`."""
        return self._aws.identity

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 is untyped
        """The client of a service; that of S3 names the owner of each bucket."""
        with self._making:
            if service not in self._clients:
                client = self._aws.check_client(service)
                self._clients[service] = demand_owner(client, self.owner) if service == "s3" else client
            return self._clients[service]

    def owner(self, bucket: str) -> str:
        """The account that has to own a bucket."""
        return self._owners.get(bucket) or self._aws.account

    def bucket_arn(self, bucket: str) -> str:
        """The ARN of a bucket in our part of AWS."""
        return f"arn:{self.partition}:s3:::{bucket}"

    @property
    def partition(self) -> str:
        """Our part of AWS, such as `aws` or `aws-cn`."""
        return self.identity.arn.split(":")[1]

    def is_foreign(self, bucket: str) -> bool:
        """Whether a bucket is said to be somebody else's."""
        return bucket in self._owners

    @property
    def principal(self) -> str:
        """The ARN whose policies say what we may do; empty for the root user, who may do everything.

        Raises:
            AccessDeniedError: It cannot be found out.
        """
        with self._looking:
            if self._principal is None:
                self._principal = self._find_principal()
            return self._principal

    def _find_principal(self) -> str:
        """A role's session has another ARN than its role, whose path only IAM knows."""
        arn = self.identity.arn
        kind, _, rest = arn.split(":", 5)[5].partition("/")
        if kind == "root":
            return ""
        if kind == "user":
            return arn
        if kind == "assumed-role":
            return str(self.role(rest.partition("/")[0])["Arn"])
        raise AccessDeniedError(f"IAM cannot say what {arn} may do")

    def role(self, name: str) -> dict[str, Any]:
        """What IAM knows of a role of our account. Raises NotFoundError and the other errors of `aws_errors`."""
        answer = asked(self.client("iam").get_role, "Role", f"look up the role {name}", RoleName=name)
        found: dict[str, Any] = answer["Role"]
        return found
