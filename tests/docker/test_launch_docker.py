"""`launch --on docker`: how a container is started, and what its program finds."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.docker.launching import (
    CODE,
    RUNS_THE_CODE,
    Desk,
    Ended,
    ended,
    read_until,
)
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.servers.engine import Engine
from tests.stand_in import nothing_written

SHOW = "#!/usr/bin/python3\nimport sys, json\nprint(json.dumps(sys.argv))\n"
CANARY = "canary-that-must-not-sing"
LAPTOP = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "FOO",
    "HF_TOKEN",
    "SM_MODEL_DIR",
    "SAGEMAKER_PROGRAM",
)
# Everything that a program can see of its surroundings, and what it may do there.
LOOK = f"""
def tries(action):
    try: action()
    except OSError as error: return error.strerror
    return "done"
files = {{str(path): path.read_text() for path in (base / "input").rglob("*") if path.is_file()}}
folders = [str(path) for path in sorted(base.rglob("*")) if path.is_dir()]
shm = os.statvfs("/dev/shm")
stream, training = base / "input/data/stream", base / "input/data/training"
tell(
    identifier=identifier, files=files, folders=folders, environment=dict(os.environ), arguments=sys.argv,
    folder=os.getcwd(), pid=os.getpid(), uid=os.getuid(), shm=shm.f_frsize * shm.f_blocks,
    hostname=socket.gethostname(), address=socket.gethostbyname("algo-1"),
    interfaces=[name for _, name in socket.if_nameindex()],
    stream=[tries((stream / "s.bin").unlink), tries((stream / "new").touch), tries(lambda: (stream / "s.bin").write_text("x"))],
    training=[tries((training / "new").touch), tries((training / "more").mkdir)],
    checkpoints=tries(lambda: pathlib.Path("/data/ckpt/c").write_text("state")),
    input=repr(sys.stdin.read()),
)
(model / "weights").write_text("w")
# What root writes here must not reach the user's folder, and what it does to the data must not reach the next job.
pathlib.Path("{CODE}/written-in-the-container").touch()
import config_beside
with (training / "a.csv").open("a") as file: file.write("spoiled")
"""


@pytest.fixture(scope="module")
def shop(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk.set_up(tmp_path_factory.mktemp("desk"), engine)
    desk.project.put("s3://team/data/stream/s.bin", "stream")
    desk.project.write(
        S3={"CHECKPOINTS": "s3://team/checkpoints"},
        CHANNELS={
            "training": "s3://team/data/train/",
            "stream": {"S3_URI": "s3://team/data/stream/", "INPUT_MODE": "FastFile"},
        },
        ESTIMATOR={
            "INSTANCE_TYPE": "ml.g4dn.xlarge",
            "CHECKPOINT_LOCAL_PATH": "/data/ckpt",
            "HYPERPARAMETERS": {"epochs": 3, "lr": 1e-5, "flag": True, "text": 'é "quoted"'},
            "ENVIRONMENT": {"MY_OWN": "two words, = and 'quotes'"},
        },
    )
    (desk.project.folder / "code" / "config_beside.py").write_text("")
    desk.program(LOOK)
    # The engine's program would hand these on by itself.
    settings = Path(desk.cli.environment["HOME"], ".docker", "config.json")
    settings.parent.mkdir()
    proxies = {"httpProxy": f"http://{CANARY}", "noProxy": CANARY}
    settings.write_text(json.dumps({"proxies": {"default": proxies}}))
    return desk


@pytest.fixture(scope="module")
def launched(shop: Desk) -> Ended:
    """One launch of a program that tells all that it sees, from a laptop full of settings."""
    with nothing_written(shop.project.folder / "code"):
        done = shop.launch(env=dict.fromkeys(LAPTOP, CANARY))
    assert done.code == 0, done.done.err
    return done


@pytest.fixture(scope="module")
def seen(launched: Ended) -> dict[str, Any]:
    return launched.told()


# --- how it is started ---


@pytest.fixture(scope="module")
def starter(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With an image that has both an ENTRYPOINT and a CMD."""
    words = 'COPY show /bin/show\nENTRYPOINT ["/bin/show", "of the image"]\nCMD ["never seen"]\nENV FROM_IMAGE=yes'
    return Desk.set_up(tmp_path_factory.mktemp("desk"), engine, engine.build("starts", words, {"show": SHOW}))


