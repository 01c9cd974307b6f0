"""Many hosts in containers: names, data, groups, logs, artifacts, and what happens when one of them fails."""

from __future__ import annotations

import re
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.docker.launching import Desk, Ended
from tests.fidelity import reproduces
from tests.servers.engine import Engine
from tests.stand_in import document

OBJECTS = [f"part-{number:02}" for number in range(7)]
GROUPS = [
    {"INSTANCE_GROUP_NAME": "workers", "INSTANCE_TYPE": "ml.m5.large", "INSTANCE_COUNT": 2},
    {"INSTANCE_GROUP_NAME": "readers", "INSTANCE_TYPE": "ml.c5.xlarge", "INSTANCE_COUNT": 1},
]
# All hosts meet at MASTER_ADDR:MASTER_PORT, as torch.distributed would: the first listens, the others come when they can.
MEET = """
def meet(addresses):
    if host() == "algo-1":
        with socket.create_server(("", int(os.environ["MASTER_PORT"]))) as server:
            guests = [server.accept()[0] for _ in addresses[1:]]
            names = sorted(guest.recv(99).decode() for guest in guests)
            for guest in guests: guest.sendall(json.dumps(names).encode())
            return names
    for _ in range(300):
        try: friend = socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), 5)
        except OSError: time.sleep(0.1)
        else:
            friend.sendall(host().encode())
            return json.loads(friend.recv(999))
"""
LOOK = (
    MEET
    + """
resources = json.loads((base / "input/config/resourceconfig.json").read_text())
channels = {path.name: sorted(file.name for file in path.iterdir()) for path in (base / "input/data").iterdir()}
tell(
    identifier=identifier, resources=resources, channels=channels, hostname=socket.gethostname(),
    known=sorted(json.loads((base / "input/config/inputdataconfig.json").read_text())),
    addresses={name: socket.gethostbyname(name) for name in resources["hosts"]},
    own=socket.gethostbyname(socket.gethostname()), met=meet(resources["hosts"]),
)
(model / f"weights-{host()}").write_text(host())
(model / "same").write_text(host())
(data / "curve").write_text(host())
print(f"loss={int(host()[-1]) / 8}")
"""
)


