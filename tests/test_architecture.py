"""The walls: who may import what, what a start must not import, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sagemaker_launcher.scaffold.example import FOLDER
from tests.commands import ROOT, SCRIPT, CommandLine
from tests.fault_rows import provokes
from tests.project import Project

PACKAGE = "sagemaker_launcher"
# Libraries, and the only modules of the package that may import them.
WALLS = {
    "boto3": {"aws"},
    "botocore": {"aws", "s3_storage"},
    "click": {
        "cli",
        "cli.checking",
        "cli.completing",
        "cli.doctoring",
        "cli.fetching",
        "cli.initialising",
        "cli.jobs",
        "cli.launching",
        "cli.looking",
        "cli.options",
        "cli.overrides",
        "cli.rehearsal_options",
        "cli.shell",
        "cli.subjects",
    },
    "rich": {"console"},
    "sagemaker": {"estimator"},
    "yaml": {"strict_yaml"},
    "yacs": {"defaults"},
}
HEAVY = {"boto3", "botocore", "rich", "sagemaker", "yacs", "yaml"}
DANGEROUS_CALLS = {
    *("eval", "exec", "builtins.eval", "builtins.exec", "os.system", "os.popen", "torch.load"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
    *(f"yaml.{how}load{all_}" for how in ("", "full_", "unsafe_") for all_ in ("", "_all")),
}
DANGEROUS_OPTIONS = {"shell", "allow_pickle"}
DANGEROUS_MODULES = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
# Words that are made of two halves would be found here, too, if they were written in one.
UNWANTED = {
    "a package registry": r"pypi\.org|pythonhosted\.org|anaconda\.(org|com)|--find-links",
    "a path of somebody's machine": r"(?<![\w.}~])/(work|root|home)/(?!user\b|me\b)\w",
}


@cache
def modules(folder: str) -> dict[str, ast.Module]:
    """The syntax tree of every module below a folder, by dotted name without the folder's own."""
    return {
        ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
        .removesuffix("__init__")
        .rstrip("."): ast.parse(path.read_text("utf-8"))
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_relative_to(FOLDER)  # the example's copies: no modules of ours
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere, functions included, but for the sake of types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            yield str(name.value) if isinstance(name, ast.Constant) else ""
        yield from imports(node)


def own_imports(name: str) -> set[str]:
    """The package's own modules that a module imports, by their names in `modules`; the package itself left out."""
    known = modules(PACKAGE)
    found = set()
    for imported in imports(known[name]):
        root, _, rest = imported.partition(".")
        if root == PACKAGE:
            found.add(rest if rest in known else rest.rpartition(".")[0])
    return found - {name, ""}


def layers() -> list[list[str]]:
    """The layers that CONTRIBUTING.md describes, the highest first."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    table = text.partition("<!-- layers -->")[2].partition("<!-- end of layers -->")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [re.findall(r"`([\w.]+)`", row) for row in rows]


@pytest.mark.parametrize("library", WALLS)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {
        name
        for name, tree in modules(PACKAGE).items()
        for imported in imports(tree)
        if imported.partition(".")[0] == library
    }
    assert users == WALLS[library]


def test_the_layers_name_every_module_once() -> None:
    named = [module for layer in layers() for module in layer]
    # A folder's own file is a module only when more than its docstring stands in it.
    assert sorted(named) == sorted(
        name for name, tree in modules(PACKAGE).items() if name and len(tree.body) > 1
    )


def test_each_module_imports_only_from_lower_layers() -> None:
    height = {module: -number for number, layer in enumerate(layers()) for module in layer}
    upward = {
        f"{name} imports {imported}"
        for name in height
        for imported in own_imports(name)
        if height.get(imported, 0) >= height[name]
    }
    assert not upward


def test_frozen_dataclasses_are_made_in_one_way() -> None:
    """The standard ones, which change nothing but the time that each start takes, come back unnoticed otherwise."""
    assert {
        name
        for name, tree in modules(PACKAGE).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node) == "dataclass(frozen=True)"
    } == set()


def test_modules_are_chosen_by_name_at_run_time_in_the_command_line_alone() -> None:
    assert {name for name, tree in modules(PACKAGE).items() if "" in set(imports(tree))} == {"cli"}


def test_the_launcher_and_the_training_code_know_nothing_of_each_other() -> None:
    theirs = set(modules("sagemaker_container")) | {"sagemaker_container"}
    standard = set(sys.stdlib_module_names)
    for tree in modules(PACKAGE).values():
        assert not {imported.partition(".")[0] for imported in imports(tree)} & (theirs - standard)
    for tree in modules("sagemaker_container").values():
        assert PACKAGE not in {imported.partition(".")[0] for imported in imports(tree)}


@provokes(86)
@pytest.mark.parametrize("folder", [PACKAGE, "sagemaker_container", "bench", "tests"])
def test_no_code_runs_texts_or_reads_pickles(folder: str) -> None:
    for name, tree in modules(folder).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in DANGEROUS_CALLS, f"{folder}: {name}:{node.lineno}"
                options = {keyword.arg for keyword in node.keywords if ast.unparse(keyword.value) != "False"}
                assert not DANGEROUS_OPTIONS & options, f"{folder}: {name}:{node.lineno}"
        imported = set(imports(tree))
        assert not DANGEROUS_CALLS & imported, f"{folder}: {name}"  # from yaml import load
        assert not DANGEROUS_MODULES & {one.partition(".")[0] for one in imported}, f"{folder}: {name}"


def project_files() -> list[Path]:
    """What a commit of everything would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: this machine's own files cannot be told from the project's")
    names = listed.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", UNWANTED)
def test_no_file_names(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(UNWANTED[what], line)
    ]
    assert not found


def imported_by(cli: CommandLine, *words: str | Path) -> set[str]:
    """The top-level modules that a command imports in its own process."""
    command = [sys.executable, "-X", "importtime", str(SCRIPT), *map(str, words)]
    done = subprocess.run(
        command, cwd=cli.folder, env=dict(cli.environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE)
    assert PACKAGE in names
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("-h",)])
def test_help_and_version_import_nothing_heavy(cli: CommandLine, words: tuple[str, ...]) -> None:
    assert not imported_by(cli, *words) & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--offline", "sagemaker_config.yaml"),
        ("launch", "--dry-run", "sagemaker_config.yaml"),
        ("launch", "--on", "process", "--s3-root", "s3", "sagemaker_config.yaml"),
        ("list", "--config", "sagemaker_config.yaml", "--s3-root", "s3"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_what_needs_no_aws_imports_none(project: Project, cli: CommandLine, words: tuple[str, ...]) -> None:
    (project.s3 / "team").mkdir(exist_ok=True)
    assert not imported_by(cli, *words) & {"boto3", "botocore", "sagemaker"}
