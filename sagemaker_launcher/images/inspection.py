"""Looks into an image without running anything of it: single files by `docker cp`, its manifest at its registry."""

from __future__ import annotations

import json
import os
import platform
import posixpath
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from threading import Timer
from typing import IO

from sagemaker_launcher.engine import Engine, EngineError, ImageFacts
from sagemaker_launcher.errors import LauncherError, NotFoundError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.images.checks import (
    DOCKER_LIST,
    OCI_MANIFEST,
    Files,
    ImageFile,
    Manifest,
    Start,
    login_command,
    places_to_look,
)
from sagemaker_launcher.interrupts import shielded
from sagemaker_launcher.unique import unique_name

LABEL = "sagemaker-launcher.image-check"  # of the containers that are made for this, and never started
_HEAD_MAX = 64 * 1024  # bytes of a file that are read
_LINKS_MAX = 40  # as Linux
_READ_TIMEOUT_S = 60.0
_REGISTRY_TIMEOUT_S = 20.0
# What the engines' programs say when there is no such file.
_ABSENT = (
    "could not find the file",
    "no such container:path",
    "no such file",
    "not a directory",
    "could not be found",
    "too many l",  # "links" and "levels of symbolic links"
)


@frozen
class _Entry:
    """What lies at a path: a link's target, or a regular file's beginning; neither for a folder or a device."""

    link: str = ""
    file: ImageFile | None = None


def read_files(engine: Engine, facts: ImageFacts, start: Start) -> Files:
    """Looks for the files that `image_checks` wants to know.

    Raises:
        EngineError: The engine refuses to make a container of the image, or to read from it.
        EnvironmentProblemError: No engine answers.
    """
    with _container(engine, facts) as container:
        return {
            name: _first(engine, container, paths) for name, paths in places_to_look(facts, start).items()
        }


def read_manifest(engine: Engine, image: str) -> Manifest:
    """What the image's registry has under its name; if that does not answer, also what the engine would push."""
    host = image.partition("/")[0]
    if "/" in image and (host == "localhost" or "." in host or ":" in host):
        manifest = _at_registry(engine, image, host)
    else:
        manifest = Manifest(
            "",
            reason="no registry in the image's name: SageMaker cannot pull it",
            fix="tag it with the name of an ECR repository and push it, as build_and_push.sh does",
        )
    return replace(manifest, media_type=_pushed_type(engine, image)) if manifest.reason else manifest


@contextmanager
def _container(engine: Engine, facts: ImageFacts) -> Iterator[str]:
    """A container of the image that is never started."""
    name = f"{LABEL.replace('.', '-')}-{unique_name(6)}"
    remove_abandoned(engine)
    try:
        # The name is ours, and the container is removed by it even if a signal ends the program that makes it.
        engine.call(
            *("create", "--name", name, "--label", f"{LABEL}={platform.node()}:{os.getpid()}"),
            *("--network", "none", facts.identifier, "train"),
        )
        yield name
    finally:
        with shielded(), suppress(NotFoundError):  # it may never have been made
            engine.call("rm", "--force", "--volumes", name)


def remove_abandoned(engine: Engine) -> None:
    """Removes the containers of those who were killed while they looked; whoever still looks keeps his."""
    for container in abandoned(engine):
        with suppress(NotFoundError):  # another one who looks was faster
            engine.call("rm", "--force", "--volumes", container)


def abandoned(engine: Engine) -> tuple[str, ...]:
    """The containers of those who were killed while they looked. Raises the errors of `Engine.call`."""
    shown = f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}'
    lines = engine.call("ps", "--all", "--filter", f"label={LABEL}", "--format", shown).splitlines()
    found = []
    for line in lines:
        container, _, maker = line.partition(" ")
        node, _, number = maker.rpartition(":")
        if node == platform.node() and number.isdecimal() and not _is_running(int(number)):
            found.append(container)
    return tuple(found)


def _is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def _first(engine: Engine, container: str, paths: tuple[str, ...]) -> ImageFile | None:
    """The first executable file among paths, as a search of the PATH finds it; else the first file."""
    found = None
    for path in paths:
        file = _follow(engine, container, path)
        if file is not None and file.executable:
            return file
        found = found or file
    return found


