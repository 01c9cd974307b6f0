"""The JSON Schemas that editors get say the same as the launcher: of every config that it takes, and of every mistake."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagemaker_launcher import config, service_model, strict_yaml
from sagemaker_launcher.coercion import ListOf, Open, Schema, Section, default_values, merge
from sagemaker_launcher.naming import experiment_name_problem
from sagemaker_launcher.scaffold.comments import key_comments
from sagemaker_launcher.scaffold.limits import SHAPES
from sagemaker_launcher.scaffold.schemas import modeline, schema_file, schemas_of
from sagemaker_launcher.training_schema import load_training_schema
from tests import generated_configs
from tests.commands import ROOT, CommandLine
from tests.project import Project

CONFIGS = ROOT / "configs"
# What botocore says, and the next botocore may say otherwise.
MODEL_WORDS = {"enum", "examples", "pattern", "minimum", "maximum", "maxLength", "maxItems", "maxProperties"}
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [None, [], {}, "many", 1.5, -1, True, ["x"], {"A": 1}, [[]], {"B": {}}]
)


@cache
def validator() -> jsonschema.Draft7Validator:
    schema = json.loads(
        schemas_of(CONFIGS / "sagemaker_config.yaml")[CONFIGS / "sagemaker_config.schema.json"]
    )
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def takes(document: Any) -> bool:
    """Whether an editor finds nothing wrong."""
    return bool(validator().is_valid(document))


def loader_takes(document: dict[str, Any], schema: Schema | None = None) -> bool:
    read = strict_yaml.parse(strict_yaml.dump(document), "x.yaml")
    return not merge(schema or config.sagemaker_schema(), read, "x.yaml").problems


def places(default: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key, with an item of each list and open mapping."""
    if path:
        yield path
    if isinstance(default, Section):
        for key, member in default.members.items():
            yield from places(member, (*path, key))
    elif isinstance(default, (Open, ListOf)):
        yield from places(default.element, (*path, "any" if isinstance(default, Open) else "0"))


PLACES = [path for path in places(config.sagemaker_schema().root) if path]


