"""build_and_push.sh with recording stand-ins for the programs that it calls: docker and the AWS CLI."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SCRIPT = PROJECT / "build_and_push.sh"
DIGEST = "sha256:" + "a" * 64
OWN = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
TOOLS = ("awk", "bash", "cat", "dirname", "env", "sh")

# Each call becomes one JSON line; what comes in on stdin is kept apart. $FAIL names the calls that fail.
STAND_IN = """#!PYTHON
import json, os, sys
name, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
call = " ".join([name, *arguments])
with open(os.environ["RECORD"] + "/calls", "a") as file:
    file.write(json.dumps([name, *arguments]) + "\\n")
if "--password-stdin" in arguments:
    with open(os.environ["RECORD"] + "/passwords", "a") as file:
        file.write(sys.stdin.read())
for part in filter(None, os.environ.get("FAIL", "").split(",")):
    if part in call:
        print(os.environ.get("COMPLAINT", "no such luck"), file=sys.stderr)
        sys.exit(7)
answers = json.loads(os.environ["ANSWERS"])
for part, answer in answers.items():
    if part in call:
        print(answer.replace("REGION", arguments[-1]))
        break
else:
    print("noise of", name)
"""
ANSWERS = {
    "get-login-password": "token-for-REGION",
    "configure get region": "eu-west-1",
    "sts get-caller-identity": "123456789012",
    "buildx build --help": "  --load  ...\n  --provenance string  ...",
    "image inspect": f"other/sagemaker-digits@{DIGEST}\n{OWN}/sagemaker-digits@{DIGEST}\n",
}


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: str
    stderr: str
    calls: list[list[str]]
    passwords: list[str]

    @property
    def story(self) -> list[str]:
        """The first words of each call, without the question whether buildx is there."""
        return [" ".join(call[:3]) for call in self.calls if "--help" not in call]

    def call(self, *words: str) -> list[str]:
        """The only call that has all these words."""
        (found,) = [call for call in self.calls if set(words) <= set(call) and "--help" not in call]
        return found


@dataclass(frozen=True)
class Machine:
    """A PATH with nothing on it but what the script needs, and stand-ins for docker and aws."""

    folder: Path

    def install(self, *names: str) -> None:
        for name in names:
            program = self.folder / "bin" / name
            program.write_text(STAND_IN.replace("PYTHON", sys.executable))
            program.chmod(0o755)

    def install_git(self) -> None:
        git = shutil.which("git")
        if git is None:
            pytest.skip("there is no git here")
        (self.folder / "bin" / "git").symlink_to(git)

    def run(
        self,
        *arguments: str,
        script: Path = SCRIPT,
        fail: str = "",
        answers: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Runs the script from another folder than its own."""
        done = subprocess.run(
            [str(script), *arguments],
            cwd=self.folder,
            env={
                "PATH": str(self.folder / "bin"),
                "RECORD": str(self.folder),
                "FAIL": fail,
                "ANSWERS": json.dumps({**ANSWERS, **(answers or {})}),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        calls, passwords = self.folder / "calls", self.folder / "passwords"
        return Outcome(
            done.returncode,
            done.stdout,
            done.stderr,
            [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else [],
            passwords.read_text().splitlines() if passwords.exists() else [],
        )


@pytest.fixture
def bare_machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        program = shutil.which(name)
        if program is None:
            pytest.skip(f"there is no {name} here")
        (tmp_path / "bin" / name).symlink_to(program)
    return Machine(tmp_path)


@pytest.fixture
def machine(bare_machine: Machine) -> Machine:
    bare_machine.install("docker", "aws")
    return bare_machine


def dockerfile(folder: Path, text: str) -> Path:
    path = folder / "Dockerfile.mine"
    path.write_text(text)
    return path


def test_it_logs_in_builds_pushes_and_prints_nothing_but_the_digest(machine: Machine) -> None:
    outcome = machine.run("--tag", "1.0")
    assert (outcome.exit_code, outcome.stdout) == (0, f"{OWN}/sagemaker-digits@{DIGEST}\n")
    assert outcome.story[:2] == ["aws configure get", "aws sts get-caller-identity"]
    # Both ends of a pipe start at once.
    assert sorted(outcome.story[2:4]) == ["aws ecr get-login-password", "docker login --username"]
    assert outcome.story[4:] == [
        "docker buildx build",
        f"docker push {OWN}/sagemaker-digits:1.0",
        "docker image inspect",
    ]
    build = outcome.call("buildx", "build")
    assert build[1:6] == ["buildx", "build", "--load", "--platform", "linux/amd64"]
    assert "--provenance=false" in build
    assert build[build.index("--tag") + 1] == f"{OWN}/sagemaker-digits:1.0"
    assert build[build.index("--file") + 1] == str(PROJECT / "Dockerfile.sagemaker")
    assert build[-1] == str(PROJECT)
    assert "--build-arg" not in build


def test_the_token_reaches_docker_only_through_stdin(machine: Machine) -> None:
    outcome = machine.run()
    assert outcome.passwords == ["token-for-eu-west-1"]
    assert outcome.call("login") == ["docker", "login", "--username", "AWS", "--password-stdin", OWN]
    assert "token-for" not in json.dumps(outcome.calls) + outcome.stdout + outcome.stderr


def test_without_buildx_the_plain_build_gets_no_option_that_it_does_not_know(machine: Machine) -> None:
    outcome = machine.run(answers={"buildx build --help": "docker: 'buildx' is not a docker command."})
    assert outcome.call("build")[1:4] == ["build", "--platform", "linux/amd64"]
    assert not any("provenance" in word for call in outcome.calls for word in call)
    assert machine.run(fail="buildx").exit_code == 0


def test_local_builds_and_calls_nothing_of_aws(bare_machine: Machine) -> None:
    bare_machine.install("docker")
    outcome = bare_machine.run("--local", "--image", "sagemaker-mine", "--tag", "dev")
    assert (outcome.exit_code, outcome.stdout) == (0, "sagemaker-mine:dev\n")
    assert outcome.story == ["docker buildx build"]
    build = outcome.call("buildx", "build")
    assert build[build.index("--tag") + 1] == "sagemaker-mine:dev"


def test_a_failing_build_pushes_nothing_and_creates_nothing(machine: Machine) -> None:
    outcome = machine.run("--create-repository", fail="docker buildx build --load")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert "the build failed; nothing was pushed" in outcome.stderr
    assert not [call for call in outcome.calls if "push" in call or "create-repository" in call]


def test_a_failing_login_builds_nothing(machine: Machine) -> None:
    for fail in ("docker login", "get-login-password"):
        outcome = machine.run(fail=fail)
        assert (outcome.exit_code, outcome.stdout) == (4, "")
        assert f"cannot log in to {OWN}" in outcome.stderr
    assert not [call for call in outcome.calls if "build" in call]


def test_a_failing_push_prints_no_digest(machine: Machine) -> None:
    outcome = machine.run(fail="docker push")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert "--create-repository" in outcome.stderr


def test_a_digest_of_another_repository_is_not_taken_for_the_pushed_one(machine: Machine) -> None:
    outcome = machine.run("--tag", "1", answers={"image inspect": f"{OWN}/sagemaker-digits-2@{DIGEST}"})
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert "does not know its digest" in outcome.stderr


def test_the_repository_is_created_only_when_asked_after_the_build_and_before_the_push(
    machine: Machine,
) -> None:
    assert not [call for call in machine.run().calls if "create-repository" in call]
    (machine.folder / "calls").unlink()
    outcome = machine.run("--create-repository")
    assert outcome.call("create-repository") == [
        *(
            "aws",
            "ecr",
            "create-repository",
            "--region",
            "eu-west-1",
            "--repository-name",
            "sagemaker-digits",
        ),
        *("--image-scanning-configuration", "scanOnPush=true", "--registry-id", "123456789012"),
    ]
    last = [story.split()[1] for story in outcome.story[-4:]]
    assert last == ["buildx", "ecr", "push", "image"]


@pytest.mark.parametrize(
    "words",
    [
        ("--account", "999999999999", "--region", "us-east-2"),
        ("--registry", "999999999999.dkr.ecr.us-east-2.amazonaws.com"),
        ("--registry", "999999999999.dkr.ecr-fips.us-east-2.amazonaws.com", "--region", "eu-west-1"),
    ],
)
def test_the_repository_is_created_where_the_image_is_pushed_to(
    machine: Machine, words: tuple[str, ...]
) -> None:
    outcome = machine.run("--create-repository", *words)
    made = outcome.call("create-repository")
    assert made[made.index("--registry-id") + 1] == "999999999999"
    assert made[made.index("--region") + 1] == "us-east-2"
    assert outcome.passwords == ["token-for-us-east-2"]
    assert outcome.call("push")[-1].startswith("999999999999.dkr.ecr")
    assert not [call for call in outcome.calls if "configure" in call or "sts" in call]


def test_a_registry_elsewhere_says_nothing_of_an_account(machine: Machine) -> None:
    outcome = machine.run("--create-repository", "--registry", "127.0.0.1:5000")
    assert "--registry-id" not in outcome.call("create-repository")


def test_a_repository_that_is_there_already_is_used(machine: Machine) -> None:
    complaint = "An error occurred (RepositoryAlreadyExistsException) when calling CreateRepository"
    outcome = machine.run(
        "--create-repository", fail="create-repository", environment={"COMPLAINT": complaint}
    )
    assert outcome.exit_code == 0


def test_a_repository_that_cannot_be_created_ends_before_the_push(machine: Machine) -> None:
    outcome = machine.run(
        "--create-repository", fail="create-repository", environment={"COMPLAINT": "AccessDeniedException"}
    )
    assert outcome.exit_code == 1
    assert (
        "cannot create the repository sagemaker-digits in eu-west-1: AccessDeniedException" in outcome.stderr
    )
    assert not [call for call in outcome.calls if "push" in call]


def test_region_account_and_profile_of_the_options_are_not_asked_for(machine: Machine) -> None:
    outcome = machine.run("--region", "us-east-2", "--account", "999999999999", "--profile", "team")
    registry = "999999999999.dkr.ecr.us-east-2.amazonaws.com"
    assert outcome.call("login")[-1] == registry
    assert outcome.call("push")[-1].startswith(f"{registry}/sagemaker-digits:")
    assert not [call for call in outcome.calls if "configure" in call or "sts" in call]
    assert outcome.passwords == ["token-for-us-east-2"]


def test_the_region_of_the_environment_wins_over_that_of_the_aws_cli(machine: Machine) -> None:
    outcome = machine.run(environment={"AWS_REGION": "us-west-2"})
    assert outcome.call("login")[-1] == "123456789012.dkr.ecr.us-west-2.amazonaws.com"


@pytest.mark.parametrize(
    ("region", "suffix"),
    [
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-northwest-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
    ],
)
def test_registries_end_as_their_partition_does(machine: Machine, region: str, suffix: str) -> None:
    outcome = machine.run("--region", region)
    assert outcome.call("login")[-1] == f"123456789012.dkr.ecr.{region}.{suffix}"


def test_another_registry_gets_the_login_and_the_push(machine: Machine) -> None:
    digests = f"127.0.0.1:5000/sagemaker-digits@{DIGEST}"
    outcome = machine.run("--registry", "127.0.0.1:5000", "--tag", "1", answers={"image inspect": digests})
    assert (outcome.exit_code, outcome.stdout) == (0, f"{digests}\n")
    assert outcome.call("login")[-1] == "127.0.0.1:5000"
    assert outcome.call("push")[-1] == "127.0.0.1:5000/sagemaker-digits:1"
    assert not [call for call in outcome.calls if "sts" in call]


DLC = "763104351884.dkr.ecr.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    "text",
    [
        f"FROM {DLC}/pytorch-training:2.8.0-cpu-py312\n",
        f"ARG BASE_IMAGE={DLC}/x:1\nFROM python AS one\nARG BASE_IMAGE=python\nFROM $BASE_IMAGE\n",
        f'arg NAME="x"\nARG BASE_IMAGE={DLC}/${{NAME}}:1\nfrom --platform=linux/amd64 ${{BASE_IMAGE}} AS base\n',
        f"ARG HOST={DLC}\nFROM python:3.12 AS one\nFROM one AS two\nFROM ${{HOST}}/y AS three\nFROM $HOST/z\n",
    ],
)
def test_it_logs_in_to_the_registry_of_the_base_image_in_its_own_region(machine: Machine, text: str) -> None:
    outcome = machine.run("--dockerfile", str(dockerfile(machine.folder, text)))
    logins = [call[-1] for call in outcome.calls if call[:2] == ["docker", "login"]]
    assert logins == [DLC, OWN]
    assert outcome.passwords == ["token-for-us-east-1", "token-for-eu-west-1"]


def test_the_base_image_of_the_command_line_replaces_that_of_the_dockerfile(machine: Machine) -> None:
    image = "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/pytorch-training:2.8.0"
    outcome = machine.run("--base-image", image)
    logins = [call[-1] for call in outcome.calls if call[:2] == ["docker", "login"]]
    assert logins == ["727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn", OWN]
    assert outcome.passwords[0] == "token-for-cn-north-1"
    build = outcome.call("buildx", "build")
    assert build[build.index("--build-arg") + 1] == f"BASE_IMAGE={image}"


def test_a_base_image_in_the_own_registry_needs_one_login(machine: Machine) -> None:
    outcome = machine.run("--base-image", f"{OWN}/base:1")
    assert [call[-1] for call in outcome.calls if call[:2] == ["docker", "login"]] == [OWN]


def test_another_program_and_more_options_of_the_build_are_passed_on(bare_machine: Machine) -> None:
    bare_machine.install("podman")
    file = dockerfile(bare_machine.folder, "FROM scratch\n")
    outcome = bare_machine.run(
        *("--local", "--docker", "podman", "--dockerfile", file.name, "--tag", "1"), "--", "--network", "host"
    )
    build = outcome.call("build")
    assert build[0] == "podman"
    assert build[build.index("--file") + 1] == file.name
    assert build[-3:] == ["--network", "host", str(PROJECT)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--imag", "x"], "--imag"),
        (["latest"], "latest"),
        (["--tag"], "--tag"),
        (["--tag", ""], "--tag"),
        (["--tag", "a b"], "a b"),
        (["--image", "Upper"], "Upper"),
        (["--image", "--local"], "--local"),
        (["--base-image", "x;y"], "x;y"),
        (["--registry", "https://host"], "https://host"),
        (["--region", "Frankfurt"], "Frankfurt"),
        (["--account", "12345"], "12345"),
        (["--dockerfile", "missing"], "missing"),
    ],
)
def test_a_wrong_command_line_is_named_and_nothing_is_built(
    machine: Machine, arguments: list[str], named: str
) -> None:
    outcome = machine.run(*arguments)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("build_and_push.sh: ")
    assert len(outcome.stderr.splitlines()) == 1
    assert named in outcome.stderr
    assert not [call for call in outcome.calls if call[0] == "docker"]


@pytest.mark.parametrize(("missing", "there"), [("docker", "aws"), ("aws", "docker")])
def test_a_missing_program_is_one_clear_sentence(bare_machine: Machine, missing: str, there: str) -> None:
    bare_machine.install(there)
    outcome = bare_machine.run()
    assert (outcome.exit_code, outcome.stdout, outcome.calls) == (15, "", [])
    assert outcome.stderr.startswith(f"build_and_push.sh: the program {missing} is not installed")
    assert len(outcome.stderr.splitlines()) == 1


def test_credentials_that_aws_refuses_are_told_before_anything_is_built(machine: Machine) -> None:
    outcome = machine.run(fail="sts get-caller-identity", environment={"COMPLAINT": "ExpiredToken"})
    assert outcome.exit_code == 4
    assert "ExpiredToken" in outcome.stderr
    assert not [call for call in outcome.calls if call[0] == "docker"]


def test_without_a_region_it_says_how_to_give_one(machine: Machine) -> None:
    outcome = machine.run(fail="configure get region")
    assert outcome.exit_code == 2
    assert "no region: give --region" in outcome.stderr


def test_help_explains_every_option_and_starts_nothing(machine: Machine) -> None:
    outcome = machine.run("--help")
    assert (outcome.exit_code, outcome.stderr, outcome.calls) == (0, "", [])
    for option in (
        "image",
        "tag",
        "base-image",
        "dockerfile",
        "local",
        "create-repository",
        "region",
        "account",
    ):
        assert f"--{option} " in outcome.stdout


def project(folder: Path) -> Path:
    """A project in a folder: its script."""
    folder.mkdir(parents=True)
    (folder / "Dockerfile.sagemaker").write_text("FROM scratch\n")
    return Path(shutil.copy(SCRIPT, folder))


def commit(folder: Path) -> str:
    """Commits all of a folder, which becomes a repository. Gives the commit."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_default_tag_is_the_commit_and_tells_changes_and_is_latest_outside_git(machine: Machine) -> None:
    checkout = machine.folder / "checkout"
    script = project(checkout)
    assert machine.run("--local", script=script).stdout == "sagemaker-digits:latest\n"

    machine.install_git()
    (checkout / ".gitignore").write_text("ignored\n")
    short = commit(checkout)
    (checkout / "ignored").write_text("x")
    assert machine.run("--local", script=script).stdout == f"sagemaker-digits:{short}\n"
    (checkout / "Dockerfile.sagemaker").write_text("FROM python\n")
    assert machine.run("--local", script=script).stdout == f"sagemaker-digits:{short}-dirty\n"


def test_new_files_are_changes_too_whatever_git_is_told_to_show(machine: Machine) -> None:
    machine.install_git()
    checkout = machine.folder / "checkout"
    script, short = project(checkout), commit(checkout)
    subprocess.run(["git", "config", "status.showUntrackedFiles", "no"], cwd=checkout, check=True)
    (checkout / "sagemaker_container").mkdir()
    (checkout / "sagemaker_container" / "new.py").write_text("")
    assert machine.run("--local", script=script).stdout == f"sagemaker-digits:{short}-dirty\n"


def test_the_commit_of_a_repository_that_only_surrounds_the_project_is_not_its_tag(machine: Machine) -> None:
    machine.install_git()
    around = machine.folder / "around"
    other = project(around / "other")
    (around / ".gitignore").write_text("ignored/\n")
    short = commit(around)
    for name in ("ignored", "added later"):
        script = project(around / name)
        assert machine.run("--local", script=script).stdout == "sagemaker-digits:latest\n"
    # What is new elsewhere in the repository is not in this image.
    assert machine.run("--local", script=other).stdout == f"sagemaker-digits:{short}\n"


def test_the_script_has_no_problem_that_bash_or_shellcheck_can_see() -> None:
    assert SCRIPT.stat().st_mode & 0o111
    assert "set -euo pipefail" in SCRIPT.read_text()
    assert "set -x" not in SCRIPT.read_text()
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("there is no shellcheck here")
    done = subprocess.run([shellcheck, str(SCRIPT)], check=False, capture_output=True, text=True)
    assert done.stdout == ""
