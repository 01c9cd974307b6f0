"""What counts as a secret, what does not, and what is shown of it.

Every sample is put together at run time, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import base64
import json
import random
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.errors import ExitCode, UnsafeError
from sagemaker_launcher.secret_scan import (
    _FORMATS,
    Finding,
    Scan,
    refuse,
    scan_patch,
    scan_text,
    scan_values,
    unmarked,
)
from tests.fault_rows import provokes

ROOT = Path(__file__).parent.parent
HEX = "0123456789abcdef"
WORD = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
MARK = "# launcher: " + "allow-secret"


def noise(alphabet: str, length: int) -> str:
    return "".join(random.Random(f"{alphabet}{length}").choices(alphabet, k=length))


PASSWORD = "hunter" + "2-" + noise(WORD, 4)
GITHUB = "gh" + "p_" + noise(WORD, 36)
AWS_SECRET = noise(WORD + "/+", 40)
LOGIN = base64.b64encode(b"AWS:" + noise(WORD, 24).encode()).decode()
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', noise(WORD, 32).encode())
)

FORMATS = [
    ("a private key", "-----BEGIN " + "PRIVATE KEY-----"),
    ("a private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
    ("a private key", "-----BEGIN OPENSSH " + "PRIVATE KEY-----"),
    ("a private key", '{"private_key": "-----BEGIN ' + "PRIVATE KEY-----\\nMIIE" + noise(WORD, 60) + '\\n"}'),
    ("an AWS access key id", "AK" + "IA" + noise(UPPER, 16)),
    ("an AWS access key id", "AS" + "IA" + noise(UPPER, 16)),
    ("an AWS secret access key", "aws_secret_access" + "_key = " + AWS_SECRET),
    ("an AWS secret access key", '"SecretAccess' + 'Key": "' + AWS_SECRET + '"'),
    ("an Amazon Bedrock API key", "AB" + "SK" + noise(WORD, 120)),
    ("an Anthropic API key", "sk-" + "ant-api03-" + noise(WORD + "-_", 90)),
    ("an OpenAI API key", "sk-" + "proj-" + noise(WORD + "-_", 80)),
    ("an OpenAI API key", "sk-" + noise(WORD, 48)),
    ("a GitHub token", GITHUB),
    ("a GitHub token", "gh" + "s_" + noise(WORD, 36)),
    ("a GitHub token", "github" + "_pat_" + noise(WORD, 22) + "_" + noise(WORD, 59)),
    ("a GitLab token", "gl" + "pat-" + noise(WORD, 20)),
    ("a Slack token", "xo" + "xb-" + noise(string.digits, 12) + "-" + noise(WORD, 24)),
    ("a Slack webhook", "https://hooks.slack" + ".com/services/T0AB12CD3/B0AB12CD3/" + noise(WORD, 24)),
    ("a Stripe key", "sk" + "_live_" + noise(WORD, 24)),
    ("a Google API key", "AI" + "za" + noise(WORD + "-_", 35)),
    ("a Google OAuth secret", "GOC" + "SPX-" + noise(WORD, 28)),
    ("a Hugging Face token", "h" + "f_" + noise(string.ascii_letters, 34)),
    ("a Weights & Biases API key", "wandb" + " login " + noise(HEX, 40)),
    ("a Weights & Biases API key", "WANDB_API" + "_KEY: " + noise(HEX, 40)),
    ("a Weights & Biases API key", "wandb" + '.login(key="' + noise(HEX, 40) + '")'),
    ("a Replicate API token", "r" + "8_" + noise(WORD, 37)),
    ("a Groq API key", "gs" + "k_" + noise(WORD, 52)),
    ("an NVIDIA API key", "nv" + "api-" + noise(WORD + "-_", 64)),
    ("a LangSmith API key", "lsv2" + "_pt_" + noise(HEX, 32) + "_" + noise(HEX, 10)),
    ("an npm token", "np" + "m_" + noise(WORD, 36)),
    ("a PyPI token", "pypi" + "-AgEIcHlwaS5vcmc" + noise(WORD + "-_", 150)),
    ("a SendGrid API key", "S" + "G." + noise(WORD + "-_", 22) + "." + noise(WORD + "-_", 43)),
    ("a Twilio API key", "S" + "K" + noise(HEX, 32)),
    ("a Databricks token", "da" + "pi" + noise(HEX, 32)),
    ("a DigitalOcean token", "dop" + "_v1_" + noise(HEX, 64)),
    ("a Docker Hub token", "dckr" + "_pat_" + noise(WORD + "-_", 27)),
    ("a HashiCorp Vault token", "hv" + "s." + noise(WORD, 90)),
    ("a JSON Web Token", JWT),
    (
        "an Azure storage key",
        "DefaultEndpointsProtocol=https;Account" + "Key=" + noise(WORD + "+/", 86) + "==",
    ),
    ("an Azure client secret", "aB1" + "8Q~" + noise(WORD, 34)),
    ("a URL with a password", "postgresql://trainer:" + PASSWORD + "@db.example.com:5432/digits"),
    ("a URL with a password", "--extra-index-url https://ci:" + PASSWORD + "@pypi.example.com/simple"),
    ("a URL with a password", "redis://:" + PASSWORD + "@cache"),
    ("a Basic authentication header", "Authorization: " + "Basic " + LOGIN),
    ("a Bearer token", "Authorization: " + "Bearer " + noise(WORD, 32)),
    ("a Docker registry login", '{"auths": {"registry.example.com": {"au' + 'th": "' + LOGIN + '"}}}'),
]

NAMED = [
    "DB_PASSWORD: {}",
    "db_password: '{}'",
    'DB_PASSWORD: "{}"',
    "ENVIRONMENT: {{LEVEL: info, DB_PASSWORD: {}}}",
    "- DB_PASSWORD: {}",
    "    PGPASSWORD:      {}   # the usual one",
    "# DB_PASSWORD: {}",
    "DB_PASSWORD={}",
    "export DB_PASSWORD={}",
    "ENV DB_PASSWORD={} LEVEL=info",
    "MYSQL_PWD={}",
    "db-passwd = {}",
    "PASSPHRASE := {}",
    "spring.datasource.password={}",
    "https://example.com/hook?token={}&x=1",
    '{{"api_key": "{}"}}',
    '{{"apiKey":"{}"}}',
    "X-Api-Key: {}",
    "CLIENT_SECRET: {}",
    "COMET_API_KEY: {}",
    "MLFLOW_TRACKING_TOKEN: {}",
    "GITHUBTOKEN: {}",
    "aws_session_token = {}",
    "MINIO_ACCESS_KEY: {}",
    "SSH_PRIVATE_KEY: {}",
    "SERVICE_CREDENTIAL: {}",
    "auth: {}",
    "//registry.example.org/:_authToken={}",
    "docker login --password {} registry.example.com",
    'CONTAINER_ARGUMENTS: ["--api-key", "{}"]',
    "CONTAINER_ARGUMENTS: [--api-key={}]",
]

NAMED_IN_CODE = [
    'password = "{}"',
    "self.api_key = '{}'",
    'token: str = "{}"',
    'def connect(password: str | None = "{}") -> None:',
    'os.environ["DB_PASSWORD"] = "{}"',
    'os.environ.setdefault("DB_PASSWORD", "{}")',
    'connect(user="me", password="{}")',
    "client({{'secret': '{}'}})",
    'token = b"{}"',
    '    "os.environ[\\"HF_TOKEN\\"] = \\"{}\\"\\n",',
]

SAGEMAKER_YAML = """
VERSION: 1
EXPERIMENT_NAME: digits/baseline
TRAINING_CONFIG: training_config.yaml
AWS: {REGION: us-east-1, PROFILE: ""}
S3:
  CONFIGS: s3://team/experiments
  OUTPUTS: s3://team-secret-project/outputs/token/password
