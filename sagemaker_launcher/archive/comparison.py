"""What differs between two archived experiments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.archive.experiments import PATCH, SAGEMAKER_CONFIG, TRAINING_CONFIG, Experiment
from sagemaker_launcher.differences import Difference, config_differences
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import ConfigError
from sagemaker_launcher.job import CONFIG_SHA256_VARIABLE

_AREAS = {TRAINING_CONFIG: "training config", SAGEMAKER_CONFIG: "sagemaker config"}
_NAMED = (
    "ChannelName",
    "Name",
    "InstanceGroupName",
    "Key",
)  # what tells the members of a request's lists apart
_JOB = "<job>"


def experiment_differences(
    before: Experiment, after: Experiment, *, everything: bool = False
) -> tuple[Difference, ...]:
    """What differs in both configs, the request, the code, the image, the course and the metrics.

    Args:
        before: An experiment.
        after: Another one.
        everything: Also what always differs or hardly matters: names, times, authors, commands, versions.
    """
    found = [
        *_configs(before, after),
        *config_differences("request", _request(before), _request(after)),
        *_pairs("code", _code(before), _code(after)),
        *_pairs("image", _image(before), _image(after)),
        *_pairs("result", _result(before), _result(after)),
        *config_differences("metrics", _metrics(before), _metrics(after)),
    ]
    if everything:
        found += _pairs("launch", _launch(before), _launch(after))
    return tuple(found)


def _configs(before: Experiment, after: Experiment) -> Iterator[Difference]:
    for name, area in _AREAS.items():
        old, new = before.files.get(name, b""), after.files.get(name, b"")
        if old == new:
            continue
        try:
            yield from config_differences(area, _tree(old, name), _tree(new, name))
        except ConfigError:
            # No YAML of ours; that the bytes differ is all that can be said.
            yield Difference(area, "sha256", sha256(old), sha256(new))


def _tree(data: bytes, name: str) -> Mapping[str, Any]:
    values = strict_yaml.plain(strict_yaml.parse(data, name))
    return values if isinstance(values, dict) else {"": values}


def _request(experiment: Experiment) -> dict[str, Any]:
    """The request as a tree whose lists are mappings, without what differs since the names do."""
    job = experiment.manifest.job_name
    tree = _named(experiment.request, job)
    environment = tree.get("Environment")
    if isinstance(environment, dict):
        environment.pop(CONFIG_SHA256_VARIABLE, None)  # the training config says it
    return tree if isinstance(tree, dict) else {}


def _named(value: Any, job: str) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _named(item, job) for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return {_name(item, number): _named(item, job) for number, item in enumerate(value)}
    return value.replace(job, _JOB) if isinstance(value, str) else value


def _name(item: Mapping[str, Any], number: int) -> str:
    return next((str(item[key]) for key in _NAMED if key in item), str(number))


def _code(experiment: Experiment) -> dict[str, str]:
    git, source = experiment.manifest.git, experiment.manifest.source
    patch = experiment.files.get(PATCH)
    return {
        "commit": git.commit if git else "",
        "branch": git.branch if git else "",
        "uncommitted changes": sha256(patch) if patch else ("not archived" if git and git.dirty else ""),
        "source": source.sha256 if source else "",
    }


def _image(experiment: Experiment) -> dict[str, str]:
    return {"uri": experiment.manifest.image_uri, "digest": experiment.manifest.image_digest}


def _result(experiment: Experiment) -> dict[str, str]:
    result = experiment.result
    if result is None:
        return {"status": experiment.state.value}
    seconds = result.training_seconds
    return {
        "status": result.status,
        "reason": result.failure_reason,
        "training": "" if seconds is None else f"{seconds} s",
    }


def _metrics(experiment: Experiment) -> Mapping[str, float]:
    return experiment.result.metrics if experiment.result else {}


def _launch(experiment: Experiment) -> dict[str, str]:
    manifest = experiment.manifest
    return {
        "job": manifest.job_name,
        "target": manifest.target,
        "created": manifest.created_at,
        "user": f"{manifest.author.user}@{manifest.author.host}",
        "account": manifest.account,
        "region": manifest.region,
        "command": " ".join(manifest.command),
        **{f"version of {name}": number for name, number in manifest.versions.items()},
    }


def _pairs(area: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            yield Difference(area, name, old or "nothing", new or "nothing")
