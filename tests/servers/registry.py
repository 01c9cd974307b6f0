"""A real image registry with a login: Debian's `docker-registry`, on loopback."""

from __future__ import annotations

import base64
import ctypes
import http.client
import json
import os
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .ports import free_ports

if TYPE_CHECKING:
    from typing_extensions import Self

_START_TIMEOUT_S = 90.0
# All that a registry may have for a tag: an image or an index of images, in Docker's and in OCI's words.
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


@dataclass(frozen=True)
class Manifest:
    """What a registry has for a tag.

    Attributes:
        media_type: Tells an image from an index of images.
        digest: `sha256:` and 64 hexadecimal digits.
        content: The manifest itself.
    """

    media_type: str
    digest: str
    content: dict[str, Any]


class RegistryServer:
    """A registry that lives as long as the `with` block and takes nothing from whoever has not logged in.

    Args:
        folder: An existing folder for its images, its settings and its log.
        user: Who may log in.
        password: At most 72 bytes, which is all that bcrypt looks at.

    Attributes:
        address: `127.0.0.1:PORT`; an engine on this machine speaks plain HTTP with it.
    """

    def __init__(self, folder: Path, user: str, password: str) -> None:
        self._folder = folder
        self._user, self._password = user, password
        self._port = free_ports(1)[0]
        self.address = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> str:
        """Empty when the server can run here, else why it cannot."""
        if shutil.which("docker-registry"):
            return ""
        return "there is no `docker-registry` here: install the Debian package of that name"

    def __enter__(self) -> Self:
        (self._folder / "htpasswd").write_text(f"{self._user}:{_bcrypt(self._password)}\n")
        (self._folder / "config.yml").write_text(json.dumps(self._settings()))
        # REGISTRY_* variables would change the settings.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder)}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._folder / "config.yml")],
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository; none when nobody has pushed to it."""
        status, _, body = self._get(f"/v2/{repository}/tags/list")
        return list(json.loads(body)["tags"]) if status == http.client.OK else []

    def manifest(self, repository: str, reference: str) -> Manifest:
        """What the registry has for a tag or digest. Raises LookupError when it has nothing."""
        status, headers, body = self._get(f"/v2/{repository}/manifests/{reference}", accept=_MANIFESTS)
        if status != http.client.OK:
            raise LookupError(f"{repository} {reference}: {body.decode()}")
        return Manifest(headers["Content-Type"], headers["Docker-Content-Digest"], json.loads(body))

    def config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """The configuration of an image: its architecture, entry point and variables."""
        status, _, body = self._get(f"/v2/{repository}/blobs/{manifest.content['config']['digest']}")
        assert status == http.client.OK, body
        return dict(json.loads(body))

    def _settings(self) -> dict[str, Any]:
        """A file of YAML, which JSON is."""
        return {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "images")}},
            "http": {"addr": self.address},
            "auth": {"htpasswd": {"realm": "tests", "path": str(self._folder / "htpasswd")}},
        }

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self._folder / "log").read_text("utf-8", "replace")
                raise RuntimeError(f"docker-registry does not answer (exit code {process.poll()}):\n{log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self._get("/v2/")[0] == http.client.OK
        except OSError:
            return False

    def _get(self, path: str, accept: tuple[str, ...] = ()) -> tuple[int, http.client.HTTPMessage, bytes]:
        login = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Accept": ", ".join(accept) or "*/*"}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()


def _bcrypt(password: str) -> str:
    """A hash as the registry reads them, made by the C library of every Debian: Python has none."""
    assert len(password.encode()) <= 72
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    # $2b$ is bcrypt, 05 the fewest rounds; 21 characters and a dot are a salt of 16 bytes.
    salt = f"$2b$05${secrets.token_hex(11)[:21]}."
    hashed: bytes = library.crypt(password.encode(), salt.encode())
    return hashed.decode()
