"""Every key of the SageMaker config with its default: the YACS tree that doubles as the manual.

A YAML file states only what differs. Keys under ESTIMATOR are the arguments of `sagemaker.estimator.Estimator` in upper
case. An empty text, an empty list and 0 mean "not given" unless the comment says otherwise.
"""

from __future__ import annotations

from yacs.config import CfgNode

_C = CfgNode()
_C.VERSION = 1  # the version of this file's format
# A path of letters, digits, '.', '_' and '-'. Groups experiments in the archive and starts the name of each job.
_C.EXPERIMENT_NAME = ""
_C.TRAINING_CONFIG = "training_config.yaml"  # the training config, relative to this file
# US dollars; a job on AWS that can cost more (on demand, at its longest) is refused without --yes. 0: no limit.
_C.BUDGET_USD = 0.0

_C.AWS = CfgNode()
_C.AWS.REGION = ""  # such as us-east-1; the job, its buckets and its image live there
_C.AWS.ACCOUNT = ""  # the account's 12 digits: nothing is done in any other; empty: that of the credentials
_C.AWS.PROFILE = ""  # a profile of ~/.aws/config; empty: the usual credential chain

_C.S3 = CfgNode()
_C.S3.CONFIGS = ""  # where both configs of every experiment are archived, such as s3://team/experiments
_C.S3.OUTPUTS = ""  # model and outputs; the service adds <job name>/output/
_C.S3.CHECKPOINTS = ""  # one folder per job is made under it; empty: no checkpoints

# Input channels by name: an S3 URI, or a mapping with the keys of CHANNEL below. `config` is taken.
_C.CHANNELS = CfgNode(new_allowed=True)

