"""The training code's own `config.py`: its rules are asked on the laptop, and its mistakes are told as such."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher import strict_yaml
from sagemaker_launcher.coercion import merge
from sagemaker_launcher.errors import Problem
from sagemaker_launcher.interrupts import Interrupted
from sagemaker_launcher.training_schema import load_training_schema
from tests.commands import ROOT, CommandLine, clean_environment
from tests.project import SCHEMA, Project
from tests.unprivileged import Unprivileged

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


# --- code that does what no config should do ---


@pytest.mark.parametrize("unreadable", ["code", "code/config.py"])
def test_a_schema_that_may_not_be_read_is_a_problem_of_its_file(
    cli: CommandLine, project: Project, unreadable: str
) -> None:
    path = project.folder / unreadable
    path.chmod(0)
    done = Unprivileged.of(cli)("check", "--offline", project.config, "--json")
    path.chmod(0o755)
    assert (done.code, done.has_traceback) == (3, False), done.err
    file = project.folder / "code" / "config.py"
    assert (
        f"{file}: cannot be loaded: PermissionError: [Errno 13] Permission denied"
        in (done.json["error"]["message"])
    )


NOISE = """
import os, subprocess, sys
print("printed")
sys.__stdout__.write("written\\n")
os.write(1, b"raw\\n")
subprocess.run(["echo", "from a program"])
"""


@pytest.mark.parametrize("after", ["", "raise RuntimeError('on purpose')\n"])
def test_what_the_code_and_its_programs_print_does_not_spoil_the_answer(
    cli: CommandLine, project: Project, after: str
) -> None:
    rules = "\ndef problems(cfg):\n    os.system('echo from a rule')\n    return []\n"
    write_schema(project, NOISE + after + SCHEMA + rules)
    done = cli("check", "--offline", project.config, "--json")
    assert done.code == (3 if after else 0)
    assert ("error" in done.json) == bool(after)
    for line in ("printed", "written", "raw", "from a program", *(() if after else ("from a rule",))):
        assert line in done.err.splitlines()


def test_what_was_printed_before_stays_before_and_on_stdout(project: Project, home: Path) -> None:
    write_schema(project, NOISE + SCHEMA)
    text = (
        "from pathlib import Path; from sagemaker_launcher.training_schema import load_training_schema\n"
        f"print('before'); load_training_schema(Path({str(project.folder / 'code')!r}), []); print('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "before\nafter\n"


@pytest.mark.parametrize("cause", ["while True: pass", "import time; time.sleep(1000)"])
def test_code_that_does_not_come_to_an_end_is_a_problem_of_its_line(project: Project, cause: str) -> None:
    write_schema(project, f"VERSION = 1\n{cause}\n" + SCHEMA)
    began, problems = time.monotonic(), list[Problem]()
    assert load_training_schema(project.folder / "code", problems, patience_s=0.2) is None
    assert time.monotonic() - began < 20
    [problem] = problems
    assert problem.where == f"{project.folder / 'code' / 'config.py'}:2"
    assert problem.message == "cannot be loaded: it was not done after 0.2 s"


def test_rules_that_do_not_come_to_an_end_are_a_problem_of_their_line(project: Project) -> None:
    write_schema(project, SCHEMA + "\ndef problems(cfg):\n    while True:\n        pass\n")
    own = load_training_schema(project.folder / "code", [], patience_s=0.2)
    assert own
    document, before = strict_yaml.read(project.training), signal.getitimer(signal.ITIMER_REAL)
    [problem] = own.problems(merge(own.schema, document, str(project.training)))
    assert problem.message == "cannot be loaded: it was not done after 0.2 s"
    # The timer is somebody else's again, such as pytest's own.
    assert signal.getitimer(signal.ITIMER_REAL) == pytest.approx(before, abs=20)
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (before[0] > 0)


def test_the_command_line_waits_a_minute_and_no_longer(cli: CommandLine, project: Project) -> None:
    asks = "import signal, sys\nprint('left', signal.getitimer(signal.ITIMER_REAL)[0], file=sys.stderr)\n"
    write_schema(project, asks + SCHEMA)
    done = cli("check", "--offline", project.config)
    assert done.code == 0
    [left] = re.findall(r"^left (.*)$", done.err, re.MULTILINE)
    assert 50 < float(left) <= 60


def test_outside_of_the_main_thread_code_is_loaded_without_a_limit(project: Project) -> None:
    loaded: list[Any] = []
    thread = threading.Thread(target=lambda: loaded.append(load_training_schema(project.folder / "code", [])))
    thread.start()
    thread.join()
    assert loaded[0].schema.dotted_keys


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "GeneratorExit", "BaseException('x')"])
def test_whatever_the_code_raises_is_a_problem_of_its_line(
    cli: CommandLine, project: Project, raised: str
) -> None:
    write_schema(project, f"VERSION = 1\nraise {raised}\n")
    done = cli("check", "--offline", project.config)
    assert (done.code, done.has_traceback) == (3, False)
    assert f"config.py:2: cannot be loaded: {raised.partition('(')[0]}" in done.err


def test_a_signal_ends_the_command_and_not_only_the_code(cli: CommandLine, project: Project) -> None:
    write_schema(
        project, "import sys, time\nprint('sleeping', file=sys.stderr, flush=True)\ntime.sleep(50)\n"
    )
    with cli.start("check", "--offline", project.config) as process:
        assert process.stderr
        assert process.stderr.readline() == "sleeping\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert "Traceback" not in process.stderr.read()


def test_a_signal_in_this_process_stays_one(project: Project) -> None:
    write_schema(project, "import os, signal, time\nos.kill(os.getpid(), signal.SIGUSR1)\ntime.sleep(50)\n")

    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGUSR1, interrupt)
    out = os.fstat(1)
    try:
        with pytest.raises(Interrupted):
            load_training_schema(project.folder / "code", [])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (os.fstat(1).st_dev, os.fstat(1).st_ino) == (out.st_dev, out.st_ino)


# --- defaults that the example's own `load` cannot take ---


def example_with(project: Project, default: str) -> Path:
    """The example's `config.py` as the project's, with one more key."""
    text = (ROOT / "sagemaker_container" / "config.py").read_text()
    path = project.folder / "code" / "config.py"
    path.write_text(
        text.replace("_C.SEED = 0\n", f"_C.SEED = 0\n_C.EXTRA = Config()\n_C.EXTRA.X = {default}\n")
    )
    return path


@pytest.mark.parametrize(
    ("default", "given", "told"),
    [
        ("(1, 2)", "", "got (1, 2)"),
        ("()", "", "got ()"),
        ("(1, 2)", "[3]", "got (1, 2)"),
        ("None", "", ""),
        ("None", "null", ""),
        ("None", "5", "got None"),
        ("[1, 2]", "[3]", ""),
        ("'text'", "other", ""),
    ],
)
def test_a_default_that_the_codes_loader_fails_with_is_told_before_a_job_does(
    cli: CommandLine, project: Project, default: str, given: str, told: str
) -> None:
    path = example_with(project, default)
    project.write(CHANNELS=dict.fromkeys(("training", "validation"), "s3://team/data/train/"))
    project.write_training(f"EXTRA:\n  X: {given}\n" if given else "SEED: 0\n")
    done = cli("check", "--offline", project.config)
    assert (done.code, done.has_traceback) == (3 if told else 0, False), done.err
    if told:
        assert f"{path}: EXTRA.X: load() of this file fails with a default of this type" in done.err
        assert told in done.err
    else:
        # What is archived is what the job reads: complete, with lists in the place of tuples.
        problems: list[Problem] = []
        own = load_training_schema(path.parent, problems)
        assert own
        merged = merge(own.schema, strict_yaml.read(project.training), "x")
        (project.folder / "archived.yaml").write_bytes(strict_yaml.dump(merged.values))
        own.module.load(project.folder / "archived.yaml", {})


def test_the_examples_loader_does_fail_with_a_tuple(project: Project) -> None:
    spec = importlib.util.spec_from_file_location("example_config", example_with(project, "(1, 2)"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    project.write_training("EXTRA: {X: [1, 2]}\n")
    with pytest.raises(KeyError):
        module.load(project.training, {})


def test_code_with_another_loader_may_have_any_defaults(cli: CommandLine, project: Project) -> None:
    write_schema(project, SCHEMA.replace("[10, 20]", "(10, 20)").replace("SEED = 0", "SEED = None"))
    project.write_training("SEED: 3\n")
    assert cli("check", "--offline", project.config).code == 0
