"""`doctor` on real images, a real engine and a real registry: every check finds what is wrong, and nothing stays behind."""

from __future__ import annotations

import base64
import http.client
import json
import platform
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import CommandLine, Finished
from tests.project import Project
from tests.servers.engine import Engine
from tests.servers.registry import RegistryServer

LABEL = "sagemaker-launcher.image-check"
TOOLKIT = "#!/usr/bin/python3\nfrom sagemaker_training.cli.train import main\nmain()\n"
GOOD = 'COPY main.py /opt/program/main.py\nENTRYPOINT ["python3", "/opt/program/main.py"]'
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def checks(done: Finished) -> dict[str, dict[str, str]]:
    """The findings on the image by name."""
    return {check["name"]: check for check in done.json["checks"]}


@pytest.fixture
def doctor(docker_cli: CommandLine) -> Any:
    """Runs `doctor --json` on an image, and gives the finished command."""

    def run(image: str, *words: str | Path) -> Finished:
        return docker_cli("doctor", *words, "--image", image, "--json")

    return run


@pytest.fixture(scope="session")
def good(engine: Engine) -> str:
    return engine.build("doctor-good", GOOD, {"main.py": "print(1)\n"})


def test_a_good_image_passes(docker_cli: CommandLine, good: str) -> None:
    done = docker_cli("doctor", "--image", good)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == good
    assert [line.split()[:2] for line in lines[1:] if not line.startswith(" ")] == [
        ["ok", "engine"],
        ["ok", "system"],
        ["ok", "start"],
        ["ok", "program"],
        ["ok", "signals"],
        ["ok", "user"],
        ["unknown", "manifest"],
    ]


def test_an_image_with_nothing_to_start_fails(engine: Engine, docker_cli: CommandLine) -> None:
    done = docker_cli("doctor", "--image", engine.build("doctor-empty", "CMD bash"))
    assert done.code == 15
    assert 'exec: "train": executable file not found in $PATH' in done.out


def test_the_service_would_fail_on_it_in_the_same_words(engine: Engine) -> None:
    image = engine.build("doctor-empty", "CMD bash")
    failed = engine("run", "--rm", image, "train", check=False)
    assert 'exec: "train": executable file not found in $PATH' in failed.stderr


def test_a_shell_as_entry_point_drops_arguments_and_signals(engine: Engine, doctor: Any) -> None:
    done = doctor(engine.build("doctor-shell", "ENTRYPOINT python3 /opt/program/main.py"))
    assert done.code == 0
    found = checks(done)
    assert found["start"]["verdict"] == found["signals"]["verdict"] == "warning"
    assert "ENTRYPOINT [" in found["signals"]["fix"]


@pytest.mark.parametrize(
    ("name", "instructions", "verdict", "says"),
    [
        ("unset", "", "failed", "nothing sets it"),
        ("missing", "ENV SAGEMAKER_PROGRAM=main.py", "failed", "not in the image"),
        ("there", "ENV SAGEMAKER_PROGRAM=main.py\nCOPY main.py /opt/ml/code/", "ok", "/opt/ml/code/main.py"),
    ],
)
def test_the_toolkit_needs_a_program_that_is_there(
    engine: Engine, doctor: Any, name: str, instructions: str, verdict: str, says: str
) -> None:
    files = {"train": TOOLKIT, "main.py": "print(1)\n"}
    found = checks(
        doctor(engine.build(f"doctor-{name}", f"COPY train /usr/local/bin/\n{instructions}", files))
    )
    assert (found["program"]["verdict"], says in found["program"]["message"]) == (verdict, True)
    assert found["signals"]["verdict"] == "warning"
    assert "toolkit" in found["signals"]["message"]


def test_the_config_says_how_the_image_is_started(
    engine: Engine, project: Project, doctor: Any, docker_cli: CommandLine
) -> None:
    image = engine.build("doctor-toolkit", "COPY train /usr/local/bin/", {"train": TOOLKIT, "main.py": ""})
    estimator = {"ENVIRONMENT": {"SAGEMAKER_PROGRAM": "elsewhere.py"}}
    assert "elsewhere.py" in checks(doctor(image, project.write(ESTIMATOR=estimator)))["program"]["message"]
    entry_point = {"CONTAINER_ENTRY_POINT": ["/usr/bin/python3", "/no/such.py"]}
    done = docker_cli("doctor", project.write(ESTIMATOR=entry_point), "--image", image)
    assert done.code == 15
    assert "no /no/such.py" in done.out
    assert done.out.startswith(f"{image}, as {project.config} starts it\n")