_C.ESTIMATOR = CfgNode()
# The image and how it is started
_C.ESTIMATOR.IMAGE_URI = ""  # registry/repository:tag or @sha256:digest
_C.ESTIMATOR.CONTAINER_ENTRY_POINT = []  # replaces the image's ENTRYPOINT
_C.ESTIMATOR.CONTAINER_ARGUMENTS = []  # replaces the argument `train`
_C.ESTIMATOR.TRAINING_REPOSITORY_ACCESS_MODE = (
    ""  # Platform or Vpc: an image in a private registry outside ECR
)
_C.ESTIMATOR.TRAINING_REPOSITORY_CREDENTIALS_PROVIDER_ARN = ""  # the Lambda function that knows its password
_C.ESTIMATOR.ROLE = ""  # full ARN of the execution role
# Machines
_C.ESTIMATOR.INSTANCE_TYPE = ""  # such as ml.m5.xlarge
_C.ESTIMATOR.INSTANCE_COUNT = 1
_C.ESTIMATOR.INSTANCE_GROUPS = []  # different machines in one job, see INSTANCE_GROUP; then no INSTANCE_TYPE
_C.ESTIMATOR.VOLUME_SIZE = 30  # GiB per instance
_C.ESTIMATOR.VOLUME_KMS_KEY = ""
_C.ESTIMATOR.KEEP_ALIVE_PERIOD_IN_SECONDS = (
    0  # keeps the machines for the next job (warm pool); they bill meanwhile
)
_C.ESTIMATOR.TRAINING_PLAN = ""  # ARN of reserved capacity
_C.ESTIMATOR.INSTANCE_PLACEMENT_CONFIG = CfgNode()  # UltraServers only
_C.ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.ENABLE_MULTIPLE_JOBS = False
_C.ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS = []  # see PLACEMENT
# Limits
_C.ESTIMATOR.MAX_RUN = 86400  # seconds of running, all attempts together
_C.ESTIMATOR.USE_SPOT_INSTANCES = False  # True needs S3.CHECKPOINTS
_C.ESTIMATOR.MAX_WAIT = 0  # seconds of waiting and running; 0: MAX_RUN when spot
_C.ESTIMATOR.MAX_RETRY_ATTEMPTS = 0  # new attempts after an internal error of the service
# Data in and out
_C.ESTIMATOR.INPUT_MODE = "File"  # File, FastFile or Pipe, for channels that do not say
_C.ESTIMATOR.MODEL_URI = ""  # an S3 URI that becomes one more channel, for a model to start from
_C.ESTIMATOR.MODEL_CHANNEL_NAME = "model"
_C.ESTIMATOR.CHECKPOINT_LOCAL_PATH = ""  # empty: /opt/ml/checkpoints/
_C.ESTIMATOR.OUTPUT_KMS_KEY = ""
_C.ESTIMATOR.DISABLE_OUTPUT_COMPRESSION = False
# What the container gets besides the training config: texts, exactly as written here
_C.ESTIMATOR.HYPERPARAMETERS = CfgNode(new_allowed=True)
_C.ESTIMATOR.ENVIRONMENT = CfgNode(new_allowed=True)
_C.ESTIMATOR.ENVIRONMENT.PYTHONUNBUFFERED = "1"  # log lines appear when they are printed
# Metrics taken from the log, see METRIC_DEFINITION; the first group of the regex is the number
_C.ESTIMATOR.METRIC_DEFINITIONS = []
_C.ESTIMATOR.ENABLE_SAGEMAKER_METRICS = False  # False: the service decides
# Network
_C.ESTIMATOR.SUBNETS = []  # with SECURITY_GROUP_IDS: run in this VPC
_C.ESTIMATOR.SECURITY_GROUP_IDS = []
_C.ESTIMATOR.ENCRYPT_INTER_CONTAINER_TRAFFIC = False
_C.ESTIMATOR.ENABLE_NETWORK_ISOLATION = False
# Looking inside
_C.ESTIMATOR.ENABLE_INFRA_CHECK = False  # checks the machines before training
_C.ESTIMATOR.ENABLE_REMOTE_DEBUG = False  # a shell in the running container through SSM
_C.ESTIMATOR.ENABLE_SESSION_TAG_CHAINING = False
_C.ESTIMATOR.DEBUGGER_HOOK_CONFIG = CfgNode()  # on when S3_OUTPUT_PATH is given
_C.ESTIMATOR.DEBUGGER_HOOK_CONFIG.S3_OUTPUT_PATH = ""
_C.ESTIMATOR.DEBUGGER_HOOK_CONFIG.CONTAINER_LOCAL_OUTPUT_PATH = ""
_C.ESTIMATOR.DEBUGGER_HOOK_CONFIG.HOOK_PARAMETERS = CfgNode(new_allowed=True)
_C.ESTIMATOR.PROFILER_CONFIG = CfgNode()  # on when S3_OUTPUT_PATH is given
_C.ESTIMATOR.PROFILER_CONFIG.S3_OUTPUT_PATH = ""
_C.ESTIMATOR.PROFILER_CONFIG.SYSTEM_MONITOR_INTERVAL_MILLIS = 500
_C.ESTIMATOR.TENSORBOARD_OUTPUT_CONFIG = CfgNode()  # on when S3_OUTPUT_PATH is given
_C.ESTIMATOR.TENSORBOARD_OUTPUT_CONFIG.S3_OUTPUT_PATH = ""
_C.ESTIMATOR.TENSORBOARD_OUTPUT_CONFIG.CONTAINER_LOCAL_OUTPUT_PATH = ""

_C.TAGS = CfgNode(new_allowed=True)  # tags of the job, besides the two that this tool adds

_C.SOURCE = CfgNode()
# The folder that enters the image, relative to this file: what a rehearsal runs, and whose config.py holds the
# schema of the training config. Empty: the code is only in the image, and the training config is not checked.
_C.SOURCE.DIR = "../sagemaker_container"
_C.SOURCE.ENTRY_POINT = "main.py"
_C.SOURCE.CONTAINER_DIR = "/opt/ml/code"  # where the image has that folder: the docker target puts it there

