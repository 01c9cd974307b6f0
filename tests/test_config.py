"""Both configs through the command line: everything wrong is told at once, and nothing in them is ever executed."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sagemaker_launcher import config, strict_yaml
from sagemaker_launcher.coercion import Override
from sagemaker_launcher.config import ArchivedFile, Configs
from sagemaker_launcher.errors import ConfigError, Problem
from tests.commands import ROOT, CommandLine, Finished
from tests.fault_rows import provokes
from tests.generated_configs import Settings
from tests.generated_configs import settings as generated_settings
from tests.project import Project

_ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
# What no container has as a folder: the engine, or the kernel, refuses it when the job is archived already.
_NO_FOLDERS = ("", "/", "//", "data", "./data", "/a/../b", "/a/./b", "/a//b", "//a", "/a\0b", f"/{'é' * 128}")


def _load(project: Project, *overrides: tuple[str, str, str], force: bool = False) -> Configs:
    given_overrides = tuple(Override(*override) for override in overrides)
    return config.load(project.config, given_overrides, allow_unknown_instance_type=force)


def _problems(project: Project, *overrides: tuple[str, str, str]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        _load(project, *overrides)
    return list(caught.value.problems)


def _lines(project: Project, *overrides: tuple[str, str, str]) -> list[str]:
    return [str(problem).replace(f"{project.folder}/", "") for problem in _problems(project, *overrides)]


def _saved_in(path: str) -> Settings:
    """The sections of a config whose checkpoints lie in a folder of the container."""
    return {"S3": {"CHECKPOINTS": "s3://team/c"}, "ESTIMATOR": {"CHECKPOINT_LOCAL_PATH": path}}


def _with_a_folder_for_checkpoints(generated: Settings) -> Settings:
    """A generated config whose checkpoints lie in a folder: the request alone, which most tests are about, takes any text."""
    estimator = generated["ESTIMATOR"]
    name = estimator["CHECKPOINT_LOCAL_PATH"].replace("/", "-")
    path = f"/opt/ml/states{name}" if name else ""
    return {**generated, "ESTIMATOR": {**estimator, "CHECKPOINT_LOCAL_PATH": path}}


def _errors(done: Finished) -> list[str]:
    """What a check that failed said, without its prefix."""
    assert done.code == 3, done
    assert done.out == ""
    assert not done.has_traceback
    lines = done.err.splitlines()
    return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]


class TestCheck:
    def test_says_that_all_is_well(self, cli: CommandLine, project: Project) -> None:
        done = cli("check", "--offline", project.config)
        assert (done.code, done.err) == (0, "")
        assert f"ok       configs   {project.config}: both configs and the job are valid\n" in done.out
        assert "the training code gives no lines to try them on" in done.out

    def test_answers_programs_with_json(self, cli: CommandLine, project: Project) -> None:
        done = cli("check", "--offline", "--json", project.config)
        assert {key: done.json[key] for key in ("schema", "valid", "exit")} == {
            "schema": 1,
            "valid": True,
            "exit": 0,
        }
        assert [(one["name"], one["verdict"]) for one in done.json["checks"]] == [
            ("configs", "ok"),
            ("metrics", "unknown"),
        ]

    def test_tries_the_metrics_on_the_lines_that_the_training_code_says_it_prints(
        self, cli: CommandLine, project: Project
    ) -> None:
        schema = project.folder / "code" / "config.py"
        schema.write_text(f"{schema.read_text()}\nLOG_SAMPLES = ['epoch=1 loss=7E-05', 'rate=fast']\n")
        patterns = {"loss": "loss=([0-9.eE+-]+)", "rate": "rate=([a-z]+)", "none": "lost=([0-9]+)"}
        definitions = [{"Name": name, "Regex": regex} for name, regex in patterns.items()]
        project.write(ESTIMATOR={"METRIC_DEFINITIONS": definitions})
        done = cli("check", "--offline", "--json", project.config)
        assert done.code == 0
        found = {one["message"]: one["verdict"] for one in done.json["checks"] if one["name"] == "metrics"}
        assert found == {
            "loss: 7e-05 in 'epoch=1 loss=7E-05'": "ok",
            "rate: 'fast' in 'rate=fast' is no number": "warning",
            "none: 'lost=([0-9]+)' matches no line of LOG_SAMPLES": "warning",
        }
        schema.write_text(f"{schema.read_text()}\nLOG_SAMPLES = 'loss=1'\n")
        done = cli("check", "--offline", project.config)
        assert done.code == 3
        assert "LOG_SAMPLES has to be a list of texts" in done.err

    def test_takes_the_shipped_configs(self, cli: CommandLine) -> None:
        assert cli("check", "--offline", ROOT / "configs" / "sagemaker_config.yaml").code == 0

    def test_writes_nothing(self, cli: CommandLine, project: Project) -> None:
        before = {path: path.stat().st_mtime_ns for path in project.folder.parent.rglob("*")}
        cli("check", "--offline", project.config)
        assert {path: path.stat().st_mtime_ns for path in project.folder.parent.rglob("*")} == before

    @provokes(4, 5, 17, 19, 22, 23, 25)
    def test_reports_both_files_and_the_options_in_one_run(self, cli: CommandLine, project: Project) -> None:
        project.config.write_text(
            "VERSION: 1\n"
            "EXPERIMENT_NAME: ''\n"
            "AWS: {REGION: us-east-1}\n"
            "S3: {CONFIGS: s3://team/experiments, OUTPUTS: s3:/team}\n"
            "ESTIMATOR:\n"
            f"  IMAGE_URI: {_ECR}/tiny\n"
            "  ROLE: arn:aws:iam::123456789012:role/Name\n"
            "  INSTANCE_TYPE: ml.m5.lrage\n"
            "  VOLUME_SIZE: '30'\n"
            "  MAX_RUNTIME: 60\n"
            "SOURCE: {DIR: code}\n"
        )
        project.write_training("SOLVER:\n  BASE_LR: fast\n  EPOCHES: 3\n")
        done = cli(
            "check", "--offline", "sagemaker_config.yaml", "--set", "ESTIMATOR.MAX_RUN", "x", "--train", "SEED", "1.5"
        )  # fmt: skip
        assert _errors(done) == [
            "sagemaker_config.yaml:2:18: EXPERIMENT_NAME: an experiment needs a name",
            "sagemaker_config.yaml:4:47: S3.OUTPUTS: not an S3 URI: it has to start with s3://: 's3:/team'",
            f"sagemaker_config.yaml:6:14: ESTIMATOR.IMAGE_URI: the image has neither a tag nor a digest: '{_ECR}/tiny'",
            "sagemaker_config.yaml:8:18: ESTIMATOR.INSTANCE_TYPE: the service knows no such value; expected one of 225 known values, or --force-instance-type for one that is newer than the installed botocore, got ml.m5.lrage (did you mean ml.m5.large?)",
            'sagemaker_config.yaml:9:16: ESTIMATOR.VOLUME_SIZE: wrong type; expected a whole number, got the text "30"',
            "sagemaker_config.yaml:10:3: ESTIMATOR.MAX_RUNTIME: unknown key (did you mean ESTIMATOR.MAX_RUN?)",
            "--set ESTIMATOR.MAX_RUN: wrong type; expected a whole number, got x",
            "training_config.yaml: DATA.TRAIN_CHANNEL: the SageMaker config has no such channel; expected one of CHANNELS: none, got training",
            "training_config.yaml:2:12: SOLVER.BASE_LR: wrong type; expected a number, got fast",
            "training_config.yaml:3:3: SOLVER.EPOCHES: unknown key (did you mean SOLVER.EPOCHS?)",
            "--train SEED: wrong type; expected a whole number, got 1.5",
        ]  # fmt: skip

    def test_refuses_secrets_in_either_file_and_in_options(self, cli: CommandLine, project: Project) -> None:
        token = "ghp_" + "aB3dE5fG7h" * 3 + "iJ9kL1"
        project.write(ESTIMATOR={"ENVIRONMENT": {"GITHUB": token}})
        project.write_training(f"NAME: {token}\n")
        done = cli("check", "--offline", "sagemaker_config.yaml", "--train", "NAME", token)
        assert done.code == 14
        assert token not in done.err + done.out
        for place in ("sagemaker_config.yaml:", "training_config.yaml:1", "--train"):
            assert place in done.err

    def test_tells_programs_its_problems_on_stdout(self, cli: CommandLine, project: Project) -> None:
        project.write(EXPERIMENT_NAME="")
        done = cli("check", "--offline", "--json", project.config)
        assert (done.code, done.err) == (3, "")
        error = done.json["error"]
        assert (error["code"], error["exit"]) == ("config_invalid", 3)
        assert "EXPERIMENT_NAME: an experiment needs a name" in error["message"]
        (problem,) = error["problems"]
        assert (problem["key"], problem["where"]) == ("EXPERIMENT_NAME", f"{project.config}:2:18")

    @provokes(17)
    @pytest.mark.parametrize(
        "words",
        [
            ["check", "--offline"],
            ["check", "--offline", "{config}", "--set", "ESTIMATOR.MAX_RUN"],
            ["check", "--offline", "{config}", "--train"],
            ["check", "--offline", "{config}", "{config}"],
            ["check", "--offline", "{config}", "--nope"],
            ["chek", "--offline", "{config}"],
        ],
    )
    def test_is_told_apart_from_a_wrong_command_line(
        self, cli: CommandLine, project: Project, words: list[str]
    ) -> None:
        done = cli(*(word.format(config=project.config) for word in words))
        assert (done.code, done.out) == (2, "")
        assert not done.has_traceback

    @provokes(17)
    @pytest.mark.parametrize("key", ["A:1:2", "", "..", "\udcff", "ESTIMATOR.HYPERPARAMETERS.items"])
    def test_survives_options_that_make_no_sense(self, cli: CommandLine, project: Project, key: str) -> None:
        [error] = _errors(cli("check", "--offline", project.config, "--set", key, "3"))
        assert "unknown key" in error or "cannot be a key" in error


class TestFile:
    @provokes(1)
    def test_that_does_not_exist_is_told_with_the_ones_that_do(self, cli: CommandLine) -> None:
        [error] = _errors(cli("check", "--offline", "sagemaker_conf.yaml"))
        assert error == "sagemaker_conf.yaml: no such file (did you mean sagemaker_config.yaml?)"

    def test_in_a_folder_that_does_not_exist_is_told(self, cli: CommandLine) -> None:
        [error] = _errors(cli("check", "--offline", "nowhere/config.yaml"))
        assert error == "nowhere/config.yaml: no such file"

    @provokes(1)
    def test_that_is_a_directory_is_told(self, cli: CommandLine) -> None:
        [error] = _errors(cli("check", "--offline", "code"))
        assert error == "code: is a directory, not a file"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_that_may_not_be_read_is_told(self, cli: CommandLine, project: Project) -> None:
        project.config.chmod(0)
        [error] = _errors(cli("check", "--offline", project.config))
        assert error == f"{project.config}: cannot be read: Permission denied"

    @provokes(13)
    def test_of_python_is_refused_and_not_executed(self, cli: CommandLine, project: Project) -> None:
        sentinel = project.folder / "executed"
        program = project.folder / "config.py"
        program.write_text(f"import pathlib\npathlib.Path({str(sentinel)!r}).touch()\ncfg = None\n")
        [error] = _errors(cli("check", "--offline", program))
        assert "not a .yaml or .yml file" in error
        project.write(TRAINING_CONFIG="config.py")
        [error] = _errors(cli("check", "--offline", project.config))
        assert "config.py: not a .yaml or .yml file" in error
        assert not sentinel.exists()

    @provokes(12)
    def test_of_python_with_the_suffix_of_yaml_is_not_executed_either(
        self, cli: CommandLine, project: Project
    ) -> None:
        sentinel = project.folder / "executed"
        project.training.write_text(f'!!python/object/apply:os.system ["touch {sentinel}"]\n')
        done = cli("check", "--offline", project.config)
        assert "tags are not allowed" in done.err
        assert done.code == 3
        assert not sentinel.exists()

    def test_for_training_is_found_beside_the_first_one(self, project: Project) -> None:
        project.training.rename(project.folder / "code" / "other.yaml")
        project.write(TRAINING_CONFIG="code/other.yaml")
        assert b"BASE_LR: 0.5" in _load(project).training_yaml

    def test_for_training_that_is_missing_is_told_with_all_the_rest(self, project: Project) -> None:
        project.write(TRAINING_CONFIG="training_conf.yaml", EXPERIMENT_NAME="")
        assert _lines(project) == [
            "training_conf.yaml: no such file (did you mean training_config.yaml or sagemaker_config.yaml?)",
            "sagemaker_config.yaml:2:18: EXPERIMENT_NAME: an experiment needs a name",
        ]

    @provokes(2)
    def test_for_training_is_looked_at_even_when_the_first_one_cannot_be_read(self, project: Project) -> None:
        project.config.write_text("a: [\n")
        project.write_training("SOLVER:\n\tBASE_LR: 1\n")
        assert _lines(project) == [
            "sagemaker_config.yaml:2:1: a bracket is not closed before the text ends",
            "training_config.yaml:2:1: tab used for indentation",
        ]

    @pytest.mark.parametrize("name", ["x" * 300, "a\0b", "/dev/null", "code", "~/x.yaml"])
    def test_names_that_cannot_be_are_told(self, project: Project, name: str) -> None:
        project.write(TRAINING_CONFIG=name)
        [problem] = _problems(project)
        assert problem.message

    def test_whose_path_looks_like_a_place_is_told_rightly(self, tmp_path: Path) -> None:
        project = Project.create(tmp_path / "a:1:2" / "b: c")
        project.write(EXPERIMENT_NAME="")
        assert _lines(project) == ["sagemaker_config.yaml:2:18: EXPERIMENT_NAME: an experiment needs a name"]


class TestFileWithoutKeys:
    @pytest.mark.parametrize("text", ["", "# SEED: 1\n\n", "---\n", "{}\n"])
    def test_of_the_training_config_means_all_defaults(self, project: Project, text: str) -> None:
        project.write_training("SEED: 0\n")
        expected = _load(project).training_yaml
        project.write_training(text)
        assert _load(project).training_yaml == expected
        assert b"SEED: 3" in _load(project, ("--train", "SEED", "3")).training_yaml

    def test_says_what_to_do_where_there_are_no_defaults(self, project: Project) -> None:
        (project.folder / "code" / "config.py").unlink()
        project.write_training("# SEED: 1\n")
        assert _lines(project) == [
            "training_config.yaml:1:1: the file has no keys; expected `KEY: value`, or {} for none"
        ]

    def test_says_what_to_do_of_the_sagemaker_config(self, project: Project) -> None:
        project.config.write_text("# nothing yet\n")
        assert _lines(project) == [
            "sagemaker_config.yaml:1:1: the file has no keys; expected `KEY: value`, or {} for none"
        ]


class TestPath:
    """A file's paths count from the file's folder, and those of an option from the current one."""

    @pytest.fixture
    def below(self, cli: CommandLine, project: Project) -> CommandLine:
        """The command line in a folder that has other code and another training config than the project."""
        folder = project.folder / "below"
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "main.py").write_text("")
        schema = (project.folder / "code" / "config.py").read_text()
        (folder / "code" / "config.py").write_text(schema.replace("SEED = 0", 'SEED = "below"'))
        (folder / "other.yaml").write_text("SEED: x\n")
        return CommandLine(folder, cli.environment)

    def test_of_a_file_counts_from_its_folder(self, below: CommandLine) -> None:
        assert below("check", "--offline", "../sagemaker_config.yaml").code == 0

    def test_of_an_option_counts_from_the_current_folder(self, below: CommandLine) -> None:
        words = ("--set", "TRAINING_CONFIG", "other.yaml")
        errors = _errors(below("check", "--offline", "../sagemaker_config.yaml", *words))
        assert errors == ["other.yaml:1:7: SEED: wrong type; expected a whole number, got x"]
        for code in (("SOURCE.DIR", "code"), ("SOURCE", "{DIR: code}")):
            done = below("check", "--offline", "../sagemaker_config.yaml", *words, "--set", *code)
            assert done.code == 0, done.err

    def test_of_a_section_that_is_given_in_part_counts_from_the_files_folder(
        self, below: CommandLine
    ) -> None:
        words = ("--set", "SOURCE", "{ENTRY_POINT: main.py}", "--train", "SEED", "7")
        assert below("check", "--offline", "../sagemaker_config.yaml", *words).code == 0

    def test_that_the_hint_of_a_rehearsal_without_code_names_is_one_that_launch_takes(
        self, cli: CommandLine, project: Project
    ) -> None:
        project.write(SOURCE={"DIR": ""})
        words = ("launch", project.config, "--on", "process", "--s3-root", project.s3)
        above = CommandLine(project.folder.parent, cli.environment)
        assert "--set SOURCE.DIR" in above(*words).err
        done = above(*words, "--set", "SOURCE.DIR", f"{project.folder.name}/code")
        assert done.code == 0, done.err


class TestValues:
    """As they come out when they go through files, merging and the request."""

    @provokes(7)
    def test_of_yaml_1_1_come_out_as_they_were_written(self, project: Project) -> None:
        text = project.config.read_text()
        project.config.write_text(
            text.replace(
                "ESTIMATOR:\n",
                "ESTIMATOR:\n  HYPERPARAMETERS:\n"
                "    country: NO\n    switch: on\n    permissions: 010\n    time: 1:30\n    rate: 1e-3\n"
                "    day: 2024-01-01\n    version: 1.10\n    commit: 1234e56\n    account: 012345678901\n    none: None\n"
                "    many: 1_000\n    tuple: (1, 2)\n",
            )
        )
        request = config.load(project.config).job("tiny-1").hyperparameters
        assert request == {
            "country": "NO",
            "switch": "on",
            "permissions": "010",
            "time": "1:30",
            "rate": "1e-3",
            "day": "2024-01-01",
            "version": "1.10",
            "commit": "1234e56",
            "account": "012345678901",
            "none": "None",
            "many": "1_000",
            "tuple": "(1, 2)",
        }

    @provokes(4, 5, 6, 16)
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ('EPOCHS: "3"', '2:11: SOLVER.EPOCHS: wrong type; expected a whole number, got the text "3"'),
            ("EPOCHS: 1e1", "2:11: SOLVER.EPOCHS: wrong type; expected a whole number, got 1e1"),
            ("EPOCHS: null", "2:11: SOLVER.EPOCHS: wrong type; expected a whole number, got null"),
            ("NESTEROV: yes", "2:13: SOLVER.NESTEROV: wrong type; expected true or false, got yes"),
            ("STEPS: 3", "2:10: SOLVER.STEPS: wrong type; expected a list, got 3"),
            ("STEPS: [3, x]", "2:14: SOLVER.STEPS[1]: wrong type; expected a whole number, got x"),
            ("BASE_LR: .inf", "2:12: SOLVER.BASE_LR: not a finite number, got .inf"),
            ("BASE_LR: .nan", "2:12: SOLVER.BASE_LR: not a finite number, got .nan"),
            ("BASE_LRR: 1", "2:3: SOLVER.BASE_LRR: unknown key (did you mean SOLVER.BASE_LR?)"),
        ],
    )
    def test_of_the_training_config_are_checked_against_its_own_schema(
        self, project: Project, text: str, line: str
    ) -> None:
        project.write_training(f"SOLVER:\n  {text}\n")
        assert _lines(project) == [f"training_config.yaml:{line}"]

    @provokes(6)
    def test_of_an_empty_section_are_told(self, project: Project) -> None:
        project.write_training("SOLVER:\n")
        assert _lines(project) == [
            "training_config.yaml:1:8: SOLVER: wrong type; expected a mapping, got nothing"
        ]

    @provokes(5)
    def test_whole_numbers_do_for_numbers(self, project: Project) -> None:
        project.write_training("SOLVER:\n  BASE_LR: 1\n")
        assert b"BASE_LR: 1.0\n" in _load(project).training_yaml

    def test_of_a_training_config_without_a_schema_are_taken_as_they_are(self, project: Project) -> None:
        (project.folder / "code" / "config.py").unlink()
        project.write_training("anything: {goes: [1, two, null]}\n")
        assert yaml.safe_load(_load(project).training_yaml) == {"anything": {"goes": [1, "two", None]}}

    def test_of_another_version_of_this_file_are_refused(self, project: Project) -> None:
        project.write(VERSION=2)
        assert _lines(project) == ["sagemaker_config.yaml:1:10: VERSION: version 2 is unknown; expected 1"]

    def test_of_a_config_are_frozen(self, project: Project) -> None:
        sagemaker: Any = _load(project).sagemaker
        with pytest.raises(AttributeError):
            sagemaker.EXPERIMENT_NAME = "another"
        with pytest.raises(AttributeError):
            sagemaker.S3.OUTPUTS = "s3://another"


class TestOverrides:
    @pytest.mark.parametrize(
        ("key", "value", "path", "found"),
        [
            ("ESTIMATOR.INSTANCE_TYPE", "ml.g5.xlarge", ("ESTIMATOR", "INSTANCE_TYPE"), "ml.g5.xlarge"),
            ("ESTIMATOR.MAX_RUN", "60", ("ESTIMATOR", "MAX_RUN"), 60),
            (
                "ESTIMATOR.HYPERPARAMETERS.SOLVER.BASE_LR",
                "1e-3",
                ("ESTIMATOR", "HYPERPARAMETERS", "SOLVER.BASE_LR"),
                "1e-3",
            ),
            ("ESTIMATOR.ENVIRONMENT.NCCL_DEBUG", "INFO", ("ESTIMATOR", "ENVIRONMENT", "NCCL_DEBUG"), "INFO"),
            ("TAGS.cost", "012", ("TAGS", "cost"), "012"),
            ("CHANNELS.training", "s3://team/other/", ("CHANNELS", "training", "S3_URI"), "s3://team/other/"),
            ("CHANNELS.training.INPUT_MODE", "Pipe", ("CHANNELS", "training", "INPUT_MODE"), "Pipe"),
            (
                "CHANNELS.training.INPUT_MODE",
                "Pipe",
                ("CHANNELS", "training", "S3_URI"),
                "s3://team/data/train/",
            ),
            ("CHANNELS.extra", "s3://team/extra/", ("CHANNELS", "extra", "S3_URI"), "s3://team/extra/"),
            (
                "ESTIMATOR.CONTAINER_ARGUMENTS",
                "[--a, 1.10]",
                ("ESTIMATOR", "CONTAINER_ARGUMENTS"),
                ["--a", "1.10"],
            ),
        ],
    )
    def test_of_the_sagemaker_config(
        self, project: Project, key: str, value: str, path: tuple[str, ...], found: object
    ) -> None:
        configs = _load(project, ("--set", key, value))
        node: Any = configs.sagemaker
        archived = yaml.safe_load(configs.sagemaker_yaml)
        for step in path:
            node, archived = node[step], archived[step]
        assert node == archived == found

    def test_of_the_training_config(self, project: Project) -> None:
        configs = _load(
            project, ("--train", "SOLVER.STEPS", "[1, 2]"), ("--train", "SOLVER.NESTEROV", "true")
        )
        training = yaml.safe_load(configs.training_yaml)
        assert training["SOLVER"] == {"BASE_LR": 0.5, "EPOCHS": 2, "NESTEROV": True, "STEPS": [1, 2]}

    @provokes(17)
    def test_that_are_wrong_are_told_by_option(self, project: Project) -> None:
        assert _lines(
            project,
            ("--set", "ESTIMATOR.MAX_RUNN", "3"),
            ("--set", "S3", "x"),
            ("--set", "CHANNELS.training.MODE", "Pipe"),
            ("--train", "SOLVER.BASE_LR", "x"),
            ("--train", "SLOVER.BASE_LR", "1"),
        ) == [
            "--set ESTIMATOR.MAX_RUNN: unknown key (did you mean ESTIMATOR.MAX_RUN?)",
            "--set S3: wrong type; expected a mapping, got x",
            "--set CHANNELS.training.MODE: unknown key",
            "--train SOLVER.BASE_LR: wrong type; expected a number, got x",
            "--train SLOVER.BASE_LR: SLOVER: unknown key (did you mean SOLVER?)",
        ]

    def test_name_themselves_when_the_job_they_make_is_wrong(self, project: Project) -> None:
        [line] = _lines(project, ("--set", "ESTIMATOR.INSTANCE_TYPE", "ml.m5.lrage"))
        assert line.startswith("--set ESTIMATOR.INSTANCE_TYPE: the service knows no such value")


class TestRenamedKey:
    @provokes(18)
    def test_warns_and_is_archived_under_its_new_name(self, cli: CommandLine, project: Project) -> None:
        text = project.config.read_text()
        project.config.write_text(text.replace("INSTANCE_TYPE", "TRAIN_INSTANCE_TYPE"))
        line = text[: text.index("INSTANCE_TYPE")].count("\n") + 1
        done = cli("check", "--offline", "sagemaker_config.yaml")
        warning = (
            f"sagemaker_config.yaml:{line}: ESTIMATOR.TRAIN_INSTANCE_TYPE is now called ESTIMATOR.INSTANCE_TYPE; "
            "please rename it"
        )
        assert (done.code, done.err) == (0, "")
        assert warning in done.out
        checks = cli("check", "--offline", "sagemaker_config.yaml", "--json").json["checks"]
        assert [one["message"] for one in checks if one["verdict"] == "warning"] == [warning]
        archived = _load(project).sagemaker_yaml
        assert b"  INSTANCE_TYPE: ml.m5.large\n" in archived
        assert b"TRAIN_INSTANCE_TYPE" not in archived

    @provokes(18)
    def test_beside_its_new_name_is_a_problem(self, project: Project) -> None:
        text = project.config.read_text()
        project.config.write_text(
            text.replace("ESTIMATOR:\n", "ESTIMATOR:\n  TRAIN_INSTANCE_TYPE: ml.m5.large\n")
        )
        [problem] = _problems(project)
        assert problem.key == "ESTIMATOR.TRAIN_INSTANCE_TYPE"
        assert problem.message == "is the old name of INSTANCE_TYPE, which is given too"


class TestJob:
    """Rules and the service's model, as they look from the config."""

    def test_an_archive_may_have_every_name_that_a_tag_may_have(self, project: Project) -> None:
        place = "s3://team/ab/c_d.e:f=g+h-i@j/\u00e9\u4e2d"
        assert _load(project, ("--set", "S3.CONFIGS", place)).sagemaker["S3"]["CONFIGS"] == place

    @provokes(20)
    @pytest.mark.parametrize(
        ("sections", "key", "message"),
        [
            ({"S3": {"CONFIGS": ""}}, "S3.CONFIGS", "an S3 URI is needed"),
            (
                {"S3": {"CONFIGS": "s3://team/exp(1)"}},
                "S3.CONFIGS",
                "a tag of the job, which cannot have '(' ')'",
            ),
            ({"S3": {"CONFIGS": "s3://team/a&b,c%20"}}, "S3.CONFIGS", "which cannot have '%' '&' ','"),
            ({"S3": {"CONFIGS": "s3://team/\U0001f600"}}, "S3.CONFIGS", "a tag of the job"),
            ({"S3": {"CONFIGS": "https://team/x"}}, "S3.CONFIGS", "has to start with s3://"),
            (
                {"S3": {"CONFIGS": f"s3://team/{'x' * 300}"}},
                "S3.CONFIGS",
                "the job's tag that names it takes 256",
            ),
            (
                {"ESTIMATOR": {"HYPERPARAMETERS": {"a": "x" * 2501}}},
                "ESTIMATOR.HYPERPARAMETERS.a",
                "2,501 char",
            ),
            (
                {"ESTIMATOR": {"HYPERPARAMETERS": {"a": "x\ny"}}},
                "ESTIMATOR.HYPERPARAMETERS.a",
                "characters or a form",
            ),
            (
                {"ESTIMATOR": {"HYPERPARAMETERS": {f"a{n}": "x" for n in range(101)}}},
                "ESTIMATOR.HYPERPARAMETERS",
                "has 101 entries",
            ),
            ({"ESTIMATOR": {"ENVIRONMENT": {"A": "x" * 513}}}, "ESTIMATOR.ENVIRONMENT.A", "513 characters"),
            (
                {"ESTIMATOR": {"ENVIRONMENT": {"A-B": "x"}}},
                "ESTIMATOR.ENVIRONMENT.A-B",
                "characters or a form",
            ),
            *(
                (
                    {
                        "ESTIMATOR": {
                            "DEBUGGER_HOOK_CONFIG": {
                                "S3_OUTPUT_PATH": "s3://team/x",
                                "HOOK_PARAMETERS": {name: "x"},
                            }
                        }
                    },
                    f"ESTIMATOR.DEBUGGER_HOOK_CONFIG.HOOK_PARAMETERS.{name}",
                    f"has {len(name)} characters",
                )
                for name in ("", "k" * 257)
            ),
            (
                {
                    "ESTIMATOR": {
                        "INSTANCE_PLACEMENT_CONFIG": {
                            "PLACEMENT_SPECIFICATIONS": [{"ULTRA_SERVER_ID": f"u{n}"} for n in range(11)]
                        }
                    }
                },
                "ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS",
                "has 11 entries",
            ),
            # PYTHONUNBUFFERED and the hash are in every job.
            (
                {"ESTIMATOR": {"ENVIRONMENT": {f"A{n}": "x" for n in range(99)}}},
                "ESTIMATOR.ENVIRONMENT",
                "100 variables, the default PYTHONUNBUFFERED included; at most 99",
            ),
            (
                {"ESTIMATOR": {"ENVIRONMENT": {"TRAINING_CONFIG_SHA256": "x"}}},
                "ESTIMATOR.ENVIRONMENT.TRAINING_CONFIG_SHA256",
                "is set by this tool",
            ),
            ({"TAGS": {"a": "x" * 257}}, "TAGS.a", "257 characters"),
            ({"TAGS": {"x" * 129: "a"}}, f"TAGS.{'x' * 129}", "129 characters"),
            ({"TAGS": {"a": "🙂"}}, "TAGS.a", "characters or a form"),
            ({"TAGS": {f"t{n}": "x" for n in range(49)}}, "TAGS", "at most 48"),
            ({"CHANNELS": {"my data": "s3://team/x"}}, "CHANNELS.my data", "characters or a form"),
            (
                {"CHANNELS": {f"c{n}": "s3://team/x" for n in range(19)}},
                "CHANNELS",
                "20 channels; at most 19",  # with `training`
            ),
            (
                {"CHANNELS": {"training": {"S3_URI": "s3://team/x", "INPUT_MODE": "Fast"}}},
                "CHANNELS.training.INPUT_MODE",
                "knows no such value",
            ),
            (
                {"ESTIMATOR": {"METRIC_DEFINITIONS": [{"Name": "loss", "Regex": "loss=[0-9.]+"}]}},
                "ESTIMATOR.METRIC_DEFINITIONS[0].Regex",
                "has no group",
            ),
            (
                {"ESTIMATOR": {"METRIC_DEFINITIONS": [{"Name": "", "Regex": "(a)"}]}},
                "ESTIMATOR.METRIC_DEFINITIONS[0].Name",
                "has 0 characters",
            ),
            (
                {"ESTIMATOR": {"METRIC_DEFINITIONS": [{"Name": f"m{n}", "Regex": "(a)"} for n in range(41)]}},
                "ESTIMATOR.METRIC_DEFINITIONS",
                "has 41 entries",
            ),
            ({"ESTIMATOR": {"MAX_RETRY_ATTEMPTS": 31}}, "ESTIMATOR.MAX_RETRY_ATTEMPTS", "31 is out of range"),
            ({"ESTIMATOR": {"MAX_RUN": 0}}, "ESTIMATOR.MAX_RUN", "0 is out of range"),
            ({"ESTIMATOR": {"MAX_RUN": 10**20}}, "ESTIMATOR.MAX_RUN", "longer than 28 days"),
            ({"ESTIMATOR": {"VOLUME_SIZE": 10**20}}, "ESTIMATOR.VOLUME_SIZE", "is out of range"),
            (
                {"ESTIMATOR": {"INSTANCE_TYPE": "ml.m5.lrage"}},
                "ESTIMATOR.INSTANCE_TYPE",
                "knows no such value",
            ),
            (
                {
                    "ESTIMATOR": {
                        "INSTANCE_TYPE": "",
                        "INSTANCE_GROUPS": [
                            {"INSTANCE_GROUP_NAME": "a", "INSTANCE_TYPE": "ml.m5.large"},
                            {"INSTANCE_GROUP_NAME": "b", "INSTANCE_TYPE": "ml.m5.lrage"},
                        ],
                    }
                },
                "ESTIMATOR.INSTANCE_GROUPS[1].INSTANCE_TYPE",
                "knows no such value",
            ),
            (
                {"ESTIMATOR": {"MODEL_URI": "s3://team/m", "MODEL_CHANNEL_NAME": "my model"}},
                "ESTIMATOR.MODEL_CHANNEL_NAME",
                "characters or a form",
            ),
            (
                {"ESTIMATOR": {"USE_SPOT_INSTANCES": True}},
                "S3.CHECKPOINTS",
                "is needed with USE_SPOT_INSTANCES",
            ),
            ({"ESTIMATOR": {"TRAINING_PLAN": "plan"}}, "ESTIMATOR.TRAINING_PLAN", "has 4 characters"),
            ({"SOURCE": {"DIR": "cod"}}, "SOURCE.DIR", "no such folder"),
            ({"SOURCE": {"DIR": "x" * 300}}, "SOURCE.DIR", "no such folder"),
            ({"SOURCE": {"DIR": "a\0b"}}, "SOURCE.DIR", "no such folder"),
            ({"SOURCE": {"ENTRY_POINT": "train.py"}}, "SOURCE.ENTRY_POINT", "no such file"),
            ({"SOURCE": {"ENTRY_POINT": "x" * 300}}, "SOURCE.ENTRY_POINT", "no such file"),
            (
                {"SOURCE": {"ENTRY_POINT": "../code/main.py"}},
                "SOURCE.ENTRY_POINT",
                "has to be a file below SOURCE.DIR",
            ),
            (
                {"SOURCE": {"ENTRY_POINT": "/bin/sh"}},
                "SOURCE.ENTRY_POINT",
                "has to be a file below SOURCE.DIR",
            ),
            *(
                ({"SOURCE": {"CONTAINER_DIR": path}}, "SOURCE.CONTAINER_DIR", "has to be the absolute path")
                for path in _NO_FOLDERS
            ),
            *(
                (_saved_in(path), "ESTIMATOR.CHECKPOINT_LOCAL_PATH", "has to be the absolute path")
                for path in _NO_FOLDERS
                if path  # empty: the usual one
            ),
        ],
    )
    def test_that_the_service_would_refuse_is_told_by_key_and_place(
        self, project: Project, sections: Settings, key: str, message: str
    ) -> None:
        project.write(**sections)
        problem, *more = _problems(project)
        assert problem.key == key
        assert message in problem.message
        assert all(other.key == key for other in more)  # size and form of one value
        # Where the key, or the nearest section above it, stands in the file.
        assert str(problem).startswith(f"{project.config}:")
        line, column = (int(number) for number in problem.where.removeprefix(f"{project.config}:").split(":"))
        assert 1 <= column <= len(project.config.read_text().splitlines()[line - 1])

    @pytest.mark.parametrize(
        ("path", "taken"),
        [
            ("/opt/ml/input", "/opt/ml/input is for the channels"),
            ("/opt/ml/input/data/training", "/opt/ml/input is for the channels"),
            ("/opt/ml/model", "/opt/ml/model is for the model"),
            ("/opt/ml/model/code/", "/opt/ml/model is for the model"),
            ("/opt/ml/output", "/opt/ml/output is for what the program leaves"),
            ("/opt/ml/output/data/code", "/opt/ml/output is for what the program leaves"),
            ("/proc/code", "/proc is for what the kernel shows"),
        ],
    )
    def test_puts_no_code_where_the_service_puts_something_else(
        self, project: Project, path: str, taken: str
    ) -> None:
        project.write(SOURCE={"DIR": "code", "CONTAINER_DIR": path})
        [problem] = _problems(project)
        assert problem.key == "SOURCE.CONTAINER_DIR"
        assert taken in problem.message
        assert "such as /opt/ml/code" in problem.expected

    @pytest.mark.parametrize(
        ("path", "taken"),
        [
            ("/opt/ml", "/opt/ml/input is for the channels"),
            ("/opt", "/opt/ml/input is for the channels"),
            ("/opt/ml/input", "/opt/ml/input is for the channels"),
            ("/opt/ml/input/data/training", "/opt/ml/input is for the channels"),
            ("/opt/ml/code", "/opt/ml/code is for the training code"),
            ("/opt/ml/code/saved", "/opt/ml/code is for the training code"),
            ("/opt/ml/output", "/opt/ml/output/failure is for the reason why a job failed"),
            ("/opt/ml/output/failure", "/opt/ml/output/failure is for the reason why a job failed"),
            ("/proc/saved", "/proc is for what the kernel shows"),
            ("/srv/app/", "/srv/app is for it (SOURCE.CONTAINER_DIR)"),
            ("/srv", "/srv/app is for it (SOURCE.CONTAINER_DIR)"),
        ],
    )
    def test_keeps_no_checkpoints_where_something_else_has_to_be(
        self, project: Project, path: str, taken: str
    ) -> None:
        project.write(**_saved_in(path), SOURCE={"DIR": "code", "CONTAINER_DIR": "/srv/app"})
        [problem] = _problems(project)
        assert problem.key == "ESTIMATOR.CHECKPOINT_LOCAL_PATH"
        assert taken in problem.message
        assert "such as /opt/ml/checkpoints" in problem.expected

    def test_keeps_no_checkpoints_in_their_usual_folder_when_the_code_is_there(
        self, project: Project
    ) -> None:
        code = {"DIR": "code", "CONTAINER_DIR": "/opt/ml/checkpoints/app"}
        project.write(SOURCE=code)
        _load(project)  # it has no checkpoints
        project.write(SOURCE=code, **_saved_in(""))
        [problem] = _problems(project)
        assert problem.key == "ESTIMATOR.CHECKPOINT_LOCAL_PATH"
        assert "/opt/ml/checkpoints/app is for it (SOURCE.CONTAINER_DIR)" in problem.message

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "/opt/ml/checkpoints/",
            "/opt/ml/my/states",
            "/opt/ml/model",
            "/opt/ml/model/states",
            "/opt/ml/output/data",
            "/opt/ml/code-states",
            "/data/ckpt",
            "/srv/app/states",
            "/tmp/states",
        ],
    )
    def test_keeps_checkpoints_anywhere_else(self, project: Project, path: str) -> None:
        project.write(**_saved_in(path), SOURCE={"DIR": "code", "CONTAINER_DIR": "/srv/app/"})
        assert _load(project).job("tiny-1").checkpoint_local_path == path

    def test_limits_leave_room_for_what_this_tool_adds(self, project: Project) -> None:
        project.write(
            TAGS={f"t{n}": "x" for n in range(48)},
            CHANNELS={f"c{n}": "s3://team/x" for n in range(18)},
            ESTIMATOR={"ENVIRONMENT": {f"A{n}": "x" for n in range(98)}},
        )
        assert len(_load(project).job("tiny-1").environment) == 100

    @provokes(22)
    def test_of_a_new_instance_type_can_be_forced(self, cli: CommandLine, project: Project) -> None:
        project.write(ESTIMATOR={"INSTANCE_TYPE": "ml.m9.large"})
        [error] = _errors(cli("check", "--offline", project.config))
        assert "or --force-instance-type for one that is newer than the installed botocore" in error
        assert "got ml.m9.large (did you mean ml.m" in error
        assert cli("check", "--offline", project.config, "--force-instance-type").code == 0

    def test_is_not_blamed_for_a_value_that_is_of_the_wrong_type(self, project: Project) -> None:
        text = project.config.read_text().replace(
            "  INSTANCE_TYPE: ml.m5.large\n", "  INSTANCE_TYPE: [ml.m5.large]\n"
        )
        project.config.write_text(text)
        [problem] = _problems(project)
        assert problem.message == "wrong type"


