"""`init` as a user sees it: a project that runs at once, nothing overwritten, nothing half written, nobody asked in vain."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pexpect
import pytest
import yaml

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.errors import ExitCode
from sagemaker_launcher.scaffold.example import example_files
from sagemaker_launcher.scaffold.yaml_edit import with_values
from tests.commands import ROOT, SCRIPT, CommandLine, clean_environment
from tests.example import originals

ACCOUNT, REGION = "111122223333", "eu-central-1"
NEEDED = ("--account", ACCOUNT, "--region", REGION)
BUCKET = f"training-{ACCOUNT}-{REGION}-an"


@pytest.fixture
def here(tmp_path: Path, home: Path) -> CommandLine:
    """The command line in an empty folder, whose name needs quotes, with the programs of this environment first."""
    folder = tmp_path / "new project"
    folder.mkdir()
    environment = clean_environment(home)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return CommandLine(folder, environment)


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def config_of(folder: Path) -> Any:
    return strict_yaml.plain(strict_yaml.read(folder / "configs/sagemaker_config.yaml"))


def test_what_init_writes_is_checked_and_trains_with_the_commands_that_it_prints(here: CommandLine) -> None:
    made = here("init", *NEEDED)
    assert made.code == 0, made.err
    commands = made.out.partition("Try it on this machine, without AWS:\n")[2]
    assert len(commands.splitlines()) == 3
    # The last of them trains; one epoch is enough to see it.
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{commands.strip()} --train SOLVER.EPOCHS 1"],
        cwd=here.folder,
        env=dict(here.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "status      Completed" in re.sub(" {2,}", "      ", done.stdout)
    assert config_of(here.folder)["AWS"] == {"ACCOUNT": ACCOUNT, "REGION": REGION}
    for name in ("sagemaker_config", "training_config"):
        schema = json.loads((here.folder / f"configs/{name}.schema.json").read_bytes())
        text = (here.folder / f"configs/{name}.yaml").read_text("utf-8")
        assert text.startswith(f"# yaml-language-server: $schema={name}.schema.json\n")
        jsonschema.validate(yaml.safe_load(text), schema, jsonschema.Draft7Validator)
    assert os.access(here.folder / "build_and_push.sh", os.X_OK)


def test_json_has_everything_that_is_printed(here: CommandLine) -> None:
    made = here("init", "sub/folder", *NEEDED, "--write-policies", "--json")
    answer = made.json
    assert set(answer["files"]) == set(everything(here.folder / "sub/folder"))
    assert {name for name in answer["files"] if name.startswith("iam/")} == {
        f"iam/{name}.json" for name in answer["policies"]
    }
    assert answer["bucket"][0].startswith(f"aws s3api create-bucket --bucket {BUCKET} ")
    [build] = answer["image"]
    assert build.startswith("./sub/folder/build_and_push.sh --image sagemaker-digits --tag 1.0 ")
    assert build.endswith(f" --account {ACCOUNT} --region {REGION} --create-repository")
    assert shlex.split(answer["next"][1])[-1] == "sub/folder/configs/sagemaker_config.yaml"
    policy = answer["policies"]["execution-role"]["document"]
    assert f"arn:aws:s3:::{BUCKET}/data/digits/train/*" in policy["Statement"][0]["Resource"]


def test_answers_become_the_config_and_leave_its_comments(here: CommandLine) -> None:
    key = f"arn:aws-cn:kms:cn-north-1:{ACCOUNT}:key/1234"
    words = (
        *(
            "--name",
            "on",
            "--account",
            ACCOUNT,
            "--region",
            "cn-north-1",
            "--bucket",
            "0x10",
            "--profile",
            "no",
        ),
        *("--instance-type", "ml.c5.xlarge", "--kms-key", key),
    )
    made = here("init", *words, "--json")
    assert made.code == 0, made.err
    values = config_of(here.folder)
    assert values["EXPERIMENT_NAME"] == "on"
    assert values["AWS"] == {"PROFILE": "no", "ACCOUNT": ACCOUNT, "REGION": "cn-north-1"}
    assert values["S3"]["CHECKPOINTS"] == "s3://0x10/checkpoints"
    assert values["ESTIMATOR"]["ROLE"] == f"arn:aws-cn:iam::{ACCOUNT}:role/SageMakerExecutionRole"
    assert values["ESTIMATOR"]["IMAGE_URI"].startswith(f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn/")
    assert {values["ESTIMATOR"]["VOLUME_KMS_KEY"], values["ESTIMATOR"]["OUTPUT_KMS_KEY"]} == {key}
    text = (here.folder / "configs/sagemaker_config.yaml").read_text()
    original = (ROOT / "configs/sagemaker_config.yaml").read_text()
    assert re.findall("#.*", text) == re.findall("#.*", original)
    assert "kms:CreateGrant" in json.dumps(made.json["policies"]["execution-role"])


def test_values_are_put_where_their_keys_are_and_nothing_else_changes() -> None:
    text = "# top\nA:\n  # about B\n  B: one  # tail\n  C: [x]\nD: two\n"
    changed = with_values(text, {"A.B": "no", "D": "two: 2", "A.E": "é"})
    assert changed == '# top\nA:\n  E: "é"\n  # about B\n  B: "no"  # tail\n  C: [x]\nD: "two: 2"\n'


def test_nothing_is_overwritten_and_all_that_is_in_the_way_is_named(here: CommandLine) -> None:
    (here.folder / "configs").write_text("a file where a folder is needed")
    (here.folder / "sagemaker_container").mkdir()
    (here.folder / "sagemaker_container" / "main.py").write_text("mine")
    (here.folder / "Dockerfile.sagemaker").symlink_to("nowhere")
    (here.folder / "notes.txt").write_text("mine, too")
    before = everything(here.folder)
    done = here("init", *NEEDED, "--json")
    assert done.code == ExitCode.CONFLICT
    error = done.json["error"]
    assert error["code"] == "files_exist"
    for name in ("configs", "sagemaker_container/main.py", "Dockerfile.sagemaker"):
        assert name in error["message"].partition(": ")[2].split(", ")
    assert "notes.txt" not in error["message"]
    assert everything(here.folder) == before
    assert not list(here.folder.glob(".init-*"))


def test_a_folder_with_other_files_is_no_obstacle(here: CommandLine) -> None:
    (here.folder / "configs").mkdir()
    (here.folder / "configs" / "mine.yaml").write_text("A: 1\n")
    assert here("init", *NEEDED).code == 0
    assert (here.folder / "configs" / "mine.yaml").read_text() == "A: 1\n"


def test_without_a_terminal_all_that_is_missing_or_wrong_is_named_at_once(here: CommandLine) -> None:
    done = here("init", "--name", "a b", "--instance-type", "m5.large", "--role", "admin")
    assert (done.code, done.has_traceback) == (ExitCode.USAGE, False)
    assert "have no default: --region, --account" in done.err
    assert "--name: each part between slashes" in done.err
    assert "--instance-type: no instance type is called 'm5.large' (did you mean ml.m5.large?)" in done.err
    assert "--role: not the full ARN of an IAM role: 'admin'" in done.err
    assert everything(here.folder) == {}
    given = here("init", "--account", ACCOUNT, env={"AWS_REGION": REGION})
    assert given.code == 0, given.err


def test_an_instance_type_newer_than_botocore_is_doubted_and_taken(here: CommandLine) -> None:
    made = here("init", *NEEDED, "--instance-type", "ml.m5.larg", "--json")
    assert made.code == 0, made.err
    assert "no instance type is called 'ml.m5.larg' (did you mean ml.m5.large?); if it is newer" in made.err
    assert config_of(here.folder)["ESTIMATOR"]["INSTANCE_TYPE"] == "ml.m5.larg"
    check, launch = (shlex.split(command) for command in made.json["next"][-2:])
    assert "--force-instance-type" in launch
    checked = subprocess.run(check, cwd=here.folder, env=dict(here.environment), check=False)
    assert checked.returncode == 0
    config = here.folder / "configs" / "sagemaker_config.yaml"
    assert here("init", "--policies", config).code == 0
    found = here("doctor", config, "--docker", "none", "--json").json["checks"]
    assert [(one["verdict"], one["message"]) for one in found if one["group"] == "configs"] == [
        ("ok", f"{config}: both configs and the job are valid"),
        ("warning", "no instance type is called 'ml.m5.larg' (did you mean ml.m5.large?)"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--role", "arn:aws:iam::999999999999:role/Other"), "AWS.ACCOUNT"),
        (("--image", f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/x:1"), "the image is in us-east-1"),
        (("--bucket", "s3://team"), "--bucket: a bucket's name, without s3://"),
        (("--image", "python:3.12"), "--image: not an image in Amazon ECR"),
        (("--kms-key", "alias"), "--kms-key: not the ARN of a KMS key"),
        (("--schemas", "x.yaml", "--write-policies"), "--schemas writes schemas and nothing else"),
    ],
)
def test_answers_that_do_not_go_together_write_nothing(
    here: CommandLine, words: tuple[str, ...], said: str
) -> None:
    done = here("init", *NEEDED, *words)
    assert (done.code, done.has_traceback) == (ExitCode.USAGE, False)
    assert said in done.err
    assert everything(here.folder) == {}


def test_a_folder_that_cannot_be_written_is_this_machines_problem(here: CommandLine) -> None:
    done = here("init", "/proc/new/project", *NEEDED)
    assert (done.code, done.has_traceback) == (ExitCode.ENVIRONMENT, False)
    assert "nothing was left there" in done.err


@pytest.mark.parametrize(
    "words", [("init",), ("init", "new"), ("init", "--policies", "CONFIG", "--write-policies")]
)
def test_in_a_folder_that_was_deleted_nothing_is_made(here: CommandLine, words: tuple[str, ...]) -> None:
    assert here("init", *NEEDED).code == 0
    config = str(here.folder / "configs" / "sagemaker_config.yaml")
    before, gone = everything(here.folder), here.folder.with_name("gone")
    gone.mkdir()
    command = here.command(*(config if word == "CONFIG" else word for word in words), "--json")
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *command, *(() if len(words) > 2 else NEEDED)],
        cwd=gone,
        env=dict(here.environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == ExitCode.ENVIRONMENT
    told = json.loads(done.stdout)["error"]
    assert (told["message"], told["code"]) == ("the current folder was deleted", "no_current_folder")
    assert everything(here.folder) == before


@pytest.mark.parametrize(("phase", "number"), [("scaffold", signal.SIGINT), ("scaffold-put", signal.SIGTERM)])
def test_an_interruption_while_it_writes_leaves_nothing(
    here: CommandLine, phase: str, number: signal.Signals
) -> None:
    process = here.start("init", "sub/folder", *NEEDED, env={"SAGEMAKER_LAUNCHER_TEST_PAUSE_AT": phase})
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"paused at {phase}\n"
        process.send_signal(number)
        assert "interrupted: nothing was written" in process.stderr.read()
    assert process.returncode == 128 + number
    assert list(here.folder.iterdir()) == []


@pytest.fixture
def terminal(here: CommandLine) -> Iterator[pexpect.spawn]:
    """`init` on a terminal, in an empty folder."""
    child = pexpect.spawn(
        sys.executable,
        [str(SCRIPT), "init", "--region", REGION, "--instance-type", "ml.m5.large"],
        cwd=str(here.folder),
        env={**here.environment, "TERM": "dumb"},
        encoding="utf-8",
        timeout=30,
        dimensions=(50, 500),
    )
    yield child
    child.close(force=True)


def test_a_terminal_is_asked_and_a_wrong_answer_is_asked_again(
    terminal: pexpect.spawn, here: CommandLine
) -> None:
    terminal.expect_exact("[digits/baseline]:")
    terminal.sendline("")
    terminal.expect("AWS account.*:")
    terminal.sendline("1234")
    terminal.expect_exact("Error: an account has 12 digits, and this is '1234'")
    terminal.sendline(ACCOUNT)
    terminal.expect_exact(f"[{BUCKET}]:")
    terminal.sendline("team")
    for _ in ("role", "image"):
        terminal.expect_exact("]:")
        terminal.sendline("")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    assert config_of(here.folder)["S3"]["OUTPUTS"] == "s3://team/outputs"


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x04", 2)], ids=["ctrl-c", "ctrl-d"])
def test_leaving_a_question_leaves_nothing(
    terminal: pexpect.spawn, here: CommandLine, key: str, code: int
) -> None:
    terminal.expect_exact("[digits/baseline]:")
    terminal.sendline("")
    terminal.expect("AWS account.*:")
    terminal.send(key)
    terminal.expect_exact("nothing was written")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == code
    assert list(here.folder.iterdir()) == []


def test_the_packages_copies_of_the_example_are_fresh() -> None:
    copies = example_files()
    stale = [name for name, data in originals().items() if copies.pop(name, None) != data]
    assert [*stale, *copies] == [], "if the example is to change for new projects, too: make docs"


def test_what_its_user_has_edited_in_a_checkout_is_in_no_new_project(
    tmp_path: Path, here: CommandLine
) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(
        ROOT / "sagemaker_launcher",
        checkout / "sagemaker_launcher",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(SCRIPT, checkout)
    for name in ("configs", "sagemaker_container"):
        shutil.copytree(ROOT / name, checkout / name)
    config = checkout / "configs" / "sagemaker_config.yaml"
    edited = config.read_text().replace("REGION: us-east-1", 'REGION: "us-west-2"')
    config.write_text(f"{edited.replace('  training:', '  mine:')}TAGS:\n  project: mine\nBUDGET_USD: 5.0\n")
    (checkout / "sagemaker_container" / "train.py").unlink()
    done = subprocess.run(
        [sys.executable, str(checkout / SCRIPT.name), "init", *NEEDED, "--json"],
        cwd=here.folder,
        env={**here.environment, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["files"]) > set(example_files())
    values = config_of(here.folder)
    assert values["AWS"] == {"ACCOUNT": ACCOUNT, "REGION": REGION}
    assert not {"TAGS", "BUDGET_USD"} & values.keys()
    assert set(values["CHANNELS"]) == {"training", "validation"}


def test_an_installed_package_has_the_whole_example(tmp_path: Path, here: CommandLine) -> None:
    if int(version("setuptools").partition(".")[0]) < 77:
        if os.environ.get("REQUIRE_SERVERS"):
            pytest.fail("setuptools is too old to build this project")
        pytest.skip("setuptools is too old to build this project")
    project = tmp_path / "checkout"
    names = (
        subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .split("\0")
    )
    for name in names:
        if name and not name.startswith("tests/") and (ROOT / name).is_file():
            target = project / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    build = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps")
    subprocess.run(
        [*build, "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path), str(project)], check=True
    )
    [wheel] = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert not [name for name in everything(installed) if name.startswith(("sagemaker_container", "configs"))]
    program = "from sagemaker_launcher.cli import main; import sys; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "init", *NEEDED],
        cwd=here.folder,
        env={**here.environment, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = everything(here.folder)
    own = {"configs/sagemaker_config.yaml", "configs/sagemaker_config.schema.json"}
    for name, data in example_files().items():
        assert name in own or written[name] == data, name