CHANNELS:
  training: s3://team/data/digits/train/
  tokens: {S3_URI: s3://team/tokens/, INPUT_MODE: FastFile}
ESTIMATOR:
  IMAGE_URI: 123456789012.dkr.ecr.us-east-1.amazonaws.com/digits@sha256:%(sha256)s
  ROLE: arn:aws:iam::123456789012:role/SageMakerExecutionRole
  VOLUME_KMS_KEY: 1234abcd-12ab-34cd-56ef-1234567890ab
  OUTPUT_KMS_KEY: arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab
  SUBNETS: [subnet-0a1b2c3d4e5f67890]
  SECURITY_GROUP_IDS: [sg-0a1b2c3d4e5f67890]
  METRIC_DEFINITIONS:
    - {Name: "validation:tokens", Regex: 'tokens=([0-9.eE+-]+)'}
  ENVIRONMENT:
    GIT_COMMIT: %(sha1)s
    RUN_ID: 0b7e3c1e-8f7a-4d56-9a0b-3d5f8c1e2a47
    CONFIG_SHA256: %(sha256)s
    DB_SECRET_ARN: arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-AbCdEf
    DB_SECRET: arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-AbCdEf
    SECRET_NAME: prod/db
    DB_PASSWORD: '{{resolve:secretsmanager:prod/db:SecretString:password}}'
    API_TOKEN: ${API_TOKEN}
    OTHER_TOKEN: $OTHER_TOKEN
    HF_TOKEN: <your token>
    GITHUB_TOKEN: ""
    NPM_TOKEN:
    SLACK_TOKEN: null
    USE_AUTH_TOKEN: true
    ACCESS_KEY: changeme
    SECRET_KEY: xxxxxxxxxxxx
    PRIVATE_KEY: '***'
    TOKEN_FILE: /run/secrets/token1234
    PASSWORD: /run/secrets/password1
    GOOGLE_APPLICATION_CREDENTIALS: /opt/ml/input/data/gcp/key.json
    AUTH: kerberos
    LIMITS: {LEVEL: info, TOKEN: short}
    SECRET: my-team/db-password
"""

TRAINING_YAML = """
MODEL:
  TOKENIZER: bert-base-uncased
  TOKENIZER_PATH: s3://team/tokenizers/v2/
  MAX_TOKENS: 512
  num_tokens: 100000
  TOKENS_PER_BATCH: 1e6
  token: 1_000_000
  tokens: [hello1234, world5678]
  mask_token: "[MASK]"
  eos_token: "<|endoftext|>"
  stop_token: "Human12:"
  token_embedding: learned_512d
  TOKEN_POOLING: mean_pool
  TOKEN_MIXER: attention_v2
  TOKEN_CHOICE: top2routing
  TOKEN_MERGING: bipartite_r16
  vocab_size: 50257
  author: someone12345
  attention_heads: 12
  keyboard: qwerty12345
  password_policy: at-least-12-characters
  forward_pass: checkpointed
SOLVER: {BASE_LR: 3.0e-4, WEIGHT_DECAY: 1e-06, STEPS: [1000, 20000], WARMUP: 0.1}
CACHE_KEY: Linux-pip-3.11-%(sha256)s
S3_KEY: Experiments/Digits2024/Train/Part0001/Version2
NOTE: base64 of short words, aGVsbG8gd29ybGQ=
THUMBNAIL: "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""

REQUIREMENTS = """
torch==2.3.1 --hash=sha256:%(sha256)s
tokenizers==0.15.2 \\
    --hash=sha256:%(sha256)s
detect-secrets==1.5.0
wandb @ git+https://github.com/wandb/wandb@%(sha1)s
--index-url https://packages.example.com/simple
--extra-index-url https://${PYPI_USER}:${PYPI_PASSWORD}@pypi.example.com/simple
--extra-index-url https://user:pass@pypi.example.com/simple
[[package]]
checksum = "%(sha256)s"
"integrity": "sha512-oNVWTyHpIVmrAOs+2eL8nwVTxD5eVCCHnWqjJRKrZJyKMMLGF9x2uWYxUQ7fTzJrHfXJDGLdoPqDVQ3EYwiZXg==",
"""

PYTHON = '''
def load(path: str, token: str | None = None, password: str = "") -> None:
    """Loads; token: an optional access-token, password: whatever the server wants."""
    token = tokenizer.decode(ids2tokens[0])
    token = os.environ["HF_TOKEN"]
    api_key = os.getenv("API_KEY", "")
    secret = client.get_secret_value(SecretId=secret_name)["SecretString"]
    password = getpass.getpass("Your password: ")
    auth = HTTPBasicAuth(user, password)
    url = f"https://{user}:{password}@{host}/"
    header = {"Authorization": f"Bearer {token}", "token": token}
    parser.add_argument("--token", help="the token to use", default=None)
    names = ("token", "secret", "password", "credentials")
    assert token == expected1234
    self.secret_key = settings.SECRET_KEY
    pad_token = "[PAD-1234]"
    print("password: must have 8 characters or more")
    print("token=" + repr(token_of_12_letters))
    headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    pages = {"input_token": "next_marker_1", "output_token": "NextToken1", "password_last_used": "2024-06-01"}
    tokensource = "file-0123456"
    column("the client secret", "group1 group2")
    key = sha256(b"x").hexdigest()
    disk = "task-0123456789abcdef0123456789abcdef01234567"
'''

SHELL = """
password=$(aws ecr get-login-password --region "$REGION")
aws ecr get-login-password | docker login --username AWS --password-stdin 123456789012.dkr.ecr.us-east-1.amazonaws.com
TOKEN="${1:?token}"
git clone git@github.com:team/digits.git && git checkout %(sha1)s
docker run -e AWS_SESSION_TOKEN -u 1000:1000 digits@sha256:%(sha256)s
"Action": ["secretsmanager:GetSecretValue", "sts:GetSessionToken", "kms:Decrypt"],
"""

HARMLESS = [
    ("sagemaker.yaml", SAGEMAKER_YAML),
    ("training.yaml", TRAINING_YAML),
    ("requirements.txt", REQUIREMENTS),
    ("load.py", PYTHON),
    ("build_and_push.sh", SHELL),
]


def filled(text: str) -> str:
    return text.replace("%(sha256)s", noise(HEX, 64)).replace("%(sha1)s", noise(HEX, 40))


def only(scan: Scan) -> Finding:
    assert len(scan.findings) == 1, [str(finding) for finding in scan.findings]
    return scan.findings[0]


@provokes(87)
@pytest.mark.parametrize(("rule", "sample"), FORMATS)
@pytest.mark.parametrize("around", ["NOTE: {}", "x = '{}'", "{}", '["--flag", "{}"]'])
def test_a_format_is_recognised_wherever_it_stands(rule: str, sample: str, around: str) -> None:
    found = only(scan_text(f"one: 1\n{around.replace('{}', sample)}\n", "x.yaml"))
    assert (found.line, found.rule) == (2, rule)


def test_every_format_has_a_sample() -> None:
    assert {rule for rule, _ in FORMATS} == {form.rule for form in _FORMATS}


@pytest.mark.parametrize("line", NAMED)
@pytest.mark.parametrize("value", [PASSWORD, noise(HEX, 40), AWS_SECRET], ids=["password", "hex", "base64"])
def test_a_value_is_judged_by_the_name_of_its_key(line: str, value: str) -> None:
    found = only(scan_text(line.format(value), "config.yaml"))
    assert value not in str(found)


@pytest.mark.parametrize("line", NAMED_IN_CODE)
def test_a_quoted_value_in_code_is_judged_by_its_name(line: str) -> None:
    assert only(scan_text(line.format(PASSWORD), "train.py")).rule.startswith("a secret named ")


@pytest.mark.parametrize(
    "value", ["correct horse battery staple", "correcthorse", "123456", "p@ss;w0rd", "$ecret99!"]
)
def test_a_password_need_not_look_random(value: str) -> None:
    assert only(scan_text(f'PASSWORD: "{value}"', "config.yaml")).rule == "a secret named PASSWORD"


@pytest.mark.parametrize("opener", ["|", ">-", "", "|-  # as it is"])
def test_a_value_below_its_key_is_found(opener: str) -> None:
    text = f"ENVIRONMENT:\n  DB_PASSWORD: {opener}\n    {PASSWORD}\n  OTHER: {PASSWORD[:3]}\n"
    assert only(scan_text(text, "x.yaml")).line == 3


def test_a_value_in_parentheses_below_its_name_is_found() -> None:
    assert only(scan_text(f'token = (\n    "{PASSWORD}"\n)\n', "x.py")).line == 2


def test_what_follows_an_empty_value_is_not_its_value() -> None:
    data = "secrets:\n  db:\n    file: one.txt\nDB_PASSWORD:\nEXPERIMENT: baseline1234\n"
    data += "GH_TOKEN:\nbaseline1234\n"
    code = "if token:\n    return baseline1234\n"
    assert scan_text(data, "x.yaml") == scan_text(code, "x.py") == Scan((), ())


@pytest.mark.parametrize("name", ["ENCRYPTION_KEY", "master_key", "key"])
def test_a_long_random_value_of_any_key_is_found(name: str) -> None:
    value = noise(WORD + "+/", 43) + "="
    assert only(scan_text(f'{name} = "{value}"', "x.py")).rule == f"a secret named {name}"


@pytest.mark.parametrize(("name", "text"), HARMLESS)
def test_what_is_no_secret_is_let_through(name: str, text: str) -> None:
    assert scan_text(filled(text), name) == Scan((), ())


@pytest.mark.parametrize(("name", "text"), HARMLESS)
def test_a_patch_of_harmless_lines_is_let_through(name: str, text: str) -> None:
    assert scan_patch(new_file(name, filled(text)), "uncommitted.patch") == Scan((), ())


def project_files() -> list[Path]:
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(git, check=False, capture_output=True).stdout.decode().split("\0")
    return [
        ROOT / name for name in names if name and not name.startswith("tests/") and (ROOT / name).is_file()
    ]


def test_no_file_of_this_project_holds_a_secret() -> None:
    files = project_files()
    if not files:
        pytest.skip("not a git checkout")
    scans = [scan_text(path.read_text(errors="replace"), str(path.relative_to(ROOT))) for path in files]
    refuse(scans)


@pytest.mark.parametrize(
    "line",
    [
        "# the password: whatever you like",
        "# password: whatever you like",
        "Say the password: whatever",
        "set it first  # such as PASSWORD=whatever",
        "Basic functionality",
        "Basic " + base64.b64encode(b"hello world!").decode(),
        "Basic " + base64.b64encode(bytes([1, 58, 2, 3, 4, 5])).decode(),
        "Bearer authentication-for-everyone",
    ],
)
def test_prose_about_secrets_is_let_through(line: str) -> None:
    assert scan_text(line, "README.md") == Scan((), ())


def test_a_sentence_is_no_passphrase() -> None:
    assert scan_text('"credentials": "who it is, and until when they are"', "x.py") == Scan((), ())
    six = " ".join(["horse"] * 6)
    assert scan_text(f'"credentials": "{six}"', "x.py").findings


def test_a_word_is_a_password_in_a_flow_mapping() -> None:
    assert only(scan_text("{LEVEL: info, DB_PASSWORD: correcthorse}", "x.yaml")).masked == "co…e"


def test_a_secret_after_an_escaped_line_break_is_found() -> None:
    assert only(scan_text(f'"first line\\n{GITHUB}"', "x.json")).rule == "a GitHub token"


def test_a_mark_speaks_for_its_own_line_only() -> None:
    scan = scan_values([("NOTE", f"{GITHUB} {MARK}\n{GITHUB}")], "--set")
    assert (len(scan.findings), scan.allowed) == (1, ())


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        (f"mean {MARK}", "mean"),
        (f"mean{MARK} ", "mean"),
        (f'"mean"  {MARK} (a pooling)', '"mean"'),
        (f"[a, b] {MARK}, as said", "[a, b]"),
        (f"a {MARK}\nb\t{MARK}\r\nc", "a\nb\r\nc"),
        (MARK, ""),
        (f'"mean {MARK}"', f'"mean {MARK}"'),
        (f"mean {MARK}s", f"mean {MARK}s"),
        ("mean # allow-secret", "mean # allow-secret"),
    ],
)
def test_a_mark_at_the_end_of_a_line_is_no_part_of_a_value(typed: str, value: str) -> None:
    assert unmarked(typed) == value