def _follow(engine: Engine, container: str, path: str) -> ImageFile | None:
    """The regular file at a path of the image, which may be a link; None when there is none."""
    entry = _entry(engine, container, path)
    if entry is None or not entry.link:
        return entry.file if entry else None
    # A relative link counts from the folder that it really lies in, so each part of the path is looked at.
    links, done, todo = 0, "/", list(reversed(path.split("/")))
    while todo and links <= _LINKS_MAX:
        part = todo.pop()
        if part in {"", "."}:
            continue
        here = posixpath.normpath(posixpath.join(done, part))
        entry = _entry(engine, container, here) if part != ".." else _Entry()
        if entry is None:
            return None
        if entry.link:
            links += 1
            todo += reversed(entry.link.split("/"))
            done = "/" if entry.link.startswith("/") else done
        else:
            done = here
    return entry.file if not todo else None


def _entry(engine: Engine, container: str, path: str) -> _Entry | None:
    """What lies at a path of the container; its last part may be a link. Not more than is needed is read."""
    if "\0" in path:
        return None
    command = [engine.find(), "cp", f"{container}:{path}", "-"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,  # noqa: S603 - the user's engine
        _killed_at_the_end(process),
    ):
        member, head = _first_member(process.stdout)
        said = "" if member or not process.stderr else process.stderr.read().decode("utf-8", "replace")
    if member is None:
        if any(sign in said.lower() for sign in _ABSENT):
            return None
        raise EngineError(f"{engine.program} cp: {said.strip() or 'failed without a word'}")
    if member.issym():
        return _Entry(link=member.linkname)
    if not member.isreg():
        return _Entry()
    executable, whole = bool(member.mode & 0o111), member.size <= _HEAD_MAX
    return _Entry(file=ImageFile(path, head.decode("utf-8", "replace"), executable, whole))


@contextmanager
def _killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends a program after the block, however that ends, and also when it takes too long."""
    timer = Timer(_READ_TIMEOUT_S, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        process.kill()


def _first_member(stream: IO[bytes] | None) -> tuple[tarfile.TarInfo | None, bytes]:
    """The first member of an archive and, of a file, the beginning; None when there is no archive."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            member = archive.next()
            content = archive.extractfile(member) if member and member.isreg() else None
            return member, content.read(_HEAD_MAX) if content else b""
    except tarfile.TarError:
        return None, b""


def _at_registry(engine: Engine, image: str, host: str) -> Manifest:
    name = host.rpartition(":")[0] or host
    loopback = name in {"localhost", "[::1]"} or name.startswith("127.")
    insecure = (
        ("--insecure",) if loopback else ()
    )  # as the engine itself does: plain HTTP on this machine only
    try:
        answer = engine.call("manifest", "inspect", *insecure, image, timeout_s=_REGISTRY_TIMEOUT_S)
    except LauncherError as error:
        login = login_command(image, engine.program)
        return Manifest(
            "",
            reason=f"no answer from the registry: {error.message}",
            fix=f"push the image, or log in first: {login}"
            if login
            else "push the image, or log in to its registry",
        )
    return _parse(answer)


def _parse(answer: str) -> Manifest:
    try:
        document = json.loads(answer)
        entries = document.get("manifests", ())
        platforms = [entry.get("platform") or {} for entry in entries]
        systems = tuple(f"{platform.get('os')}/{platform.get('architecture')}" for platform in platforms)
        kind = document.get("mediaType") or _implied(document)
    except (ValueError, AttributeError, TypeError):
        return Manifest("", reason="the registry's answer is no manifest")
    return Manifest(str(kind), systems)


def _implied(document: dict[str, object]) -> str:
    """The media type of a manifest without one, which only OCI allows.

    https://github.com/opencontainers/image-spec/blob/main/manifest.md
    """
    return DOCKER_LIST if "manifests" in document else OCI_MANIFEST


def _pushed_type(engine: Engine, image: str) -> str:
    """The media type that a push would have; empty on engines without containerd's image store, which do not tell."""
    descriptor = json.loads(engine.call("image", "inspect", image))[0].get("Descriptor") or {}
    return str(descriptor.get("mediaType", ""))