def test_train_is_found_where_links_lead(engine: Engine, doctor: Any) -> None:
    # /bin is a link itself, so that `..` is /usr and not /.
    instructions = "COPY train /usr/apart/tool\nRUN ln -s ../apart/tool /bin/train && rm -rf /apart"
    found = checks(doctor(engine.build("doctor-links", instructions, {"train": TOOLKIT})))
    assert found["start"]["verdict"] == "ok"
    assert "toolkit" in found["signals"]["message"]


@pytest.mark.parametrize(
    "instructions",
    [
        "RUN ln -s train /usr/bin/train",
        "RUN ln -s /nowhere /usr/bin/train",
        "RUN mkdir /usr/bin/train",
        "RUN mkfifo /usr/bin/train",
        "ENV PATH=/usr/local/bin:/bin\nWORKDIR /opt/program\nRUN cp /bin/true train",
    ],
    ids=["a loop", "nowhere", "a folder", "a pipe", "off the path"],
)
def test_train_is_nothing_else_than_a_file_on_the_path(
    engine: Engine, doctor: Any, instructions: str
) -> None:
    found = checks(doctor(engine.build("doctor-odd", instructions)))
    assert found["start"]["verdict"] == "failed"
    assert "executable file not found" in found["start"]["message"]


def test_the_first_executable_on_the_path_counts(engine: Engine, doctor: Any) -> None:
    instructions = "COPY plain /usr/local/bin/train\nCOPY train /usr/bin/train"
    found = checks(doctor(engine.build("doctor-first", instructions, {"plain": "x", "train": TOOLKIT})))
    assert "toolkit" in found["signals"]["message"]


def test_a_file_that_is_not_executable_does_not_start(engine: Engine, doctor: Any) -> None:
    found = checks(doctor(engine.build("doctor-mode", "COPY train /usr/bin/train", {"train": "print(1)"})))
    assert "is not executable" in found["start"]["message"]
    assert found["start"]["fix"] == "RUN chmod +x /usr/bin/train in the Dockerfile"


def test_a_user_other_than_root_is_noticed(engine: Engine, doctor: Any, good: str) -> None:
    found = checks(doctor(engine.build("doctor-user", "USER 1000:1000", base=good)))
    assert found["user"]["verdict"] == "warning"


