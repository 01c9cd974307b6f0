"""The command that checks a job before it is started: check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sagemaker_launcher.cli.options import json_option, skip_check_option
from sagemaker_launcher.cli.overrides import override_options, overrides_of
from sagemaker_launcher.findings import Finding

if TYPE_CHECKING:
    from sagemaker_launcher.launch import Plan
    from sagemaker_launcher.preflight.report import Report


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@override_options
@click.option("--offline", is_flag=True, help="Ask AWS nothing: check what this machine knows.")
@skip_check_option
@json_option
def check(
    config: Path,
    settings: tuple[tuple[str, str], ...],
    train: tuple[tuple[str, str], ...],
    force_instance_type: bool,
    offline: bool,
    skip_check: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check a SageMaker CONFIG, its training config and the job that they describe; change nothing.

    The exit code is that of the failure that has to be mended first.
    """
    from sagemaker_launcher import launch  # noqa: PLC0415 - see the package's docstring

    plan = launch.plan(
        config,
        overrides_of(settings, train),
        target="aws",
        command=(),
        allow_unknown_instance_type=force_instance_type,
    )
    report = _offline(plan, skip_check) if offline else _ask(plan, skip_check)
    _print(plan, config, report, as_json=as_json)
    return report.exit_code


def _offline(plan: Plan, skip: tuple[str, ...]) -> Report:
    from sagemaker_launcher.preflight import metrics  # noqa: PLC0415
    from sagemaker_launcher.preflight.report import Report  # noqa: PLC0415

    return Report(() if "metrics" in skip else tuple(metrics.metric_findings(plan.subject)))


def _ask(plan: Plan, skip: tuple[str, ...]) -> Report:
    from sagemaker_launcher.aws import Aws  # noqa: PLC0415 - boto3 only where AWS is meant
    from sagemaker_launcher.preflight.run import run_checks  # noqa: PLC0415

    settings = plan.configs.sagemaker["AWS"]
    return run_checks(plan.subject, Aws(settings["REGION"], settings["PROFILE"], settings["ACCOUNT"]), skip)


def _print(plan: Plan, config: Path, found: Report, *, as_json: bool) -> None:
    from sagemaker_launcher import report  # noqa: PLC0415

    valid = Finding("configs", "ok", f"{config}: both configs and the job are valid")
    warnings = [Finding("configs", "warning", warning) for warning in plan.configs.warnings]
    groups = {"configs": (valid, *warnings), "job": found.findings}
    if as_json:
        passed = not found.of("failed")
        document = report.findings_document(str(config), groups)
        report.print_json({"valid": passed, "exit": int(found.exit_code), **document})
    else:
        report.print_findings(f"{plan.job.experiment_name}, as {config} describes it", groups)


COMMANDS = {"check": check}
