"""The audit of packages: it fails for what is vulnerable, and never passes for what nobody answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sagemaker_launcher.health.advisories import NOT_OURS
from tests.audit import ROOT, known, pins

LOCK = "boto3==1.44.5\nnumpy==2.2.6 ; python_full_version < '3.11'\n    # via sagemaker\nsagemaker==2.257.7\n"


def audit(
    folder: Path, registry: Any, lock: str = LOCK, *, osv: Any = "no such host\n", **variables: str
) -> tuple[int, str]:
    """Runs the audit with a program that answers what pip-audit would; a text is what it says before it fails."""
    (folder / "lock.txt").write_text(lock)
    for service, answer in (("pypi", registry), ("osv", osv)):
        failed = isinstance(answer, str)
        (folder / f"{service}.answer").write_text(answer if failed else json.dumps(answer))
        (folder / service).write_text(f"cat {folder}/{service}.answer {'>&2; exit 1' if failed else ''}\n")
    program = folder / "pip-audit"
    program.write_text(f'#!/bin/sh\n[ "$1" = --vulnerability-service ] && . "{folder}/$2"\n')
    program.chmod(0o755)
    call = f"import sys; from pathlib import Path; from tests import audit; sys.exit(audit.main({str(program)!r}, Path({str(folder / 'lock.txt')!r})))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def package(name: str, *vulnerabilities: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0",
        "vulns": [{"id": one, "fix_versions": ["1.1"]} for one in vulnerabilities],
    }


def test_what_is_vulnerable_fails_the_audit(tmp_path: Path) -> None:
    code, told = audit(tmp_path, {"dependencies": [package("boto3"), package("numpy", "CVE-2030-1")]})
    assert code == 1
    assert "VULNERABLE: numpy 1.0: CVE-2030-1, mended in 1.1\n" in told
    assert told.endswith("make audit: failed.\n")


def test_the_own_table_counts_when_nobody_else_answers(tmp_path: Path) -> None:
    code, told = audit(tmp_path, "no route to host\n", LOCK.replace("2.257.7", "2.257.1"))
    assert code == 1
    assert "VULNERABLE: sagemaker 2.257.1: CVE-2026-8596" in told


@pytest.mark.parametrize(("required", "expected"), [("", 0), ("1", 1)])
def test_what_nobody_answered_for_is_no_pass(tmp_path: Path, required: str, expected: int) -> None:
    skipped = {"name": "numpy", "skip_reason": "not found on the registry"}
    for answer, asked, count in (
        ("no route to host\n", 0, 3),
        ({"dependencies": [package("boto3"), skipped]}, 1, 1),
    ):
        code, told = audit(tmp_path, answer, REQUIRE_AUDIT=required)
        assert code == expected
        assert f"NOT AUDITED: {count} packages: " in told
        assert f"the registry: answers for {asked} packages, none for {count}: no" in told
        assert "the OSV database: answers for 0 packages, none for 3: no such host" in told
        assert "passed" not in told
        assert "incomplete" in told


def test_answers_for_all_packages_pass(tmp_path: Path) -> None:
    code, told = audit(tmp_path, {"dependencies": [package("boto3"), package("numpy"), package("sagemaker")]})
    assert (code, told.splitlines()[-1]) == (0, "make audit: passed.")
    assert "own table: 3 packages\nthe registry: answers for 3 packages\n" in told
    assert "OSV" not in told, "nobody else has to be asked"


def test_the_osv_database_answers_where_the_registry_does_not(tmp_path: Path) -> None:
    three = [package("boto3"), package("numpy"), package("sagemaker")]
    skipped = {"name": "numpy", "skip_reason": "not found on the registry"}
    for registry in ("404 Client Error\n", {"dependencies": [package("boto3"), skipped]}):
        code, told = audit(tmp_path, registry, osv={"dependencies": three})
        assert (code, told.splitlines()[-1]) == (0, "make audit: passed.")
        holed = [*three[:2], package("sagemaker", "CVE-2030-2")]
        code, told = audit(tmp_path, registry, osv={"dependencies": holed})
        assert (code, told.splitlines()[0]) == (1, "VULNERABLE: sagemaker 1.0: CVE-2030-2, mended in 1.1")


def test_a_package_is_the_same_however_it_is_spelled(tmp_path: Path) -> None:
    registry = {"dependencies": [{"name": "pyyaml", "skip_reason": "not found"}]}
    code, told = audit(tmp_path, registry, "PyYAML==6.0.3\n", REQUIRE_AUDIT="1")
    assert code == 1
    assert "NOT AUDITED: 1 packages: pyyaml\n" in told


def test_no_locked_package_is_known_to_be_vulnerable() -> None:
    locked = pins(ROOT / "constraints.txt")
    assert len(locked) > 100
    assert not list(known(locked))


def test_the_sdk_has_nothing_of_what_is_left_out_of_the_audit() -> None:
    """The advisory names all versions, but not because somebody looked at version 2."""
    assert list(NOT_OURS) == ["GHSA-5r2p-pjr8-7fh7"]
    words = [
        "-c",
        "import importlib.util; print(importlib.util.find_spec('sagemaker').submodule_search_locations[0])",
    ]
    place = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=True
    ).stdout.strip()
    sources = list(Path(place).rglob("*.py"))
    assert len(sources) > 300
    assert not [path for path in sources if "search_hub" in path.read_text("utf-8")]
