"""What pyproject.toml cannot say: an installed package carries the files of the example, which `init` copies."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_FOLDER = Path("sagemaker_launcher", "scaffold")


class BuildWithExample(build_py):
    """Builds the package, and puts the example beside the module that looks for it there."""

    def run(self) -> None:
        """Builds."""
        super().run()
        if self.editable_mode:
            return  # the files of the checkout are used
        files: dict[str, bytes] = runpy.run_path(str(_FOLDER / "example.py"))["example_files"]()
        for name, data in files.items():
            path = Path(self.build_lib) / _FOLDER / "example" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


setup(cmdclass={"build_py": BuildWithExample})
