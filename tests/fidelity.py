"""What a rehearsal reproduces of the service, row by row, and the tests that prove it: `python -m tests.fidelity` writes the table.

Tests say what they prove with the decorator `reproduces`. The table is made of the rows below and of those decorators, read
from the files of the tests without importing them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "fidelity.md"
TARGETS = ("docker", "process")
REPRODUCED, APPROXIMATED, IMPOSSIBLE = "reproduced", "approximated", "not possible here"


def reproduces(row: str, *targets: str) -> pytest.MarkDecorator:
    """Says that a test proves a row of the table for these targets (without any: for both)."""
    return pytest.mark.fidelity(row, *targets)


@dataclass(frozen=True)
class Verdict:
    """How well a target does in one row; what is not reproduced says why."""

    word: str
    why: str = ""


@dataclass(frozen=True)
class Row:
    """One behaviour of the service."""

    name: str
    behaviour: str
    docker: Verdict
    process: Verdict

    def verdict(self, target: str) -> Verdict:
        """The verdict for a target."""
        return self.docker if target == "docker" else self.process


_YES = Verdict(REPRODUCED)


def _almost(why: str) -> Verdict:
    return Verdict(APPROXIMATED, why)


def _no(why: str) -> Verdict:
    return Verdict(IMPOSSIBLE, why)


_IMAGE = _no("there is no image")
_PROCESS_TREE = (
    "the tree, with a copy of the code, lies in a folder of its own, which SAGEMAKER_BASE_DIR names and tracebacks show;"
    " /opt/ml itself is the machine's"
)
ROWS = (
    Row(
        "request",
        "The request is checked as the service checks it: lengths, patterns, known words, limits",
        _YES,
        _YES,
    ),
    Row("rules", "Rules between the members of the request, such as spot and its waiting time", _YES, _YES),
    Row(
        "start command",
        "The image is started with `train`, or with the request's entry point and arguments",
        _YES,
        _almost(
            "the program starts as AWS's training toolkit starts a script, with this machine's Python; a launch whose request"
            " has an entry point or arguments says that they are not used"
        ),
    ),
    Row(
        "files",
        "/opt/ml is fresh for every attempt and has the service's files, byte for byte as far as they are documented",
        _YES,
        _almost(_PROCESS_TREE),
    ),
    Row(
        "hosts",
        "Hosts are called algo-1 to algo-N, sorted as texts; their own host name is another",
        _YES,
        _almost(
            "names are known to the programs on Linux where users may make namespaces; all hosts share this machine's ports"
            " and its host name"
        ),
    ),
    Row(
        "variables",
        "The container has the service's variables and the request's, no SM_* and nothing of the laptop",
        _YES,
        _almost(
            "with the SM_* of the toolkit, and the few of this machine that a program needs, such as PATH and HOME"
        ),
    ),
    Row(
        "credentials",
        "Temporary credentials of the role from an endpoint",
        _almost("none; `--with-credentials` hands over the user's own as variables"),
        _almost("none; `--with-credentials` hands over the user's own as variables"),
    ),
    Row("file mode", "Where each object of a prefix, or a single object, lies in File mode", _YES, _YES),
    Row(
        "manifest",
        "The objects of a ManifestFile",
        _almost("the layout on disk is not documented: objects lie under their whole key"),
        _almost("the layout on disk is not documented: objects lie under their whole key"),
    ),
    Row(
        "fast file",
        "FastFile channels cannot be written to",
        _YES,
        _almost(
            "enforced on Linux where users may make namespaces; elsewhere by permissions, which root ignores"
        ),
    ),
    Row(
        "pipe",
        "FIFOs, one per epoch, with RecordIO, decompression and shuffling",
        _almost("on Linux; not through the virtual machine of Docker Desktop"),
        _YES,
    ),
    Row(
        "augmented manifest",
        "AugmentedManifestFile channels",
        _no("refused: nothing says how the service frames its records"),
        _no("refused: nothing says how the service frames its records"),
    ),
    Row(
        "file systems",
        "EFS and FSx channels",
        _no("they are reached inside the VPC only"),
        _no("they are reached inside the VPC only"),
    ),
    Row(
        "sharding",
        "ShardedByS3Key gives every object to exactly one host, FullyReplicated to all",
        _YES,
        _YES,
    ),
    Row("groups", "Instance groups: which host is in which, and which channels it gets", _YES, _YES),
    Row(
        "input writable",
        "A program may write into the folders of File mode",
        _almost("new files, deletions and renames; existing files are write-protected links into a cache"),
        _almost("new files, deletions and renames; existing files are write-protected links into a cache"),
    ),
    Row("time limit", "MaxRuntime: SIGTERM, 120 s, SIGKILL; Stopped, with the model", _YES, _YES),
    Row("waiting limit", "MaxWaitTime of a spot job: Stopped", _YES, _YES),
    Row("stop", "A stop: SIGTERM, 120 s, SIGKILL; Stopped, with the model", _YES, _YES),
    Row("failure", "Exit codes and the failure file become status and FailureReason", _YES, _YES),
    Row("host failure", "One host's failure is the job's", _YES, _YES),
    Row(
        "artifacts",
        "model.tar.gz and output.tar.gz, members at the root, hosts merged; loose files on request",
        _YES,
        _YES,
    ),
    Row(
        "checkpoints",
        "Checkpoints are restored before the start, copied while it runs, deleted when it deletes them",
        _YES,
        _YES,
    ),
    Row("spot", "An interruption: all is fresh but the checkpoints, and the job starts again", _YES, _YES),
    Row("metrics", "Metrics are read from the log; the last value counts", _YES, _YES),
    Row("log", "One log of stdout and stderr per host and attempt, control characters escaped", _YES, _YES),
    Row("time line", "Secondary statuses with their times, training and billable seconds", _YES, _YES),
    Row(
        "isolation",
        "Network isolation: hosts reach each other and nothing else",
        _YES,
        _no("a process has the machine's network"),
    ),
    Row(
        "volume",
        "The size of the volume",
        _almost("a note when the data of one host is larger"),
        _almost("a note when the data of one host is larger"),
    ),
    Row(
        "shared memory",
        "A large /dev/shm",
        _almost("half of this machine's memory; the service's size is not documented"),
        _almost("this machine's"),
    ),
    Row(
        "gpus",
        "The GPUs of the instance type",
        _almost("this machine's, if it has any"),
        _almost("this machine's, if it has any"),
    ),
    Row(
        "signals",
        "A program that SIGTERM does not reach",
        _YES,
        _almost("it reaches the program; `doctor` checks the image"),
    ),
    Row(
        "image form",
        "The image's processor and its manifest",
        _almost("a note, and `doctor` says more"),
        _IMAGE,
    ),
    Row(
        "user",
        "A user of the image who is not root cannot write to /opt/ml",
        _almost("folders belong to the user of this machine; `doctor` warns of such an image"),
        _IMAGE,
    ),
    Row("toolkit", "Arguments and SM_* variables of AWS's training toolkit", _YES, _YES),
    Row(
        "requirements",
        "requirements.txt and setup.py, which the toolkit installs",
        _YES,
        _no("nothing is installed into the user's Python"),
    ),
    Row(
        "hardware",
        "The speed of disks and networks, EFA, processors and memory of the instance type",
        _no("this machine is another one"),
        _no("this machine is another one"),
    ),
    Row(
        "account",
        "Quotas, capacity, IAM, KMS, the VPC, the price of spot",
        _no("only AWS knows them"),
        _no("only AWS knows them"),
    ),
    Row(
        "extras",
        "The debugger, the profiler, TensorBoard upload, warm pools, retries, remote debugging",
        _no("services of AWS around the job; each launch names those that it would use"),
        _no("services of AWS around the job; each launch names those that it would use"),
    ),
)


@cache
def proofs() -> dict[tuple[str, str], list[str]]:
    """The tests by row and target: `tests/docker/test_x.py::test_name`."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for test, row, targets in _decorated(ast.parse(path.read_text("utf-8"))):
            for target in targets or TARGETS:
                found.setdefault((row, target), []).append(f"{path.relative_to(ROOT).as_posix()}::{test}")
    return found


def table() -> str:
    """The document."""
    proven = proofs()
    lines = [_INTRODUCTION]
    for row in ROWS:
        lines.append(f"## {row.name[:1].upper()}{row.name[1:]}\n\n{row.behaviour}.\n")
        for target in TARGETS:
            verdict = row.verdict(target)
            why = f": {verdict.why}" if verdict.why else ""
            lines.append(f"- **{target}**: {verdict.word}{why}.")
            lines += [f"  - `{test}`" for test in proven.get((row.name, target), ())]
        lines.append("")
    return "\n".join(lines)


def _decorated(tree: ast.Module) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for call in function.decorator_list:
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id == reproduces.__name__
                ):
                    row, *targets = (str(ast.literal_eval(argument)) for argument in call.args)
                    yield function.name, row, tuple(targets)


_INTRODUCTION = """\
# What a rehearsal reproduces

Each row is something that SageMaker does with a training job, and what `--on docker` and `--on process` make of it, with the
tests that prove it. This page is made by `make docs` from `tests/fidelity.py` and from the tests themselves; a test fails when
it is out of date, or when something is called reproduced and no test proves it.
"""


if __name__ == "__main__":
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(table(), "utf-8")