@pytest.mark.parametrize(
    ("entry_point", "arguments", "expected"),
    [
        ([], [], ["/bin/show", "of the image", "train"]),
        (["/bin/show", "a", "b c"], [], ["/bin/show", "a", "b c"]),
        ([], ["x", "--y=$HOME"], ["/bin/show", "of the image", "x", "--y=$HOME"]),
        (["/bin/show", "a"], ["--y", ""], ["/bin/show", "a", "--y", ""]),
    ],
    ids=["neither", "entry point", "arguments", "both"],
)
@reproduces("start command", "docker")
def test_the_container_is_started_with_the_words_that_the_service_would_use(
    starter: Desk, entry_point: Sequence[str], arguments: Sequence[str], expected: Sequence[str]
) -> None:
    starter.project.write(ESTIMATOR={"CONTAINER_ENTRY_POINT": entry_point, "CONTAINER_ARGUMENTS": arguments})
    done = starter.launch()
    assert done.code == 0, done.done.err
    assert json.loads(done.lines()[0]) == expected


@reproduces("start command", "docker")
def test_an_image_without_entry_point_has_its_program_train_started(starter: Desk, engine: Engine) -> None:
    image = engine.build("train", 'COPY train /usr/local/bin/train\nCMD ["bash"]', {"train": SHOW})
    starter.project.write()
    done = starter.launch("--image", image)
    assert json.loads(done.lines()[0]) == ["/usr/local/bin/train"]


def test_proxies_of_the_image_and_of_the_request_are_kept(starter: Desk, engine: Engine) -> None:
    image = engine.build("proxy", "ENV http_proxy=of-the-image\n" + RUNS_THE_CODE)
    starter.project.write(ESTIMATOR={"ENVIRONMENT": {"NO_PROXY": "of-the-request"}})
    starter.program("tell(**{name: value for name, value in os.environ.items() if 'proxy' in name.lower()})")
    told = starter.launch("--image", image).told()
    assert told == {"http_proxy": "of-the-image", "NO_PROXY": "of-the-request"}


# --- what it finds ---


@reproduces("variables", "docker")
def test_the_variables_are_the_services_the_requests_the_images_and_dockers_own(
    seen: dict[str, Any], launched: Ended
) -> None:
    name = launched.answer["job_name"]
    request = launched.answer["request"]
    environment = dict(seen["environment"])
    assert environment.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python's own doing (PEP 538)
    assert environment == {
        "TRAINING_JOB_NAME": name,
        "TRAINING_JOB_ARN": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}",
        "AWS_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
        "DMLC_INTERFACE": "eth0",
        "SAGEMAKER_METRICS_DIRECTORY": "/opt/ml/output/metrics/sagemaker",
        "NVIDIA_VISIBLE_DEVICES": "void",
        **request["Environment"],
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "HOSTNAME": "ip-10-0-0-1.us-east-1.compute.internal",
    }
    assert request["Environment"]["MY_OWN"] == "two words, = and 'quotes'"


@reproduces("variables", "docker")
def test_nothing_of_the_laptop_is_seen_inside(launched: Ended) -> None:
    assert CANARY not in launched.done.err + launched.done.out


@reproduces("files", "docker")
def test_the_services_files_are_the_services_to_the_byte(seen: dict[str, Any]) -> None:
    folder = "/opt/ml/input/config"
    files = {name: text for name, text in seen["files"].items() if name.startswith(folder)}
    one = '"S3DistributionType":"FullyReplicated","RecordWrapperType":"None"'
    assert files == {
        f"{folder}/hyperparameters.json": '{"epochs":"3","lr":"1.0e-05","flag":"true","text":"é \\"quoted\\""}',
        f"{folder}/inputdataconfig.json": f'{{"training":{{"TrainingInputMode":"File",{one}}},'
        f'"stream":{{"TrainingInputMode":"FastFile",{one}}},"config":{{"TrainingInputMode":"File",{one}}}}}',
        f"{folder}/resourceconfig.json": '{"current_host":"algo-1","current_instance_type":"ml.g4dn.xlarge",'
        '"current_group_name":"homogeneousCluster","hosts":["algo-1"],"instance_groups":[{"instance_group_name":'
        '"homogeneousCluster","instance_type":"ml.g4dn.xlarge","hosts":["algo-1"]}],"network_interface_name":"eth0"}',
    }


