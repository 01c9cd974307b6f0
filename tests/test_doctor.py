"""`doctor` on machines that lack most things: each is told in a line with its fix, and nothing takes long."""

from __future__ import annotations

import socket
import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from sagemaker_launcher.estimator import SDK_REQUIREMENT
from sagemaker_launcher.health.advisories import ADVISORIES, SDK, advisories_on
from sagemaker_launcher.health.packages import package_findings
from sagemaker_launcher.health.versions import within
from sagemaker_launcher.unfinished import unfinished
from tests.commands import ROOT, CommandLine, Finished
from tests.fault_rows import provokes
from tests.project import Project

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def lines(done: Finished) -> dict[str, list[tuple[str, str, str]]]:
    """Verdict, message and fix of each check, by its name."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for one in done.json["checks"]:
        found.setdefault(one["name"], []).append((one["verdict"], one["message"], one["fix"]))
    return found


def verdicts(done: Finished) -> dict[str, str]:
    return {name: checks[-1][0] for name, checks in lines(done).items()}


def install(folder: Path, **versions: str) -> dict[str, str]:
    """Variables with which other versions of packages are installed, as far as their metadata tells."""
    for name, version in versions.items():
        metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return {"PYTHONPATH": str(folder)}


@provokes(113)
def test_a_program_that_is_not_there_is_a_finding_with_its_fix(cli: CommandLine) -> None:
    done = cli("doctor", "--image", "x:1", "--docker", "no-such-podman")
    assert done.code == 15
    failed, *fixes = done.out.splitlines()[1:]
    assert failed == "failed   engine    the program no-such-podman is not installed, or not on PATH"
    assert fixes
    assert all(line.startswith(" " * 14 + "fix: ") for line in fixes)


def test_the_engines_program_may_come_from_a_variable(cli: CommandLine) -> None:
    done = cli("doctor", "--image", "x:1", "--json", env={"SAGEMAKER_LAUNCHER_DOCKER": "no-such-finch"})
    assert done.code == 15
    [check] = done.json["checks"]
    assert (check["group"], check["name"], check["verdict"]) == ("engine", "engine", "failed")
    assert "no-such-finch" in check["message"]
    assert check["fix"]


def test_an_engines_program_that_fails_without_a_word_is_a_finding(cli: CommandLine, tmp_path: Path) -> None:
    program = tmp_path / "silent"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    done = cli("doctor", "--image", "x:1", "--docker", program)
    assert done.code == 15
    assert "failed without a word" in done.out
    assert f"fix: see what this says: {program} version" in done.out


@provokes(27)
def test_a_bare_machine_is_told_what_it_lacks_a_line_each(cli: CommandLine) -> None:
    start = time.monotonic()
    done = cli("doctor", "--docker", "no-such-docker", "--json")
    assert time.monotonic() - start < 60
    assert done.code == 4
    assert not done.err
    assert done.json["subject"] == "this machine"
    assert verdicts(done) == {
        "python": "ok",
        "packages": "ok",
        "temporary": "ok",
        "cache": "ok",
        "engine": "warning",
        "leftovers": "ok",
        "configs": "unknown",
        "key": "failed",
        "archive": "unknown",
    }
    assert all(len(checks) == 1 for checks in lines(done).values())
    assert all(fix for [(verdict, _, fix)] in lines(done).values() if verdict != "ok")
    assert "no engine was asked" in lines(done)["leftovers"][0][1]
    assert "log in" in lines(done)["key"][0][2]


def test_where_a_folder_stands_in_for_s3_nobody_is_asked(project: Project, cli: CommandLine) -> None:
    (project.folder / "configs").mkdir()
    for path in (project.config, project.training, project.folder / "code"):
        path.rename(project.folder / "configs" / path.name)
    done = cli("doctor", "--docker", "no-such-docker", "--s3-root", project.s3, "--json")
    assert done.code == 0, done.out
    assert done.json["subject"] == "configs/sagemaker_config.yaml"
    assert (verdicts(done)["configs"], verdicts(done)["archive"]) == ("ok", "ok")
    [(verdict, said, _)] = lines(done)["credentials"]
    assert (verdict, "AWS is not asked" in said) == ("unknown", True)


def test_an_invalid_config_hides_nothing_else(project: Project, cli: CommandLine) -> None:
    words = ("--docker", "no-such-docker", "--s3-root", project.s3)
    project.write(ESTIMATOR={"INSTANCE_COUNT": 0})
    done = cli("doctor", project.config, *words, "--json")
    assert done.code == 3
    assert "INSTANCE_COUNT" in lines(done)["configs"][0][1]
    assert (verdicts(done)["packages"], verdicts(done)["archive"]) == ("ok", "ok")
    missing = cli("doctor", "no-such.yaml", *words)
    assert missing.code == 3
    assert missing.out.count("no such file") == 1, missing.out
    assert "not looked at, because of what failed above" in missing.out


@provokes(89)
def test_what_a_dead_network_hides_is_unknown_and_keys_are_masked(project: Project, cli: CommandLine) -> None:
    soon = datetime.now(timezone.utc) + timedelta(minutes=20)
    variables = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "token-of-a-session",
        "AWS_CREDENTIAL_EXPIRATION": soon.isoformat(),
    }
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        variables["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        start = time.monotonic()
        done = cli("doctor", project.config, "--docker", "no-such-docker", "--json", env=variables)
        assert time.monotonic() - start < 60
    assert done.code == 0
    found = verdicts(done)
    assert (found["credentials"], found["archive"], found["uploads"]) == ("unknown",) * 3
    assert found["configs"] == "ok"
    variables["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    refused = cli(
        "doctor", "--docker", "no-such-docker", "--json", env={**variables, "AWS_DEFAULT_REGION": "us-east-1"}
    )
    assert refused.code == 9
    assert verdicts(refused)["credentials"] == "failed"
    [(verdict, said, fix)] = lines(refused)["key"]
    assert (verdict, fix) == ("warning", "log in again")
    assert said.startswith(f"AKIA...MPLE, from the environment; it ends at {soon:%Y-%m-%d %H:%M} UTC")
    for text in (done.out, done.err, refused.out, refused.err):
        assert KEY not in text
        assert SECRET not in text
        assert "token-of-a-session" not in text


def test_a_vulnerable_sdk_is_refused_before_anything_is_done(
    project: Project, cli: CommandLine, tmp_path: Path
) -> None:
    old = install(tmp_path / "old", sagemaker="2.257.1", urllib3="2.6.2", click="7.0")
    done = cli("doctor", "--docker", "no-such-docker", "--json", env=old)
    assert done.code == 4  # without credentials nothing else can be known
    [click, sdk, urllib3, good] = lines(done)["packages"]
    assert sdk[0] == click[0] == "failed"
    assert "2.257.1" in sdk[1]
    assert "CVE-2026-8597" in sdk[1]
    assert "CVE-2026-1777" not in sdk[1]  # which that version has mended
    assert click[1] == "click 7.0 is installed, and this tool needs click<9,>=8.1"
    assert urllib3[0] == "warning"
    assert "CVE-2026-44432" in urllib3[1]
    assert "urllib3>=2.7.0" in urllib3[2]
    assert good[0] == "ok"
    assert "click" not in good[1]
    before = sorted(project.folder.rglob("*"))
    start = ("launch", project.config, "--json")
    launched = cli(*start, env={**old, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert launched.code == 15, launched.err
    assert launched.json["error"]["code"] == "sdk_vulnerable"
    assert "CVE-2026-8596" in launched.json["error"]["message"]
    assert sorted(project.folder.rglob("*")) == before


def test_a_python_without_security_fixes_is_a_warning() -> None:
    assert next(iter(package_findings(date(2026, 10, 1)))).verdict == "ok"
    old = next(iter(package_findings(date(2040, 1, 1))))
    assert (old.verdict, "no security fixes" in old.message) == ("warning", True)


def test_our_bounds_leave_out_every_vulnerable_sdk() -> None:
    bounds = SpecifierSet(SDK_REQUIREMENT.removeprefix(SDK))
    assert f'"{SDK_REQUIREMENT}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    for minor in range(190, 260):
        for patch in range(12):
            version = f"2.{minor}.{patch}"
            assert not (version in bounds and advisories_on(SDK, version)), version
    assert not [one for one in ADVISORIES if one in advisories_on(one.package, one.mended)]


BOUNDS = st.lists(
    st.tuples(
        st.sampled_from([">=", "<", "<=", ">", "=="]), st.lists(st.integers(0, 4), min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=2,
).map(lambda bounds: ",".join(f"{sign}{'.'.join(map(str, numbers))}" for sign, numbers in bounds))
VERSIONS = st.tuples(
    st.lists(st.integers(0, 4), min_size=1, max_size=3), st.sampled_from(["", "", "rc1", ".dev3", "b2"])
).map(lambda parts: ".".join(map(str, parts[0])) + parts[1])


@settings(max_examples=300, deadline=None)
@given(VERSIONS, BOUNDS)
def test_versions_keep_to_bounds_as_pip_reads_them(version: str, bounds: str) -> None:
    assert within(version, bounds) == SpecifierSet(bounds).contains(version, prereleases=True)


def test_a_version_that_cannot_be_read_keeps_to_no_bounds() -> None:
    assert not within("unknown", ">=0")
    with pytest.raises(ValueError, match="no bound"):
        within("1.0", "about 2")


def test_a_cache_that_cannot_be_written_to_is_a_warning(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    variables = {"SAGEMAKER_LAUNCHER_CACHE": str(tmp_path / "file" / "cache")}
    done = cli("doctor", "--docker", "no-such-docker", "--json", env=variables)
    [(verdict, said, fix)] = lines(done)["cache"]
    assert (verdict, said) == ("warning", f"nothing can be written to {tmp_path}/file/cache")
    assert "SAGEMAKER_LAUNCHER_CACHE=DIR" in fix


def test_unfinished_files_are_removed_when_nobody_holds_them(project: Project, cli: CommandLine) -> None:
    words = ("doctor", "--repair", "--docker", "no-such-docker", "--s3-root", project.s3)
    with unfinished(project.s3 / ".incomplete") as held:
        left = held.with_name("left-by-a-killed-launch")
        left.write_bytes(b"half")
        told = cli(*words, "--dry-run", "--json")
        assert lines(told)["leftovers"] == [
            ("warning", f"1 unfinished files in {project.s3}/.incomplete", "doctor --repair removes it")
        ]
        assert left.exists()
        done = cli(*words, "--json")
        assert done.code == 0
        assert lines(done)["leftovers"][0][:2] == (
            "ok",
            f"removed: 1 unfinished files in {project.s3}/.incomplete",
        )
        assert (left.exists(), held.exists()) == (False, True)
