"""The image in ECR: there, for the right processor, one image and not an index; and what its tag means now."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from sagemaker_launcher.aws import asked
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import AccessDeniedError, ExitCode, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.images.checks import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    rebuild_command,
    system_of,
)
from sagemaker_launcher.naming import ImageUri
from sagemaker_launcher.preflight.check import Check, failed
from sagemaker_launcher.preflight.subject import Subject
from sagemaker_launcher.preflight.world import World

_CONFIG_MAX = 2**20
_PATIENCE_S = 5.0


class ImageCheck:
    """Looks an image up.

    Attributes:
        digest: What the image's tag means now, `sha256:...`; empty until that is known.
    """

    def __init__(self, subject: Subject, world: World) -> None:
        self._uri = subject.job.image.uri
        self._system = system_of(subject.job.machines.instance_types)
        self._image = ImageUri.parse(self._uri)
        self._world = world
        self.digest = self._image.digest

    @property
    def check(self) -> Check:
        """The check."""
        return Check("image", (self._look,))

    def _look(self) -> Iterator[Finding]:
        if not self._image.region:
            yield Finding("image", "unknown", f"{self._uri} is not in ECR, and nobody else is asked")
            return
        try:
            found = self._manifest()
        except AccessDeniedError:
            yield from self._described()
            return
        except NotFoundError:
            found = None  # not even its repository
        if found is None:
            yield self._missing()
            return
        self.digest = found["imageId"].get("imageDigest", self.digest)
        manifest = json.loads(found.get("imageManifest") or "{}")
        kind = found.get("imageManifestMediaType") or manifest.get("mediaType", "")
        yield self._judged(kind, self._systems(kind, manifest))

    def _manifest(self) -> dict[str, Any] | None:
        """https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html."""
        answer = asked(
            self._world.client("ecr").batch_get_image,
            "images",
            f"look up the image {self._uri}",
            **self._names(),
            imageIds=[self._identifier()],
            acceptedMediaTypes=[DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_LIST, OCI_INDEX],
        )
        found: list[dict[str, Any]] = answer["images"]
        return found[0] if found else None

    def _described(self) -> Iterator[Finding]:
        """The same with another permission, which tells less."""
        try:
            answer = asked(
                self._world.client("ecr").describe_images,
                "imageDetails",
                f"look up the image {self._uri}",
                **self._names(),
                imageIds=[self._identifier()],
            )
        except NotFoundError:
            yield self._missing()
            return
        details = answer["imageDetails"]
        self.digest = details[0].get("imageDigest", self.digest)
        yield self._judged(details[0].get("imageManifestMediaType", ""), ())

    def _names(self) -> dict[str, str]:
        return {"registryId": self._image.account, "repositoryName": self._image.repository}

    def _identifier(self) -> dict[str, str]:
        image = self._image
        return {"imageDigest": image.digest} if image.digest else {"imageTag": image.tag}

    def _missing(self) -> Finding:
        fix = "push it (./build_and_push.sh), or correct ESTIMATOR.IMAGE_URI"
        return failed("image", f"ECR has no image {self._uri}", fix, ExitCode.NOT_FOUND, "image_not_found")

    def _judged(self, kind: str, systems: tuple[str, ...]) -> Finding:
        shown = f"{self._uri} is {self.digest}"
        rebuild = rebuild_command(self._uri.partition("@")[0], self._system)
        if kind in {DOCKER_LIST, OCI_INDEX}:
            message = f"{self._uri} is an index of images ({kind}), which parts of SageMaker refuse"
            return failed("image", message, rebuild, ExitCode.CONFIG, "image_index")
        if systems and self._system not in systems:
            message = f"{self._uri} is built for {', '.join(systems)}, and instances are {self._system}"
            return failed("image", message, rebuild, ExitCode.CONFIG, "image_platform")
        if kind == OCI_MANIFEST:
            message = f"{shown}; its manifest is {kind}, which parts of SageMaker refuse"
            return Finding("image", "warning", message, rebuild)
        if not systems:
            return Finding("image", "unknown", f"{shown}; ECR does not tell which processor it is built for")
        return Finding("image", "ok", f"{shown}, for {self._system}")

    def _systems(self, kind: str, manifest: dict[str, Any]) -> tuple[str, ...]:
        """What an image is built for; nothing when nobody tells."""
        digest = manifest.get("config", {}).get("digest", "")
        if kind not in {DOCKER_MANIFEST, OCI_MANIFEST} or not digest:
            return ()
        try:
            answer = asked(
                self._world.client("ecr").get_download_url_for_layer,
                "downloadUrl",
                f"read the configuration of {self._uri}",
                **self._names(),
                layerDigest=digest,
            )
            config = _fetch(answer["downloadUrl"], digest)
        except (LauncherError, OSError, ValueError):
            return ()
        return (f"{config.get('os', 'linux')}/{config['architecture']}",) if "architecture" in config else ()


def _fetch(url: str, digest: str) -> dict[str, Any]:
    """Raises OSError or ValueError for anything but the JSON object that has the digest."""
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"no place on the web: {url}")
    with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:  # noqa: S310 - the line above
        data = answer.read(_CONFIG_MAX)
    if f"sha256:{sha256(data)}" != digest:
        raise ValueError(f"{url} is not {digest}")
    found = json.loads(data)
    return found if isinstance(found, dict) else {}