@reproduces("files", "docker")
@reproduces("file mode", "docker")
def test_the_tree_is_complete_and_fresh(seen: dict[str, Any]) -> None:
    data = {name: text for name, text in seen["files"].items() if "/data/" in name}
    assert data.pop("/opt/ml/input/data/config/training_config.yaml").startswith("VERSION: 1\nSEED: 0\n")
    assert data == {
        "/opt/ml/input/data/stream/s.bin": "stream",
        "/opt/ml/input/data/training/a.csv": "1,2\n",
    }
    parts = ["code", "input", "input/config", "input/data", "input/data/config", "input/data/stream"]
    parts += ["input/data/training", "model", "output", "output/data"]
    assert seen["folders"] == [f"/opt/ml/{part}" for part in parts]


@reproduces("fast file", "docker")
@reproduces("input writable", "docker")
def test_even_root_cannot_write_to_a_fast_file_channel_but_to_a_file_channel(seen: dict[str, Any]) -> None:
    assert seen["uid"] == 0
    assert seen["stream"] == ["Read-only file system"] * 3
    assert seen["training"] == ["done"] * 2


@reproduces("checkpoints", "docker")
def test_checkpoints_go_where_the_request_wants_them_and_to_s3(
    seen: dict[str, Any], launched: Ended, shop: Desk
) -> None:
    assert seen["checkpoints"] == "done"
    place = launched.answer["request"]["CheckpointConfig"]["S3Uri"]
    assert (shop.path(place) / "c").read_text() == "state"


@reproduces("shared memory", "docker")
@reproduces("hosts", "docker")
def test_the_program_is_the_first_process_on_a_host_with_memory_to_share(seen: dict[str, Any]) -> None:
    assert seen["pid"] == 1
    assert seen["arguments"] == [f"{CODE}/main.py", "train"]
    assert seen["shm"] > 2**30
    assert seen["hostname"] == "ip-10-0-0-1.us-east-1.compute.internal"
    assert seen["address"] == "127.0.0.1"
    assert "eth0" in seen["interfaces"]
    assert seen["input"] == "''"


@provokes(120)
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
@reproduces("gpus", "docker")
def test_gpus_that_this_machine_does_not_have_are_missed_aloud(launched: Ended) -> None:
    assert "not reproduced here: the GPUs" in launched.notes


def test_what_is_not_missing_is_not_missed(launched: Ended) -> None:
    assert not [note for note in launched.notes if "nothing in the image points to" in note]


def test_nothing_is_left_behind_but_the_outputs(seen: dict[str, Any], launched: Ended, shop: Desk) -> None:
    assert shop.left(seen["identifier"]) == []
    assert shop.path(launched.result["artifacts"]["model"]).is_file()


def test_what_root_did_to_the_data_reaches_neither_s3_nor_the_next_job(shop: Desk, launched: Ended) -> None:
    assert launched.code == 0
    shop.program("tell(text=(base / 'input/data/training/a.csv').read_text())")
    assert shop.launch().told() == {"text": "1,2\n"}
    assert shop.path("s3://team/data/train/a.csv").read_text() == "1,2\n"


# --- whose code it runs ---


def test_the_users_folder_takes_the_place_of_the_images_code_unless_told_otherwise(
    engine: Engine, tmp_path: Path
) -> None:
    words = 'COPY main.py other.py /srv/app/\nWORKDIR /srv/app\nENTRYPOINT ["python3", "main.py"]'
    files = {"main.py": "print('of the image')\nimport other", "other.py": ""}
    desk = Desk.set_up(tmp_path, engine, engine.build("own-code", words, files))
    desk.project.write(SOURCE={"DIR": "code", "CONTAINER_DIR": "/srv/app"})
    desk.project.program("import config_beside; print('first')")
    (desk.project.folder / "code" / "config_beside.py").write_text("")
    with nothing_written(desk.project.folder / "code"):
        assert desk.launch().lines() == ["first"]
    desk.project.program("print('edited')")
    assert desk.launch().lines() == ["edited"]
    assert desk.launch("--image-code").lines() == ["of the image"]


def test_code_that_may_not_run_is_warned_of(engine: Engine, tmp_path: Path) -> None:
    words = "COPY train /usr/local/bin/train"
    desk = Desk.set_up(tmp_path, engine, engine.build("train", words, {"train": SHOW}))
    [note] = [note for note in desk.launch().notes if "nothing in the image points to" in note]
    assert f"nothing in the image points to {CODE}" in note
    named = ("--set", "ESTIMATOR.CONTAINER_ENTRY_POINT", f'["python3", "{CODE}/main.py"]')
    for words_that_name_it in (("--image-code",), named):
        assert not [note for note in desk.launch(*words_that_name_it).notes if "nothing in the image" in note]


