"""`launch --on process`: the request carried out in a process of this machine, as the service would carry it out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.rehearsal import toolkit
from tests.commands import CommandLine, clean_environment
from tests.fault_rows import provokes
from tests.fidelity import reproduces
from tests.project import Project
from tests.stand_in import ARCHIVE, is_running, launch, local, nothing_written, rehearsal, rehearse, snapshot
from tests.terminals import on_terminal

PRELUDE = """\
import json, os, pathlib, signal, subprocess, sys, time
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
model, data = base / "model", base / "output" / "data"
"""
TELL = (
    "print(json.dumps({'environment': dict(os.environ), 'arguments': sys.argv[1:], 'folder': os.getcwd()}))"
)
CANARY = "canary-that-must-not-sing"


def program(project: Project, text: str) -> None:
    project.program(PRELUDE + text)


def told(project: Project, *settings: tuple[str, str]) -> dict[str, Any]:
    """What a program sees of its surroundings."""
    program(project, TELL)
    seen: dict[str, Any] = json.loads(rehearse(project, *settings).events.lines[0])
    return seen


# --- what a user sees ---


def test_a_launch_ends_with_the_result_and_the_command_that_repeats_it(
    cli: CommandLine, project: Project
) -> None:
    done = cli(*rehearsal(project))
    assert done.code == 0, done.err
    rows = dict(line.split(None, 1) for line in done.out.splitlines() if not line.startswith("run again"))
    assert rows["status"] == "Completed"
    assert rows["metrics"] == "loss 5e-06"
    assert Path(rows["model"]).is_file()
    experiment = rows["experiment"]
    assert experiment.startswith("s3://team/experiments/team/tiny/team-tiny-")
    assert done.out.splitlines()[-1].endswith(f"rerun {experiment} --s3-root {project.s3}")
    assert done.err.splitlines() == [
        "note: not reproduced here: the image",
        "instances  1 x ml.m5.large",
        "limits     at most 86,400 s of running",
        f"archive    {experiment}",
        f"outputs    s3://team/outputs/{rows['job']}/output/",
        f"Started  {rows['job']}, archived at {experiment}",
        "Starting  Preparing the hosts",
        "Downloading  Downloading input data",
        "Training  Training in progress",
        "algo-1 | first line",
        "algo-1 | epoch=1 loss=1.000e-05",
        "algo-1 | epoch=2 loss=5.000e-06",
        "Uploading  Uploading generated training model",
        "Completed",
    ]


@provokes(99)
def test_json_is_one_document_on_stdout(cli: CommandLine, project: Project) -> None:
    done = launch(cli, project)
    assert done.code == 0, done.err
    answer = done.json
    name = answer["job_name"]
    assert {key: answer[key] for key in ("schema", "target", "experiment")} == {
        "schema": 1,
        "target": "process",
        "experiment": f"s3://team/experiments/team/tiny/{name}/",
    }
    assert answer["request"]["TrainingJobName"] == name
    result = answer["result"]
    assert result["status"] == result["secondary_status"] == "Completed"
    assert result["artifacts"] == {
        "model": f"s3://team/outputs/{name}/output/model.tar.gz",
        "output": f"s3://team/outputs/{name}/output/output.tar.gz",
    }
    assert result["metrics"] == {"loss": 5e-06}
    assert (result["failure_reason"], result["exit_code"], result["interruptions"]) == ("", 0, [])
    assert isinstance(result["training_seconds"], int)
    assert result["billable_seconds"] == result["training_seconds"]
    assert all(local(project, uri).is_file() for uri in result["artifacts"].values())


def test_lines_of_the_log_appear_while_the_program_runs(
    cli: CommandLine, project: Project, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    wait = f"while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    program(project, f"print('early', flush=True)\n{wait}\nprint('late')")
    with cli.start(*rehearsal(project)) as process:
        assert process.stderr
        assert "algo-1 | early\n" in iter(process.stderr.readline, "")
        # The line is here, and the program waits for us before it can end.
        assert process.poll() is None
        go.touch()
        assert "algo-1 | late\n" in process.stderr.readlines()
        assert process.wait(60) == 0


@provokes(93)
def test_nothing_that_the_program_prints_steers_the_terminal(cli: CommandLine, project: Project) -> None:
    hostile = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe \r [bold red]x[/] [/x] \x7f"
    program(project, f"sys.stdout.buffer.write({hostile!r}.encode() + b' \\xff end\\n')\n{{}}[{hostile!r}]")
    for words in ([], ["--json"]):
        done = subprocess.run(
            cli.command(*rehearsal(project, *words)),
            cwd=cli.folder,
            env={**cli.environment, "TERM": "xterm-256color"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 10
        for text in (done.stdout.decode(), done.stderr.decode()):
            assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\x7f"} & set(text)
        assert "[bold red]x[/] [/x]" in done.stderr.decode()
        assert "#033[2J" in done.stderr.decode()


def test_a_terminal_gets_no_escape_sequences_but_our_own(cli: CommandLine, project: Project) -> None:
    program(project, r"print('\x1b[2J\x1b]0;title\x07\x1b[31mred'); sys.exit('\x1b[5mblink')")
    with on_terminal(cli.command(*rehearsal(project)), cli.folder, cli.environment) as terminal:
        shown = terminal.rest()
    assert terminal.process.returncode == 10
    assert "#033[2J#033]0;title#007#033[31mred" in shown
    # Colours are ours; nothing moves the cursor, clears the screen or sets a title.
    assert set(re.findall(r"\x1b[^a-zA-Z]*[a-zA-Z]?", shown)) <= {
        f"\x1b[{style}m" for style in ("0", "1", "31", "32", "33", "36", "1;31")
    }
    assert "\x07" not in shown


@provokes(94)
def test_a_line_of_a_megabyte_is_shown_in_part(cli: CommandLine, project: Project) -> None:
    program(project, "print('x' * 1_000_000); print('next')")
    done = cli(*rehearsal(project))
    lines = [line for line in done.err.splitlines() if line.startswith("algo-1 | ")]
    assert [len(line) for line in lines] == [*4 * [9 + 8192 + 1], 9 + 4]


def test_a_reader_that_goes_away_does_not_end_the_job(cli: CommandLine, project: Project) -> None:
    program(project, "for i in range(20_000): print('a line of the log', i)\n(model / 'm').write_text('x')")
    read, write = os.pipe()
    os.close(read)
    command = cli.command(*rehearsal(project, "--json"))
    done = subprocess.run(
        command,
        cwd=cli.folder,
        env=dict(cli.environment),
        stderr=write,
        stdout=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(write)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["result"]["status"] == "Completed"
    assert (local(project, answer["experiment"]) / "result.json").is_file()


@pytest.mark.parametrize(("text", "code"), [("", 0), ("sys.exit(1)", 10)])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_without_a_reader_of_the_answer_the_exit_code_still_tells_the_end(
    cli: CommandLine, project: Project, text: str, code: int, words: list[str]
) -> None:
    program(project, text)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        cli.command(*rehearsal(project, *words)),
        cwd=cli.folder,
        env=dict(cli.environment),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(write)
    assert done.returncode == code
    assert "Exception" not in done.stderr
    assert "Traceback" not in done.stderr


# --- what the program finds ---


@reproduces("variables", "process")
@reproduces("toolkit", "process")
def test_the_program_gets_exactly_the_services_and_the_toolkits_variables(project: Project) -> None:
    settings = (
        ("ESTIMATOR.HYPERPARAMETERS.epochs", "3"),
        ("ESTIMATOR.HYPERPARAMETERS.SOLVER.BASE_LR", "1e-3"),
        ("ESTIMATOR.ENVIRONMENT.MY_OWN", "yes"),
    )
    seen = told(project, *settings)["environment"]
    base = Path(seen["SAGEMAKER_BASE_DIR"])
    expected = toolkit.script_environment(
        base=base,
        job_name=seen["TRAINING_JOB_NAME"],
        hyperparameters={"epochs": "3", "SOLVER.BASE_LR": "1e-3"},
        input_data_config={
            name: {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
            for name in ("training", "config")
        },
        resource_config={
            "current_host": "algo-1",
            "current_instance_type": "ml.m5.large",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1"],
            "instance_groups": [
                {
                    "instance_group_name": "homogeneousCluster",
                    "instance_type": "ml.m5.large",
                    "hosts": ["algo-1"],
                }
            ],
            "network_interface_name": "eth0",
        },
        entry_point="main.py",
        machine=toolkit.Machine.detect(),
        service_environment={},
    )
    assert {name: seen.get(name) for name in expected} == expected
    assert base.parts[-2:] == ("opt", "ml")
    service = {
        "TRAINING_JOB_NAME",
        "TRAINING_JOB_ARN",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "DMLC_INTERFACE",
        "SAGEMAKER_METRICS_DIRECTORY",
        "SAGEMAKER_BASE_DIR",
        "PYTHONUNBUFFERED",
        "TRAINING_CONFIG_SHA256",
        "MY_OWN",
    }
    assert service <= set(seen)
    machine = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV"}
    machine |= {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}
    machine |= {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
    assert set(seen) - set(expected) - service <= machine


@reproduces("variables", "process")
def test_nothing_else_of_the_laptop_reaches_the_program(cli: CommandLine, project: Project) -> None:
    program(project, TELL)
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "LD_PRELOAD_CANARY",
        "SAGEMAKER_PROGRAM",
        "SM_HP_CANARY",
        "SAGEMAKER_LAUNCHER_CANARY",
        "HF_TOKEN",
        "GITHUB_TOKEN",
        "EDITOR",
    )
    done = cli(*rehearsal(project), env=dict.fromkeys(names, CANARY))
    assert done.code == 0, done.err
    line = next(line for line in done.err.splitlines() if line.startswith("algo-1 | {"))
    seen = json.loads(line.removeprefix("algo-1 | "))["environment"]
    assert CANARY not in "".join(seen.values())
    assert (seen["AWS_CONFIG_FILE"], seen["AWS_SHARED_CREDENTIALS_FILE"]) == (os.devnull, os.devnull)
    assert seen["AWS_REGION"] == "us-east-1"
    assert "AWS_DEFAULT_REGION" not in seen
    assert CANARY not in done.err + done.out


def test_hyperparameters_are_the_programs_arguments(project: Project) -> None:
    program(project, TELL)
    settings = (
        ("ESTIMATOR.HYPERPARAMETERS.epochs", "3"),
        ("ESTIMATOR.HYPERPARAMETERS.SOLVER.BASE_LR", "1e-3"),
        ("ESTIMATOR.HYPERPARAMETERS.name", "'two words'"),
        ("ESTIMATOR.HYPERPARAMETERS.x", "true"),
    )
    seen = told(project, *settings)
    assert seen["arguments"] == [
        "--SOLVER.BASE_LR",
        "0.001",
        "--epochs",
        "3",
        "--name",
        "two words",
        "-x",
        "True",
    ]
    assert seen["folder"].endswith("/attempt-1/algo-1/opt/ml/code")


@reproduces("file mode", "process")
@reproduces("files", "process")
def test_the_tree_has_the_services_files_and_the_data(project: Project) -> None:
    project.put("s3://team/data/train/more/b.csv", "3,4\n")
    program(
        project,
        "files = sorted(path for path in base.rglob('*') if path.is_file() and 'code' not in path.parts)\n"
        "print(json.dumps({str(path.relative_to(base)): path.read_text() for path in files}))",
    )
    done = rehearse(project, ("ESTIMATOR.HYPERPARAMETERS.epochs", "3"))
    found = json.loads(done.events.lines[0])
    assert sorted(found) == [
        "input/config/hyperparameters.json",
        "input/config/inputdataconfig.json",
        "input/config/resourceconfig.json",
        "input/data/config/training_config.yaml",
        "input/data/training/a.csv",
        "input/data/training/more/b.csv",
    ]
    assert found["input/config/hyperparameters.json"] == '{"epochs":"3"}'
    assert found["input/data/training/more/b.csv"] == "3,4\n"
    config_uri = done.request["InputDataConfig"][-1]["DataSource"]["S3DataSource"]["S3Uri"]
    assert found["input/data/config/training_config.yaml"] == local(project, config_uri).read_text()


def test_the_program_can_import_what_lies_beside_it_and_what_any_program_can(
    project: Project, tmp_path: Path
) -> None:
    (project.folder / "code" / "beside.py").write_text("VALUE = 42")
    program(
        project,
        "import beside, sys\nprint(beside.VALUE)\nprint(json.dumps([*map(os.path.realpath, sys.path)]))",
    )
    told_here = rehearse(project).events.lines
    ask = [
        sys.executable,
        "-c",
        "import json, os, sys; print(json.dumps([*map(os.path.realpath, sys.path)]))",
    ]
    told_anywhere = subprocess.run(
        ask, cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    ).stdout
    here, anywhere = (set(json.loads(told)) for told in (told_here[1], told_anywhere))
    assert told_here[0] == "42"
    (code,) = here - anywhere
    assert code.endswith("/attempt-1/algo-1/opt/ml/code")


def test_the_program_has_no_terminal_to_wait_for(cli: CommandLine, project: Project) -> None:
    program(project, "print(repr(sys.stdin.read()))")
    with subprocess.Popen(
        cli.command(*rehearsal(project)),
        cwd=cli.folder,
        env=dict(cli.environment),
        stdin=subprocess.PIPE,  # as long as nobody closes it, reading from it does not end
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.wait(60) == 0
            assert process.stderr
            assert "algo-1 | ''\n" in process.stderr.readlines()
        finally:
            process.kill()


def test_a_shell_script_may_be_the_program(project: Project) -> None:
    (project.folder / "code" / "train.sh").write_text('#!/bin/sh\necho "$0 $1 $2 in $SM_CURRENT_HOST"\n')
    # The toolkit makes it executable; here, a copy of it.
    with nothing_written(project.folder / "code"):
        done = rehearse(project, ("SOURCE.ENTRY_POINT", "train.sh"), ("ESTIMATOR.HYPERPARAMETERS.a", "it's"))
    assert done.events.lines == ["./train.sh -a it's in algo-1"]


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (("--python", "venv/bin/python"), {}),
        ((), {"SAGEMAKER_LAUNCHER_PYTHON": "./venv/bin/python"}),
        (("--python", "python-of-ours"), {"PATH": f"venv/bin:{os.environ['PATH']}"}),
    ],
)
def test_a_python_is_named_from_the_folder_of_the_launcher(
    cli: CommandLine, project: Project, words: tuple[str, ...], variables: dict[str, str]
) -> None:
    # As in a virtual environment, whose python is a link that must not be followed.
    folder = project.folder / "venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "python-of-ours"):
        (folder / name).symlink_to(sys.executable)
    program(project, "print(sys.orig_argv[0])")
    here = CommandLine(project.folder, cli.environment)
    done = here(*rehearsal(project, *words), env=variables)
    assert done.code == 0, done.err
    python = folder / Path(words[-1] if words else "python").name
    assert f"algo-1 | {python}\n" in done.err
    assert f" --python {python}" in done.out.replace("\n", " ")


def test_another_python_may_run_the_program(cli: CommandLine, project: Project, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "other python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho the other one\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    done = cli(*rehearsal(project, "--python", str(python)))
    assert done.code == 0, done.err
    assert "algo-1 | the other one\nalgo-1 | first line\n" in done.err


def test_the_programs_folder_is_left_as_it_was(project: Project) -> None:
    (project.folder / "code" / "beside.py").write_text("VALUE = 42")
    data = project.folder / "code" / "weights.bin"
    data.write_text("first")
    program(
        project,
        "import beside\nhere = pathlib.Path(__file__).parent\n"
        "print(beside.VALUE, (here / 'weights.bin').read_text(), pathlib.Path().resolve() == here.resolve(),"
        " here == pathlib.Path(os.environ['SM_MODULE_DIR']))\n"
        "pathlib.Path('beside.py').unlink(); (here / 'weights.bin').write_text('changed'); pathlib.Path('new').mkdir()",
    )
    with nothing_written(project.folder / "code"):
        assert rehearse(project).events.lines == ["42 first True True"]


def test_each_host_has_its_own_copy_of_the_code(project: Project) -> None:
    program(project, "print(pathlib.Path('mark').exists()); pathlib.Path('mark').touch()")
    assert rehearse(project, ("ESTIMATOR.INSTANCE_COUNT", "2")).events.lines == ["False", "False"]


def test_what_tools_keep_beside_the_code_and_the_cache_of_rehearsals_are_not_copied(
    project: Project, home: Path
) -> None:
    code = project.folder / "code"
    for name in (".git", ".venv", "__pycache__"):
        (code / name).mkdir()
        os.mkfifo(code / name / "fifo")
    program(project, "print(sorted(os.listdir()))")
    variables = {"SAGEMAKER_LAUNCHER_CACHE": str(code / "cache")}
    cli = CommandLine(project.folder, clean_environment(home, **variables))
    done = cli(*rehearsal(project))
    assert done.code == 0, done.err
    assert "algo-1 | ['config.py', 'main.py']\n" in done.err


def test_code_that_cannot_be_copied_is_named_before_anything_is_archived(
    cli: CommandLine, project: Project
) -> None:
    os.mkfifo(project.folder / "code" / "fifo")
    with nothing_written(project.s3):
        done = launch(cli, project)
    assert (done.code, done.json["error"]["code"]) == (15, "no_source")
    assert done.json["error"]["message"] == f"cannot copy {project.folder / 'code'}: fifo (a named pipe)"


# --- metrics and results ---


@reproduces("metrics", "process")
def test_metrics_come_from_the_log_and_the_last_value_wins(project: Project) -> None:
    program(project, "print('loss=1e-05'); print('loss=nan'); print('tab\\tloss=2.5E-3 acc=1')")
    metrics = [{"Name": "loss", "Regex": r"loss=(\S+)"}, {"Name": "tab", "Regex": r"tab\tloss=(\S+)"}]
    metrics += [{"Name": "accuracy", "Regex": "acc=([0-9.]+)"}, {"Name": "auc", "Regex": "auc=([0-9.]+)"}]
    project.write(ESTIMATOR={"METRIC_DEFINITIONS": metrics})
    done = rehearse(project)
    assert done.result.metrics == {"loss": 0.0025, "accuracy": 1.0}
    notes = [note for note in done.events.notes if "metric" in note]
    assert notes == ["no line of the log matched the metric tab", "no line of the log matched the metric auc"]


ENDLESS = [{"Name": "x", "Regex": r"(x+x+)+y=(\d)"}, {"Name": "loss", "Regex": r"loss=(\d)"}]


def test_a_metric_whose_search_never_ends_costs_only_itself(project: Project) -> None:
    program(project, "print('loss=1', 'x' * 100); print('loss=2')")
    project.write(ESTIMATOR={"METRIC_DEFINITIONS": ENDLESS})
    done = rehearse(project)
    assert (done.result.status, done.result.metrics) == ("Completed", {"loss": 2.0})
    (note,) = [note for note in done.events.notes if "metric" in note]
    assert note.startswith("the expression of the metric x takes too long to search for and was given up")


def test_ctrl_c_is_heard_while_a_metric_is_searched_for_without_end(
    cli: CommandLine, project: Project
) -> None:
    program(project, "import time; print('loss=1', 'x' * 100, flush=True); time.sleep(300)")
    project.write(ESTIMATOR={"METRIC_DEFINITIONS": ENDLESS})
    with cli.start(*rehearsal(project, "--stop-grace", "0")) as process:
        assert process.stderr
        while "| loss=1" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(1)  # the line is being searched now
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    (result,) = project.s3.rglob("result.json")
    assert json.loads(result.read_text())["metrics"] == {"loss": 1.0}


@reproduces("time line", "process")
def test_the_time_line_is_the_services(project: Project) -> None:
    result = rehearse(project).result
    names = [transition.status for transition in result.transitions]
    assert names == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    ends = [transition.ended_at for transition in result.transitions]
    assert ends == [transition.started_at for transition in result.transitions[1:]] + [""]
    assert result.started_at <= result.ended_at


def test_a_program_that_leaves_no_model_is_told_of(project: Project) -> None:
    program(project, "(data / 'curve').write_text('1')")
    done = rehearse(project)
    assert done.result.status == "Completed"
    assert list(done.result.artifacts) == ["output"]
    assert "the program left nothing in the model folder, /opt/ml/model" in done.events.notes


def test_checkpoints_are_copied_during_the_run_and_again_at_its_end(project: Project) -> None:
    project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"})
    program(
        project,
        "folder = base / 'checkpoints'\n(folder / 'a').write_text('1'); (folder / 'b').write_text('2')\n"
        f"stored = pathlib.Path({str(project.s3)!r}, 'team/checkpoints', os.environ['TRAINING_JOB_NAME'])\n"
        "while not (stored / 'b').exists(): time.sleep(0.02)\n"
        "(folder / 'a').unlink(); (folder / 'c').write_text('3')",
    )
    done = rehearse(project)
    assert snapshot(project.s3 / "team/checkpoints" / done.request["TrainingJobName"]) == {
        "b": b"2",
        "c": b"3",
    }


# --- failures ---


@provokes(116)
@reproduces("failure", "process")
def test_a_failing_program_is_told_with_its_own_exit_code_and_its_last_lines(
    cli: CommandLine, project: Project
) -> None:
    program(project, "print('before'); sys.exit('no such data')")
    done = cli(*rehearsal(project))
    assert (done.code, done.has_traceback) == (10, False)
    assert "algo-1 | before\nalgo-1 | no such data\n" in done.err
    answer = " ".join(done.out.split())
    assert "status Failed reason AlgorithmError: ExecuteUserScriptError: ExitCode 1 " in answer
    assert ", exit code: 1 exit code 1 training " in answer


def test_the_reason_is_what_the_program_wrote_and_not_the_toolkits_words(project: Project) -> None:
    program(project, "(base / 'output/failure').write_text('bad channel: é\\nline 2', 'utf-8'); sys.exit(42)")
    result = rehearse(project).result
    assert (result.status, result.exit_code) == ("Failed", 42)
    assert result.failure_reason == "AlgorithmError: bad channel: é\nline 2, exit code: 42"


@pytest.mark.parametrize("text", ["'x' * 100_000", "'é' * 5000"])
def test_the_reason_is_cut_but_the_exit_code_stays(project: Project, text: str) -> None:
    program(project, f"(base / 'output/failure').write_text({text}); sys.exit(3)")
    reason = rehearse(project).result.failure_reason
    assert len(reason) == 1024
    assert reason.startswith("AlgorithmError: ")
    assert reason.endswith(", exit code: 3")


def test_a_failed_job_saves_what_it_has(project: Project) -> None:
    program(project, "(model / 'm').write_text('1'); (data / 'd').write_text('2'); raise SystemExit(5)")
    result = rehearse(project).result
    assert (result.status, sorted(result.artifacts)) == ("Failed", ["model", "output"])
    assert all(local(project, uri).is_file() for uri in result.artifacts.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "137: killed, most often for want of memory"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "139: segmentation fault"),
        ("sys.exit(127)", "127: the program was not found"),
    ],
)
def test_an_exit_code_with_a_meaning_is_explained(
    cli: CommandLine, project: Project, text: str, shown: str
) -> None:
    program(project, text)
    done = cli(*rehearsal(project))
    assert done.code == 10
    assert f"exit code {shown}" in " ".join(done.out.split())


def test_outputs_that_cannot_be_saved_fail_the_job(cli: CommandLine, project: Project) -> None:
    project.put("s3://team/outputs", "a file in the place of the folder")
    done = launch(cli, project)
    assert (done.code, done.has_traceback) == (10, False), done.err
    result = done.json["result"]
    assert result["status"] == "Failed"
    assert result["failure_reason"].startswith("ClientError: Artifact upload failed: ")
    assert (local(project, done.json["experiment"]) / "result.json").is_file()


def test_checkpoints_that_cannot_be_saved_fail_the_job(cli: CommandLine, project: Project) -> None:
    project.write(S3={"CHECKPOINTS": "s3://team/checkpoints"})
    project.put("s3://team/checkpoints", "a file in the place of the folder")
    program(project, "(base / 'checkpoints' / 'a').write_text('1'); (model / 'm').write_text('1')")
    done = launch(cli, project)
    assert (done.code, done.has_traceback) == (10, False), done.err
    assert done.json["result"]["failure_reason"].startswith("ClientError: ")


def test_data_that_cannot_be_copied_fails_the_job(cli: CommandLine, project: Project) -> None:
    os.mkfifo(project.s3 / "team/data/train/pipe")
    done = launch(cli, project)
    assert (done.code, done.has_traceback) == (10, False), done.err
    reason = done.json["result"]["failure_reason"]
    assert reason.startswith("ClientError: Data download failed: cannot reach s3://team/data/train/pipe")
    assert (local(project, done.json["experiment"]) / "result.json").is_file()


@reproduces("failure", "process")
@pytest.mark.parametrize(
    ("name", "text", "exit_code", "reason"),
    [
        # What sagemaker-training 5.1.4 writes for these three: only a shell's 137 is explained.
        ("main.py", "import os; os.kill(os.getpid(), 9)", 137, 'ExitCode -9\nErrorMessage ""\nCommand'),
        ("main.py", "import os; os.abort()", 134, 'ExitCode -6\nErrorMessage ""\nCommand'),
        ("run.sh", "#!/bin/sh\nexit 137", 137, 'ExitCode 137\nErrorMessage ""\nExtraInfo "OutOfMemory: '),
    ],
)
def test_a_program_that_a_signal_killed_is_explained_as_the_toolkit_does(
    project: Project, name: str, text: str, exit_code: int, reason: str
) -> None:
    (project.folder / "code" / name).write_text(text)
    result = rehearse(project, ("SOURCE.ENTRY_POINT", name)).result
    assert result.failure_reason.startswith(f"AlgorithmError: ExecuteUserScriptError:\n{reason}")
    assert result.exit_code == exit_code


# --- stopping ---


@reproduces("time limit", "process")
def test_time_that_is_up_stops_the_job_and_the_model_is_saved_all_the_same(
    cli: CommandLine, project: Project
) -> None:
    program(
        project,
        "def stop(number, frame):\n    (model / 'm').write_text('last state'); print('saved', flush=True); sys.exit(9)\n"
        "signal.signal(signal.SIGTERM, stop)\ntime.sleep(60)",
    )
    project.write(ESTIMATOR={"MAX_RUN": 1})
    done = launch(cli, project)
    assert done.code == 11, done.err
    result = done.json["result"]
    assert (result["status"], result["secondary_status"]) == ("Stopped", "MaxRuntimeExceeded")
    assert (result["exit_code"], result["failure_reason"]) == (9, "")
    assert list(result["artifacts"]) == ["model"]
    assert "algo-1 | saved" in done.err
    names = [transition["status"] for transition in result["transitions"]]
    assert names == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "MaxRuntimeExceeded"]


def test_a_program_that_does_not_stop_is_killed_after_the_grace_period_and_its_children_with_it(
    cli: CommandLine, project: Project
) -> None:
    program(
        project,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(model / 'm').write_text('1')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
        " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)'])\n"
        "print('child', child.pid, flush=True)\ntime.sleep(60)",
    )
    project.write(ESTIMATOR={"MAX_RUN": 1})
    start = time.monotonic()
    done = launch(cli, project, "--stop-grace", "1")
    assert 2 <= time.monotonic() - start < 45
    assert done.code == 11, done.err
    result = done.json["result"]
    assert (result["secondary_status"], result["exit_code"]) == ("MaxRuntimeExceeded", 137)
    assert list(result["artifacts"]) == ["model"]
    shown = cli("show", "@latest", "--s3-root", project.s3, "--archive", ARCHIVE)
    assert "137: killed, since SIGTERM had not ended it" in shown.out
    pid = next(line for line in done.err.splitlines() if "child" in line).split()[-1]
    assert not is_running(int(pid))


# --- refusals, before anything is written ---


def refused(cli: CommandLine, project: Project, *words: str) -> dict[str, Any]:
    """The error of a launch that must be refused and leave nothing."""
    with nothing_written(project.s3):
        done = launch(cli, project, *words)
    assert not done.has_traceback
    error: dict[str, Any] = done.json["error"]
    assert error["exit"] == done.code
    return error


def test_a_channel_without_data_is_refused(cli: CommandLine, project: Project) -> None:
    project.write(CHANNELS={"training": "s3://team/data/nothing/"})
    error = refused(cli, project)
    assert (error["exit"], error["code"]) == (6, "no_input_data")
    assert "channel 'training': no S3 objects found under s3://team/data/nothing/" in error["message"]


def test_a_bucket_that_does_not_exist_is_refused(cli: CommandLine, project: Project) -> None:
    project.write(CHANNELS={"training": "s3://nobody/data/"})
    error = refused(cli, project)
    assert (error["exit"], error["code"]) == (6, "bucket_not_found")
    assert "s3://nobody" in error["message"]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {
                "CHANNELS": {
                    "training": {
                        "FILE_SYSTEM_ID": "fs-0123456789abcdef0",
                        "FILE_SYSTEM_TYPE": "EFS",
                        "DIRECTORY_PATH": "/data",
                    }
                },
                "ESTIMATOR": {"SUBNETS": ["subnet-1"], "SECURITY_GROUP_IDS": ["sg-1"]},
            },
            "file system",
        ),
        (
            {"S3": {"CHECKPOINTS": "s3://team/c"}, "ESTIMATOR": {"CHECKPOINT_LOCAL_PATH": "/tmp/states"}},
            "checkpoints in /tmp/states",
        ),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_in_clear_words(
    cli: CommandLine, project: Project, sections: dict[str, Any], words: str
) -> None:
    project.write(**sections)
    error = refused(cli, project)
    assert (error["exit"], error["code"]) == (15, "not_rehearsable")
    assert words in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("option", ["--stop-grace", "--interrupt-after"])
@pytest.mark.parametrize("seconds", ["inf", "nan", "-nan", "1e10", "86401", "-1", "-inf"])
def test_a_time_that_no_job_can_wait_is_refused(
    cli: CommandLine, project: Project, option: str, seconds: str
) -> None:
    with nothing_written(project.s3):
        done = launch(cli, project, option, seconds)
    assert (done.code, done.has_traceback) == (2, False), done.err
    message = done.json["error"]["message"]
    assert f"Invalid value for '{option}': " in message
    expected = "is no number of seconds" if "nan" in seconds else "is not in the range 0<=x<=86400"
    assert expected in message


def test_a_day_of_grace_is_possible(cli: CommandLine, project: Project) -> None:
    program(project, "time.sleep(60)")
    project.write(ESTIMATOR={"MAX_RUN": 1})
    assert launch(cli, project, "--stop-grace", "86400").code == 11


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        (
            {
                "ESTIMATOR": {
                    "INSTANCE_TYPE": "",
                    "INSTANCE_GROUPS": [
                        {"INSTANCE_GROUP_NAME": "a", "INSTANCE_TYPE": "ml.m5.large", "INSTANCE_COUNT": 0}
                    ],
                }
            },
            "ESTIMATOR.INSTANCE_GROUPS[0].INSTANCE_COUNT",
        ),
        (
            {"S3": {"CHECKPOINTS": "s3://team/c"}, "ESTIMATOR": {"CHECKPOINT_LOCAL_PATH": "/opt/ml/code"}},
            "ESTIMATOR.CHECKPOINT_LOCAL_PATH",
        ),
        ({"SOURCE": {"DIR": "code", "CONTAINER_DIR": "/opt/ml/model"}}, "SOURCE.CONTAINER_DIR"),
    ],
)
@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_job_that_cannot_start_anywhere_is_refused_before_it_is_archived(
    cli: CommandLine, project: Project, sections: dict[str, Any], key: str, words: tuple[str, ...]
) -> None:
    project.write(**sections)
    error = refused(cli, project, *words)
    assert error["exit"] == 3
    assert key in json.dumps(error)


@provokes(83)
@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME",
     "PATH", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONFIG_FILE"],
)  # fmt: skip
def test_variables_that_would_run_other_code_are_refused(
    cli: CommandLine, project: Project, name: str
) -> None:
    error = refused(cli, project, "--set", f"ESTIMATOR.ENVIRONMENT.{name}", "/nowhere/x.so")
    assert (error["exit"], error["code"]) == (14, "dangerous_environment")
    assert name in error["message"]


@provokes(83)
def test_the_message_names_all_variables_that_are_refused_and_no_other(
    cli: CommandLine, project: Project
) -> None:
    refused_ones = {
        "BASHOPTS": "x", "BASH_ENV": "x", "BROWSER": "/bin/sh -c 'id > f' %s", "CC": "x", "EDITOR": "x", "ENV": "$(id)",
        "GCONV_PATH": "x", "GIT_SSH_COMMAND": "x", "HISTFILE": "x", "HOME": "x", "JAVA_TOOL_OPTIONS": "x", "LESSOPEN": "x",
        "NODE_OPTIONS": "x", "OPENSSL_CONF": "x", "PAGER": "x", "PERL5LIB": "x", "PERL5OPT": "x", "PROMPT_COMMAND": "id",
        "PS0": "x", "PS1": "$(id)", "PS4": "x", "PYTHONBREAKPOINT": "os.system", "PYTHONINSPECT": "1",
        "PYTHONPYCACHEPREFIX": "x", "PYTHONUSERBASE": "x", "PYTHONWARNINGS": "ignore,all:0:antigravity.x:0:0",
        "PYTHON_NEW_IN_3_20": "x", "RUBYOPT": "x", "SHELLOPTS": "xtrace", "VISUAL": "x", "XDG_CONFIG_HOME": "x",
    }  # fmt: skip
    taken = {
        "AWS_REGION": "us-east-1", "ENV": "prod", "GIT_COMMIT": "abc", "PYTHONFAULTHANDLER": "1", "PYTHONHASHSEED": "0",
        "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PYTHON_VERSION": "3.11",
        "PYTHONWARNINGS": "ignore,error::UserWarning:torch.nn", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline",
    }  # fmt: skip
    project.write(ESTIMATOR={"ENVIRONMENT": {**taken, **refused_ones}})
    message = refused(cli, project)["message"]
    assert message.removeprefix("ESTIMATOR.ENVIRONMENT sets ").partition(", which")[0] == ", ".join(
        sorted(refused_ones)
    )
    project.write(ESTIMATOR={"ENVIRONMENT": taken})
    program(project, f"print(all(os.environ[name] == text for name, text in {taken!r}.items()))")
    assert rehearse(project).events.lines == ["True"]


@pytest.mark.parametrize(
    "entry_point", ["../main.py", "/etc/passwd", "-c", "../../x.py", "nothing.py", "a/../../b.py"]
)
def test_no_variable_leads_to_a_program_outside_the_training_code(
    cli: CommandLine, project: Project, entry_point: str
) -> None:
    (project.folder / "main.py").write_text("print('outside')")
    error = refused(cli, project, "--set", "ESTIMATOR.ENVIRONMENT.SAGEMAKER_PROGRAM", entry_point)
    assert (error["exit"], error["code"]) == (15, "no_source")


def test_a_variable_may_choose_another_program_of_the_training_code(project: Project) -> None:
    (project.folder / "code" / "other.py").write_text("print('the other program')")
    assert rehearse(project, ("ESTIMATOR.ENVIRONMENT.SAGEMAKER_PROGRAM", "other.py")).events.lines == [
        "the other program"
    ]


def test_values_that_the_toolkit_would_stumble_over_are_refused_in_time(
    cli: CommandLine, project: Project
) -> None:
    error = refused(cli, project, "--set", "ESTIMATOR.HYPERPARAMETERS.sagemaker_container_log_level", "loud")
    assert error["exit"] == 3
    assert "sagemaker_container_log_level" in error["message"]


def test_a_python_that_does_not_exist_is_refused(cli: CommandLine, project: Project) -> None:
    error = refused(cli, project, "--python", "python-of-nobody")
    assert (error["exit"], error["message"]) == (15, "no such Python: python-of-nobody")


def test_a_stand_in_folder_that_does_not_exist_is_refused(cli: CommandLine, project: Project) -> None:
    done = cli("launch", project.config, "--on", "process", "--s3-root", project.folder / "nowhere")
    assert (done.code, done.has_traceback) == (15, False)
    assert "no such folder" in done.err
    assert not (project.folder / "nowhere").exists()


def test_detaching_from_a_rehearsal_is_refused(cli: CommandLine, project: Project) -> None:
    assert refused(cli, project, "--detach")["exit"] == 2


def test_the_stand_in_folder_is_not_for_jobs_on_aws(cli: CommandLine, project: Project) -> None:
    with nothing_written(project.s3):
        done = cli("launch", project.config, "--s3-root", project.s3)
    assert (done.code, done.has_traceback) == (2, False)
    assert "--on process" in done.err


def test_what_is_left_out_of_a_rehearsal_is_said(project: Project) -> None:
    project.write(ESTIMATOR={"ENABLE_NETWORK_ISOLATION": True, "CONTAINER_ARGUMENTS": ["serve"]})
    note = next(note for note in rehearse(project).events.notes if note.startswith("not reproduced here: "))
    assert note == "not reproduced here: the image, CONTAINER_ARGUMENTS, network isolation"


# --- what stays behind ---


@pytest.mark.parametrize("text", ["", "sys.exit(1)", "os.mkdir(base / 'model' / 'x', 0o500)"])
def test_nothing_but_the_data_stays_on_this_machine(
    project: Project, home: Path, tmp_path: Path, text: str
) -> None:
    program(project, text)
    temporary, cache = tmp_path / "temporary", tmp_path / "cache"
    temporary.mkdir()
    variables = {"TMPDIR": str(temporary), "SAGEMAKER_LAUNCHER_CACHE": str(cache)}
    cli = CommandLine(project.folder, clean_environment(home, **variables))
    assert cli(*rehearsal(project)).code in {0, 10}
    assert snapshot(temporary) == {}
    assert snapshot(home) == {}
    assert snapshot(cache / "rehearsals") == {}
    assert b"1,2\n" in snapshot(cache / "data").values()
