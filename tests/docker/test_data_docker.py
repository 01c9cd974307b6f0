"""Channels of every kind as a program in a container finds them."""

from __future__ import annotations

import gzip
from pathlib import Path

from tests.docker.launching import Desk
from tests.fidelity import reproduces
from tests.servers.engine import Engine

LOOK = """
found = {str(path.relative_to(base / "input/data")): path.read_text()
         for path in sorted((base / "input/data").rglob("*")) if path.is_file() and "config" not in path.parts}
def epoch(number):
    pipe = base / f"input/data/piped_{number}"
    while not pipe.exists(): time.sleep(0.01)  # as every program for the service has to
    return pipe.read_text()
epochs = [epoch(0), epoch(1)]
tell(found=found, epochs=epochs)
"""


@reproduces("file mode", "docker")
@reproduces("manifest", "docker")
@reproduces("pipe", "docker")
def test_a_prefix_an_object_a_manifest_and_a_pipe_bring_what_they_should(
    engine: Engine, tmp_path: Path
) -> None:
    desk = Desk.set_up(tmp_path, engine)
    project = desk.project
    project.put("s3://team/data/one/x/a.csv", "a")
    project.put("s3://team/data/one/b.csv", "b")
    project.put("s3://team/data/two.csv", "two")
    project.put("s3://team/lists/three.manifest", '[{"prefix": "s3://team/data/one/"}, "x/a.csv"]')
    for name, text in (("1", "first "), ("2", "second")):
        project.put(f"s3://team/packed/{name}.gz", "").write_bytes(gzip.compress(text.encode()))
    project.write(
        CHANNELS={
            "training": "s3://team/data/one",
            "single": "s3://team/data/two.csv",
            "listed": {"S3_URI": "s3://team/lists/three.manifest", "S3_DATA_TYPE": "ManifestFile"},
            "piped": {"S3_URI": "s3://team/packed/", "INPUT_MODE": "Pipe", "COMPRESSION": "Gzip"},
        }
    )
    desk.program(LOOK)
    done = desk.launch()
    assert done.code == 0, done.done.err
    told = done.told()
    assert told["found"] == {
        "training/x/a.csv": "a",
        "training/b.csv": "b",
        "single/two.csv": "two",
        "listed/data/one/x/a.csv": "a",
    }
    assert told["epochs"] == ["first second"] * 2
