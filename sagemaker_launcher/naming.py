"""Names: S3 URIs, experiment names, job names, role and image references. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from functools import lru_cache

from sagemaker_launcher.frozen import frozen

JOB_NAME_MAX = 63  # CreateTrainingJob, TrainingJobName: botocore model sagemaker/2017-07-24
_KEY_MAX = 1024  # bytes
_EXPERIMENT_NAME_MAX = 128
_TOKEN_LENGTH = 6
_STAMP = "%Y%m%d-%H%M%S"
_JOB_NAME = re.compile(r"(?P<base>.+)-(?P<stamp>\d{8}-\d{6})-(?P<token>[0-9a-z]{6})", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ROLE = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/[\w+=,.@/-]+", re.ASCII)
_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?P<suffix>[a-z0-9.-]+)/(?P<name>.+)",
    re.ASCII,
)
_PORT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+/(?P<name>.+)")
_IMAGE_NAME = re.compile(
    r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?P<version>(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?)"
)
# Reverses the order of keys: S3 lists keys in ascending order, and the newest job has to come first.
_LAST_SECOND = 9_999_999_999


@frozen
class S3Uri:
    """A bucket and a key; the key has no leading slash and may be empty.

    Attributes:
        bucket: The bucket's name.
        key: The key, or a prefix that may end in `/`.
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str) -> S3Uri:
        """Reads `s3://bucket/key`.

        Raises:
            ValueError: The text is not such a URI; the message names the part that is wrong. The bucket rules are
                those of https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
        """
        if not text.startswith("s3://"):
            raise ValueError("not an S3 URI: it has to start with s3://")
        bucket, _, key = text.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket) or ".." in bucket:
            raise ValueError(
                f"illegal bucket name {bucket!r}: 3 to 63 lower-case letters, digits, dots and hyphens"
            )
        if any(character.isspace() or not character.isprintable() for character in key):
            raise ValueError("the key has white space or a control character in it")
        segments = key.removesuffix("/").split("/") if key else []
        if "" in segments:
            raise ValueError("the key has an empty part ('//')")
        if "." in segments or ".." in segments:
            raise ValueError("the key has a part '.' or '..'")
        if len(key.encode()) > _KEY_MAX:
            raise ValueError("the key is longer than 1,024 bytes")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, part: str) -> S3Uri:
        return S3Uri(self.bucket, f"{self.key.removesuffix('/')}/{part}".removeprefix("/"))

    @property
    def folder(self) -> S3Uri:
        """The same place, ending in exactly one slash (the root of a bucket stays empty)."""
        return S3Uri(self.bucket, f"{self.key.removesuffix('/')}/" if self.key else "")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.removesuffix("/").rpartition("/")[2]

    @property
    def parent(self) -> S3Uri:
        """The folder that holds this one, ending in a slash."""
        return S3Uri(self.bucket, self.key.removesuffix("/").rpartition("/")[0]).folder


@lru_cache(maxsize=1024)  # an archive has many experiments of few names
def experiment_name_problem(name: str) -> str:
    """Says what is wrong with an experiment's name; an empty text when nothing is."""
    if not name:
        return "an experiment needs a name"
    if len(name) > _EXPERIMENT_NAME_MAX:
        return "longer than 128 characters"
    if all(_SEGMENT.fullmatch(part) for part in name.split("/")):
        return ""
    return (
        "each part between slashes has to start with a letter or digit, then letters, digits, '.', '_' or '-'"
    )


def legal_experiment_name(name: str) -> str:
    """The nearest legal experiment name; empty when nothing of the name can stay."""
    parts = (re.sub(r"[^A-Za-z0-9._-]+", "-", part).lstrip("._-") for part in name.split("/"))
    return "/".join(part.rstrip("-") for part in parts if part)[:_EXPERIMENT_NAME_MAX].rstrip("/")


def job_name(experiment: str, now: datetime, token: str) -> str:
    """Makes `<experiment>-<YYYYMMDD-HHMMSS>-<token>`, legal and at most 63 characters long.

    Args:
        experiment: The experiment's name, such as `digits/baseline`.
        now: The time of the launch, with a time zone.
        token: Six random lower-case letters or digits, which tell two launches of one second apart.

    The pattern is CreateTrainingJob's (botocore model, TrainingJobName): `[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`.
    """
    tail = f"-{now.astimezone(timezone.utc).strftime(_STAMP)}-{token}"
    base = re.sub(r"[^A-Za-z0-9]+", "-", experiment).strip("-")[: JOB_NAME_MAX - len(tail)].strip("-")
    return f"{base or 'job'}{tail}"


def launch_second(name: str) -> datetime | None:
    """The second at which a job of this tool was named; None when the name is not one of ours."""
    match = _JOB_NAME.fullmatch(name)
    if match is None:
        return None
    stamp = match["stamp"]
    parts = (stamp[:4], stamp[4:6], stamp[6:8], stamp[9:11], stamp[11:13], stamp[13:])
    try:
        return datetime(*map(int, parts), tzinfo=timezone.utc)  # type: ignore[misc, arg-type] # mypy counts no iterators
    except ValueError:
        return None


def can_be_of(name: str, experiment: str) -> bool:
    """Whether a job of this name may be one of an experiment: names of jobs leave out what makes the experiment's too long."""
    second = launch_second(name)
    return second is not None and name == job_name(experiment, second, name[-_TOKEN_LENGTH:])


def newest_first(second: datetime) -> str:
    """A fixed-width number that is smaller the later the time: keys that start with it list the newest first."""
    return f"{_LAST_SECOND - int(second.timestamp()):010d}"


def second_of_newest_first(number: str) -> datetime:
    """The inverse of `newest_first`. Raises ValueError for anything else."""
    if not re.fullmatch(r"[0-9]{10}", number):
        raise ValueError(f"not a time of the index: {number!r}")
    return datetime.fromtimestamp(_LAST_SECOND - int(number), timezone.utc)


@frozen
class RoleArn:
    """An IAM role's ARN, taken apart."""

    partition: str
    account: str

    @classmethod
    def parse(cls, text: str) -> RoleArn:
        """Raises ValueError for anything but a full role ARN (botocore model, RoleArn)."""
        match = _ROLE.fullmatch(text)
        if match is None:
            raise ValueError("not the full ARN of an IAM role")
        return cls(match["partition"], match["account"])


@frozen
class ImageUri:
    """A container image's reference, taken apart; of one that is not in ECR only `tag` and `digest` are known."""

    account: str
    region: str
    suffix: str
    tag: str
    digest: str
    repository: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageUri:
        """Reads `registry/repository:tag` or `...@sha256:digest`.

        Raises:
            ValueError: It is not such a reference, or has neither a tag nor a digest.
        """
        ecr = _ECR.fullmatch(text)
        registry = ecr or _PORT.fullmatch(text)
        match = _IMAGE_NAME.fullmatch(registry["name"] if registry else text)
        if match is None:
            raise ValueError(
                "not an image reference such as 123456789012.dkr.ecr.us-east-1.amazonaws.com/name:tag"
            )
        tag, _, digest = match["version"].partition("@")
        if not match["version"]:
            raise ValueError("the image has neither a tag nor a digest")
        fields = (ecr["account"], ecr["region"], ecr["suffix"]) if ecr else ("", "", "")
        repository = ecr["name"].removesuffix(match["version"]) if ecr else ""
        return cls(*fields, tag.removeprefix(":"), digest, repository)