# One input channel: the arguments of sagemaker.inputs.TrainingInput, or of FileSystemInput when FILE_SYSTEM_ID is given
CHANNEL = CfgNode()
CHANNEL.S3_URI = ""
CHANNEL.BUCKET_OWNER = ""  # the account that has to own the bucket, when it is not yours
CHANNEL.INPUT_MODE = ""  # empty: ESTIMATOR.INPUT_MODE
CHANNEL.DISTRIBUTION = "FullyReplicated"  # or ShardedByS3Key
CHANNEL.S3_DATA_TYPE = "S3Prefix"  # or ManifestFile, AugmentedManifestFile
CHANNEL.CONTENT_TYPE = ""
CHANNEL.COMPRESSION = ""  # Gzip (Pipe mode only)
CHANNEL.RECORD_WRAPPING = ""  # RecordIO
CHANNEL.ATTRIBUTE_NAMES = []  # of an augmented manifest
CHANNEL.INSTANCE_GROUPS = []  # names of the groups that get the channel
CHANNEL.SHUFFLE_SEED = 0  # 0: no shuffling
CHANNEL.FILE_SYSTEM_ID = ""
CHANNEL.FILE_SYSTEM_TYPE = ""  # EFS or FSxLustre
CHANNEL.DIRECTORY_PATH = ""
CHANNEL.FILE_SYSTEM_ACCESS_MODE = "ro"  # or rw

METRIC_DEFINITION = CfgNode()  # spelt as the SDK spells it
METRIC_DEFINITION.Name = ""
METRIC_DEFINITION.Regex = ""

INSTANCE_GROUP = CfgNode()
INSTANCE_GROUP.INSTANCE_GROUP_NAME = ""
INSTANCE_GROUP.INSTANCE_TYPE = ""
INSTANCE_GROUP.INSTANCE_COUNT = 1

PLACEMENT = CfgNode()
PLACEMENT.ULTRA_SERVER_ID = ""
PLACEMENT.INSTANCE_COUNT = 1

# What stands in the lists and open mappings above.
ELEMENTS: dict[str, object] = {
    "CHANNELS": CHANNEL,
    "CHANNELS.*.ATTRIBUTE_NAMES": "",
    "CHANNELS.*.INSTANCE_GROUPS": "",
    "TAGS": "",
    "ESTIMATOR.CONTAINER_ENTRY_POINT": "",
    "ESTIMATOR.CONTAINER_ARGUMENTS": "",
    "ESTIMATOR.INSTANCE_GROUPS": INSTANCE_GROUP,
    "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS": PLACEMENT,
    "ESTIMATOR.HYPERPARAMETERS": "",
    "ESTIMATOR.ENVIRONMENT": "",
    "ESTIMATOR.METRIC_DEFINITIONS": METRIC_DEFINITION,
    "ESTIMATOR.SUBNETS": "",
    "ESTIMATOR.SECURITY_GROUP_IDS": "",
    "ESTIMATOR.DEBUGGER_HOOK_CONFIG.HOOK_PARAMETERS": "",
}
# A scalar in the place of such a mapping stands for this one key of it.
SHORT_FORMS = {"CHANNELS.*": "S3_URI"}
# Names of the first SDK generation that many configs still carry; read with a warning, archived under the new name.
RENAMED = {
    "ESTIMATOR.IMAGE_NAME": "ESTIMATOR.IMAGE_URI",
    "ESTIMATOR.TRAIN_INSTANCE_COUNT": "ESTIMATOR.INSTANCE_COUNT",
    "ESTIMATOR.TRAIN_INSTANCE_TYPE": "ESTIMATOR.INSTANCE_TYPE",
    "ESTIMATOR.TRAIN_VOLUME_SIZE": "ESTIMATOR.VOLUME_SIZE",
    "ESTIMATOR.TRAIN_VOLUME_KMS_KEY": "ESTIMATOR.VOLUME_KMS_KEY",
    "ESTIMATOR.TRAIN_MAX_RUN": "ESTIMATOR.MAX_RUN",
    "ESTIMATOR.TRAIN_MAX_WAIT": "ESTIMATOR.MAX_WAIT",
    "ESTIMATOR.TRAIN_USE_SPOT_INSTANCES": "ESTIMATOR.USE_SPOT_INSTANCES",
}


def get_cfg_defaults() -> CfgNode:
    """A copy of the default tree, for the caller to merge into and freeze."""
    return _C.clone()


def frozen(values: dict[str, object]) -> CfgNode:
    """A frozen YACS node that holds `values`."""
    node = CfgNode(values)
    node.freeze()
    return node
