"""The files of the example project, from the checkout or from the installed package.

setup.py runs this file by itself when it makes a package, so it imports the standard library alone.
"""

from __future__ import annotations

from pathlib import Path

FILES = (
    ".dockerignore",
    "Dockerfile.sagemaker",
    "build_and_push.sh",
    "configs/sagemaker_config.yaml",
    "configs/training_config.yaml",
    "sagemaker_environment.yaml",
)
_CODE = "sagemaker_container"
_PACKAGED = "example"  # beside this file, in an installed package


def example_files() -> dict[str, bytes]:
    """Every file of the example by its path in a project, with slashes."""
    root = Path(__file__).resolve().parent / _PACKAGED
    if not root.is_dir():
        root = Path(__file__).resolve().parents[2]
    code = (
        path.relative_to(root).as_posix()
        for path in (root / _CODE).rglob("*")
        if path.is_file() and path.suffix in {".py", ".txt"}
    )
    return {name: (root / name).read_bytes() for name in sorted((*FILES, *code))}