class TestChannelKey:
    @provokes(19)
    def test_of_the_training_config_names_a_channel_that_exists(self, project: Project) -> None:
        project.write_training("DATA:\n  TRAIN_CHANNEL: train\n")
        [line] = _lines(project)
        assert line == (
            "training_config.yaml:2:18: DATA.TRAIN_CHANNEL: the SageMaker config has no such channel; "
            "expected one of CHANNELS: training, got train"
        )

    def test_of_the_defaults_counts_too(self, project: Project) -> None:
        project.write(CHANNELS={})
        text = project.config.read_text().replace("training: s3", "other: s3")
        project.config.write_text(text)
        [line] = _lines(project)
        assert line.startswith(
            "training_config.yaml: DATA.TRAIN_CHANNEL: the SageMaker config has no such channel"
        )

    def test_can_be_satisfied_by_an_option(self, project: Project) -> None:
        project.write_training("DATA:\n  TRAIN_CHANNEL: train\n")
        assert _load(project, ("--set", "CHANNELS.train", "s3://team/x/"))
        assert _load(project, ("--train", "DATA.TRAIN_CHANNEL", "training"))


_CANNOT = "code/config.py{place}: cannot be loaded: {what}"


class TestSchemaProgram:
    """`config.py` beside the training code, which users write."""

    @pytest.mark.parametrize(
        ("program", "line", "what"),
        [
            ("a = 1\nb = (\n", 2, "SyntaxError: '(' was never closed"),
            ("\n\nraise RuntimeError('no licence')\n", 3, "RuntimeError: no licence"),
            ("import nonexistent_package\n", 1, "ModuleNotFoundError: No module named 'nonexistent_package'"),
            ("def get_cfg_defaults():\n    return 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
            ("def helper():\n    raise ValueError('deep')\n\n\nhelper()\n", 2, "ValueError: deep"),
            ("raise SystemExit(0)\n", 1, "SystemExit: 0"),
            ("import sys\nsys.exit('bye')\n", 2, "SystemExit: bye"),
            ("x = 1\n", None, "has no attribute 'get_cfg_defaults'"),
            (
                "def get_cfg_defaults():\n    return None\n",
                None,
                "get_cfg_defaults() gave a NoneType, not a YACS node",
            ),
            (
                "def get_cfg_defaults():\n    return {'A': float('inf')}\n",
                None,
                "cannot be written as YAML: inf",
            ),
            (
                "def get_cfg_defaults():\n    return {'A': {1, 2}}\n",
                None,
                "cannot be written as YAML: {1, 2}",
            ),
            ("def get_cfg_defaults():\n    return {1: 2}\n", None, "cannot be a key: 1"),
            ("x = '\0'\n", None, "null byte"),
        ],
    )
    def test_that_fails_is_a_problem_with_its_line(
        self, project: Project, program: str, line: int | None, what: str
    ) -> None:
        (project.folder / "code" / "config.py").write_text(program)
        [problem] = _problems(project)
        assert problem.where.startswith(f"{project.folder}/code/config.py")
        assert problem.where.removeprefix(f"{project.folder}/code/config.py") in ("", f":{line}")
        assert problem.where.endswith("config.py" if line is None else f":{line}")
        assert problem.message.startswith("cannot be loaded: ")
        assert what in problem.message

    def test_that_fails_is_told_with_all_the_rest(self, cli: CommandLine, project: Project) -> None:
        (project.folder / "code" / "config.py").write_text("raise SystemExit(0)\n")
        project.write(EXPERIMENT_NAME="")
        errors = _errors(cli("check", "--offline", "sagemaker_config.yaml"))
        assert [error.rpartition(": ")[2] for error in errors] == ["0", "an experiment needs a name"]

    def test_that_prints_does_not_spoil_the_answer(self, cli: CommandLine, project: Project) -> None:
        program = project.folder / "code" / "config.py"
        program.write_text(f"print('hello from the schema')\n{program.read_text()}")
        done = cli("check", "--offline", "--json", project.config)
        assert done.json["valid"]
        assert "hello from the schema" in done.err

    def test_may_use_dataclasses(self, project: Project) -> None:
        (project.folder / "code" / "config.py").write_text(
            "from __future__ import annotations\nfrom dataclasses import asdict, dataclass\n\n\n"
            "@dataclass\nclass Defaults:\n    RATE: float = 0.5\n\n\n"
            "def get_cfg_defaults():\n    return asdict(Defaults())\n"
        )
        project.write_training("RATE: 1\n")
        assert _load(project).training_yaml == b"RATE: 1.0\n"

    def test_may_leave_sections_open_and_values_without_a_type(self, project: Project) -> None:
        (project.folder / "code" / "config.py").write_text(
            "from yacs.config import CfgNode\nC = CfgNode()\nC.FREE = CfgNode(new_allowed=True)\nC.FREE.A = 1\n"
            "C.ANY = None\nC.PAIR = (1, 'x')\n\n\ndef get_cfg_defaults():\n    return C\n"
        )
        project.write_training("FREE: {B: [1, x]}\nANY: 3\nPAIR: [2, y, z]\n")
        training = yaml.safe_load(_load(project).training_yaml)
        assert training == {"FREE": {"A": 1, "B": [1, "x"]}, "ANY": 3, "PAIR": [2, "y", "z"]}

    def test_leaves_nothing_in_the_folder_of_the_code(self, cli: CommandLine, project: Project) -> None:
        before = set((project.folder / "code").rglob("*"))
        assert cli("check", "--offline", project.config).code == 0
        assert set((project.folder / "code").rglob("*")) == before


# --- What is archived


_TRICKY = {
    "trap": "no",
    "version": "1.10",
    "commit": "1234e56",
    "none": "None",
    "account": "012345678901",
    "time": "1:30",
    "empty": "",
    "lines": "a\nb\n",
    "quotes": "'\"\\",
    "comment": "a # b",
    "foreign": "é漢🙂",
    "octal": "0o17",
    "date": "2024-01-01",
    "number": "1_000",
    "tilde": "~",
    "true": "true",
}


class TestArchivedConfig:
    def test_is_complete_and_knows_no_folder(self, project: Project) -> None:
        configs = _load(project)
        archived = yaml.safe_load(configs.sagemaker_yaml)
        assert archived["SOURCE"] == {
            "DIR": "",
            "ENTRY_POINT": "main.py",
            "CONTAINER_DIR": "/opt/ml/code",
        }
        assert archived["TRAINING_CONFIG"] == "training_config.yaml"
        assert archived["ESTIMATOR"]["VOLUME_SIZE"] == 30
        assert str(project.folder) not in configs.sagemaker_yaml.decode()
        assert configs.source.folder == project.folder / "code"
        assert configs.training_sha256 == hashlib.sha256(configs.training_yaml).hexdigest()

    def test_can_be_launched_from_another_folder_with_equal_bytes(
        self, project: Project, tmp_path: Path
    ) -> None:
        project.write(
            TAGS={"a": "1.10"},
            ESTIMATOR={"ENVIRONMENT": {f"V_{key}": value for key, value in _TRICKY.items()}},
        )
        configs = _load(project, ("--set", "ESTIMATOR.MAX_RUN", "60"), ("--train", "NAME", "1234e56"))
        again = config.load(_written(tmp_path / "elsewhere", configs))
        assert again.sagemaker_yaml == configs.sagemaker_yaml
        assert again.training_yaml == configs.training_yaml
        assert again.job("tiny-1") == configs.job("tiny-1")

    def test_is_taken_byte_for_byte_when_nothing_changes(self, project: Project) -> None:
        configs = _load(project)
        again = _load_archived(configs)
        assert again.sagemaker_yaml == configs.sagemaker_yaml
        assert again.training_yaml == configs.training_yaml
        assert again.job("tiny-1") == configs.job("tiny-1")

    def test_keeps_its_bytes_even_where_this_version_would_write_them_differently(
        self, project: Project
    ) -> None:
        configs = _load(project)
        older = configs.sagemaker_yaml.replace(b"VERSION: 1\n", b'"VERSION": 1   # older\n')
        training = b"# by hand\n" + configs.training_yaml
        again = config.load_archived(
            ArchivedFile("s3://a/s.yaml", older), ArchivedFile("s3://a/t.yaml", training), (), None
        )
        assert (again.sagemaker_yaml, again.training_yaml) == (older, training)

    def test_changes_only_where_an_option_says_so(self, project: Project) -> None:
        configs = _load(project)
        again = _load_archived(configs, ("--train", "SOLVER.BASE_LR", "1"))
        assert again.sagemaker_yaml == configs.sagemaker_yaml
        assert again.training_yaml == configs.training_yaml.replace(b"BASE_LR: 0.5", b"BASE_LR: 1.0")
        again = _load_archived(configs, ("--set", "ESTIMATOR.MAX_RUN", "60"))
        assert again.sagemaker_yaml == configs.sagemaker_yaml.replace(b"MAX_RUN: 86400", b"MAX_RUN: 60")
        assert again.training_yaml == configs.training_yaml

    @pytest.mark.parametrize(
        ("override", "problem"),
        [
            (
                ("--train", "SOLVER.BASE_LR", "x"),
                "--train SOLVER.BASE_LR: wrong type; expected a number",
            ),
            (("--train", "SOLVER.NEW", "1"), "--train SOLVER.NEW: unknown key"),
            (("--train", "DATA.TRAIN_CHANNEL", "x"), "the SageMaker config has no such channel"),
            (("--set", "ESTIMATOR.INSTANCE_TYPE", "x"), "the service knows no such value"),
            (("--set", "ESTIMATOR.ENVIRONMENT.TRAINING_CONFIG_SHA256", "x"), "is set by this tool"),
            (("--set", "SOURCE.ENTRY_POINT", "../x.py"), "has to be a file below SOURCE.DIR"),
            (("--set", "VERSION", "2"), "version 2 is unknown"),
        ],
    )
    def test_is_checked_with_the_options_of_a_rerun(
        self, project: Project, override: tuple[str, str, str], problem: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            _load_archived(_load(project), override)
        assert len(caught.value.problems) == 1
        assert problem in caught.value.message

    def test_that_was_tampered_with_is_told_by_its_uri(self, project: Project) -> None:
        configs = _load(project)
        bad = ArchivedFile(
            "s3://team/x/sagemaker_config.yaml", configs.sagemaker_yaml + b"EXTRA: 1\nMORE: 2\n"
        )
        with pytest.raises(ConfigError) as caught:
            config.load_archived(bad, ArchivedFile("s3://team/x/t.yaml", configs.training_yaml), (), None)
        assert [problem.where.rpartition("/")[0] for problem in caught.value.problems] == ["s3://team/x"] * 2

    @hypothesis_settings(deadline=None, max_examples=40)
    @given(given_settings=generated_settings().map(_with_a_folder_for_checkpoints))
    def test_of_any_config_is_stable(
        self, tmp_path_factory: pytest.TempPathFactory, given_settings: Settings
    ) -> None:
        folder = tmp_path_factory.mktemp("generated")
        (folder / "sagemaker_config.yaml").write_bytes(strict_yaml.dump(given_settings))
        (folder / "training_config.yaml").write_bytes(strict_yaml.dump({"TEXTS": _TRICKY}))
        configs = config.load(folder / "sagemaker_config.yaml")
        again = config.load(_written(folder / "again", configs))
        archived = _load_archived(configs)
        assert again.sagemaker_yaml == archived.sagemaker_yaml == configs.sagemaker_yaml
        assert again.training_yaml == archived.training_yaml == configs.training_yaml
        assert again.job("x-1") == archived.job("x-1") == configs.job("x-1")


def _written(folder: Path, configs: Configs) -> Path:
    folder.mkdir()
    (folder / "training_config.yaml").write_bytes(configs.training_yaml)
    path = folder / "sagemaker_config.yaml"
    path.write_bytes(configs.sagemaker_yaml)
    return path


def _load_archived(configs: Configs, *overrides: tuple[str, str, str]) -> Configs:
    return config.load_archived(
        ArchivedFile("s3://team/x/sagemaker_config.yaml", configs.sagemaker_yaml),
        ArchivedFile("s3://team/x/training_config.yaml", configs.training_yaml),
        tuple(Override(*override) for override in overrides),
        None,
    )


# --- What the container reads


@pytest.fixture(scope="module")
def container_config() -> Any:
    """`config.py` of the shipped training code, loaded as the container does."""
    path = ROOT / "sagemaker_container" / "config.py"
    spec = importlib.util.spec_from_file_location("container_config", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestContainer:
    def test_reads_the_archived_config_as_it_was_meant(self, container_config: Any, tmp_path: Path) -> None:
        configs = config.load(ROOT / "configs" / "sagemaker_config.yaml")
        path = tmp_path / "training_config.yaml"
        path.write_bytes(configs.training_yaml)
        assert strict_yaml.dump(container_config.load(path, {})) == configs.training_yaml

    @pytest.mark.parametrize(
        "text", [*_TRICKY.values(), "1e-4", ".5", "0x10", "[1]", "{a: 1}", "null", "=", "<<", "!x", "&a"]
    )
    def test_finds_every_text_as_it_was_written(
        self, container_config: Any, tmp_path: Path, text: str
    ) -> None:
        path = tmp_path / "training_config.yaml"
        path.write_bytes(strict_yaml.dump({"DATA": {"TRAINING_CHANNEL": text}}))
        found = container_config.load(path, {}).DATA.TRAINING_CHANNEL
        assert found == text

    @hypothesis_settings(
        deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        features=st.integers(min_value=1),
        channel=st.text(),
    )
    def test_finds_every_number_and_text_as_it_was_meant(
        self, container_config: Any, tmp_path: Path, rate: float, features: int, channel: str
    ) -> None:
        tree = {
            "SOLVER": {"BASE_LR": rate},
            "MODEL": {"FEATURES": features},
            "DATA": {"VALIDATION_CHANNEL": channel},
        }
        path = tmp_path / "training_config.yaml"
        path.write_bytes(strict_yaml.dump(tree))
        node = container_config.load(path, {})
        found = (node.SOLVER.BASE_LR, node.MODEL.FEATURES, node.DATA.VALIDATION_CHANNEL)
        assert found == (rate, features, channel)


# --- Fuzz


_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            [
                "ESTIMATOR", "CHANNELS", "S3", "SOURCE", "TAGS", ":", ": ", "\n", "\n  ", "- ", "[", "]", "{", "}", ",", "\t",
                "&a", "*a", "!!python/object:x", "!", "'", '"', "|", ">", "#", "?", "%YAML 1.2", "---", "...", "<<", "null",
                "true", "1", "-1", "1e999", ".inf", "0x", "\0", "\r", "\ufeff", "\x85", "\u2028", "é", "s3://a-b/c", "items",
                "__class__", "INSTANCE_TYPE", "training", "REGION", "DIR", "~", "..", "/", "METRIC_DEFINITIONS", "Regex", "(",
                "TRAIN_INSTANCE_TYPE", "INSTANCE_GROUPS", "VERSION", "TRAINING_CONFIG", "x.yaml", "EXPERIMENT_NAME",
            ]
        ),
        max_size=25,
    ).map("".join),
)  # fmt: skip
# Values of every kind, in the place of every key: what passes the syntax and meets the checks.
_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
        st.sampled_from(["s3://team/x/", "..", "x" * 300, "a\0b", "(", "ml.m5.large", "us-east-1", "code"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
_KEYS = [*config.sagemaker_schema().dotted_keys, "CHANNELS.a", "ESTIMATOR.HYPERPARAMETERS.a", "TAGS.a"]


def _nested(key: str, value: object) -> Settings:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _fuzzed(project: Project, *overrides: Override) -> None:
    """Whatever is in the files: configs, or problems that can be told."""
    try:
        configs = config.load(project.config, overrides)
    except ConfigError as error:
        problems = error.problems
    else:
        assert yaml.safe_load(configs.sagemaker_yaml)
        return
    assert problems
    assert all(problem.where and problem.message for problem in problems)


_relaxed = hypothesis_settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class TestFuzz:
    @_relaxed
    @given(text=_TEXTS)
    @example(text="a: &a [*a, *a]")
    @example(text="[" * 5000)
    def test_any_text_is_a_sagemaker_config_or_problems(self, project: Project, text: str) -> None:
        project.config.write_bytes(text.encode("utf-8", "surrogatepass"))
        _fuzzed(project)

    @_relaxed
    @given(text=_TEXTS)
    def test_any_text_is_a_training_config_or_problems(self, project: Project, text: str) -> None:
        project.training.write_bytes(text.encode("utf-8", "surrogatepass"))
        _fuzzed(project)

    @_relaxed
    @given(data=st.binary(max_size=100))
    def test_any_bytes_are_a_config_or_problems(self, project: Project, data: bytes) -> None:
        project.config.write_bytes(data)
        _fuzzed(project)

    @_relaxed
    @given(key=st.sampled_from(_KEYS), value=_VALUES)
    def test_any_value_of_any_key_is_taken_or_a_problem(
        self, project: Project, key: str, value: object
    ) -> None:
        project.write()
        base = yaml.safe_load(project.config.read_text())
        section, _, rest = key.partition(".")
        change = _nested(key, value)[section]
        base[section] = (
            {**base[section], **change} if rest and isinstance(base.get(section), dict) else change
        )
        project.config.write_text(yaml.safe_dump(base, allow_unicode=True))
        _fuzzed(project)

    @_relaxed
    @given(
        option=st.sampled_from(["--set", "--train"]),
        key=st.one_of(st.sampled_from(_KEYS), st.text(max_size=20)),
        value=st.one_of(_TEXTS, st.text(max_size=20)),
    )
    def test_any_option_is_taken_or_a_problem(
        self, project: Project, option: str, key: str, value: str
    ) -> None:
        _fuzzed(project, Override(option, key, value))
