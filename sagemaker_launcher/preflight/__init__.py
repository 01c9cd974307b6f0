"""What only AWS can answer, asked before anything is written."""

from __future__ import annotations

# Every check by its name, in the order in which findings are told.
CHECKS = {
    "credentials": "who AWS says you are, and until when",
    "account": "the account is the one that AWS.ACCOUNT names",
    "clock": "this machine's clock is at most five minutes off",
    "buckets": "every bucket exists, is in the job's region, and belongs to you or to the BUCKET_OWNER of its channel",
    "public": "no bucket that is written to is open to the public, by a policy or an access control list",
    "archive": "you may write to the archive",
    "data": "every channel has objects, which fit on the volume, and nothing that its prefix was not meant for",
    "role": "the execution role exists, and SageMaker may take it on",
    "pass-role": "you may start jobs and hand them the role",
    "role-access": "the role may read the channels, write the outputs, pull the image and keep a log",
    "image": "the image is in ECR, for the processor of the instances, and no index",
    "quota": "the region offers the types of instances, and the account's quotas allow them and MAX_RUN",
    "network": "subnets and security groups exist and belong together",
    "keys": "the KMS keys are enabled, in the region and for encryption, and the role may use them",
    "metrics": "the metrics' patterns find numbers in the log lines that the training code says it prints",
}