def test_a_marked_line_is_allowed_and_recorded() -> None:
    text = f"A: {GITHUB}  {MARK}\nB: {GITHUB}\n"
    scan = scan_text(text, "x.yaml")
    assert [finding.line for finding in scan.findings] == [2]
    assert [finding.line for finding in scan.allowed] == [1]


def test_a_mark_on_a_block_key_covers_the_block() -> None:
    text = f"SSH_PRIVATE_KEY: |  {MARK}\n  {FORMATS[1][1]}\n"
    scan = scan_text(text, "x.yaml")
    assert (scan.findings, len(scan.allowed)) == ((), 1)


@pytest.mark.parametrize("mark", ["# allow-secret", MARK + "s", MARK.removeprefix("# "), MARK.upper()])
def test_only_the_exact_mark_allows(mark: str) -> None:
    assert scan_text(f"A: {GITHUB}  {mark}", "x.yaml").findings


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "core.autocrlf=false"]
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


def new_file(name: str, text: str) -> str:
    lines = text.split("\n")
    body = "".join(f"+{line}\n" for line in lines)
    return f"diff --git a/{name} b/{name}\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n{body}"


def test_a_real_patch_is_judged_by_all_that_it_would_put_into_the_archive(tmp_path: Path) -> None:
    odd = "my cönfig.yaml"
    git(tmp_path, "init", "-q")
    (tmp_path / odd).write_text(f"A: 1\nOLD_PASSWORD: {PASSWORD}\n" + "x: 1\n" * 30 + "END: 1\n")
    (tmp_path / "gone.env").write_text(f"TOKEN={PASSWORD}\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    (tmp_path / odd).write_text(
        f"A: 2\nOLD_PASSWORD: {PASSWORD}\n" + "x: 1\n" * 30 + f"++ b/x: 1\nNEW_PASSWORD: {PASSWORD}\nEND: 2"
    )
    (tmp_path / "gone.env").unlink()
    (tmp_path / "load.py").write_text("token = load_token_12()\n")
    git(tmp_path, "add", "-AN")
    patch = git(tmp_path, "diff", "HEAD")
    scan = scan_patch(patch, "uncommitted.patch")
    assert [(found.name, found.line) for found in scan.findings] == [
        (f"{odd} (uncommitted)", 2),
        (f"{odd} (uncommitted)", 34),
        ("gone.env (removed, uncommitted)", 1),
    ]
    added = str(scan.findings[1])
    assert added.startswith(f"{odd} (uncommitted):34: looks like a secret named NEW_PASSWORD (hu")