@pytest.mark.parametrize(
    ("instructions", "says"),
    [
        ("USER nosuchuser", "unable to find user nosuchuser: no matching entries in passwd file"),
        ("USER daemon:nosuchgroup", "unable to find group nosuchgroup: no matching entries in group file"),
        ("RUN rm /etc/passwd\nUSER root", "unable to find user root: no matching entries in passwd file"),
        ("USER 2147483648", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_a_user_whom_the_image_does_not_know_fails_in_the_words_of_the_engine(
    engine: Engine, doctor: Any, good: str, instructions: str, says: str
) -> None:
    image = engine.build("doctor-nobody", instructions, base=good)
    done = doctor(image)
    assert done.code == 15
    user = checks(done)["user"]
    assert user["verdict"] == "failed"
    assert says in user["message"]
    failed = engine("run", "--rm", image, check=False)
    assert failed.returncode != 0
    assert says in failed.stderr


@pytest.mark.parametrize(
    "instructions",
    [
        "USER daemon",
        "USER 4321:4321",
        "USER daemon:nogroup",
        "RUN mv /etc/passwd /etc/people && ln -s people /etc/passwd\nUSER daemon:1",
        # Further down than is read: nothing speaks against it.
        "RUN python3 -c \"open('/etc/passwd', 'a').writelines(f'u{n}:x:{n}:{n}::/:\\\\n' for n in range(6000))\"\nUSER u5999",
    ],
    ids=["named", "numbers", "both named", "behind a link", "among thousands"],
)
def test_a_user_whom_the_image_knows_starts_as_on_the_engine(
    engine: Engine, doctor: Any, good: str, instructions: str
) -> None:
    image = engine.build("doctor-somebody", instructions, base=good)
    assert checks(doctor(image))["user"]["verdict"] == "warning"
    assert engine("run", "--rm", image).stdout == "1\n"


def test_an_empty_entry_point_is_none(engine: Engine, doctor: Any) -> None:
    files = {"train": "#!/usr/bin/python3\nprint('ran')\n"}
    image = engine.build("doctor-reset", 'COPY train /usr/bin/train\nENTRYPOINT [""]', files)
    assert engine("run", "--rm", image, "train").stdout == "ran\n"
    start = checks(doctor(image))["start"]
    assert (start["verdict"], start["message"]) == ("ok", "SageMaker runs train")


@pytest.fixture
def arm_image(engine: Engine, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /bin/train\n")
    image = f"doctor-arm:{secrets.token_hex(4)}"
    engine("build", "--platform", "linux/arm64", "--tag", image, tmp_path)
    yield image
    engine("rmi", "--force", image)


def test_an_image_for_another_processor_fails(doctor: Any, arm_image: str) -> None:
    done = doctor(arm_image)
    assert done.code == 15
    system = checks(done)["system"]
    assert "linux/arm64" in system["message"]
    assert "exec format error" in system["message"]
    assert "docker build --platform linux/amd64" in system["fix"]


def test_an_image_cannot_write_on_the_terminal(engine: Engine, docker_cli: CommandLine) -> None:
    hostile = (
        'ENTRYPOINT ["/bin/[red]x[/red]\\u001b[31m\\nok  forged\\u202e"]\nUSER "[blink]\\u001b]0;x\\u0007"'
    )
    image = engine.build("doctor-hostile", f'{hostile}\nLABEL "\\u001b[31m"="[bold]"')
    done = docker_cli("doctor", "--image", image)
    assert done.code == 15
    assert "[red]x[/red]\\x1b[31m" in done.out
    assert not {"\x1b", "\x07", "\u202e"} & set(done.out + done.err)
    assert not [line for line in done.out.splitlines() if line.startswith("ok  forged")]
    assert docker_cli("doctor", "--image", image, "--json").json


def test_an_image_that_is_not_here_can_be_pulled(docker_cli: CommandLine, project: Project) -> None:
    registry = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
    done = docker_cli("doctor", project.config, "--image", f"{registry}/sagemaker-tiny:1.0")
    login = "aws ecr get-login-password --region us-east-1 | docker login --username AWS --password-stdin"
    assert done.code == 6
    assert done.err.splitlines() == [
        f"error: the image {registry}/sagemaker-tiny:1.0 is not on this machine",
        f"hint: {login} {registry}",
        f"hint: docker pull {registry}/sagemaker-tiny:1.0",
    ]


def test_an_engine_that_does_not_answer_is_a_finding(docker_cli: CommandLine, tmp_path: Path) -> None:
    away = f"unix://{tmp_path}/away.sock"
    done = docker_cli("doctor", "--image", "x:1", "--json", env={"DOCKER_HOST": away})
    assert done.code == 15
    [engine] = done.json["checks"]
    assert engine["verdict"] == "failed"
    assert f"no engine answers docker at {away}" in engine["message"]
    assert "start it" in engine["fix"]


# What doctor does to the engine.


def test_nothing_of_the_image_is_executed_and_nothing_is_left(engine: Engine, doctor: Any) -> None:
    image = engine.build("doctor-volume", f"VOLUME /opt/data\n{GOOD}", {"main.py": "print(1)\n"})
    volumes = engine("volume", "ls", "--quiet").stdout.split()
    since = str(time.time())
    assert doctor(image).code == 0
    events = engine("events", "--since", since, "--until", str(time.time()), "--filter", f"image={image}")
    by_id = engine("events", "--since", since, "--until", str(time.time()), "--filter", f"label={LABEL}")
    actions = [line.split()[2] for line in (events.stdout + by_id.stdout).splitlines()]
    assert "create" in actions
    assert "destroy" in actions
    assert not {"start", "exec_create", "attach"} & set(actions)
    assert set(engine("volume", "ls", "--quiet").stdout.split()) <= set(volumes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_container(
    engine: Engine, docker_cli: CommandLine, tmp_path: Path, good: str, number: int
) -> None:
    mark = tmp_path / "copying"
    slow = tmp_path / "slow-docker"
    slow.write_text(
        f'#!/bin/sh\nif [ "$1" = cp ]; then echo "$2" > {mark}.new; mv {mark}.new {mark}; exec sleep 60; fi\n'
        f'exec {engine.program} "$@"\n'
    )
    slow.chmod(0o755)
    process = docker_cli.start("doctor", "--image", good, "--docker", slow)
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    container = mark.read_text().partition(":")[0]
    assert engine.inspect(container)["Config"]["Labels"][LABEL] == f"{platform.node()}:{process.pid}"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, out + err
    assert engine("inspect", container, check=False).returncode != 0


def test_an_engine_that_cannot_read_its_images_is_a_finding(
    engine: Engine, docker_cli: CommandLine, tmp_path: Path, good: str
) -> None:
    broken = tmp_path / "broken-docker"
    broken.write_text(
        f'#!/bin/sh\n[ "$1" = cp ] && {{ echo "input/output error" >&2; exit 1; }}\nexec {engine.program} "$@"\n'
    )
    broken.chmod(0o755)
    done = docker_cli("doctor", "--image", good, "--docker", broken)
    assert done.code == 15
    assert "input/output error" in done.out
    assert f"fix: see what this says: {broken} create {good} train" in done.out


def test_the_engine_its_disk_and_the_configs_image_are_looked_at(
    engine: Engine, project: Project, docker_cli: CommandLine, good: str
) -> None:
    words = ("--s3-root", project.s3, "--json")
    found = checks(docker_cli("doctor", project.config, *words))
    assert found["engine"]["verdict"] == "ok"
    version = engine("version", "--format", "{{.Server.Version}}").stdout.strip()
    assert version in found["engine-disk"]["message"]
    assert (found["image"]["verdict"], "docker pull" in found["image"]["fix"]) == ("unknown", True)
    tag = "123456789012.dkr.ecr.us-east-1.amazonaws.com/doctor-config:1"
    engine("tag", good, tag)
    try:
        project.write(ESTIMATOR={"IMAGE_URI": tag})
        found = checks(docker_cli("doctor", project.config, *words))
        assert (found["start"]["verdict"], found["signals"]["verdict"]) == ("ok", "ok")
    finally:
        engine("rmi", tag)


def test_what_killed_checks_and_rehearsals_left_in_the_engine_is_told(
    engine: Engine, docker_cli: CommandLine, good: str
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    stray = f"stray{secrets.token_hex(4)}"
    removed = "ok       leftovers removed: 1 containers of killed image checks\n"

    def create(label: str) -> str:
        return engine("create", "--label", label, good).stdout.strip()

    rehearsal, checks = create(f"sagemaker-launcher.rehearsal={stray}"), []
    try:
        # The repairs of other tests see the same engine, and may be faster.
        for _ in range(5):
            checks.append(create(f"{LABEL}={platform.node()}:{dead.pid}"))
            told = docker_cli("doctor", "--repair", "--dry-run").out
            assert f"containers of the rehearsal {stray}, which is another user's" in told
            repaired = docker_cli("doctor", "--repair").out
            assert engine("inspect", checks[-1], check=False).returncode != 0
            if removed in repaired:
                break
        assert "warning  leftovers 1 containers of killed image checks\n" in told
        assert removed in repaired
        assert engine("inspect", rehearsal, check=False).returncode == 0  # it may be another user's
    finally:
        engine("rm", "--force", rehearsal, *checks, check=False)


# Manifests.


@pytest.fixture
def logged_in(docker_cli: CommandLine, engine: Engine, registry: RegistryServer) -> CommandLine:
    """The command line of somebody who has logged in to the registry."""
    home = docker_cli.environment["HOME"]
    words = (
        "--config",
        f"{home}/.docker",
        "login",
        "--username",
        registry._user,
        "--password-stdin",
        registry.address,
    )
    engine(*words, text=registry._password)
    return docker_cli


@pytest.fixture
def pushed(logged_in: CommandLine, engine: Engine, registry: RegistryServer, good: str) -> Iterator[str]:
    """The good image, pushed under a name of its own."""
    image = f"{registry.address}/doctor-{secrets.token_hex(4)}:1"
    engine("tag", good, image)
    engine("--config", f"{logged_in.environment['HOME']}/.docker", "push", image)
    yield image
    engine("rmi", image)


def put(registry: RegistryServer, repository: str, media_type: str, document: dict[str, Any]) -> None:
    """Gives the tag 1 of a repository another manifest."""
    token = base64.b64encode(f"{registry._user}:{registry._password}".encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": media_type}
    connection = http.client.HTTPConnection(registry.address, timeout=10)
    connection.request("PUT", f"/v2/{repository}/manifests/1", json.dumps(document), headers)
    answer = connection.getresponse()
    assert answer.status == http.client.CREATED, answer.read()
    connection.close()


def manifest_check(done: Finished) -> tuple[str, str]:
    found = checks(done)["manifest"]
    return found["verdict"], found["message"] + found["fix"]


def test_a_single_image_in_the_registry_is_fine(logged_in: CommandLine, pushed: str) -> None:
    done = logged_in("doctor", "--image", pushed, "--json")
    assert manifest_check(done) == ("ok", f"the registry has one image, {DOCKER_MANIFEST}")
    assert done.code == 0


@pytest.mark.parametrize(("processor", "verdict"), [("amd64", "warning"), ("arm64", "failed")])
def test_an_index_in_the_registry_is_not(
    logged_in: CommandLine,
    pushed: str,
    registry: RegistryServer,
    processor: str,
    verdict: str,
) -> None:
    repository = pushed.split("/")[1].removesuffix(":1")
    image = registry.manifest(repository, "1")
    entry = {"mediaType": image.media_type, "digest": image.digest, "size": len(json.dumps(image.content))}
    platform = {"os": "linux", "architecture": processor}
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{**entry, "platform": platform}],
    }
    put(registry, repository, OCI_INDEX, index)
    found, text = manifest_check(logged_in("doctor", "--image", pushed, "--json"))
    assert found == verdict
    assert "an index of images" in text
    assert "--provenance=false" in text


@pytest.mark.parametrize("members", [{"mediaType": OCI_MANIFEST}, {}], ids=["type said", "type implied"])
def test_an_image_in_oci_format_is_doubtful(
    logged_in: CommandLine, pushed: str, registry: RegistryServer, members: dict[str, str]
) -> None:
    repository = pushed.split("/")[1].removesuffix(":1")
    text = json.dumps(registry.manifest(repository, "1").content)
    text = text.replace("application/vnd.docker.container.image.v1", "application/vnd.oci.image.config.v1")
    text = text.replace("vnd.docker.image.rootfs.diff.tar.gzip", "vnd.oci.image.layer.v1.tar+gzip")
    document = json.loads(text)
    del document["mediaType"]
    put(registry, repository, OCI_MANIFEST, {**document, **members})
    verdict, said = manifest_check(logged_in("doctor", "--image", pushed, "--json"))
    assert verdict == "warning"
    assert OCI_MANIFEST in said
    assert "oci-mediatypes=false" in said


def test_without_a_login_the_manifest_is_unknown(doctor: Any, pushed: str, logged_in: CommandLine) -> None:
    (Path(logged_in.environment["HOME"]) / ".docker" / "config.json").unlink()
    verdict, text = manifest_check(doctor(pushed))
    assert verdict == "unknown"
    assert "no answer from the registry" in text
    assert "log in" in text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("127.0.0.1:1/doctor-away:1", "connection refused"),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/doctor-new:1", "aws ecr get-login-password"),
        ("doctor-local:1", "no registry in the image's name"),
    ],
)
def test_what_no_registry_tells_is_unknown_and_not_fine(
    engine: Engine, doctor: Any, good: str, name: str, says: str
) -> None:
    engine("tag", good, name)
    try:
        verdict, text = manifest_check(doctor(name))
    finally:
        engine("rmi", name)
    assert verdict == "unknown"
    assert says in text
    assert "no engine answers" not in text
