"""Whether a locked package is known to be vulnerable: asked of the project's own table, and by pip-audit of others.

`make audit` runs it. pip-audit asks the registry and, where that gives no answer, as most mirrors of it do, the OSV database:
osv.dev, or another server that answers like it (PIP_AUDIT_OSV_URL, https://google.github.io/osv.dev/post-v1-query/). Where
nobody answers, that is said, and is no pass: with REQUIRE_AUDIT=1 it is a failure.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sagemaker_launcher.health.advisories import NOT_OURS, advisories_on

ROOT = Path(__file__).resolve().parent.parent
_PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;]+)")
_TIMEOUT_S = 300.0
_SHOWN = 5
_SERVICES = {"pypi": "the registry", "osv": "the OSV database"}  # as pip-audit calls them, and as people do


@dataclass(frozen=True)
class Answers:
    """What pip-audit found out.

    Attributes:
        source: Whom it asked.
        vulnerable: A line for each vulnerability.
        asked: The number of packages that somebody answered for.
        unasked: The packages that nobody answered for.
        reason: Why; empty when all were answered for.
    """

    source: str
    vulnerable: tuple[str, ...] = ()
    asked: int = 0
    unasked: tuple[str, ...] = ()
    reason: str = ""


def pins(lock: Path) -> tuple[tuple[str, str], ...]:
    """Names and versions of all packages of a lock file, for whatever Python."""
    found = map(_PIN.match, lock.read_text("utf-8").splitlines())
    return tuple((_normal(pin["name"]), pin["version"]) for pin in found if pin)


def _normal(name: str) -> str:
    """A package's name as all spell it (https://packaging.python.org/en/latest/specifications/name-normalization/)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def known(packages: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """A line for each vulnerability that the project's own table knows of."""
    for name, version in packages:
        for advisory in advisories_on(name, version):
            yield f"{name} {version}: {advisory.name}, {advisory.what}; {advisory.source}"


def ask_all(program: str, lock: Path) -> list[Answers]:
    """Asks one after the other for the packages that this Python would get, until one answers for all of them."""
    found: list[Answers] = []
    for service in _SERVICES:
        found.append(ask(program, service, lock))
        if not found[-1].unasked:
            break
    return found


def ask(program: str, service: str, lock: Path) -> Answers:
    """Asks one service through pip-audit."""
    source = _SERVICES[service]
    words = [program, "--vulnerability-service", service, "--requirement", str(lock), "--no-deps"]
    words += ["--disable-pip", "--format", "json"]
    words += ["--progress-spinner", "off", "--timeout", "5"]
    words += [word for identifier in NOT_OURS for word in ("--ignore-vuln", identifier)]
    everything = tuple(dict(pins(lock)))
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return Answers(source, unasked=everything, reason=f"no answer in {_TIMEOUT_S:g} s")
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().rpartition("\n")[2]
        return Answers(
            source,
            unasked=everything,
            reason=last or f"{program} ended with {done.returncode}, without a word",
        )
    skipped = {_normal(one["name"]): one["skip_reason"] for one in packages if "skip_reason" in one}
    return Answers(
        source,
        tuple(
            f"{one['name']} {one['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version'}"
            for one in packages
            for hole in one.get("vulns", ())
        ),
        len(packages) - len(skipped),
        tuple(skipped),
        next(iter(skipped.values()), ""),
    )


def _said(answers: Answers) -> str:
    failure = f", none for {len(answers.unasked)}: {answers.reason}" if answers.unasked else ""
    return f"{answers.source}: answers for {answers.asked} packages{failure}"


def main(program: str, lock: Path = ROOT / "constraints.txt") -> int:
    """Prints what was found out. Gives 1 when a package is vulnerable, or when somebody had to answer and nobody did."""
    packages = pins(lock)
    asked = ask_all(program, lock)
    vulnerable = dict.fromkeys(
        [*known(packages), *(hole for answers in asked for hole in answers.vulnerable)]
    )
    told = [f"VULNERABLE: {line}" for line in vulnerable]
    told += [f"left out: {identifier}: {reason}" for identifier, reason in NOT_OURS.items()]
    told += [f"own table: {len(packages)} packages", *(_said(answers) for answers in asked)]
    unasked = set.intersection(*(set(answers.unasked) for answers in asked))
    if unasked:
        more = ", ..." if len(unasked) > _SHOWN else ""
        told.append(f"NOT AUDITED: {len(unasked)} packages: {', '.join(sorted(unasked)[:_SHOWN])}{more}")
    failed = bool(vulnerable or (unasked and os.environ.get("REQUIRE_AUDIT")))
    if vulnerable:
        told.append("make audit: failed.")
    elif unasked:
        told.append(
            "make audit: incomplete, which is no pass: run it where somebody tells of vulnerabilities."
        )
    else:
        told.append("make audit: passed.")
    sys.stdout.write("".join(f"{line}\n" for line in told))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
