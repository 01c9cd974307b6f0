"""The launcher's IAM policy allows every request that a launch, its checks and the looking afterwards make, one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from moto.iam.access_control import IAMPolicyStatement, PermissionResult

from tests.commands import CommandLine, clean_environment
from tests.project import Project
from tests.servers.aws import AwsServer
from tests.servers.faults import RecordedRequest
from tests.servers.price_list import price_list
from tests.servers.proxy import RecordingProxy

ACCOUNT, REGION = AwsServer.account, "us-east-1"
CONTEXT = {"iam:PassedToService": "sagemaker.amazonaws.com"}
# What a GET of a bucket asks for, by its query, and the action for it, by the service authorization reference of S3.
BUCKET_QUESTIONS = {
    "list-type": "s3:ListBucket",
    "publicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "policyStatus": "s3:GetBucketPolicyStatus",
    "acl": "s3:GetBucketAcl",
}
OBJECT_ACTIONS = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject"}
SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/(?P<service>[^/]+)/aws4_request")


def wishes(request: RecordedRequest) -> Iterator[tuple[str, str]]:
    """The actions and resources that IAM would have to allow for a request."""
    scope = SCOPE.search(request.headers.get("authorization", ""))
    service = scope["service"] if scope else ""
    if service == "s3":
        yield s3_wish(request)
    elif service in {"sagemaker", "logs", "ecr"}:
        yield from json_wishes(service, request.operation, json.loads(request.body or b"{}"))
    elif service == "iam":
        form = dict(parse_qsl(request.body.decode()))
        role = f"arn:aws:iam::{ACCOUNT}:role/{form.get('RoleName')}"
        yield f"iam:{form['Action']}", form.get("PolicySourceArn", role)
    elif service == "servicequotas":
        yield f"servicequotas:{request.operation}", "*"
    else:
        # Nobody needs a permission to be told who he is, or to use a signed link to a layer.
        assert service == "sts" or "/blobs/" in request.path, request


def s3_wish(request: RecordedRequest) -> tuple[str, str]:
    url = urlsplit(request.path)
    bucket, _, key = url.path.lstrip("/").partition("/")
    query = parse_qs(url.query, keep_blank_values=True)
    if key:
        return OBJECT_ACTIONS[request.method], f"arn:aws:s3:::{bucket}/{key}"
    if request.method == "HEAD":
        return "s3:ListBucket", f"arn:aws:s3:::{bucket}"
    [action] = [action for word, action in BUCKET_QUESTIONS.items() if word in query]
    return action, f"arn:aws:s3:::{bucket}"


def json_wishes(service: str, operation: str, body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if service == "sagemaker":
        name = body.get("TrainingJobName")
        job = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"
        yield f"sagemaker:{operation}", job if name else body.get("ResourceArn", "*")
        if operation == "CreateTrainingJob":
            yield "sagemaker:AddTags", job
            yield "iam:PassRole", body["RoleArn"]
    elif service == "logs":
        group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{body['logGroupName']}"
        yield f"logs:{operation}", f"{group}:log-stream:{body.get('logStreamName', '')}"
    else:
        yield f"ecr:{operation}", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{body['repositoryName']}"


def test_the_policy_allows_all_that_is_asked_and_little_more(
    project: Project, home: Path, aws: AwsServer
) -> None:
    s3 = aws.client("s3", region=REGION)
    s3.create_bucket(Bucket="team")
    s3.put_object(Bucket="team", Key="data/train/a.csv", Body=b"1,2\n")
    with RecordingProxy(upstream=aws.endpoint_url) as proxy, price_list() as prices:
        key, secret = aws.credentials
        environment = clean_environment(
            home,
            AWS_ENDPOINT_URL=proxy.url,
            AWS_ENDPOINT_URL_PRICING=prices.endpoint_url,
            AWS_ACCESS_KEY_ID=key,
            AWS_SECRET_ACCESS_KEY=secret,
        )
        cli = CommandLine(project.folder, environment)
        launched = cli("launch", project.config, "--json")
        assert launched.code == 0, launched.err
        name = launched.json["job_name"]
        aws.put_log(name, "algo-1", ["a line"])
        for words in (("logs", name), ("list",)):
            done = cli(*words, "--config", project.config)
            assert done.code == 0, (words, done.err)
        made = cli("init", "--policies", project.config, "--json").json["policies"]["launcher"]["document"]
        asked = {wish for request in proxy.requests for wish in wishes(request)}
        assert prices.requests
    assert len(asked) > 12
    statements = json.loads(json.dumps(made["Statement"]).replace("${aws:username}", "moto"))
    used = {"pricing:GetProducts"}
    for action, resource in sorted(asked):
        resource_of_iam = resource.replace(":sts:", ":iam:")
        allowing = [
            statement["Sid"]
            for statement in statements
            if IAMPolicyStatement(statement).is_action_permitted(action, resource_of_iam, None, CONTEXT)
            is PermissionResult.PERMITTED
        ]
        assert allowing, f"{action} on {resource} is not allowed"
        used.add(action)
    granted = {action for statement in statements for action in statement["Action"]}
    # What only `doctor`, a lost answer, the first of several quotas, and a public policy make it ask.
    seldom = {
        "ecr:DescribeImages",
        "s3:GetBucketPolicyStatus",
        "s3:GetBucketVersioning",
        "s3:GetEncryptionConfiguration",
        "s3:GetLifecycleConfiguration",
        "s3:ListBucketMultipartUploads",
        "sagemaker:ListTags",
        "sagemaker:ListTrainingJobs",
        "sagemaker:StopTrainingJob",
        "servicequotas:GetServiceQuota",
        "servicequotas:ListServiceQuotas",
    }
    assert granted - used <= seldom, granted - used
