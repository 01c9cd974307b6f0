"""The parts of README.md that are generated: `make docs` writes them, and a test compares them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from yacs.config import CfgNode

from sagemaker_launcher import defaults
from sagemaker_launcher.preflight import CHECKS
from sagemaker_launcher.scaffold.comments import key_comments
from tests.commands import ROOT, SCRIPT, clean_environment

README = ROOT / "README.md"
# Trees of defaults.py, and the heading that the keys of each have in the table.
TREES = {
    "_C": "",
    "CHANNEL": "CHANNEL, one item of `CHANNELS`",
    "METRIC_DEFINITION": "METRIC_DEFINITION, one item of `ESTIMATOR.METRIC_DEFINITIONS`",
    "INSTANCE_GROUP": "INSTANCE_GROUP, one item of `ESTIMATOR.INSTANCE_GROUPS`",
    "PLACEMENT": "PLACEMENT, one item of `ESTIMATOR.INSTANCE_PLACEMENT_CONFIG.PLACEMENT_SPECIFICATIONS`",
}


def generated() -> dict[str, str]:
    """The generated parts by the name in their markers."""
    return {"help": f"```text\n{help_text()}```", "keys": key_tables(), "checks": check_table()}


def part(text: str, name: str) -> str:
    """What stands between the markers of a part."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)
    assert found, f"README.md has no part {name!r}"
    return found[1]


def help_text() -> str:
    """What `--help` prints, as called by the name that README.md uses throughout."""
    environment = clean_environment(Path())
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    command = [sys.executable, SCRIPT.name, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return re.sub(r"^Usage: \S+ ", "Usage: python ", done.stdout)


def check_table() -> str:
    """Every check before a launch, and what it sees to."""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in CHECKS.items()]
    return "\n".join(["| Check | Passes when |", "|---|---|", *rows])


def key_tables() -> str:
    """Every key of the SageMaker config with its default and the comment that defaults.py has on it."""
    comments = key_comments(Path(defaults.__file__).read_text("utf-8"))
    tables = []
    for tree, heading in TREES.items():
        node = defaults.get_cfg_defaults() if tree == "_C" else getattr(defaults, tree)
        title = f"{heading}:\n\n" if heading else ""
        rows = [
            " ".join(
                ["|", f"`{key}`", "|", *_shown(value), "|", *filter(None, [comments[f"{tree}.{key}"]]), "|"]
            )
            for key, value in _leaves(node, "")
        ]
        tables.append("\n".join([f"{title}| Key | Default | Meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(tables)


def _leaves(node: CfgNode, prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in node.items():
        if isinstance(value, CfgNode) and value and not value.is_new_allowed():
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: object) -> list[str]:
    """A default as one writes it in YAML; nothing when it means 'not given'."""
    if isinstance(value, dict):
        return [f"`{key}: {json.dumps(item)}`" for key, item in value.items()]
    if value in ("", []):
        return []
    return [f"`{value if isinstance(value, str) else json.dumps(value)}`"]


def main() -> None:
    text = README.read_text("utf-8")
    for name, content in generated().items():
        text = text.replace(f"<!-- {name} -->\n{part(text, name)}\n", f"<!-- {name} -->\n{content}\n")
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
