"""An AWS account with all that a launch needs, and what moto does not know of one: quotas, permissions, layers of images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from xml.sax.saxutils import escape

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ecr.models import ecr_backends
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends

from .recording import ApiRequest

REGION = "us-east-1"
ROLE = "SageMakerExecutionRole"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_PAGE = 2  # quotas that an answer has
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
_BLOBS = "/blobs/"
_XML = {"Content-Type": "text/xml"}
_JSON = {"Content-Type": "application/x-amz-json-1.1"}
Reply = tuple[dict[str, str], bytes]


@dataclass
class Account:
    """What tests can change of the account of `AwsServer`.

    Attributes:
        quotas: Values by name, in the order in which they are listed; all others that are asked for have `usual_quota`.
        denials: Patterns of a principal's ARN, an action and a resource, and the decision on them.
        decisions_page: On how many actions an answer of IAM has decisions.
    """

    usual_quota: float = 1_000_000.0
    quotas: dict[str, float] = field(default_factory=dict)
    denials: list[tuple[str, str, str, str]] = field(default_factory=list)
    decisions_page: int = 100
    _blobs: dict[str, bytes] = field(default_factory=dict)

    def furnish(self) -> None:
        """The role and the images of the tests' projects, with nothing denied and large quotas."""
        self.denials.clear()
        self.decisions_page = type(self).decisions_page
        self.quotas.clear()
        self.quotas.update(
            {
                f"{kind} for {usage}": self.usual_quota
                for kind in ("ml.m5.large", "ml.m5.xlarge", "ml.g5.xlarge", "ml.c5.large")
                for usage in ("training job usage", "spot training job usage", "training warm pool usage")
            }
        )
        self.quotas["Longest run time for a training job"] = 28 * 24 * 3600.0
        self.add_role()
        for name in ("sagemaker-tiny", "sagemaker-digits"):
            self.push(name)

    def add_role(self, name: str = ROLE, path: str = "/", trust: object = None) -> None:
        """Makes a role."""
        iam_backends[DEFAULT_ACCOUNT_ID]["aws"].create_role(
            name, json.dumps(trust or _TRUST), path, None, "", [], None
        )

    def push(self, name: str, tag: str = "1.0", *, system: str = "linux/amd64", word: str = "") -> str:
        """Puts an image into ECR. Gives its digest.

        Args:
            name: The repository, which is made when there is none.
            tag: The tag.
            system: What it is built for.
            word: What tells it from other images.
        """
        os, _, architecture = system.partition("/")
        config = json.dumps({"architecture": architecture, "os": os, "word": word}).encode()
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        self._blobs[digest] = config
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": digest,
            },
            "layers": [],
        }
        return self.put_manifest(name, tag, manifest)

    def put_manifest(self, name: str, tag: str, manifest: dict[str, Any]) -> str:
        """Puts any manifest into ECR. Gives its digest."""
        backend = ecr_backends[DEFAULT_ACCOUNT_ID][REGION]
        if name not in backend.repositories:
            backend.create_repository(name, None, {"encryptionType": "AES256"}, {}, "MUTABLE", [])
        text = json.dumps(manifest)
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        for image in backend.repositories[name].images:
            if tag in image.image_tags:
                image.update_tag(
                    f"before-{digest[-8:]}"
                )  # moto forgets images without a tag, and ECR does not
        backend.put_image(name, text, tag, manifest["mediaType"], digest)
        return digest

    def swell(self, bucket: str, key: str, size: int) -> None:
        """Makes listings say that an object has so many bytes."""
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys[key].contentsize = size

    def answer(self, request: ApiRequest, url: str) -> Reply | None:
        """What moto would not answer."""
        if request.service == "servicequotas":
            return _JSON, json.dumps(self._quota_answer(request)).encode()
        if request.service == "pricing":  # `price_list` answers with prices
            return _JSON, json.dumps({"FormatVersion": "aws_v1", "PriceList": []}).encode()
        if request.operation == "SimulatePrincipalPolicy":
            return _XML, self._simulation(request.params).encode()
        if request.operation == "GetDownloadUrlForLayer":
            digest = request.params["layerDigest"]
            return _JSON, json.dumps(
                {"downloadUrl": f"{url}{_BLOBS}{digest}", "layerDigest": digest}
            ).encode()
        if request.path.startswith(_BLOBS):
            return {}, self._blobs[request.path.removeprefix(_BLOBS)]
        return None

    def _quota_answer(self, request: ApiRequest) -> dict[str, Any]:
        quotas = [
            {"QuotaName": name, "QuotaCode": f"L-{number:08X}", "Value": value, "ServiceCode": "sagemaker"}
            for number, (name, value) in enumerate(self.quotas.items())
        ]
        if request.operation == "GetServiceQuota":
            [quota] = [one for one in quotas if one["QuotaCode"] == request.params["QuotaCode"]]
            return {"Quota": quota}
        start = int(request.params.get("NextToken", 0))
        page = {"Quotas": quotas[start : start + _PAGE]}
        more = {"NextToken": str(start + _PAGE)} if start + _PAGE < len(quotas) else {}
        return {**page, **more}

    def _simulation(self, params: dict[str, str]) -> str:
        actions = [value for key, value in params.items() if key.startswith("ActionNames.member.")]
        resources = [value for key, value in params.items() if key.startswith("ResourceArns.member.")]
        start = int(params.get("Marker", 0))
        end = start + self.decisions_page
        results = "".join(
            self._evaluation(params["PolicySourceArn"], action, resources) for action in actions[start:end]
        )
        more = f"<IsTruncated>true</IsTruncated><Marker>{end}</Marker>" if actions[end:] else ""
        return (
            '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
            f"<SimulatePrincipalPolicyResult>{more}<EvaluationResults>{results}"
            "</EvaluationResults></SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
        )

    def _evaluation(self, principal: str, action: str, resources: list[str]) -> str:
        decisions = {one: self._decision(principal, action, one) for one in resources}
        worst = next((one for one in decisions.values() if one != "allowed"), "allowed")
        parts = "".join(
            f"<member><EvalResourceName>{escape(one)}</EvalResourceName>"
            f"<EvalResourceDecision>{decision}</EvalResourceDecision></member>"
            for one, decision in decisions.items()
        )
        return (
            f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{escape(resources[0])}"
            f"</EvalResourceName><EvalDecision>{worst}</EvalDecision>"
            f"<ResourceSpecificResults>{parts}</ResourceSpecificResults></member>"
        )

    def _decision(self, principal: str, action: str, resource: str) -> str:
        for who, what, where, decision in self.denials:
            if fnmatchcase(principal, who) and fnmatchcase(action, what) and fnmatchcase(resource, where):
                return decision
        return "allowed"
