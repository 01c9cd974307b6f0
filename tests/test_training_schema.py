"""The training code's own `config.py`: its rules are asked on the laptop, and its mistakes are told as such."""

from __future__ import annotations

import pytest

from tests.commands import CommandLine
from tests.project import SCHEMA, Project

RULES = """

def problems(cfg):
    if cfg.SOLVER.EPOCHS < 1:
        yield f"SOLVER.EPOCHS: expected at least 1, got {cfg.SOLVER.EPOCHS}"
    if cfg.SOLVER.NESTEROV and cfg.SOLVER.BASE_LR > 1:
        yield "NESTEROV needs a smaller learning rate"
"""


def write_schema(project: Project, text: str) -> None:
    (project.folder / "code" / "config.py").write_text(text)


def test_the_codes_own_rules_are_asked_before_anything_is_launched(
    cli: CommandLine, project: Project
) -> None:
    write_schema(project, SCHEMA + RULES)
    project.write_training("SOLVER:\n  EPOCHS: 0\n  BASE_LR: 2\n  NESTEROV: true\n")
    done = cli("check", "--offline", project.config)
    assert done.code == 3
    assert f"{project.training}:2:11: SOLVER.EPOCHS: expected at least 1, got 0" in done.err
    assert f"{project.training}: NESTEROV needs a smaller learning rate" in done.err


def test_values_that_keep_the_rules_pass(cli: CommandLine, project: Project) -> None:
    write_schema(project, SCHEMA + RULES)
    assert cli("check", "--offline", project.config).code == 0


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("\n\ndef problems(cfg):\n    return [cfg.NO_SUCH_KEY]\n", "NO_SUCH_KEY"),
        ("\n\ndef problems(cfg):\n    raise SystemExit\n", "SystemExit"),
        ("\n\ndef problems(cfg):\n    print('noise')\n    return 1\n", "TypeError"),
    ],
)
def test_rules_that_fail_are_a_problem_of_their_file_and_no_bug_of_ours(
    cli: CommandLine, project: Project, rules: str, told: str
) -> None:
    write_schema(project, SCHEMA + rules)
    done = cli("check", "--offline", project.config, "--json")
    assert done.code == 3
    assert "config.py" in done.json["error"]["message"]
    assert told in done.json["error"]["message"]
    assert not done.has_traceback


@pytest.mark.parametrize(
    ("samples", "verdict", "told"),
    [
        ("", "unknown", "the training code gives no lines to try them on"),
        ("LOG_SAMPLES = ['none', 'epoch=1 loss=0.5']\n", "ok", "loss: 0.5 in 'epoch=1 loss=0.5'"),
        ("LOG_SAMPLES = ['lost=1']\n", "warning", "matches no line of LOG_SAMPLES"),
        ("LOG_SAMPLES = ['loss=-']\n", "warning", "'-' in 'loss=-' is no number"),
    ],
)
def test_the_patterns_of_metrics_are_tried_on_the_lines_that_the_code_says_it_prints(
    cli: CommandLine, project: Project, samples: str, verdict: str, told: str
) -> None:
    write_schema(project, SCHEMA + samples)
    done = cli("check", "--offline", project.config, "--json")
    assert done.code == 0
    [found] = [one for one in done.json["checks"] if one["name"] == "metrics"]
    assert found["verdict"] == verdict
    assert told in found["message"]
    assert ("LOG_SAMPLES" in found["fix"]) == (verdict != "ok")


def test_sample_lines_that_are_no_list_are_a_problem_of_their_file(
    cli: CommandLine, project: Project
) -> None:
    write_schema(project, SCHEMA + "LOG_SAMPLES = 'loss=0.5'\n")
    done = cli("check", "--offline", project.config)
    assert done.code == 3
    assert "config.py: cannot be loaded: TypeError: LOG_SAMPLES has to be a list of texts" in done.err