def put(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A config with one value at one place."""
    for key in reversed(path):
        value = [value] if key == "0" else {key: value}
    assert isinstance(value, dict)
    return value


@settings(deadline=None, max_examples=20, phases=generated_configs.WITHOUT_SHRINKING)
@given(generated_configs.settings())
def test_every_valid_config_pleases_the_schema(document: dict[str, Any]) -> None:
    problems = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(document)]
    assert not problems
    # The same with all defaults, as it is archived.
    merged = merge(config.sagemaker_schema(), strict_yaml.parse(strict_yaml.dump(document), "x"), "x").values
    assert takes(merged)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(PLACES), WRONG)
def test_a_type_is_wrong_for_the_editor_when_it_is_wrong_for_the_launcher(
    path: tuple[str, ...], value: Any
) -> None:
    document = put(path, value)
    if not loader_takes(document):
        assert not takes(document), document


@pytest.mark.parametrize("path", [path for path in PLACES if path[-1] not in {"any", "0"}], ids=".".join)
def test_an_unknown_key_is_refused_beside_every_key(path: tuple[str, ...]) -> None:
    document = put((*path[:-1], f"{path[-1]}_"), "x")
    anything_goes = path[:-1] in {("CHANNELS",), ("TAGS",)}
    assert anything_goes or not takes(document)


def test_every_default_and_every_old_name_pleases_the_schema() -> None:
    assert takes({})
    root = config.sagemaker_schema().root
    for key, default in default_values(root)["ESTIMATOR"].items():
        assert takes({"ESTIMATOR": {key: default}}) or default == "", key
    assert takes({"ESTIMATOR": {"TRAIN_INSTANCE_TYPE": "ml.m5.large", "IMAGE_NAME": "x", "TRAIN_MAX_RUN": 1}})


@pytest.mark.parametrize(
    "document",
    [
        {"ESTIMATOR": {"INSTANCE_TYPE": "ml.m5.larg"}},
        {"ESTIMATOR": {"INSTANCE_GROUPS": [{"INSTANCE_TYPE": "m5.large"}]}},
        {"ESTIMATOR": {"INPUT_MODE": "Fast"}},
        {"ESTIMATOR": {"ROLE": "SageMakerExecutionRole"}},
        {"ESTIMATOR": {"VOLUME_SIZE": 0}},
        {"ESTIMATOR": {"SUBNETS": ["subnet 1"]}},
        {"CHANNELS": {"training": {"S3_URI": "s3://team/x", "DISTRIBUTION": "Sharded"}}},
        {"CHANNELS": {"config": "s3://team/x"}},
        {"S3": {"OUTPUTS": "team/outputs"}},
        {"S3": {"CHECKPOINTS": "s3://Team/x"}},
        {"AWS": {"ACCOUNT": "12345"}},
        {"VERSION": 2},
        {"CHANNELS": {f"c{n}": "s3://team/x" for n in range(20)}},
        {"ESTIMATOR": {"ENVIRONMENT": {f"V{n}": "x" for n in range(100)}}},
    ],
    ids=lambda document: json.dumps(document)[:60],
)
def test_values_that_aws_would_refuse_are_refused_while_they_are_typed(document: dict[str, Any]) -> None:
    assert not takes(document)


@settings(deadline=None, max_examples=60)
@given(st.text("aB1._-/ é", max_size=8))
def test_names_of_experiments_are_judged_alike(name: str) -> None:
    assert takes({"EXPERIMENT_NAME": name}) is not bool(experiment_name_problem(name))


def test_each_shape_that_limits_a_key_is_one_that_aws_still_has() -> None:
    assert set(SHAPES.values()) <= service_model.shapes().keys()
    dotted = {".".join("*" if key in {"any", "0"} else key for key in path) for path in PLACES}
    assert SHAPES.keys() <= dotted


def test_every_key_with_a_comment_explains_itself_in_the_editor() -> None:
    properties = validator().schema["properties"]
    assert "such as us-east-1" in properties["AWS"]["properties"]["REGION"]["description"]
    channel = properties["CHANNELS"]["additionalProperties"]["anyOf"][1]["properties"]
    assert channel["SHUFFLE_SEED"]["description"] == "0: no shuffling"
    kinds = properties["ESTIMATOR"]["properties"]["INSTANCE_GROUPS"]["items"]["properties"]["INSTANCE_TYPE"]
    assert "ml.m5.xlarge" in kinds["enum"]


def test_comments_stand_in_their_line_or_above_it_and_also_inside_functions() -> None:
    source = "# about A\n# and more\nC.A = 1\nC.B = (\n    2  # about B\n)\nC.D = 3\ndef f():\n    c.E = 4  # about E\n"
    assert key_comments(source) == {"C.A": "about A and more", "C.B": "about B", "C.D": "", "c.E": "about E"}


def without_model(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_model(value) for key, value in schema.items() if key not in MODEL_WORDS}
    return [without_model(item) for item in schema] if isinstance(schema, list) else schema


def test_the_schemas_of_this_repository_are_fresh() -> None:
    for path, data in schemas_of(CONFIGS / "sagemaker_config.yaml").items():
        assert without_model(json.loads(path.read_bytes())) == without_model(json.loads(data)), (
            "run `make docs`"
        )


@pytest.mark.parametrize("name", ["sagemaker_config.yaml", "training_config.yaml"])
def test_a_config_of_this_repository_names_its_schema_and_pleases_it(name: str) -> None:
    path = CONFIGS / name
    first = path.read_text("utf-8").splitlines()[0]
    assert first == modeline(path)
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found
    schema = json.loads((path.parent / found[1]).read_bytes())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(strict_yaml.plain(strict_yaml.read(path)), schema, jsonschema.Draft7Validator)


TREE = """\
from yacs.config import CfgNode as CN

def get_cfg_defaults():
    _C = CN()
    _C.NAME = "plain"  # a name
    _C.RATE = 0.1
    _C.EPOCHS = 2
    _C.FLAG = False
    _C.STEPS = [10, 20]
    _C.WORDS = ["a"]
    _C.MIXED = [1, "a"]
    _C.NOTHING = []
    _C.OPEN = CN(new_allowed=True)
    _C.DEEP = CN()
    _C.DEEP.RATE = 0.5
    return _C
"""
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, 0, 3, -1, 1.5, "", "x", "1e3"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["RATE", "Z"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Schema, jsonschema.Draft7Validator]:
    """A training schema, and what an editor gets of it."""
    folder = tmp_path_factory.mktemp("trees")
    (folder / "config.py").write_text(TREE)
    (folder / "c.yaml").write_text("SOURCE: {DIR: .}\nTRAINING_CONFIG: t.yaml\n")
    own = load_training_schema(folder, [])
    assert own
    return own.schema, jsonschema.Draft7Validator(
        json.loads(schemas_of(folder / "c.yaml")[folder / "t.schema.json"])
    )


KEYS = ["NAME", "RATE", "EPOCHS", "FLAG", "STEPS", "WORDS", "MIXED", "NOTHING", "OPEN", "DEEP", "RATES"]


@settings(deadline=None, max_examples=100)
@given(document=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3))
def test_a_training_config_is_judged_alike(
    trees: tuple[Schema, jsonschema.Draft7Validator], document: dict[str, Any]
) -> None:
    schema, editor = trees
    assert editor.is_valid(copy.deepcopy(document)) is loader_takes(document, schema)


def test_schemas_are_written_anew_after_the_code_has_changed(cli: CommandLine, project: Project) -> None:
    done = cli("init", "--schemas", project.config.name)
    assert done.code == 0, done.err
    assert "yaml-language-server: $schema=sagemaker_config.schema.json" in done.err
    written = schema_file(project.training)
    assert "MOMENTUM" not in written.read_text()
    code = project.folder / "code" / "config.py"
    code.write_text(code.read_text().replace("_C.SEED = 0", "_C.SEED = 0\n_C.MOMENTUM = 0.9  # of the past"))
    again = cli("init", "--schemas", project.config.name, "--json")
    assert set(again.json["files"]) == {
        str(Path("sagemaker_config.schema.json")),
        "training_config.schema.json",
    }
    assert json.loads(written.read_bytes())["properties"]["MOMENTUM"]["description"] == "of the past"
    code.write_text("import nothing_like_this\n")
    broken = cli("init", "--schemas", project.config.name)
    assert (broken.code, broken.has_traceback) == (3, False)
    code.unlink()
    one = cli("init", "--schemas", project.config.name)
    assert (one.code, "no config.py in SOURCE.DIR" in one.err) == (0, True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("SOURCE:\n  DIR: ../nope\n", "SOURCE.DIR: no such folder: ../nope"),
        ("SOURCE:\n  DIRR: code\n", "SOURCE.DIRR: unknown key (did you mean SOURCE.DIR?)"),
        ("SOURC:\n  DIR: code\n", "SOURC: unknown key (did you mean SOURCE?)"),
        ("TRAINING_CONFIG: [a]\n", "TRAINING_CONFIG: wrong type"),
    ],
)
def test_a_config_that_tells_wrongly_where_the_code_is_gets_no_schema(
    cli: CommandLine, project: Project, wrong: str, said: str
) -> None:
    project.config.write_text(wrong)
    done = cli("init", "--schemas", project.config.name)
    assert (done.code, done.has_traceback) == (3, False)
    assert said in done.err
    assert not list(project.folder.glob("*.schema.json"))


def test_mistakes_elsewhere_in_a_config_keep_no_schema_from_it(cli: CommandLine, project: Project) -> None:
    project.config.write_text("SOURCE:\n  DIR: code\nTAGZ: 1\n")
    assert cli("init", "--schemas", project.config.name).code == 0
    assert len(list(project.folder.glob("*.schema.json"))) == 2


def test_without_room_the_schemas_stay_as_they_were(cli: CommandLine, project: Project) -> None:
    old = schema_file(project.config)
    old.write_text("{}")
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 8 && exec "$@"', "bash", *cli.command("init", "--schemas", project.config)],
        cwd=cli.folder,
        env=dict(cli.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 15
    assert "nothing was left there: File too large" in done.stderr
    assert [path.name for path in project.folder.iterdir() if "schema" in path.name] == [old.name]
    assert old.read_text() == "{}"
    assert {path.suffix for path in project.folder.iterdir() if path.is_file()} <= {".yaml", ".json"}
