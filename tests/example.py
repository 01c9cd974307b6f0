"""Copies the example at the top of this checkout into the package, from where `init` takes it: python -m tests.example.

Whoever works in a checkout edits those at the top; a new project is made of what is in the package. A test holds both equal.
"""

from __future__ import annotations

import shutil

from sagemaker_launcher.scaffold.example import FOLDER
from tests.commands import ROOT

_FILES = (
    ".dockerignore",
    "Dockerfile.sagemaker",
    "build_and_push.sh",
    "configs/sagemaker_config.yaml",
    "configs/training_config.yaml",
    "sagemaker_environment.yaml",
)
_CODE = "sagemaker_container"


def originals() -> dict[str, bytes]:
    """Every file of the example at the top of the checkout, by its path there."""
    code = (
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / _CODE).rglob("*")
        if path.is_file() and path.suffix in {".py", ".txt"}
    )
    return {name: (ROOT / name).read_bytes() for name in (*_FILES, *code)}


def write() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, data in originals().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    write()
