"""S3 URIs, ARNs, image references and names of strangers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from sagemaker_launcher.archive.headline import read_key
from sagemaker_launcher.archive.references import experiment_folder
from sagemaker_launcher.archive.unpacking import Names
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.naming import (
    ImageUri,
    RoleArn,
    S3Uri,
    experiment_name_problem,
    job_name,
    launch_second,
    legal_experiment_name,
)
from sagemaker_launcher.storage import FolderStorage

from .subject import Input, Random, Subject
from .texts import NAMES, STEERING, spoiled, word

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
# botocore model sagemaker/2017-07-24, TrainingJobName
_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_LEGAL = (
    "s3://team/experiments/digits",
    "s3://my-bucket.with.dots/a/b/c.tar.gz",
    "s3://team/experiments/team/tiny/team-tiny-20260102-030405-abcdef/manifest.json",
    "arn:aws:iam::123456789012:role/SageMakerExecutionRole",
    "arn:aws-cn:iam::123456789012:role/service-role/A+=,.@_-1",
    "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-tiny:1.0",
    "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com/a/b-c_d@sha256:" + "0a" * 32,
    "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/x:latest@sha256:" + "f" * 64,
    "localhost:5000/team/tiny:1",
    "team/tiny",
    "team-tiny-20260102-030405-abcdef",
    "7998999999-team-tiny-20260102-030405-abcdef.1q1YqLU4tUrJSKsnMTVWyUkrLz1eyUipKLElMSVWqBQA",
    "digits/baseline_2.1",
)
_PIECES = (
    *(
        "s3://",
        "S3://",
        "s3:/",
        "https://",
        "arn:",
        "aws",
        ":iam::",
        "123456789012",
        ".dkr.ecr.",
        "amazonaws.com",
    ),
    *(
        "/",
        "//",
        ":",
        "::",
        "@sha256:",
        "-",
        ".",
        "..",
        "_",
        "%2e%2e",
        "%00",
        "?",
        "#",
        "*",
        "\\",
        "~",
        " ",
        "　",
    ),
    *("٣", "１２", "é", "ß", "İ", "20260102-030405", "-abcdef", "role/", "latest", "a" * 70, "0" * 1100),
)


def _make(random: Random) -> Input:
    kind = random.random()
    text = random.choice(_LEGAL)
    if kind < 0.4:
        text = spoiled(random, text.encode()).decode("utf-8", "surrogateescape")
    elif kind < 0.75:
        place = random.randrange(len(text) + 1)
        text = (
            text[:place] + random.choice((*_PIECES, *NAMES, *STEERING)) + text[place + random.randrange(3) :]
        )
    elif kind < 0.95:
        text = "".join(random.choice((*_PIECES, *_LEGAL)) for _ in range(random.randrange(1, 8)))
    elif kind < 0.99:
        text = word(random)
    else:
        text = (random.choice(_PIECES) * 100_000)[: random.choice((5_000, 200_000))]
    return {"name": text.encode("utf-8", "surrogatepass")}


def _judge(pieces: Input, folder: Path) -> str:
    text = pieces["name"].decode("utf-8", "surrogatepass")
    kinds = [kind for kind, check in _CHECKS.items() if check(text, folder)]
    return "accepted" if kinds else "nothing that has a name"


def _s3_uri(text: str, folder: Path) -> bool:
    try:
        uri = S3Uri.parse(text)
    except ValueError:
        return False
    assert str(uri).rstrip("/") == text.rstrip("/")
    assert S3Uri.parse(str(uri)) == uri
    assert not {"", ".", ".."} & set(uri.key.removesuffix("/").split("/") if uri.key else ())
    assert (
        FolderStorage(folder)
        ._path(S3Uri(uri.bucket, uri.key.rstrip("/")))
        .resolve()
        .is_relative_to(folder.resolve())
    )
    experiment_folder(text)
    return True


def _role(text: str, _: Path) -> bool:
    try:
        role = RoleArn.parse(text)
    except ValueError:
        return False
    assert role.account.isascii()
    assert role.account.isdigit()
    return text.startswith(f"arn:{role.partition}:iam::{role.account}:role/")


def _image(text: str, _: Path) -> bool:
    try:
        image = ImageUri.parse(text)
    except ValueError:
        return False
    # It becomes a word of a command line.
    assert not text.startswith("-")
    assert re.fullmatch(r"[\x21-\x7e]+", text)
    return bool(image.tag or image.digest)


def _experiment(text: str, _: Path) -> bool:
    suggestion = legal_experiment_name(text)
    assert suggestion == "" or not experiment_name_problem(suggestion), suggestion
    name = job_name(text, _NOW, "abcdef")
    assert _JOB_NAME.fullmatch(name), name
    assert launch_second(name) == _NOW
    return not experiment_name_problem(text)


def _job(text: str, _: Path) -> bool:
    return launch_second(text) is not None


def _headline(text: str, _: Path) -> bool:
    try:
        read_key(text)
    except ValueError:
        return False
    return True


def _file(text: str, folder: Path) -> bool:
    try:
        path = folder / Names().take(text)
    except LauncherError:
        return False
    assert path.resolve().is_relative_to(folder.resolve())
    return path != folder


_CHECKS: dict[str, Callable[[str, Path], bool]] = {
    "S3 URI": _s3_uri,
    "role": _role,
    "image": _image,
    "experiment": _experiment,
    "job": _job,
    "headline": _headline,
    "file": _file,
}
NAMES_OF_ALL_KINDS = Subject("names", 20_000, 0.5, _make, _judge, sample=2_000)