def test_a_patch_of_an_unfinished_merge_is_judged_too() -> None:
    patch = f"diff --cc x.env\n--- a/x.env\n+++ b/x.env\n@@@ -1,2 -1,2 +1,3 @@@\n  A=1\n- B=2\n -B=3\n++TOKEN={PASSWORD}\n"
    found = only(scan_patch(patch, "uncommitted.patch"))
    assert (found.name, found.line) == ("x.env (uncommitted)", 2)


def test_a_value_added_below_an_old_key_is_found() -> None:
    patch = f"--- a/x.yaml\n+++ b/x.yaml\n@@ -4,2 +4,2 @@\n PASSWORD: |\n-  old\n+  {PASSWORD}\n"
    assert only(scan_patch(patch, "uncommitted.patch")).line == 5


def test_a_marked_line_of_a_patch_is_allowed() -> None:
    scan = scan_patch(new_file("x.yaml", f"TOKEN: {PASSWORD} {MARK}"), "uncommitted.patch")
    assert (scan.findings, [finding.line for finding in scan.allowed]) == ((), [1])


def test_overrides_are_judged_by_key_and_by_value() -> None:
    values = [
        ("ESTIMATOR.ENVIRONMENT.DB_PASSWORD", "correct horse"),
        ("ESTIMATOR.ENVIRONMENT.NOTE", GITHUB),
        ("ESTIMATOR.ENVIRONMENT", "{LEVEL: info, API_KEY: " + PASSWORD + "}"),
        ("MODEL.MAX_TOKENS", "512"),
        ("MODEL.TOKENIZER", "bert-base-uncased"),
        ("SECRETS.REGION", "us-east-1"),
        ("ESTIMATOR.ENVIRONMENT.API_TOKEN", "${API_TOKEN}"),
        ("ESTIMATOR.VOLUME_KMS_KEY", "alias/training-2024"),
        ("ESTIMATOR.SECRET", "{LEVEL: information}"),
    ]
    scan = scan_values(values, "--set")
    assert [finding.name for finding in scan.findings] == [f"--set {key}" for key, _ in values[:3]]
    assert {finding.line for finding in scan.findings} == {0}
    assert str(scan.findings[0]) == (
        "--set ESTIMATOR.ENVIRONMENT.DB_PASSWORD: looks like a secret named ESTIMATOR.ENVIRONMENT.DB_PASSWORD (co…e)"
    )


