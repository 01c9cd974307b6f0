"""What the SageMaker config's values may be besides their types, in the words of JSON Schema: AWS's own model, and our rules.

Nothing here refuses what `config.load` takes: a value that means "not given" is always legal.
"""

from __future__ import annotations

from typing import Any

from sagemaker_launcher import service_model

# Keys whose values enter the CreateTrainingJob request as they are, and AWS's shapes for them.
SHAPES = {
    "CHANNELS.*.INPUT_MODE": "TrainingInputMode",
    "CHANNELS.*.DISTRIBUTION": "S3DataDistribution",
    "CHANNELS.*.S3_DATA_TYPE": "S3DataType",
    "CHANNELS.*.COMPRESSION": "CompressionType",
    "CHANNELS.*.RECORD_WRAPPING": "RecordWrapper",
    "ESTIMATOR.CONTAINER_ENTRY_POINT": "TrainingContainerEntrypoint",
    "ESTIMATOR.CONTAINER_ARGUMENTS": "TrainingContainerArguments",
    "ESTIMATOR.ENVIRONMENT": "TrainingEnvironmentMap",
    "ESTIMATOR.ENVIRONMENT.*": "TrainingEnvironmentValue",
    "ESTIMATOR.HYPERPARAMETERS": "HyperParameters",
    "ESTIMATOR.HYPERPARAMETERS.*": "HyperParameterValue",
    "ESTIMATOR.IMAGE_URI": "AlgorithmImage",
    "ESTIMATOR.INPUT_MODE": "TrainingInputMode",
    "ESTIMATOR.INSTANCE_GROUPS": "InstanceGroups",
    "ESTIMATOR.INSTANCE_GROUPS.*.INSTANCE_GROUP_NAME": "InstanceGroupName",
    "ESTIMATOR.INSTANCE_GROUPS.*.INSTANCE_TYPE": "TrainingInstanceType",
    "ESTIMATOR.INSTANCE_TYPE": "TrainingInstanceType",
    "ESTIMATOR.KEEP_ALIVE_PERIOD_IN_SECONDS": "KeepAlivePeriodInSeconds",
    "ESTIMATOR.MAX_RETRY_ATTEMPTS": "MaximumRetryAttempts",
    "ESTIMATOR.MAX_RUN": "MaxRuntimeInSeconds",
    "ESTIMATOR.MAX_WAIT": "MaxWaitTimeInSeconds",
    "ESTIMATOR.METRIC_DEFINITIONS": "MetricDefinitionList",
    "ESTIMATOR.METRIC_DEFINITIONS.*.Name": "MetricName",
    "ESTIMATOR.METRIC_DEFINITIONS.*.Regex": "MetricRegex",
    "ESTIMATOR.OUTPUT_KMS_KEY": "KmsKeyId",
    "ESTIMATOR.SECURITY_GROUP_IDS": "VpcSecurityGroupIds",
    "ESTIMATOR.SECURITY_GROUP_IDS.*": "SecurityGroupId",
    "ESTIMATOR.SUBNETS": "Subnets",
    "ESTIMATOR.SUBNETS.*": "SubnetId",
    "ESTIMATOR.TRAINING_PLAN": "TrainingPlanArn",
    "ESTIMATOR.TRAINING_REPOSITORY_ACCESS_MODE": "TrainingRepositoryAccessMode",
    "ESTIMATOR.VOLUME_KMS_KEY": "KmsKeyId",
}
# Keys that have no effect in some configs, where any value passes: what editors may suggest, and nothing more.
_SUGGESTED = {
    "CHANNELS.*.FILE_SYSTEM_TYPE": "FileSystemType",
    "CHANNELS.*.FILE_SYSTEM_ACCESS_MODE": "FileSystemAccessMode",
}
# Always part of the request, so that "not given" is no legal value of theirs.
_ALWAYS = frozenset(
    (
        "CHANNELS.*.DISTRIBUTION",
        "CHANNELS.*.S3_DATA_TYPE",
        "ESTIMATOR.INPUT_MODE",
        "ESTIMATOR.INSTANCE_GROUPS.*.INSTANCE_TYPE",
        "ESTIMATOR.MAX_RUN",
    )
)
_S3_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/.*)?$"
_OWN: dict[str, dict[str, Any]] = {
    "VERSION": {"enum": [1]},
    "EXPERIMENT_NAME": {
        "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
        "maxLength": 128,
    },
    "AWS.ACCOUNT": {"pattern": "^([0-9]{12})?$"},
    "BUDGET_USD": {"minimum": 0},
    "S3.CONFIGS": {"pattern": _S3_URI},
    "S3.OUTPUTS": {"pattern": _S3_URI},
    "S3.CHECKPOINTS": {"pattern": f"^$|{_S3_URI}"},
    "ESTIMATOR.MODEL_URI": {"pattern": f"^$|{_S3_URI}"},
    "ESTIMATOR.ROLE": {"pattern": r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$"},
    "ESTIMATOR.VOLUME_SIZE": {"minimum": 1},
    "ESTIMATOR.PROFILER_CONFIG.SYSTEM_MONITOR_INTERVAL_MILLIS": {
        "examples": [100, 200, 500, 1000, 5000, 60000]
    },
    "TAGS": {"maxProperties": 48},
}


def limits() -> dict[str, dict[str, Any]]:
    """Limits by dotted key, for `json_schema.Notes`."""
    shapes = service_model.shapes()
    found = {key: _limit(shapes[name], always=key in _ALWAYS) for key, name in SHAPES.items()}
    found |= {key: {"examples": shapes[name]["enum"]} for key, name in _SUGGESTED.items()}
    # The channel of the training config is this tool's own, and so is the variable with its SHA-256.
    found["CHANNELS"] = {
        "maxProperties": shapes["InputDataConfig"]["max"] - 1,
        "propertyNames": {
            "pattern": f"^(?:{shapes['ChannelName']['pattern']})$",
            "maxLength": shapes["ChannelName"]["max"],
            "not": {"enum": ["config", ".", ".."]},
        },
    }
    found["ESTIMATOR.ENVIRONMENT"]["maxProperties"] -= 1
    return found | {"AWS.REGION": {"examples": list(service_model.known_regions())}} | _OWN


def _limit(shape: dict[str, Any], *, always: bool) -> dict[str, Any]:
    kind = shape["type"]
    if "enum" in shape:
        return {"enum": shape["enum"] if always else [*shape["enum"], ""]}
    if kind in {"integer", "long"}:
        least = {"minimum": shape["min"] if always else min(0, shape["min"])} if "min" in shape else {}
        return least | ({"maximum": shape["max"]} if "max" in shape else {})
    word = {"string": "maxLength", "list": "maxItems", "map": "maxProperties"}[kind]
    most = {word: shape["max"]} if "max" in shape else {}
    pattern = shape.get("pattern", ".*")
    # Java's classes of letters are nothing that editors know.
    if kind != "string" or pattern in {".*", ".+"} or r"\p" in pattern:
        return most
    return most | {"pattern": f"^(?:{pattern})?$"}
