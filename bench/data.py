"""Times the data of a rehearsal: the first fetch against `aws s3 sync`, and what data that is here already costs."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sagemaker_launcher.rehearsal.cache import DataCache  # noqa: E402
from sagemaker_launcher.rehearsal.channels import list_channel  # noqa: E402
from sagemaker_launcher.storage import FolderStorage  # noqa: E402
from tests.commands import clean_environment  # noqa: E402
from tests.servers.seaweed import SeaweedServer  # noqa: E402

OBJECTS, OBJECT_BYTES, PAIRS = 2000, 10 * 1024, 5
CHANNEL = {
    "ChannelName": "training",
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://team/data/"}},
}
# A program of its own, as `aws` is one: both have to start, to list and to fetch.
FETCH = f"""
import sys
from pathlib import Path
from sagemaker_launcher.aws import Aws
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import list_channel
from sagemaker_launcher.s3_storage import S3Storage

storage = S3Storage(Aws("us-east-1", account="123456789012"))
cache, content = DataCache(Path(sys.argv[1]) / "cache", storage), list_channel({CHANNEL!r}, "File", storage)
cache.fetch(content.objects)
cache.link(content.objects, Path(sys.argv[1]) / "tree")
"""


def keys() -> list[str]:
    return [f"data/{number % 20}/{number}.bin" for number in range(OBJECTS)]


def first_fetch() -> None:
    """Fetches 2,000 objects of 10 KiB from a real S3 server, in pairs with the AWS CLI (AWS_CLI, or `aws`)."""
    aws, reason = shutil.which(os.environ.get("AWS_CLI", "aws")), SeaweedServer.available()
    if reason or not aws:
        print(f"first fetch / aws s3 sync: left out, {reason or 'there is no aws: set AWS_CLI to its path'}")
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-data-"))
    (folder / "weed").mkdir()
    (folder / "home").mkdir()
    try:
        with SeaweedServer(folder / "weed") as s3:
            fill(s3)
            key, secret = s3.admin
            environment = clean_environment(
                folder / "home",
                AWS_ENDPOINT_URL_S3=s3.endpoint_url,
                AWS_ACCESS_KEY_ID=key,
                AWS_SECRET_ACCESS_KEY=secret,
                AWS_DEFAULT_REGION="us-east-1",
                PYTHONPATH=str(ROOT),
            )
            sync = [aws, "s3", "sync", "--only-show-errors", "s3://team/data/"]
            fetch = [sys.executable, "-c", FETCH]
            pairs = [
                (rate(fetch, environment, folder), rate(sync, environment, folder)) for _ in range(PAIRS)
            ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"{'first fetch of 2,000 x 10 KB / aws s3 sync':<44} {ours:5.0f}/s  against {theirs:5.0f}/s: {ratio:5.2f}x"
        "  (aim: at least 2x)",
        flush=True,
    )


def fill(s3: SeaweedServer) -> None:
    s3.create_bucket("team")
    client = s3.client()
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda key: client.put_object(Bucket="team", Key=key, Body=os.urandom(OBJECT_BYTES)), keys()
            )
        )


def rate(command: list[str], environment: Mapping[str, str], folder: Path) -> float:
    """Objects per second of a command that gets an empty folder, its start included."""
    target = Path(tempfile.mkdtemp(dir=folder))
    start = time.perf_counter()
    subprocess.run([*command, str(target)], env=environment, check=True)
    taken = time.perf_counter() - start
    found = {path.name for path in target.rglob("*.bin")}
    if len(found) != OBJECTS:
        sys.exit(f"{command} brought {len(found)} objects instead of {OBJECTS}")
    shutil.rmtree(target)
    return OBJECTS / taken


def warm_data() -> None:
    """What 2,000 files that are in the cache cost a rehearsal: to list, to look up and to link."""
    folder = Path(tempfile.mkdtemp(prefix="bench-data-"))
    try:
        for key in keys():
            path = folder / "s3" / "team" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.urandom(OBJECT_BYTES))
        storage = FolderStorage(folder / "s3")
        cache = DataCache(folder / "cache", storage)
        cache.fetch(list_channel(CHANNEL, "File", storage).objects)
        times = [warm_run(storage, cache, folder / f"tree-{number}") for number in range(PAIRS)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    listed, looked_up, linked = (statistics.median(part) * 1000 for part in zip(*times, strict=True))
    print(
        f"{'2,000 files from the cache':<44} list {listed:.0f} ms, look up {looked_up:.0f} ms, link {linked:.0f} ms"
        "  (aim: 60 ms)",
        flush=True,
    )


def warm_run(storage: FolderStorage, cache: DataCache, tree: Path) -> tuple[float, float, float]:
    moments = [time.perf_counter()]
    objects = list_channel(CHANNEL, "File", storage).objects
    moments.append(time.perf_counter())
    if cache.missing(objects):
        sys.exit("the cache has lost something")
    moments.append(time.perf_counter())
    cache.link(objects, tree)
    moments.append(time.perf_counter())
    first, second, third = (later - earlier for earlier, later in pairwise(moments))
    return first, second, third


if __name__ == "__main__":
    first_fetch()
    warm_data()