def test_an_override_is_reported_once() -> None:
    assert only(scan_values([("GITHUB_TOKEN", GITHUB)], "--set")).rule == "a GitHub token"


def test_a_multi_line_value_is_read_to_its_end() -> None:
    assert only(scan_values([("NOTE", f"first\nsecond\n{GITHUB}")], "--train")).rule == "a GitHub token"


def test_nothing_found_is_not_refused() -> None:
    refuse([scan_text("A: 1", "x.yaml"), scan_text(f"A: {GITHUB} {MARK}", "y.yaml")])


def test_a_refusal_lists_every_finding_masked() -> None:
    with pytest.raises(UnsafeError) as refused:
        refuse(
            [
                scan_text(f"A: 1\nB: {GITHUB}", "configs/x.yaml"),
                scan_values([("DB_PASSWORD", PASSWORD)], "--train"),
            ]
        )
    error = refused.value
    assert (error.code, error.exit_code) == ("secret_found", ExitCode.UNSAFE)
    assert f"configs/x.yaml:2: looks like a GitHub token ({GITHUB[:4]}…{GITHUB[-2:]})" in error.message
    assert "--train DB_PASSWORD: looks like a secret named DB_PASSWORD" in error.message
    assert GITHUB not in error.message + error.hint
    assert PASSWORD not in error.message + error.hint
    assert "Secrets Manager" in error.hint
    assert MARK in error.hint


