"""Dataclasses from JSON values of strangers."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher.archive.manifest import (
    Author,
    FileSeal,
    GitState,
    Intent,
    Launch,
    Manifest,
    SourceState,
)
from sagemaker_launcher.documents import read_document
from sagemaker_launcher.result import JobResult, Transition

MANIFEST = Manifest(
    job_name="job",
    experiment_name="team/tiny",
    target="process",
    created_at="2026-01-02T03:04:05.000+00:00",
    author=Author("me", "laptop", 42),
    command=("python", "run_sagemaker_job.py"),
    versions={"python": "3.11"},
    account="",
    region="us-east-1",
    image_uri="image:1",
    image_digest="",
    files={"a": FileSeal("0" * 64, 5)},
    git=GitState("c" * 40, dirty=True),
    source=SourceState("code", "0" * 64),
    allowed_secrets=("a:1",),
)
RESULT = JobResult(
    "Completed",
    training_seconds=3,
    artifacts={"model": "s3://b/m"},
    metrics={"loss": 0.5},
    transitions=(Transition("Starting", "then"),),
)
DOCUMENTS = [
    MANIFEST,
    RESULT,
    Intent("job", "team/tiny", "aws", "then", Author("me", "laptop", 1), "0" * 64),
    Launch("arn", "then", "0" * 64),
]
JSON_VALUES: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, 1.5, -(10**400), "text", [], {}, [1], ["text"], {"a": 1}, [[]], {"a": {}}]
)


def as_json(document: object) -> Any:
    return json.loads(json.dumps(asdict(document)))  # type: ignore[call-overload]


def places(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """The path of every value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def replaced(document: object, path: tuple[object, ...], value: object) -> Any:
    changed: Any = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)
def test_what_was_written_is_read_again(document: object) -> None:
    assert read_document(type(document), as_json(document)) == document


def test_a_whole_number_is_a_number() -> None:
    metrics = read_document(JobResult, {"status": "Completed", "metrics": {"loss": 1}}).metrics
    assert metrics == {"loss": 1.0}
    assert type(metrics["loss"]) is float


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("author", "pid"), "42", "author.pid has a value of type str"),
        (("author", "pid"), True, "author.pid has a value of type bool"),
        (("author",), None, "author is no mapping"),
        (("command", 1), 5, r"command\[1\] has a value of type int"),
        (("command",), "python", "command has a value of type str"),
        (("files", "a", "size"), 1.5, r"files\.a\.size has a value of type float"),
        (("git", "dirty"), 1, r"git\.dirty has a value of type int"),
        (("versions", "python"), None, r"versions\.python has a value of type NoneType"),
        (("strange",), 1, "strange is unknown"),
    ],
)
def test_a_value_of_another_type_is_named(path: tuple[object, ...], value: object, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        read_document(Manifest, replaced(as_json(MANIFEST), path, value))


def test_what_is_missing_is_named_and_what_may_be_missing_is_not() -> None:
    values = as_json(MANIFEST)
    del values["git"], values["schema"]
    assert read_document(Manifest, values).git is None
    del values["author"]["host"]
    with pytest.raises(TypeError, match=r"^author\.host is missing$"):
        read_document(Manifest, values)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_changed_document_is_read_with_the_right_types_or_not_at_all(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from(DOCUMENTS))
    values = as_json(document)
    path = data.draw(st.sampled_from(list(places(values))))
    changed = replaced(values, path, data.draw(JSON_VALUES))
    try:
        read = read_document(type(document), changed)
    except TypeError:
        return
    assert read_document(type(document), as_json(read)) == read
    for name, kind in (("job_name", str), ("created_at", str), ("status", str)):
        assert isinstance(getattr(read, name, ""), kind)
    for value in getattr(read, "metrics", {}).values():
        assert isinstance(value, float)
