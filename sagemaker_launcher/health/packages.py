"""Python and the installed packages: what this tool needs, and what is known to be vulnerable. Nothing is imported for it."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from sagemaker_launcher.errors import EnvironmentProblemError
from sagemaker_launcher.estimator import check_sdk_version
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.health.advisories import ADVISORIES, SDK, advisories_on
from sagemaker_launcher.health.versions import within

_OWN_NAME = "sagemaker-job-launcher"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?P<bounds>[^;\s]*)\s*(?P<marker>;.*)?")
_INSTALL = "make a fresh virtual environment for this tool, and install this tool in it"
# The last days with security fixes: https://devguide.python.org/versions/
_PYTHON_ENDS = {
    (3, 10): date(2026, 10, 31),
    (3, 11): date(2027, 10, 31),
    (3, 12): date(2028, 10, 31),
    (3, 13): date(2029, 10, 31),
    (3, 14): date(2030, 10, 31),
}


@frozen
class _Requirement:
    name: str
    bounds: str


def package_findings(today: date) -> Iterator[Finding]:
    """One finding on Python, one on all packages that are as they should be, and one on each that is not.

    Of Python's own vulnerabilities nothing is said: systems mend them without changing the version.
    """
    yield _python(today)
    requirements = _requirements()
    if requirements is None:
        yield Finding(
            "packages",
            "unknown",
            f"{_OWN_NAME} is not installed, so nobody knows which versions it needs",
            "pip install --editable . in its folder",
        )
        requirements = ()
    unfit = {one.name: finding for one in requirements if (finding := _unfit(one))}
    yield from unfit.values()
    yield from _vulnerable()
    good = [f"{one.name} {_installed(one.name)}" for one in requirements if one.name not in unfit]
    if good:
        yield Finding("packages", "ok", ", ".join(good))


def _python(today: date) -> Finding:
    found = platform.python_version()
    end = _PYTHON_ENDS.get(sys.version_info[:2])
    if end and today > end:
        return Finding(
            "python",
            "warning",
            f"Python {found}: no security fixes from python.org since {end:%Y-%m}",
            "use a newer Python, unless your system's maker still mends this one",
        )
    return Finding("python", "ok", f"Python {found}, {sys.executable}")


def _requirements() -> tuple[_Requirement, ...] | None:
    """What this tool needs to run, as it was installed; None when it was not."""
    try:
        # Metadata without a name is what an interrupted uninstallation leaves.
        found = requires(_OWN_NAME) if metadata(_OWN_NAME)["Name"] else None
    except PackageNotFoundError:
        return None
    matches = [_REQUIREMENT.fullmatch(text) for text in found or ()]
    return tuple(
        _Requirement(match["name"], match["bounds"]) for match in matches if match and not match["marker"]
    )


def _unfit(one: _Requirement) -> Finding | None:
    """The finding on a package that is missing, or of a version that this tool cannot use."""
    if one.name == SDK:
        return _sdk()
    installed = _installed(one.name)
    if not installed:
        return Finding("packages", "failed", f"{one.name} is not installed", _INSTALL)
    if one.bounds and not within(installed, one.bounds):
        message = f"{one.name} {installed} is installed, and this tool needs {one.name}{one.bounds}"
        return Finding("packages", "failed", message, _INSTALL)
    return None


def _sdk() -> Finding | None:
    """What a launch would say."""
    try:
        check_sdk_version()
    except EnvironmentProblemError as error:
        return Finding("packages", "failed", f"{SDK}: {error.message}", error.hint, code=error.code)
    return None


def _vulnerable() -> Iterator[Finding]:
    for package in dict.fromkeys(advisory.package for advisory in ADVISORIES if advisory.package != SDK):
        installed = _installed(package)
        for advisory in advisories_on(package, installed):
            yield Finding(
                "packages",
                "warning",
                f"{package} {installed} is known to be vulnerable: {advisory.name}, {advisory.what}",
                f"pip install --upgrade '{package}>={advisory.mended}'; see {advisory.source}",
            )


def _installed(name: str) -> str:
    """The installed version of a package; empty when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
