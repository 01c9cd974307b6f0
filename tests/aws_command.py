"""A small `aws`: makes calls of its command line as the AWS CLI does, by AWS's own model, and refuses what that does not have.

Run as a program. Endpoints and credentials come from the usual variables.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore import xform_name

# What the AWS CLI has besides AWS's model: commands with their options; and options that every command has.
_CUSTOM = {
    ("configure", "get"): set(),
    ("ecr", "get-login-password"): set(),
    ("logs", "tail"): {"--log-stream-name-prefix", "--follow"},
    ("s3", "mb"): set(),
    ("s3", "sync"): set(),
}
_GLOBAL = {"--region", "--query", "--output"}


def install(folder: Path) -> None:
    """Puts the program `aws` into a folder."""
    program = folder / "aws"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__).resolve()}' \"$@\"\n")
    program.chmod(0o755)


def main(service: str, command: str, *words: str) -> None:
    values = list(_values(words))
    given = dict(_options(words))
    if (service, command) in _CUSTOM:
        unknown = given.keys() - _CUSTOM[service, command] - _GLOBAL
        if unknown:
            sys.exit(f"aws: Unknown options: {unknown}")
        _custom(f"{service} {command}", values, given)
    else:
        _answer(_shown(_call(service, command, given), given))


def _values(words: tuple[str, ...]) -> Iterator[str]:
    """The words that belong to no option."""
    for before, word in zip(("", *words), words, strict=False):
        if not word.startswith("--") and not (before.startswith("--") and before != "--follow"):
            yield word


def _options(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for word, after in zip(words, (*words[1:], ""), strict=False):
        if word.startswith("--"):
            yield word, after


def _custom(command: str, values: list[str], given: dict[str, str]) -> None:
    s3 = _client("s3", {})
    if command == "s3 mb":
        s3.create_bucket(Bucket=values[0].removeprefix("s3://"))
    elif command == "s3 sync":
        folder, (bucket, _, prefix) = Path(values[0]), values[1].removeprefix("s3://").partition("/")
        for path in folder.rglob("*.*"):
            s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")
    elif command == "configure get":
        _answer(os.environ["AWS_REGION"])
    elif command == "ecr get-login-password":
        [data] = _client("ecr", given).get_authorization_token()["authorizationData"]
        _answer(base64.b64decode(data["authorizationToken"]).decode().partition(":")[2])
    else:
        _answer("a log")


def _call(service: str, command: str, given: dict[str, str]) -> dict[str, Any]:
    client = _client({"s3api": "s3"}.get(service, service), given)
    operation = client.meta.method_to_api_mapping[command.replace("-", "_")]
    members = client.meta.service_model.operation_model(operation).input_shape.members
    by_option = {f"--{xform_name(name, '-')}": name for name in members}
    parameters: dict[str, Any] = {}
    for option in given.keys() - _GLOBAL:
        name = by_option[option]
        text = given[option]
        if text.startswith("file://"):
            text = Path(text.removeprefix("file://")).read_text("utf-8")
            json.loads(text)
        parameters[name] = _shorthand(text) if members[name].type_name == "structure" else text
    answer: dict[str, Any] = getattr(client, command.replace("-", "_"))(**parameters)
    answer.pop("ResponseMetadata", None)
    return answer


def _shorthand(text: str) -> dict[str, object]:
    """Reads `Name=value,Name=value`, or JSON."""
    if text.startswith("{"):
        document: dict[str, object] = json.loads(text)
        return document
    words: dict[str, object] = {"true": True, "false": False}
    return {name: words.get(value, value) for name, value in (part.split("=") for part in text.split(","))}


def _client(service: str, given: dict[str, str]) -> Any:
    return boto3.client(service, region_name=given.get("--region", os.environ["AWS_REGION"]))


def _answer(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _shown(answer: dict[str, Any], given: dict[str, str]) -> str:
    found = answer[given["--query"]] if "--query" in given else answer
    return str(found) if given.get("--output") == "text" else json.dumps(found, default=str)


if __name__ == "__main__":
    main(*sys.argv[1:])
