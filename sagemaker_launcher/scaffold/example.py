"""The files of the example project. They are no others than those at the top of a checkout, which its users edit."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("example")


def example_files() -> dict[str, bytes]:
    """Every file of the example by its path in a project, with slashes."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_bytes()
        for path in sorted(FOLDER.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"  # installers compile what they find
    }
