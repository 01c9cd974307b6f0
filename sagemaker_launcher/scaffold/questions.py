"""What `init` has to know: the questions, their defaults, and what makes an answer illegal. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from sagemaker_launcher import service_model
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import ImageUri, RoleArn, S3Uri, experiment_name_problem
from sagemaker_launcher.spelling import nearest

Answers = Mapping[str, str]
_KMS_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(?:key|alias)/[\w/-]+", re.ASCII)


@frozen
class Question:
    """One thing to know.

    Attributes:
        name: A word; the option is made of it.
        text: The question, and the help of the option.
        problem: What is wrong with an answer; empty when nothing is.
        default: The answer of those who give none, from the answers to the questions above; None: there has to be one.
        asked: Whether a terminal is asked; otherwise it is an option only.
    """

    name: str
    text: str
    problem: Callable[[str], str]
    default: Callable[[Answers], str] | None = None
    asked: bool = True

    @property
    def option(self) -> str:
        """The option of the command line."""
        return f"--{self.name.replace('_', '-')}"


def regional_bucket(prefix: str, account: str, region: str) -> str:
    """The name of a bucket that nobody but this account can create.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/gpbucketnamespaces.html
    """
    return f"{prefix}-{account}-{region}-an"


def registry(account: str, region: str) -> str:
    """The host of an account's ECR registry.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
    """
    return f"{account}.dkr.ecr.{region}.{_partition(region)[1]}"


def _partition(region: str) -> tuple[str, str]:
    return service_model.partition_of(region) or ("aws", "amazonaws.com")


def _region(value: str) -> str:
    if service_model.partition_of(value):
        return ""
    near = nearest(value, service_model.known_regions())
    return f"no region is called {value!r}" + (f" (did you mean {near[0]}?)" if near else "")


def _account(value: str) -> str:
    return "" if re.fullmatch(r"[0-9]{12}", value) else f"an account has 12 digits, and this is {value!r}"


def _instance_type(value: str) -> str:
    # One of the right form may be newer than botocore: `init` only warns of it.
    return "" if service_model.may_be_instance_type(value) else service_model.unknown_instance_type(value)


def _parsed(parse: Callable[[str], object]) -> Callable[[str], str]:
    """The message of the ValueError that a parser raises."""

    def problem(value: str) -> str:
        try:
            parse(value)
        except ValueError as error:
            return f"{error}: {value!r}"
        return ""

    return problem


_uri = _parsed(S3Uri.parse)


def _bucket(value: str) -> str:
    return f"a bucket's name, without s3:// and slashes: {value!r}" if "/" in value else _uri(f"s3://{value}")


def _image(value: str) -> str:
    problem = _parsed(ImageUri.parse)(value)
    return problem or ("" if ImageUri.parse(value).region else f"not an image in Amazon ECR: {value!r}")


def _optional_key(value: str) -> str:
    return "" if not value or _KMS_KEY.fullmatch(value) else f"not the ARN of a KMS key: {value!r}"


QUESTIONS = (
    Question(
        "name",
        "Experiment: a path that groups experiments and starts the names of jobs",
        experiment_name_problem,
        lambda _: "digits/baseline",
    ),
    Question("region", "AWS region of jobs, bucket and image, such as us-east-1", _region),
    Question("account", "AWS account: 12 digits (any will do for rehearsals on this machine)", _account),
    Question(
        "bucket",
        "S3 bucket for data, archive, outputs and checkpoints; it need not exist yet",
        _bucket,
        lambda given: regional_bucket("training", given["account"], given["region"]),
    ),
    Question(
        "role",
        "ARN of the execution role, which jobs have; it need not exist yet",
        _parsed(RoleArn.parse),
        lambda given: (
            f"arn:{_partition(given['region'])[0]}:iam::{given['account']}:role/SageMakerExecutionRole"
        ),
    ),
    Question(
        "image",
        "Training image in Amazon ECR; it need not exist yet",
        _image,
        lambda given: f"{registry(given['account'], given['region'])}/sagemaker-digits:1.0",
    ),
    Question("instance_type", "Machine that jobs run on", _instance_type, lambda _: "ml.m5.large"),
    Question(
        "profile", "Profile of ~/.aws/config, for those who use one", lambda _: "", lambda _: "", asked=False
    ),
    Question(
        "kms_key",
        "ARN of the KMS key that encrypts disks and outputs, for those who use their own",
        _optional_key,
        lambda _: "",
        asked=False,
    ),
)


def settings(answers: Answers) -> dict[str, str]:
    """The keys of the SageMaker config that the answers decide, and their values.

    Args:
        answers: An answer to each of QUESTIONS.
    """
    place = S3Uri(answers["bucket"])
    optional = {
        "AWS.PROFILE": answers["profile"],
        "ESTIMATOR.VOLUME_KMS_KEY": answers["kms_key"],
        "ESTIMATOR.OUTPUT_KMS_KEY": answers["kms_key"],
    }
    return {
        "EXPERIMENT_NAME": answers["name"],
        "AWS.REGION": answers["region"],
        "AWS.ACCOUNT": answers["account"],
        "S3.CONFIGS": str(place / "experiments"),
        "S3.OUTPUTS": str(place / "outputs"),
        "S3.CHECKPOINTS": str(place / "checkpoints"),
        "CHANNELS.training": str(place / "data/digits/train/"),
        "CHANNELS.validation": str(place / "data/digits/validation/"),
        "ESTIMATOR.IMAGE_URI": answers["image"],
        "ESTIMATOR.ROLE": answers["role"],
        "ESTIMATOR.INSTANCE_TYPE": answers["instance_type"],
        **{key: value for key, value in optional.items() if value},
    }
