"""An experiment on one screen: what it was, how it went, how to repeat it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.archive.curves import ASCII, BLOCKS, drawn
from sagemaker_launcher.archive.experiments import PATCH, SAGEMAKER_CONFIG, TRAINING_CONFIG, Experiment
from sagemaker_launcher.archive.manifest import Manifest
from sagemaker_launcher.console import one_line, out
from sagemaker_launcher.defaults import CHANNEL, get_cfg_defaults
from sagemaker_launcher.differences import Difference, config_differences
from sagemaker_launcher.errors import ConfigError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.report import print_rows, result_rows
from sagemaker_launcher.result import JobResult

# What every archived SageMaker config has, and other rows of the screen tell.
_TOLD = {"EXPERIMENT_NAME", "SOURCE.DIR", "ESTIMATOR.IMAGE_URI"}
_Row = tuple[str, str]


@frozen
class Portrait:
    """What `show` shows.

    Attributes:
        experiment: The experiment.
        again: The command that repeats it.
        reruns: The job names of those that have repeated it, newest first.
        courses: The values of each metric, as far as the archive has the log.
    """

    experiment: Experiment
    again: str
    reruns: Sequence[str]
    courses: Mapping[str, Sequence[float]]

    def document(self) -> dict[str, Any]:
        """What `show --json` answers."""
        experiment = self.experiment
        return {
            "experiment": str(experiment.folder),
            "state": experiment.state.value,
            "manifest": asdict(experiment.manifest),
            "sagemaker_config": _text(experiment, SAGEMAKER_CONFIG),
            "training_config": _text(experiment, TRAINING_CONFIG),
            "request": experiment.request,
            "launch": asdict(experiment.launch) if experiment.launch else None,
            "result": experiment.result.to_json() if experiment.result else None,
            "courses": {name: list(values) for name, values in self.courses.items()},
            "reruns": list(self.reruns),
            "rerun_command": self.again,
        }

    def show(self, *, everything: bool) -> None:
        """Prints the screen; with everything, both configs as they are below it."""
        experiment, manifest = self.experiment, self.experiment.manifest
        result = experiment.result
        rows = [
            ("experiment", str(experiment.folder)),
            ("job", manifest.job_name),
            *(_rows_of_result(result) if result else [("status", experiment.state.value)]),
            *self._courses(),
            ("training config", _changed_training(experiment)),
            ("sagemaker config", _changed_sagemaker(experiment)),
            *(("data", text) for text in _data(experiment.request)),
            ("image", _image(manifest)),
            *_provenance(manifest),
            *(("rerun by", name) for name in self.reruns),
            ("run again", self.again),
        ]
        print_rows(rows, result.status if result else "")
        if everything:
            for name in (TRAINING_CONFIG, SAGEMAKER_CONFIG):
                out().line((f"\n{name}", "bold"))
                out().line((_text(experiment, name), ""))

    def _courses(self) -> Iterator[_Row]:
        levels = BLOCKS if (sys.stdout.encoding or "").lower().startswith("utf") else ASCII
        for name, values in self.courses.items():
            line = drawn(values, levels)
            if line:
                yield "curve", f"{name}  {values[0]:.6g} {line} {values[-1]:.6g}"


def _rows_of_result(result: JobResult) -> Iterator[_Row]:
    yield from result_rows(result)
    steps = [
        f"{step.status} {_seconds(step.started_at, step.ended_at)}".strip() for step in result.transitions
    ]
    if steps:
        yield "time line", " > ".join(steps)


def _seconds(start: str, end: str) -> str:
    try:
        return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.0f} s"
    except (ValueError, TypeError):
        return ""  # it has not ended, or the archive has no time here


def _changed_training(experiment: Experiment) -> str:
    changed = experiment.manifest.changed
    if not changed:
        return "as the defaults, or they were not known; --all shows it"
    return "\n".join(f"{name}: {value}" for name, value in changed.items())


def _changed_sagemaker(experiment: Experiment) -> str:
    """What differs from this version's defaults."""
    name = SAGEMAKER_CONFIG
    if name not in experiment.files:
        return "is not there"
    try:
        values = strict_yaml.plain(strict_yaml.parse(experiment.files[name], name))
    except ConfigError:
        return "cannot be read; --all shows it"
    if not isinstance(values, dict):
        return "is none; --all shows it"
    found = config_differences(name, get_cfg_defaults(), values)
    shown = [
        f"{one.name}: {one.after}" for one in found if one.name not in _TOLD and not _usual_of_channel(one)
    ]
    return "\n".join(shown) or "as the defaults"


def _usual_of_channel(one: Difference) -> bool:
    """Whether a channel has here what every channel has, or its place, which is told elsewhere."""
    section, _, key = one.name.rpartition(".")
    return section.startswith("CHANNELS.") and (key == "S3_URI" or str(CHANNEL.get(key)) == one.after)


def _data(request: Mapping[str, Any]) -> Iterator[str]:
    channels = request.get("InputDataConfig")
    for channel in channels if isinstance(channels, list) else ():
        try:
            source = channel["DataSource"]["S3DataSource"]["S3Uri"]
        except (KeyError, TypeError):
            continue  # another kind of source, or no request of this tool
        yield f"{channel.get('ChannelName')}: {source}"


def _image(manifest: Manifest) -> str:
    digest = manifest.image_digest
    return (
        manifest.image_uri
        if not digest or digest in manifest.image_uri
        else f"{manifest.image_uri} ({digest})"
    )


def _provenance(manifest: Manifest) -> Iterator[_Row]:
    author = manifest.author
    yield "launched", f"{manifest.created_at} by {author.user}@{author.host} on {manifest.target}"
    if manifest.account:
        yield "account", f"{manifest.account} ({author.arn}), {manifest.region}"
    yield "command", " ".join(manifest.command)
    if manifest.git:
        git = manifest.git
        archived = (
            PATCH if PATCH in manifest.files else "",
            git.patch_omitted and f"not archived: {git.patch_omitted}",
        )
        changes = f", with uncommitted changes ({'; '.join(filter(None, archived))})" if git.dirty else ""
        yield "git", f"{git.commit} {git.branch} {git.remote}{changes}"
    if manifest.source:
        yield "source", f"{manifest.source.path} (sha256 {manifest.source.sha256})"
    yield "versions", ", ".join(f"{name} {number}" for name, number in manifest.versions.items())
    for place in manifest.allowed_secrets:
        yield "note", f"declared harmless: {place}"
    if manifest.rerun_of:
        yield "rerun of", manifest.rerun_of


def _text(experiment: Experiment, name: str) -> str:
    """A file of an experiment, which need not be what this tool writes: its seal says only that it is unchanged."""
    return experiment.files.get(name, b"").decode("utf-8", "replace")


def differences_document(folders: Sequence[str], found: Sequence[Difference]) -> dict[str, Any]:
    """What `diff --json` answers."""
    return {"experiments": list(folders), "differences": [asdict(one) for one in found]}


def print_differences(found: Sequence[Difference]) -> None:
    """What differs between two experiments, one line each, on stdout."""
    answer, area = out(), ""
    for one in found:
        if one.area != area:
            area = one.area
            answer.line((area, "bold"))
        name, before, after = map(one_line, (one.name, one.before, one.after))
        answer.line((f"  {name}: ", ""), (before, "red"), (" -> ", ""), (after, "green"))
    if not found:
        answer.line(("they do not differ", ""))
