"""What of a launch takes time and needs no config: it begins before the rest of the program is even imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sagemaker_launcher.checkout import CheckoutReader, current_folder
from sagemaker_launcher.cli.rehearsal_options import EndOptions, RehearsalOptions
from sagemaker_launcher.errors import UsageError
from sagemaker_launcher.frozen import frozen

_Options = TypeVar("_Options")


@frozen
class RunOptions:
    """How a launch is carried out; the options that `launch` and `rerun` share."""

    s3_root: Path | None
    programs: RehearsalOptions
    ends: EndOptions
    dry_run: bool
    offline: bool
    detach: bool
    yes: bool
    skip_check: tuple[str, ...]
    allow_drift: bool
    as_json: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> RunOptions:
        """Made of click's values."""
        return cls(
            s3_root=values["s3_root"],
            programs=_part(RehearsalOptions, values),
            ends=_part(EndOptions, values),
            dry_run=values["dry_run"],
            offline=values["offline"],
            detach=values["detach"],
            yes=values["yes"],
            skip_check=values["skip_check"],
            allow_drift=values.get("allow_drift", False),
            as_json=values["as_json"],
        )


def _part(kind: type[_Options], values: Mapping[str, Any]) -> _Options:
    return kind(**{field.name: values[field.name] for field in fields(kind)})  # type: ignore[arg-type]


class Beginning:
    """A launch about which nothing is known but the command line.

    Args:
        options: How to carry it out.
        target: Where the job is going to run.
        folder: Where the git repository is looked for.

    Raises:
        UsageError: The options contradict each other.
    """

    def __init__(self, options: RunOptions, target: str, folder: Path) -> None:
        _refuse_contradictions(options, target)
        self.options = options
        self._folder = folder
        if not options.dry_run:
            if target == "aws":
                from sagemaker_launcher import estimator  # noqa: PLC0415 - a rehearsal has no use for it

                estimator.begin_import()
            elif target == "docker":
                options.programs.begin()
            _ = self.checkout

    @cached_property
    def checkout(self) -> CheckoutReader:
        """The reader of the git repository, at work as soon as somebody wants it."""
        return CheckoutReader(self._folder)

    def checkout_root(self) -> Path:
        """The root of the git repository that the user stands in; without one, the current folder."""
        checkout = self.checkout.read()
        return checkout.root if checkout else current_folder()


def _refuse_contradictions(options: RunOptions, target: str) -> None:
    if options.offline and not options.dry_run:
        raise UsageError("--offline: only a dry run can do without AWS", hint="add --dry-run")
    if options.skip_check and target != "aws":
        raise UsageError(f"--skip-check: a job on {target} is not checked by AWS")
    if options.detach and target != "aws":
        raise UsageError(f"--detach: a job on {target} ends with this command")
    if options.s3_root and target == "aws" and not options.dry_run:
        raise UsageError(
            "--s3-root stands in for S3, and a job on AWS needs S3 itself",
            hint="add --on docker or --on process",
        )
