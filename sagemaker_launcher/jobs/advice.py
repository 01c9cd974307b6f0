"""What to try after a job that did not complete. Pure.

The reasons are those of DescribeTrainingJob's FailureReason:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html
"""

from __future__ import annotations

import re

from sagemaker_launcher.result import FAILED, JobResult

_BY_SECONDARY = {
    "MaxRuntimeExceeded": "the time limit ended it: raise ESTIMATOR.MAX_RUN; checkpoints let a new job go on from here",
    "MaxWaitTimeExceeded": "spot capacity did not come in time: raise ESTIMATOR.MAX_WAIT, choose another instance type, "
    "or set ESTIMATOR.USE_SPOT_INSTANCES to false",
}
_BY_EXIT_CODE = {
    126: "make the entry point executable; `doctor` looks at the image",
    127: "`doctor` says what the image would start",
    132: "build the image for the instance's processor, as build_and_push.sh does, or choose another instance type",
    137: "choose an instance type with more memory, or smaller batches",
    139: "a native library crashed, often for two that do not fit together, or for want of memory",
}
_BY_REASON = (
    (
        r"CapacityError|InsufficientCapacity",
        "choose another instance type, another region, or try again later",
    ),
    (
        r"Cannot pull algorithm container",
        "check ESTIMATOR.IMAGE_URI, that the role may pull it, and that it fits onto the volume; `doctor` looks at it",
    ),
    (
        r"Data download failed|No S3 objects found",
        "check the URIs under CHANNELS, and that the role may read them",
    ),
    (r"unable to assume the role", "check that the role of ESTIMATOR.ROLE trusts sagemaker.amazonaws.com"),
    (r"InternalServerError", "a fault of AWS, or an instance that is too small: run it again"),
    (r"No space left on device", "raise ESTIMATOR.VOLUME_SIZE"),
    (r"out of memory|OutOfMemory", "choose an instance type with more memory, or smaller batches"),
    (
        r"AlgorithmError|ExecuteUserScriptError",
        "rehearse it where a try costs a second: `rerun ... --on docker`",
    ),
)


def advice(result: JobResult) -> tuple[str, ...]:
    """What to try now, the likeliest first; nothing for a job that completed, runs, or was stopped by a person."""
    if result.secondary_status in _BY_SECONDARY:
        return (_BY_SECONDARY[result.secondary_status],)
    if result.status != FAILED:
        return ()
    found = [_BY_EXIT_CODE[result.exit_code]] if result.exit_code in _BY_EXIT_CODE else []
    found += [text for pattern, text in _BY_REASON if re.search(pattern, result.failure_reason)]
    return tuple(dict.fromkeys(found))
