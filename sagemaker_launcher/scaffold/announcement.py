"""What `init` tells: the files it wrote, the policies to ask for, and commands to copy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sagemaker_launcher.console import out
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.scaffold.policies import Policy
from sagemaker_launcher.scaffold.project import Project


@frozen
class Commands:
    """Lines for a shell, in the order in which they work.

    Attributes:
        bucket: They make the bucket.
        image: They build and push the image; empty when it is somebody else's.
        here: They try the project out on this machine.
    """

    bucket: tuple[str, ...]
    image: tuple[str, ...]
    here: tuple[str, ...]


def project_document(project: Project, commands: Commands) -> dict[str, Any]:
    """What `init --json` answers."""
    return {
        "folder": str(project.folder),
        "files": list(project.files),
        "policies": policies_document(project.policies),
        "bucket": list(commands.bucket),
        "image": list(commands.image),
        "next": list(commands.here),
    }


def policies_document(policies: Iterable[Policy]) -> dict[str, Mapping[str, Any]]:
    """Policies by name, with what each is for."""
    return {
        policy.name: {
            "purpose": policy.purpose,
            "statements": {statement.name: statement.purpose for statement in policy.statements},
            "document": policy.document,
        }
        for policy in policies
    }


def print_project(project: Project, commands: Commands) -> None:
    """The same for people."""
    print_files(project.folder / name for name in project.files)
    print_policies(project.policies, [project.folder / name for name in project.files])
    _section("A bucket that is private, versioned and encrypted; read, then run:", commands.bucket)
    _section("The image:", commands.image)
    _section("Try it on this machine, without AWS:", commands.here)


def print_files(files: Iterable[Path]) -> None:
    """The files that were written."""
    for file in files:
        out().line(("wrote  ", "green"), (str(file), ""))


def print_policies(policies: Iterable[Policy], files: Iterable[Path] = ()) -> None:
    """Each policy with what its statements are for, and its file; its text when it is in none."""
    places = {file.name: file for file in files}
    for policy in policies:
        place = places.get(f"{policy.name}.json")
        width = max((len(statement.name) for statement in policy.statements), default=0) + 2
        lines = [f"{statement.name:<{width}}{statement.purpose}" for statement in policy.statements]
        text = () if place else _document_lines(policy)
        _section(f"IAM policy {place or policy.name}, for {policy.purpose}:", (*lines, *text))


def _document_lines(policy: Policy) -> Iterator[str]:
    """A policy as JSON, with a line for each statement."""
    *others, last = map(json.dumps, policy.document["Statement"])
    yield f'{{"Version": {json.dumps(policy.document["Version"])}, "Statement": ['
    yield from (f"  {statement}," for statement in others)
    yield f"  {last}"
    yield "]}"


def _section(heading: str, lines: Iterable[str]) -> None:
    told, answer = list(lines), out()
    if told:
        answer.line(("", ""))
        answer.line((heading, "bold"))
    for line in told:
        answer.line((line, ""))