def test_two_secrets_of_a_line_are_both_named() -> None:
    scan = scan_text(f"{{A: {GITHUB}, DB_PASSWORD: {PASSWORD}}}", "x.yaml")
    assert [finding.rule for finding in scan.findings] == ["a GitHub token", "a secret named DB_PASSWORD"]


def test_a_url_shows_scheme_and_host_only() -> None:
    found = only(scan_text(f"postgresql://me:{PASSWORD}@db.example.com:5432/x", "x.yaml"))
    assert found.masked == "postgresql://…@db.example.com:5432"
    same = only(scan_text("A: postgres://postgres:" + "postgres@postgres/x", "x.yaml"))
    assert same.masked == "…"


def test_a_private_key_shows_its_header_only() -> None:
    header = FORMATS[1][1]
    assert only(scan_text(f"{header}{noise(WORD, 64)}", "x.yaml")).masked == header


@given(
    st.text(st.characters(exclude_characters='\n"\\', exclude_categories=["Cs"]), min_size=1, max_size=120)
)
@settings(deadline=None, max_examples=200)
def test_a_mask_gives_little_away(value: str) -> None:
    for scan in (scan_values([("PASSWORD", value)], "--set"), scan_text(f'PASSWORD: "{value}"', "x.yaml")):
        for finding in scan.findings:
            if finding.rule == "a secret named PASSWORD":
                head, _, tail = finding.masked.rpartition("…")
                assert len(head) <= 4
                assert len(tail) <= 2
                assert len(head + tail) <= len(value) / 4
                assert value.strip() not in finding.masked
                assert finding.masked.isprintable()