def test_code_that_cannot_be_copied_is_named_before_anything_is_archived(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk.set_up(tmp_path, engine)
    code = desk.project.folder / "code"
    (code / "below").mkdir()
    os.mkfifo(code / "below" / "fifo")
    with socket.socket(socket.AF_UNIX) as listener, nothing_written(desk.project.s3):
        monkeypatch.chdir(code)  # the name of a socket has to be short
        listener.bind("socket")
        done = desk.launch()
    assert (done.code, done.error["code"]) == (15, "no_source")
    named = f"cannot copy {code}: below/fifo (a named pipe), socket (a socket)"
    assert done.error["message"] == named
    assert not (desk.cache / "rehearsals").exists()


def test_what_is_not_copied_may_be_anything(engine: Engine, tmp_path: Path) -> None:
    desk = Desk.set_up(tmp_path, engine)
    for name in (".git", "__pycache__"):
        (desk.project.folder / "code" / name).mkdir()
        os.mkfifo(desk.project.folder / "code" / name / "fifo")
    (desk.project.folder / "code" / "dangling").symlink_to("nowhere")
    desk.program("print(sorted(os.listdir('/opt/ml/code')))")
    assert desk.launch().lines() == ["['config.py', 'dangling', 'main.py']"]


def test_code_that_the_user_may_not_read_is_named(users_desk: Desk) -> None:
    (users_desk.project.folder / "code" / "closed").mkdir(0o700)
    (users_desk.project.folder / "code" / "secret").touch(0o600)
    with nothing_written(users_desk.project.s3):
        done = users_desk.launch()
    assert (done.code, done.error["code"]) == (15, "no_source")
    for name in ("closed", "secret"):
        assert f"{name} (Permission denied)" in done.error["message"]


def test_checkpoints_may_lie_in_the_model_folder(engine: Engine, tmp_path: Path) -> None:
    desk = Desk.set_up(tmp_path, engine)
    desk.project.write(
        S3={"CHECKPOINTS": "s3://team/checkpoints"}, ESTIMATOR={"CHECKPOINT_LOCAL_PATH": "/opt/ml/model"}
    )
    desk.program("(model / 'state').write_text('1')")
    done = desk.launch()
    assert done.code == 0, done.done.err
    place = done.answer["request"]["CheckpointConfig"]["S3Uri"]
    assert (desk.path(place) / "state").read_text() == "1"
    assert "model" in done.result["artifacts"]


# --- credentials ---


@provokes(118)
@reproduces("credentials", "docker")
def test_credentials_get_inside_only_when_asked_for_and_into_no_list_of_processes_and_no_file(
    engine: Engine, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    desk = Desk.set_up(tmp_path, engine, TMPDIR=str(temporary))
    given = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/canary-key",
        "AWS_SESSION_TOKEN": "session-canary",
    }
    desk.program(
        "names = [name for name in os.environ if name.startswith('AWS_')]\n"
        "tell(values={name: ''.join(reversed(os.environ[name])) for name in names}, identifier=identifier)\n"
        "while not (base / 'model/go').exists(): time.sleep(0.02)\n(base / 'model/go').unlink()"
    )
    with desk.launching("--with-credentials", env=given) as process:
        before = read_until(process, "identifier")
        # The container knows them, as it has to, and so does whoever may ask the engine.
        commands = "\n".join(" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))
        assert f"sagemaker-{desk.identifier()}-1-algo-1" in commands
        on_disk = list(texts(tmp_path))
        next((desk.cache / "rehearsals").glob("*/attempt-1/algo-1/opt/ml/model")).joinpath("go").touch()
        done = ended(process, before)
    assert done.code == 0, done.done.err
    values = {name: value[::-1] for name, value in done.told()["values"].items()}
    assert given.items() <= values.items()
    assert set(values) == {*given, "AWS_REGION", "AWS_EXECUTION_ENV"}
    for secret in (given["AWS_SECRET_ACCESS_KEY"], given["AWS_SESSION_TOKEN"]):
        for text in (commands, done.done.err, done.done.out, *on_disk, *texts(tmp_path)):
            assert secret not in text
    assert desk.left(done.told()["identifier"]) == []


def texts(folder: Path) -> list[str]:
    """The content of every file below a folder."""
    return [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
