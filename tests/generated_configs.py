"""Hypothesis strategies: SageMaker configs that are valid from end to end, and the jobs that they describe."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from typing import Any

from hypothesis import Phase
from hypothesis import strategies as st

from sagemaker_launcher import config, service_model, strict_yaml
from sagemaker_launcher.coercion import Schema, merge
from sagemaker_launcher.job import CONFIG_CHANNEL, CONFIG_SHA256_VARIABLE, Job, build_job
from sagemaker_launcher.naming import job_name

Settings = dict[str, Any]

# One region of each partition that has SageMaker training, and one where Debugger and its profiler do not exist.
_REGIONS = ("us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1", "us-gov-east-1", "us-iso-east-1")
_WITHOUT_DEBUGGER = ("us-gov-east-1", "us-iso-east-1")
_ACCOUNT = "012345678901"
_LOWER = string.ascii_lowercase + string.digits
_WORD = string.ascii_letters + string.digits
# Instance types whose storage is a volume, so that a volume key may be given, and others.
_EBS_TYPES = ("ml.m5.large", "ml.c5.2xlarge", "ml.p3.8xlarge", "ml.trn2.48xlarge")
_DAYS_28 = 28 * 24 * 3600


def _text(low: int, high: int) -> st.SearchStrategy[str]:
    """Text in one line, as the pattern `.*` wants it: of any script, with quotes, hashes, colons and spaces."""
    one_line = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
    tricky = st.sampled_from(
        ["no", "1.10", "1234e56", "None", "012345678901", " # x", "a: b", "'", '"', "{}"]
    )
    texts = st.text(one_line, min_size=low, max_size=high)
    return texts if high < 15 else st.one_of(texts, tricky)


def _words(alphabet: str, low: int, high: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=low, max_size=high)


def _mapping(
    keys: st.SearchStrategy[str], values: st.SearchStrategy[str]
) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(keys.filter(_can_be_key), values, max_size=4)


def _can_be_key(key: str) -> bool:
    return key not in strict_yaml._RESERVED_KEYS and not key.startswith("__")


def _s3_uris() -> st.SearchStrategy[str]:
    buckets = st.builds("{}-{}".format, _words(_LOWER, 1, 20), _words(_LOWER, 1, 20))
    parts = _words(_WORD + "._-=+é ", 1, 10).map(lambda part: f"k{part.replace(' ', '_')}")
    keys = st.lists(parts, max_size=3).map("/".join)
    return st.builds("s3://{}/{}{}".format, buckets, keys, st.just("/")).map(_single_slash)


def _single_slash(uri: str) -> str:
    return f"{uri.rstrip('/')}/"


def _instance_types() -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(_EBS_TYPES), st.sampled_from(service_model.instance_types()))


_names = _words(_WORD, 1, 12)
_tag_text = st.text(st.sampled_from(_WORD + " _.:/=+-@éñ漢٣ "), min_size=1, max_size=20)


@dataclass(frozen=True)
class _Land:
    """A region, and what has to fit to it."""

    region: str
    partition: str
    suffix: str

    @classmethod
    def of(cls, region: str) -> _Land:
        found = service_model.partition_of(region)
        assert found, region
        return cls(region, *found)


@st.composite
def _channel(draw: st.DrawFn, groups: list[str], default_mode: str, *, vpc: bool) -> Settings | str:
    kinds = ["short", "plain", "sharded", "manifest", "augmented"]
    kind = draw(st.sampled_from([*kinds, "files"] if vpc else kinds))
    uri = draw(_s3_uris())
    if kind == "short":
        return uri
    common: Settings = {"CONTENT_TYPE": draw(st.sampled_from(["", "text/csv"]))}
    if kind == "files":
        return common | {
            "INPUT_MODE": "" if default_mode == "File" else "File",
            "FILE_SYSTEM_ID": f"fs-{draw(_words('0123456789abcdef', 8, 17))}",
            "FILE_SYSTEM_TYPE": draw(st.sampled_from(["EFS", "FSxLustre"])),
            "DIRECTORY_PATH": f"/{draw(_names)}",
            "FILE_SYSTEM_ACCESS_MODE": draw(st.sampled_from(["ro", "rw"])),
        }
    common |= {"S3_URI": uri, "SHUFFLE_SEED": draw(st.integers(0, 2**31))}
    if groups:
        common["INSTANCE_GROUPS"] = draw(st.lists(st.sampled_from(groups), unique=True))
    if kind == "augmented":
        names = draw(st.lists(_text(1, 20), min_size=1, max_size=16))
        pipe = {"INPUT_MODE": "Pipe", "RECORD_WRAPPING": draw(st.sampled_from(["", "RecordIO", "None"]))}
        return common | pipe | {"S3_DATA_TYPE": "AugmentedManifestFile", "ATTRIBUTE_NAMES": names}
    if kind == "manifest":
        return common | {"S3_DATA_TYPE": "ManifestFile", "INPUT_MODE": "File"}
    mode = draw(st.sampled_from(["", "File", "FastFile", "Pipe"]))
    if (mode or default_mode) == "Pipe":
        common["COMPRESSION"] = draw(st.sampled_from(["", "Gzip", "None"]))
    distribution = "ShardedByS3Key" if kind == "sharded" else "FullyReplicated"
    return common | {"INPUT_MODE": mode, "DISTRIBUTION": distribution}


@st.composite
def _machines(draw: st.DrawFn, land: _Land) -> Settings:
    machines: Settings = {"VOLUME_SIZE": draw(st.integers(1, 16384))}
    if draw(st.booleans()):
        names = draw(st.lists(_text(1, 14), min_size=1, max_size=5, unique=True))
        machines["INSTANCE_GROUPS"] = [
            {
                "INSTANCE_GROUP_NAME": name,
                "INSTANCE_TYPE": draw(_instance_types()),
                "INSTANCE_COUNT": draw(st.integers(1, 9)),
            }
            for name in names
        ]
    else:
        machines["INSTANCE_TYPE"] = draw(_instance_types())
        machines["INSTANCE_COUNT"] = draw(st.integers(1, 100))
        if machines["INSTANCE_TYPE"] in _EBS_TYPES:
            machines["VOLUME_KMS_KEY"] = draw(st.sampled_from(["", "alias/key"]))
    if draw(st.booleans()):
        arn = f"arn:{land.partition}:sagemaker:{land.region}:{_ACCOUNT}:training-plan/"
        machines["TRAINING_PLAN"] = arn + draw(_names)
    if draw(st.booleans()):
        server: Settings = {"ULTRA_SERVER_ID": draw(_text(0, 14)), "INSTANCE_COUNT": draw(st.integers(0, 9))}
        machines["INSTANCE_PLACEMENT_CONFIG"] = {
            "ENABLE_MULTIPLE_JOBS": draw(st.booleans()),
            "PLACEMENT_SPECIFICATIONS": [server] * draw(st.integers(0, 2)),
        }
    return machines


@st.composite
def _image(draw: st.DrawFn, land: _Land, *, vpc: bool) -> Settings:
    version = draw(st.sampled_from([":1.0", f"@sha256:{'0' * 64}", f":latest@sha256:{'f' * 64}"]))
    image: Settings = {
        "CONTAINER_ENTRY_POINT": draw(st.lists(_text(0, 20), max_size=3)),
        "CONTAINER_ARGUMENTS": draw(st.lists(_text(0, 20), max_size=3)),
    }
    if vpc and draw(st.booleans()):
        function = f"arn:{land.partition}:lambda:{land.region}:{_ACCOUNT}:function:password"
        return image | {
            "IMAGE_URI": f"registry.example.com:5000/team/{draw(_words(_LOWER, 1, 9))}{version}",
            "TRAINING_REPOSITORY_ACCESS_MODE": "Vpc",
            "TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN": draw(st.sampled_from(["", function])),
        }
    registry = f"{_ACCOUNT}.dkr.ecr.{land.region}.{land.suffix}"
    return image | {"IMAGE_URI": f"{registry}/{draw(_words(_LOWER, 1, 9))}{version}"}


@st.composite
def _observers(draw: st.DrawFn, region: str, machines: Settings) -> Settings:
    observers: Settings = {}
    if draw(st.booleans()):
        path = {"S3_OUTPUT_PATH": draw(_s3_uris()), "CONTAINER_LOCAL_OUTPUT_PATH": draw(_text(0, 9))}
        observers["TENSORBOARD_OUTPUT_CONFIG"] = path
    if region in _WITHOUT_DEBUGGER:
        return observers
    if draw(st.booleans()):
        observers["DEBUGGER_HOOK_CONFIG"] = {
            "S3_OUTPUT_PATH": draw(_s3_uris()),
            "CONTAINER_LOCAL_OUTPUT_PATH": draw(_text(0, 9)),
            "HOOK_PARAMETERS": draw(_mapping(_text(1, 20), _text(0, 20))),
        }
    types = [machine.get("INSTANCE_TYPE", "") for machine in (machines, *machines.get("INSTANCE_GROUPS", ()))]
    if draw(st.booleans()) and not any(kind.startswith("ml.trn") for kind in types):
        interval = draw(st.sampled_from([100, 200, 500, 1000, 5000, 60000]))
        observers["PROFILER_CONFIG"] = {
            "S3_OUTPUT_PATH": draw(_s3_uris()),
            "SYSTEM_MONITOR_INTERVAL_MILLIS": interval,
        }
    return observers


@st.composite
def _limits(draw: st.DrawFn, *, groups: bool) -> tuple[Settings, bool]:
    run = draw(st.integers(1, _DAYS_28))
    limits: Settings = {"MAX_RUN": run, "MAX_RETRY_ATTEMPTS": draw(st.integers(0, 30))}
    spot = draw(st.booleans())
    if spot:
        limits |= {"USE_SPOT_INSTANCES": True, "MAX_WAIT": draw(st.sampled_from([0, run, run + 1]))}
    elif not groups:
        limits["KEEP_ALIVE_PERIOD_IN_SECONDS"] = draw(st.integers(0, 3600))
    return limits, spot


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    """SageMaker configs without a mistake, as people would write them: any key may be given or not."""
    land = _Land.of(draw(st.sampled_from(_REGIONS)))
    vpc, mode = draw(st.booleans()), draw(st.sampled_from(["File", "FastFile", "Pipe"]))
    machines = draw(_machines(land))
    limits, spot = draw(_limits(groups="INSTANCE_GROUPS" in machines))
    groups = [group["INSTANCE_GROUP_NAME"] for group in machines.get("INSTANCE_GROUPS", ())]
    channel_names = (
        _words(_WORD + "._-", 1, 9)
        .filter(lambda name: name not in {CONFIG_CHANNEL, ".", ".."})
        .filter(_can_be_key)
    )
    channels = st.dictionaries(channel_names, _channel(groups, mode, vpc=vpc), max_size=3)
    metrics = st.lists(
        st.builds(lambda name: {"Name": name, "Regex": "=([0-9.e+-]+)"}, _text(1, 20)), max_size=3
    )
    checkpoints = draw(_s3_uris()) if spot or draw(st.booleans()) else ""
    estimator: Settings = {
        **draw(_image(land, vpc=vpc)),
        **machines,
        **limits,
        **draw(_observers(land.region, machines)),
        "ROLE": f"arn:{land.partition}:iam::{_ACCOUNT}:role/service-role/{draw(_names)}",
        "INPUT_MODE": mode,
        "MODEL_URI": draw(st.one_of(st.just(""), _s3_uris())),
        # Longer than the name of any channel here.
        "MODEL_CHANNEL_NAME": draw(st.sampled_from(["pretrained", "a-first-model"])),
        "CHECKPOINT_LOCAL_PATH": draw(_text(0, 14)) if checkpoints else "",
        "OUTPUT_KMS_KEY": draw(st.sampled_from(["", "alias/key", "0f0f0f0f-0000"])),
        "HYPERPARAMETERS": draw(_mapping(_text(1, 20), _text(0, 60))),
        "ENVIRONMENT": draw(_mapping(_words(_WORD, 1, 9).map("E_{}".format), _text(0, 60))),
        "METRIC_DEFINITIONS": draw(metrics),
        "SUBNETS": ["subnet-1", "subnet-2"] if vpc else [],
        "SECURITY_GROUP_IDS": ["sg-1"] if vpc else [],
    }
    for flag in (
        "DISABLE_OUTPUT_COMPRESSION",
        "ENABLE_SAGEMAKER_METRICS",
        "ENCRYPT_INTER_CONTAINER_TRAFFIC",
        "ENABLE_NETWORK_ISOLATION",
        "ENABLE_INFRA_CHECK",
        "ENABLE_REMOTE_DEBUG",
        "ENABLE_SESSION_TAG_CHAINING",
    ):
        estimator[flag] = draw(st.booleans())
    return {
        "VERSION": 1,
        "EXPERIMENT_NAME": "/".join(draw(st.lists(_names, min_size=1, max_size=3))),
        "AWS": {"REGION": land.region},
        "S3": {"CONFIGS": "s3://team/archive", "OUTPUTS": draw(_s3_uris()), "CHECKPOINTS": checkpoints},
        "CHANNELS": draw(channels),
        "ESTIMATOR": estimator,
        "TAGS": draw(_mapping(_tag_text, _tag_text)),
        "SOURCE": {"DIR": ""},
    }


def job_of(given: Mapping[str, Any]) -> Job:
    """The job of a config, on the way that every config takes: written, read, merged over the defaults."""
    merged = merge(_schema(), strict_yaml.parse(strict_yaml.dump(given), "generated.yaml"), "generated.yaml")
    assert merged.problems == []
    name = job_name(
        merged.values["EXPERIMENT_NAME"], datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "0a1b2c"
    )
    uri = f"s3://team/archive/{merged.values['EXPERIMENT_NAME']}/{name}/training_config.yaml"
    assert CONFIG_SHA256_VARIABLE not in merged.values["ESTIMATOR"]["ENVIRONMENT"]
    return build_job(merged.values, name=name, config_uri=uri, config_sha256="0" * 64)


jobs: st.SearchStrategy[Job] = settings().map(job_of)
# For tests that take long and whose failures speak for themselves: a smaller example would cost minutes.
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)


@cache
def _schema() -> Schema:
    return config.sagemaker_schema()