PIECES = st.sampled_from(
    [sample for _, sample in FORMATS]
    + [line.format(PASSWORD) for line in NAMED + NAMED_IN_CODE]
    + [
        "PASSWORD: ",
        "token=",
        '"',
        "'",
        "\\",
        "\n",
        " ",
        "|\n",
        "@@ -1,3 +1,9 @@\n",
        "+++ b/x.py\n",
        '+++ "b/\\303\\2',
        "+",
    ]
)


@given(
    st.one_of(
        st.text(), st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join), st.binary().map(str)
    )
)
@settings(deadline=None, max_examples=300)
def test_any_text_can_be_scanned(text: str) -> None:
    patch = "+++ b/x.yaml\n@@ -0,0 +1,99 @@\n+" + text
    scans = [
        scan_text(text, "x.yaml"),
        scan_text(text, "x.py"),
        scan_patch(text, "p"),
        scan_patch(patch, "p"),
        scan_values([("A.TOKEN", text), (text, text)], "--set"),
    ]
    for scan in scans:
        for finding in scan.findings + scan.allowed:
            assert all(secret not in finding.masked for secret in (GITHUB, PASSWORD, AWS_SECRET, JWT, LOGIN))


def test_a_lone_surrogate_can_be_scanned() -> None:
    assert json.dumps(only(scan_text("PASSWORD: \ud800abcdefghijk", "x.yaml")).masked).isascii()