@pytest.fixture(scope="module")
def shop(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk.set_up(tmp_path_factory.mktemp("desk"), engine)
    for name in OBJECTS:
        desk.project.put(f"s3://team/data/parts/{name}", name)
    return desk


@pytest.fixture(scope="module")
def launched(shop: Desk) -> Ended:
    """One launch on three hosts in two groups, with data for all, for one group, and split."""
    shop.project.write(
        CHANNELS={
            "training": "s3://team/data/train/",
            "parts": {"S3_URI": "s3://team/data/parts/", "DISTRIBUTION": "ShardedByS3Key"},
            "extra": {"S3_URI": "s3://team/data/train/", "INSTANCE_GROUPS": ["readers"]},
        },
        ESTIMATOR={
            "INSTANCE_TYPE": "",
            "INSTANCE_GROUPS": GROUPS,
            "ENVIRONMENT": {"MASTER_ADDR": "algo-1", "MASTER_PORT": "29500"},
        },
    )
    shop.program(LOOK)
    done = shop.launch()
    assert done.code == 0, done.done.err
    return done


@pytest.fixture(scope="module")
def told(launched: Ended) -> dict[str, dict[str, Any]]:
    return {name: launched.told(name) for name in ("algo-1", "algo-2", "algo-3")}


@reproduces("hosts", "docker")
def test_all_hosts_meet_at_the_first_one(told: dict[str, dict[str, Any]]) -> None:
    assert [one["met"] for one in told.values()] == [["algo-2", "algo-3"]] * 3


@reproduces("hosts", "docker")
def test_every_host_knows_all_names_at_the_same_addresses(told: dict[str, dict[str, Any]]) -> None:
    addresses = told["algo-1"]["addresses"]
    assert [one["addresses"] for one in told.values()] == [addresses] * 3
    assert [one["own"] for one in told.values()] == list(addresses.values())
    assert len(set(addresses.values())) == 3
    assert [one["hostname"] for one in told.values()] == [
        f"ip-10-0-0-{number}.us-east-1.compute.internal" for number in (1, 2, 3)
    ]


@reproduces("groups", "docker")
def test_every_host_is_told_of_itself_and_of_the_groups(told: dict[str, dict[str, Any]]) -> None:
    groups = [
        {"instance_group_name": "workers", "instance_type": "ml.m5.large", "hosts": ["algo-1", "algo-2"]},
        {"instance_group_name": "readers", "instance_type": "ml.c5.xlarge", "hosts": ["algo-3"]},
    ]
    for name, group in (("algo-1", groups[0]), ("algo-2", groups[0]), ("algo-3", groups[1])):
        assert told[name]["resources"] == {
            "current_host": name,
            "current_instance_type": group["instance_type"],
            "current_group_name": group["instance_group_name"],
            "hosts": ["algo-1", "algo-2", "algo-3"],
            "instance_groups": groups,
            "network_interface_name": "eth0",
        }


@reproduces("sharding", "docker")
@reproduces("groups", "docker")
def test_a_channel_is_copied_split_or_only_for_its_group(told: dict[str, dict[str, Any]]) -> None:
    channels = {name: one["channels"] for name, one in told.items()}
    assert [one["training"] for one in channels.values()] == [["a.csv"]] * 3
    parts = [one["parts"] for one in channels.values()]
    assert sorted(part for host in parts for part in host) == OBJECTS  # complete, and none twice
    assert [len(host) for host in parts] == [3, 2, 2]
    assert [one.get("extra") for one in channels.values()] == [None, None, ["a.csv"]]
    assert [one["known"] for one in told.values()] == [
        ["config", "parts", "training"],
        ["config", "parts", "training"],
        ["config", "extra", "parts", "training"],
    ]


@reproduces("artifacts", "docker")
def test_artifacts_of_all_hosts_are_merged_and_collisions_told(launched: Ended, shop: Desk) -> None:
    with tarfile.open(shop.path(launched.result["artifacts"]["model"])) as packed:
        names = sorted(packed.getnames())
        same = packed.extractfile("same")
        assert same
        assert same.read() == b"algo-1"
    assert names == ["same", "weights-algo-1", "weights-algo-2", "weights-algo-3"]
    [note] = [note for note in launched.notes if note.startswith("several hosts wrote the same file")]
    assert "model/same (algo-1, algo-2, algo-3)" in note
    assert "output/curve (algo-1, algo-2, algo-3)" in note


@reproduces("log", "docker")
def test_each_host_has_a_log_in_the_archive_that_is_what_was_shown(launched: Ended, shop: Desk) -> None:
    folder = shop.path(launched.answer["experiment"])
    logs = {path.name: path.read_text().splitlines() for path in (folder / "logs").iterdir()}
    assert [re.sub(r"-\d{10}\.log$", "", name) for name in sorted(logs)] == ["algo-1", "algo-2", "algo-3"]
    for name, lines in logs.items():
        host = name.rpartition("-")[0]
        assert lines == launched.lines(host)
        assert f"loss={int(host[-1]) / 8}" in lines


@reproduces("time line", "docker")
@reproduces("metrics", "docker")
def test_the_result_is_kept_as_the_service_would_describe_the_job(launched: Ended, shop: Desk) -> None:
    result = launched.result
    assert (
        document(shop.path(launched.answer["experiment"]), "result.json").items()
        >= {key: result[key] for key in ("status", "secondary_status", "metrics", "billable_seconds")}.items()
    )
    assert launched.statuses == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    starts = [transition["started_at"] for transition in result["transitions"]]
    assert starts == sorted(starts)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", start) for start in starts)
    assert result["metrics"]["loss"] in (0.125, 0.25, 0.375)
    assert 0 <= result["billable_seconds"] <= result["training_seconds"] < 60


def test_nothing_is_left_of_three_hosts_and_their_network(
    told: dict[str, dict[str, Any]], shop: Desk
) -> None:
    [identifier] = {one["identifier"] for one in told.values()}
    assert shop.left(identifier) == []


@reproduces("host failure", "docker")
def test_one_host_that_fails_ends_the_job_with_its_own_word(engine: Engine, tmp_path: Path) -> None:
    desk = Desk.set_up(tmp_path, engine)
    desk.project.write(ESTIMATOR={"INSTANCE_COUNT": 2})
    desk.program(
        "def stop(*_): print('told to stop', flush=True); (data / 'state').write_text('s'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "for name in ('algo-1', 'algo-2'): socket.gethostbyname(name)\n"
        "tell(identifier=identifier)\n"
        "if host() == 'algo-2':\n"
        "    time.sleep(1)\n    (base / 'output/failure').write_text('rank 1: no such data'); sys.exit(42)\n"
        "time.sleep(100)"
    )
    start = time.monotonic()
    done = desk.launch()
    assert time.monotonic() - start < 60
    assert (done.code, done.result["status"]) == (10, "Failed")
    assert done.result["failure_reason"] == "AlgorithmError: rank 1: no such data, exit code: 42"
    assert done.result["exit_code"] == 42
    assert "algo-2 failed, which ends the job" in done.notes
    assert done.lines()[-1] == "told to stop"
    assert "output" in done.result["artifacts"]
    assert desk.left(done.told()["identifier"]) == []


def test_a_host_that_has_ended_keeps_its_name(engine: Engine, tmp_path: Path) -> None:
    desk = Desk.set_up(tmp_path, engine)
    desk.project.write(ESTIMATOR={"INSTANCE_COUNT": 2})
    desk.program("if host() == 'algo-1': time.sleep(2); tell(address=socket.gethostbyname('algo-2'))")
    done = desk.launch()
    assert done.code == 0, done.done.err
    assert done.told()["address"]


# --- network isolation ---

REACH = """
def reaches(place):
    try: socket.create_connection(place, 2).close()
    except OSError as error: return False
    return True
"""


@reproduces("isolation", "docker")
def test_one_isolated_host_has_no_network_but_itself(engine: Engine, tmp_path: Path) -> None:
    desk = Desk.set_up(tmp_path, engine)
    desk.project.write(ESTIMATOR={"ENABLE_NETWORK_ISOLATION": True})
    desk.program(
        "with socket.create_server(('', 7000)):\n"
        "    socket.create_connection(('algo-1', 7000)).close()\n"
        "tell(interfaces=[name for _, name in socket.if_nameindex()])"
    )
    assert desk.launch().told()["interfaces"] == ["lo"]


@pytest.mark.parametrize("isolated", [True, False])
@reproduces("isolation", "docker")
def test_isolated_hosts_reach_each_other_and_nothing_else(
    engine: Engine, tmp_path: Path, isolated: bool
) -> None:
    desk = Desk.set_up(tmp_path, engine)
    with server_on_this_machine() as port:
        desk.project.write(
            ESTIMATOR={
                "INSTANCE_COUNT": 2,
                "ENABLE_NETWORK_ISOLATION": isolated,
                "ENVIRONMENT": {"MASTER_ADDR": "algo-1", "MASTER_PORT": "29500"},
            }
        )
        desk.program(
            MEET + REACH + "network, _, _ = socket.gethostbyname(host()).rpartition('.')\n"
            f"tell(met=meet(['algo-1', 'algo-2']), this_machine=reaches((network + '.1', {port})))"
        )
        done = desk.launch()
    assert done.code == 0, done.done.err
    for name in ("algo-1", "algo-2"):
        # Without isolation the same question has another answer: it is the isolation that is seen.
        assert done.told(name) == {"met": ["algo-2"], "this_machine": not isolated}


@contextmanager
def server_on_this_machine() -> Iterator[int]:
    """A server at every address of this machine, those of the engine's networks too; gives its port."""
    with socket.create_server(("0.0.0.0", 0), backlog=16) as server:
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        yield server.getsockname()[1]


def _accept(server: socket.socket) -> None:
    try:
        while True:
            server.accept()[0].close()
    except OSError:  # it was closed
        return
