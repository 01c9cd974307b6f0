"""The faults that this tool has to survive, row by row, and the tests that provoke them.

Tests say what they provoke with the decorator `provokes`. `make faults` runs exactly those tests and prints the table
(`tests.fault_run`); `python -m tests.fault_rows` writes it for users, into docs/faults.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "faults.md"


def provokes(*rows: int) -> pytest.MarkDecorator:
    """Says that a test makes the faults of these rows happen, and sees what has to follow."""
    return pytest.mark.fault(*rows)


@dataclass(frozen=True)
class Row:
    """One thing that goes wrong.

    Attributes:
        number: For `provokes`.
        fault: What happens.
        follows: What this tool then does.
        exit: The command's exit code; `-` where the fault ends no command.
        why_not: Why nothing can provoke it here; empty where tests do.
    """

    number: int
    fault: str
    follows: str
    exit: str
    why_not: str = ""


SECTIONS = {
    "Configs": (
        Row(
            1,
            "A config is missing, a folder, or not readable",
            "It is named, and files of similar names with it",
            "3",
        ),
        Row(2, "Tabs indent a config", "Line and column are named", "3"),
        Row(3, "A key or a section is given twice", "Both lines are named", "3"),
        Row(4, "A key is unknown", "All such keys are named, each with the nearest one that exists", "3"),
        Row(
            5,
            "A value has the wrong type",
            "What was expected and what was found; a whole number does for a number",
            "3",
        ),
        Row(6, "A value is null, or a section empty, where something is needed", "The key is named", "3"),
        Row(
            7,
            "Values that YAML 1.1 would change: NO, on, 010, 1:30, 1e-3, dates",
            "They are what was written",
            "0",
        ),
        Row(
            8,
            "Anchors and aliases, also as bombs and in circles",
            "Refused at once, in little memory",
            "3",
        ),
        Row(9, "Thousands of levels, a million values", "Refused", "3"),
        Row(10, "A config of 100 MB, a device, a pipe", "Refused unread", "3"),
        Row(
            11,
            "A config that is not UTF-8",
            "The byte is named; a byte order mark and Windows line ends are fine",
            "3",
        ),
        Row(12, "YAML tags, such as !!python/object", "Refused; nothing is executed", "3"),
        Row(13, "A Python file as config", "Refused; nothing is executed", "3"),
        Row(14, "Several documents, a list, or nothing at all", "Refused", "3"),
        Row(15, "Keys that are no texts, or names that YACS uses itself", "Refused", "3"),
        Row(16, "NaN or infinity", "Refused", "3"),
        Row(17, "An option with an unknown key, a wrong value, or no value", "The option is named", "2 or 3"),
        Row(18, "A key by its old name", "A note with line and new name; archived under the new name", "0"),
        Row(19, "The two configs disagree, such as on a channel's name", "The key is named", "3"),
        Row(
            20, "More or longer hyperparameters, variables and tags than AWS takes", "The limit is named", "3"
        ),
        Row(
            21, "A name that AWS does not take", "A legal one is suggested; jobs' names are always legal", "3"
        ),
        Row(
            22,
            "An instance type that does not exist",
            "The nearest one is suggested; --force-instance-type lets new ones pass",
            "3",
        ),
        Row(23, "A wrong S3 URI", "The wrong part is named", "3"),
        Row(24, "A role of another partition", "The partition is named", "3"),
        Row(
            25,
            "An image without tag, of another region, that looks like an option",
            "What is wrong is named",
            "3",
        ),
        Row(
            26,
            "Spot instances with too little time or without checkpoints",
            "Refused: every interruption would start from zero",
            "3",
        ),
    ),
    "Credentials, account and clock": (
        Row(
            27,
            "No credentials",
            "How to log in, without waiting for a metadata service that is not there",
            "4",
        ),
        Row(
            28,
            "Half of the credentials; a profile that does not exist; a mistake in ~/.aws or in a variable of AWS",
            "What is missing or wrong is named",
            "4",
        ),
        Row(29, "An expired session", "How to log in", "4"),
        Row(30, "A login of SSO that is missing or expired", "How to log in", "4"),
        Row(
            31,
            "Credentials expire during the upload",
            "No job is started, and the list shows what is left of it",
            "4",
        ),
        Row(
            32,
            "Credentials expire while a job is followed",
            "The job goes on; how to log in and come back",
            "12",
        ),
        Row(33, "Wrong keys", "Told apart from a missing permission", "4"),
        Row(34, "This machine's clock is wrong", "It is blamed", "4"),
        Row(35, "Another account than the config's", "Refused", "14"),
        Row(
            36,
            "A role that is missing, that SageMaker may not use or that nobody may pass",
            "Role and permission are named",
            "5 or 6",
        ),
        Row(37, "A program for credentials that fails or never ends", "Its words; ended after a minute", "4"),
        Row(38, "No region, or one that does not exist", "Where to set it", "3"),
    ),
    "Buckets and S3": (
        Row(39, "A missing bucket", "It is named, and nothing is written", "6"),
        Row(40, "A bucket in another region", "Both regions are named", "3"),
        Row(41, "A permission for S3 is missing", "Action and object are named", "5"),
        Row(
            42,
            "A bucket of somebody else",
            "S3 itself refuses: every request names the account that has to own the bucket",
            "14",
        ),
        Row(
            43,
            "A bucket with a name that others can guess",
            "No bucket is chosen, made or searched for: the config names all of them",
            "-",
        ),
        Row(44, "A public bucket", "Refused; unknown is said where nobody may look", "14"),
        Row(45, "A bucket without versions, encryption or expiry of unfinished uploads", "A warning", "0"),
        Row(46, "S3 is busy or fails for a while", "Tried again; a line after 5 s", "0"),
        Row(47, "S3 stays busy", "Given up after about 15 s, and no job is started", "9"),
        Row(
            48,
            "A connection breaks before, in or after a request",
            "Tried again; a write that met itself is no conflict",
            "0",
        ),
        Row(49, "A server that says nothing", "A line after 5 and 20 s; given up in the end", "9"),
        Row(
            50,
            "A wrong name, nobody listening, a proxy that refuses, a certificate of somebody else",
            "Host, proxy and certificates are named",
            "9",
        ),
        Row(51, "The login page of a network answers", "Not taken for S3, nor for AWS", "9"),
        Row(52, "A download breaks off", "Only the rest is asked for again", "0 or 9"),
        Row(53, "An upload arrives damaged", "Once more; then refused", "13"),
        Row(54, "S3 reports a conflicting write", "Tried again", "0"),
        Row(55, "The name of an experiment is taken", "Who holds it is named", "7"),
        Row(
            56,
            "Many launches at the same moment",
            "Each has its own experiment; of two of one name one wins",
            "0 or 7",
        ),
        Row(57, "A KMS key that cannot be used", "Key and permission are named", "5"),
        Row(58, "An object that lies in Glacier", "It is said how to bring it back", "9"),
        Row(
            59,
            "More objects than a list has room for, and new ones meanwhile",
            "Each is listed once; --limit",
            "0",
        ),
        Row(60, "Unfinished uploads", "The doctor lists them with their age", "0"),
    ),
    "Signals, crashes and races": (
        Row(61, "Ctrl-C before anything is written", "Nothing is written", "130"),
        Row(62, "Ctrl-C during the upload", "No job; the list shows what is left of it", "130"),
        Row(63, "Ctrl-C before the job is started", "It is said that nothing was launched", "130"),
        Row(64, "Ctrl-C while the job is started", "The start is finished and recorded first", "130"),
        Row(
            65,
            "Ctrl-C while a job is followed",
            "The job goes on, and costs: how to come back and to stop it; a second Ctrl-C ends at once",
            "130",
        ),
        Row(66, "SIGTERM; a terminal that is closed", "As Ctrl-C", "143 or 129"),
        Row(
            67,
            "kill -9 at any moment",
            "The list tells how far it came, doctor --repair settles it; never two jobs",
            "137",
        ),
        Row(68, "AWS's answer to the start is lost", "The job's own tag tells that it is ours", "0"),
        Row(69, "Somebody else has a job of that name", "Whose it is", "7"),
        Row(70, "A started job cannot be recorded", "A note; the job is followed all the same", "0"),
        Row(
            71,
            "The laptop sleeps while a job is followed",
            "New connections, and the log goes on where it was",
            "0",
        ),
        Row(72, "No room for the cache", "Work goes on without it; a rehearsal's data needs room", "0 or 15"),
        Row(
            73,
            "A home or a folder that cannot be written to",
            "Only what has to write there says so",
            "0 or 15",
        ),
        Row(74, "A spoiled cache", "It is made anew", "0"),
        Row(75, "Many processes write to the cache", "Nothing is lost or mixed", "0"),
    ),
    "Archives that somebody changed": (
        Row(
            76,
            "A file was changed after the launch",
            "It is named; shown with --unverified only, and never run again",
            "13",
        ),
        Row(77, "The manifest itself was replaced", "The start's record and the job's own tag tell", "13"),
        Row(78, "A file was deleted", "It is named, and how to look for its versions", "13"),
        Row(
            79,
            "An archived config with tags, aliases or bombs",
            "Read as strictly as a user's own",
            "3 or 13",
        ),
        Row(
            80,
            "Keys such as ../x, /x, C:\\x, with control characters, or equal but for case",
            "Refused before anything comes",
            "14",
        ),
        Row(
            81,
            "The place for a download is taken, or a link",
            "Nothing is overwritten, no link is followed",
            "0 or 7",
        ),
        Row(
            82,
            "The archive names a role of another account",
            "Only with --yes; what differs is always shown",
            "14",
        ),
        Row(83, "The archive sets variables such as LD_PRELOAD", "Refused", "14"),
        Row(
            84,
            "The archive asks for commands or hooks",
            "There are none: such keys are refused, or values like any other to the training code",
            "3",
        ),
        Row(
            85,
            "Archives with links, devices, bombs, or paths that lead out",
            "Refused, and nothing of them stays",
            "14",
        ),
        Row(86, "A model that is a pickle", "Never loaded", "-"),
        Row(
            87,
            "A secret in a config, its defaults or an option",
            "Refused with its place and a masked value",
            "14",
        ),
        Row(
            88,
            "A secret in uncommitted changes",
            "Refused with file and line; the source itself is not archived",
            "14",
        ),
        Row(89, "Credentials in what is shown or archived", "They appear nowhere", "-"),
        Row(90, "Telemetry", "Nobody is asked but the endpoints of AWS", "-"),
        Row(91, "A defaults file of the SageMaker SDK that changes jobs", "Not read", "-"),
    ),
    "Terminal and output": (
        Row(92, "Markup in names", "Shown as it is", "0"),
        Row(
            93,
            "Escape sequences and bidirectional controls in names, logs and reasons",
            "Shown as \\\\x1b, never done",
            "0",
        ),
        Row(94, "A log line of a megabyte, or of bytes that are no text", "Shown in part; replaced", "0"),
        Row(95, "Scripts in names on a web page", "-", "-", "there is no web page"),
        Row(96, "A formula in a name in a spreadsheet", "list --csv writes it as a text", "0"),
        Row(
            97,
            "No terminal, a dumb or narrow one, a character set without Unicode",
            "Plain text; what cannot be shown is escaped",
            "0",
        ),
        Row(98, "The reader of a pipe goes away", "A silent end", "0"),
        Row(99, "A library that talks, under --json", "stdout is exactly one JSON document", "-"),
    ),
    "Jobs on AWS": (
        Row(100, "A quota is used up", "AWS's words with instance type and value", "8"),
        Row(101, "No capacity", "What to try", "10"),
        Row(102, "A spot job that never starts", "Stopped, with the reason", "11"),
        Row(
            103,
            "An image that is missing, cannot be pulled, or is another one than archived",
            "It is named",
            "3, 6 or 13",
        ),
        Row(104, "A channel without data", "It is named", "6"),
        Row(
            105,
            "A job that fails at once",
            "The reason, the last lines, what to try; the log may come later than the failure",
            "10",
        ),
        Row(106, "A job that a person or its time limit stopped", "Which of them it was", "11"),
        Row(107, "A status that nobody knows", "Shown as it is, and taken for running", "12"),
        Row(
            108,
            "AWS is busy while a job is followed",
            "Asked less often, for as long as --timeout allows",
            "0 or 12",
        ),
        Row(
            109,
            "A long log, of several hosts, with restarts and broken connections",
            "Every line once and in order",
            "0",
        ),
        Row(110, "A job that is deleted meanwhile", "It is said; the archive can still be read", "6"),
        Row(111, "The wrong region for an archived job", "The archive's counts, and that is said", "0"),
        Row(
            112,
            "Very many experiments and jobs",
            "The newest come first, in as many requests as for few",
            "0",
        ),
    ),
    "Rehearsals": (
        Row(113, "No docker program, no engine, no permission", "Which of them; --on process", "15"),
        Row(114, "An image that is not here", "The login to its registry, to be pasted", "15"),
        Row(115, "Files of root in what a container leaves", "They belong to the user", "0"),
        Row(
            116,
            "A program that fails, is killed, or has too little memory",
            "Its exit code and reason, as the service words them",
            "10",
        ),
        Row(
            117,
            "Ctrl-C",
            "The program may save its state; no container stays, and what it left is kept",
            "130",
        ),
        Row(
            118,
            "AWS credentials in a container",
            "Only with --with-credentials, and in no list of processes and no file",
            "-",
        ),
        Row(
            119,
            "Folders with spaces, commas, quotes and other scripts in their names",
            "Mounted all the same",
            "0",
        ),
        Row(120, "An image for another processor, no GPUs", "A note", "0"),
        Row(121, "No room left on the disk", "The job fails with the reason, and nothing stays", "10"),
    ),
    "Ends that nobody sees": (
        Row(
            122,
            "The answer to the start of a job is lost, and no look tells what became of it",
            "It may be running, and be billed: how to look, and how to stop it; no second one is started",
            "12",
        ),
        Row(
            123,
            "A terminal is closed during a rehearsal",
            "The job is stopped as the service stops one, and all is saved and recorded",
            "129",
        ),
        Row(124, "The log finds no room", "The job goes on, and its result is recorded", "0"),
        Row(125, "The answer finds no room, such as on a full disk", "Told when all is recorded", "15"),
        Row(
            126,
            "Ctrl-C when a job has just ended, or again and again",
            "What it left is saved, and its result recorded; one more, a second later, gives the saving up",
            "130",
        ),
    ),
    "Programs and their code": (
        Row(
            127,
            "A program leaves links, named pipes or endless folders in the place of its files",
            "No link is followed out of them, no pipe is waited for, and the rest is saved",
            "0 or 10",
        ),
        Row(
            128,
            "Git refuses, or a patch cannot hold a change: of a binary file, in a submodule",
            "What is missing is named; the patch applies without it",
            "0",
        ),
        Row(
            129,
            "A file of the training code cannot be read, or is none",
            "It is named, before anything is archived",
            "15",
        ),
    ),
}

ROWS = tuple(row for rows in SECTIONS.values() for row in rows)


@cache
def provoking() -> dict[int, list[str]]:
    """The tests by row: `tests/test_x.py::test_name`; read from their files without importing them."""
    found: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for test, number in _decorated(ast.parse(path.read_text("utf-8"))):
            found.setdefault(number, []).append(f"{path.relative_to(ROOT).as_posix()}::{test}")
    return found


def table() -> str:
    """The document."""
    lines = [_INTRODUCTION]
    for section, rows in SECTIONS.items():
        lines.append(f"## {section}\n\n| # | What goes wrong | What follows | Exit code |\n|---|---|---|---|")
        for row in rows:
            follows = f"{row.follows} (not tested: {row.why_not})" if row.why_not else row.follows
            lines.append(f"| {row.number} | {row.fault} | {follows} | {row.exit} |")
        lines.append("")
    return "\n".join(lines)


def _decorated(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every test with its rows; a single parameter's may stand in its marks."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
            calls = (node for decorator in function.decorator_list for node in ast.walk(decorator))
            for call in calls:
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Name)
                    and call.func.id == provokes.__name__
                ):
                    for argument in call.args:
                        yield function.name, int(ast.literal_eval(argument))


_INTRODUCTION = """\
# What goes wrong, and what follows

Each row is something that befalls a launch, its archive or its data, and what this tool then does. README.md explains the
exit codes. `make faults` provokes every row for real - servers that answer with errors, networks that break, signals, full
disks, hostile archives - and prints how each of them went. This page is made by `make docs` from `tests/fault_rows.py`.
"""


if __name__ == "__main__":
    TABLE.write_text(table(), "utf-8")