def test_a_secret_across_two_windows_of_a_long_line_is_found() -> None:
    for start in [*range(61_395, 61_445, 3), *range(65_490, 65_540, 3)]:
        assert (
            only(scan_text("." * start + " " + GITHUB + " " + "." * 70_000, "x.json")).rule
            == "a GitHub token"
        )


def test_a_long_line_full_of_secrets_names_only_some() -> None:
    line = " ".join(f"PASSWORD_{number}={PASSWORD}" for number in range(1000))
    assert 20 <= len(scan_text(line, "x.env").findings) <= 40


ADVERSARIAL = [
    *(
        "a",
        " ",
        "a=",
        "abc=",
        "pwd=",
        "token=1,",
        "auth=",
        "auth=a/",
        "secret=hunter2z;",
        "eyJ",
        "eyJaaaaaaaaaa.",
    ),
    *(
        "a://",
        "ab://b:ccc@",
        "https://aaaa:",
        "--token ",
        "-",
        '"a" ',
        "password='",
        'password="',
        "pwd=\"'",
        "\\neyJ",
    ),
    *(
        "AKIA",
        "sk-ant-",
        "SG.",
        "SG.aaaaaaaaaaaaaaaa.",
        "wandb.key ",
        "-----BEGIN A",
        "basic ",
        "Bearer ",
        '"auth":"',
    ),
    *(
        "token=${",
        "token='{a",
        'token="{{',
        "token: ",
        "a:b = ",
        " #",
        "aaa1Q~",
        "secret='a.a.a.",
        "'token', '",
        "a.a-",
    ),
    *(
        "key='aA1bB2cC3dD4eE5fF6gG7hH8iI9jJ0kK'",
        "hooks.slack.com/services/",
        "AccountKey=",
        "secret_access_key  ",
    ),
]


@pytest.mark.parametrize("piece", ADVERSARIAL)
def test_a_hostile_mebibyte_in_one_line_takes_bounded_time(piece: str) -> None:
    line = (piece * (2**20 // len(piece) + 1))[: 2**20]
    started = time.process_time()
    scan_text(line, "x.yaml")
    assert time.process_time() - started < 10  # half a second; what grows with the square takes minutes


def test_importing_it_compiles_no_pattern() -> None:
    code = (
        "import sagemaker_launcher.errors, re; compiled = []; compile = re.compile\n"
        "re.compile = lambda *arguments: compiled.append(arguments) or compile(*arguments)\n"
        "import sagemaker_launcher.secret_scan; print(len(compiled))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert answer == "0\n"


# --- lines ---


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line_that_yaml_knows_is_one(end: str) -> None:
    lines = [
        "VERSION: 1",
        f"WHAT: {GITHUB}",
        f"# harmless: {MARK}",
        "TAGS:",
        "  db_password: >-",
        f"    {PASSWORD}",
    ]
    found = scan_text(end.join([*lines, ""]), "config.yaml")
    assert found.findings[0].rule == "a GitHub token"
    assert [finding.line for finding in found.findings] == [2, 6]
    assert found.allowed == ()
    assert [finding.rule for finding in scan_values([("A", f"{GITHUB}{end}{MARK}")], "--set").findings] == [
        "a GitHub token"
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_a_mark_covers_its_own_line_of_a_patch_only(end: str) -> None:
    patch = f"--- a/x.yaml\n+++ b/x.yaml\n@@ -0,0 +1,1 @@\n+WHAT: {GITHUB}{end}# {MARK}{end}\n"
    found = scan_patch(patch, "uncommitted.patch")
    assert [(finding.name, finding.rule) for finding in found.findings] == [
        ("x.yaml (uncommitted)", "a GitHub token")
    ]
