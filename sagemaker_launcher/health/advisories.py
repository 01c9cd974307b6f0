"""Versions that are known to be vulnerable, of the packages that a launch runs: a table that needs no network.

It is no replacement for `make audit`, which asks for all packages: it holds what would hurt most where nobody ever asks.
Each row is as https://github.com/advisories (an identifier of GHSA-...) or https://nvd.nist.gov/vuln/detail (CVE-...) has it.
"""

from __future__ import annotations

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.health.versions import within

SDK = "sagemaker"


@frozen
class Advisory:
    """A vulnerability of a package.

    Attributes:
        package: Its name in lower case.
        name: What the vulnerability is called everywhere.
        identifier: Where it is described.
        affected: Bounds of versions; one of them has to hold.
        what: What can happen.
        mended: The first version without it, of the generation that this tool uses.
    """

    package: str
    name: str
    identifier: str
    affected: tuple[str, ...]
    what: str
    mended: str

    @property
    def source(self) -> str:
        """The page that describes it."""
        place = (
            "https://github.com/advisories"
            if self.identifier.startswith("GHSA")
            else "https://nvd.nist.gov/vuln/detail"
        )
        return f"{place}/{self.identifier}"


ADVISORIES = (
    Advisory(
        SDK,
        "CVE-2024-34073",
        "GHSA-7pc3-pr3q-58vg",
        ("<2.214.3",),
        "a path of requirements can run commands",
        "2.214.3",
    ),
    Advisory(
        SDK,
        "CVE-2024-34072",
        "GHSA-wjvx-jhpj-r54r",
        ("<2.218.0",),
        "answers of an endpoint are unpickled",
        "2.218.0",
    ),
    Advisory(
        SDK,
        "CVE-2026-1777",
        "GHSA-rjrp-m2jw-pv9c",
        ("<2.256.0", ">=3.0,<3.2.0"),
        "who may describe a job can run code in it and on your machine",
        "2.256.0",
    ),
    Advisory(
        SDK,
        "CVE-2026-1778",
        "GHSA-62rc-f4v9-h543",
        ("<2.256.0", ">=3.0,<3.1.1"),
        "certificates of servers are not checked",
        "2.256.0",
    ),
    Advisory(
        SDK,
        "CVE-2026-8596",
        "GHSA-7hh5-prp2-mfh5",
        (">=2.199.0,<2.257.2", ">=3.0.0,<3.8.0"),
        "who may describe a model can read the key that signs it",
        "2.257.2",
    ),
    Advisory(
        SDK,
        "CVE-2026-8597",
        "GHSA-rq6v-x3j8-7qgf",
        (">=2.199.0,<2.257.2", ">=3.0.0,<3.8.0"),
        "models from S3 are unpickled unchecked",
        "2.257.2",
    ),
    Advisory(
        SDK,
        "CVE-2026-112408",
        "CVE-2026-112408",
        ("<2.257.3", ">=3.0.0,<3.10.0"),
        "the default bucket may be a stranger's",
        "2.257.3",
    ),
    Advisory(
        "pyyaml",
        "CVE-2020-14343",
        "GHSA-8q59-q68h-6hv4",
        ("<5.4",),
        "a YAML file can run code",
        "5.4",
    ),
    Advisory(
        "requests",
        "CVE-2026-25645",
        "GHSA-gc5v-m9x4-r6x2",
        ("<2.33.0",),
        "others on this machine can plant a file",
        "2.33.0",
    ),
    Advisory(
        "urllib3",
        "CVE-2025-66418",
        "GHSA-gm62-xv2j-4w53",
        (">=1.24,<2.6.0",),
        "a server can use up processor and memory",
        "2.6.0",
    ),
    Advisory(
        "urllib3",
        "CVE-2026-44432",
        "GHSA-mf9v-mfxr-j63j",
        (">=2.6.0,<2.7.0",),
        "a server can use up processor and memory",
        "2.7.0",
    ),
)

# What databases say of every SDK that has an Estimator, and is not so: told to `pip-audit`, each with the reason.
NOT_OURS = {
    # https://github.com/advisories/GHSA-5r2p-pjr8-7fh7 names all versions before 3.4.0.
    "GHSA-5r2p-pjr8-7fh7": "it is about search_hub(), which version 2 of the SDK does not have",
}


def advisories_on(package: str, version: str) -> tuple[Advisory, ...]:
    """The advisories on a version of a package.

    Args:
        package: Its name; case does not matter.
        version: Such as `2.257.1`.
    """
    return tuple(
        advisory
        for advisory in ADVISORIES
        if advisory.package == package.lower()
        and any(within(version, bounds) for bounds in advisory.affected)
    )
