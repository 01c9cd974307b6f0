"""A new project's folder: made of the example and of answers, checked, and put where nothing was."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sagemaker_launcher import config
from sagemaker_launcher.checkout import current_folder
from sagemaker_launcher.errors import ConfigError, ConflictError, EnvironmentProblemError, UsageError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.interrupts import Interrupted, pause_point, shielded
from sagemaker_launcher.scaffold.example import example_files
from sagemaker_launcher.scaffold.policies import Policy, policies
from sagemaker_launcher.scaffold.questions import Answers, settings
from sagemaker_launcher.scaffold.schemas import modeline, schemas_of
from sagemaker_launcher.scaffold.yaml_edit import with_values
from sagemaker_launcher.storage import appearing

CONFIG = "configs/sagemaker_config.yaml"
POLICY_FOLDER = "iam"


@frozen
class Project:
    """What was written.

    Attributes:
        folder: The project's folder.
        files: Its new files, relative to it, in the order of their names.
        policies: What IAM has to allow.
    """

    folder: Path
    files: tuple[str, ...]
    policies: tuple[Policy, ...]


def create_project(folder: Path, answers: Answers, *, with_policies: bool) -> Project:
    """Writes a project that a job can be launched from: all of its files, or none.

    Args:
        folder: Where; made if need be. What else is in it stays as it is.
        answers: An answer to each of `questions.QUESTIONS`.
        with_policies: Write the policies, too.

    Raises:
        ConflictError: Files that would be written exist; it names all of them.
        UsageError: The answers do not go together, such as a role of another account.
        EnvironmentProblemError: The folder cannot be written.
    """
    files = example_files()
    files[CONFIG] = with_values(files[CONFIG].decode(), settings(answers)).encode()
    _refuse_existing(folder, files)
    with _draft(folder) as draft:
        _write(draft, files)
        found = policies(_checked(draft / CONFIG))
        schemas = {
            path.relative_to(draft).as_posix(): data for path, data in schemas_of(draft / CONFIG).items()
        }
        files |= schemas | (policy_files(found) if with_policies else {})
        _refuse_existing(folder, files)
        _write(draft, files)
        pause_point("scaffold")
        _put(draft, folder, sorted(files))
    return Project(folder, tuple(sorted(files)), found)


def policy_files(found: Iterable[Policy]) -> dict[str, bytes]:
    """The documents of policies by their paths in a project."""
    return {
        f"{POLICY_FOLDER}/{policy.name}.json": (json.dumps(policy.document, indent=2) + "\n").encode()
        for policy in found
    }


def write_policies(folder: Path, found: Iterable[Policy]) -> tuple[str, ...]:
    """Writes policies into a project; all or none. Raises what `create_project` raises."""
    files = policy_files(found)
    _refuse_existing(folder, files)
    with _draft(folder) as draft:
        _write(draft, files)
        _put(draft, folder, sorted(files))
    return tuple(sorted(files))


def write_schemas(path: Path) -> tuple[Path, ...]:
    """Writes the schemas of a SageMaker config anew, beside the configs.

    Returns:
        Every file, whether it changed or not.

    Raises:
        ConfigError: The config, or the training code's `config.py`, cannot be read, or where they are is told wrongly.
        EnvironmentProblemError: The folder cannot be written.
    """
    files = schemas_of(path)
    with _writing(path.parent), ExitStack() as all_or_none:
        for file, data in files.items():
            new = all_or_none.enter_context(appearing(file))
            new.write(data)
            new.flush()  # what there is no room for is known before the first takes its name
    return tuple(files)


def without_modeline(path: Path) -> bool:
    """Whether an editor cannot find the schema of a config: its first lines do not name it."""
    with suppress(OSError):
        return modeline(path) not in path.read_text("utf-8", "replace").splitlines()
    return False


def _checked(path: Path) -> Mapping[str, Any]:
    """The config that was just made, complete."""
    try:
        return config.load(path, allow_unknown_instance_type=True).sagemaker
    except ConfigError as error:
        problems = "\n".join(f"{problem.key}: {problem.message}" for problem in error.problems)
        raise UsageError(
            f"these answers do not go together, and nothing was written:\n{problems}",
            hint="init --help says what each option is",
        ) from error


def _refuse_existing(folder: Path, files: Mapping[str, bytes]) -> None:
    names = sorted({taken for name in files for taken in _taken(folder, name)})
    if names:
        raise ConflictError(
            f"these are in the way in {folder}, and nothing was written: {', '.join(names)}",
            hint="name a new folder, or move them away",
            code="files_exist",
        )


def _taken(folder: Path, name: str) -> Iterator[str]:
    """What stands where a file is to be: itself, or something above it that is no folder."""
    path = folder / name
    if os.path.lexists(path):
        yield name
    for parent in path.relative_to(folder).parents:
        above = folder / parent
        if os.path.lexists(above) and not os.path.isdir(above):  # noqa: PTH112 - Path's raises where one may not look
            yield str(above if parent == Path() else parent)


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A hidden folder on the same file system, which is gone after the block."""
    absolute = folder if folder.is_absolute() else current_folder() / folder
    nearest = next(place for place in (folder, *absolute.parents) if os.path.isdir(place))  # noqa: PTH112 - the same
    with _writing(nearest):
        draft = Path(tempfile.mkdtemp(prefix=".init-", dir=nearest))
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot write in {folder}, and nothing was left there: {error.strerror or error}"
        raise EnvironmentProblemError(
            message, hint="choose another folder, or free some space", code="cannot_write"
        ) from error


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if path.suffix == ".sh":
            path.chmod(path.stat().st_mode | 0o111)


def _put(draft: Path, folder: Path, names: Iterable[str]) -> None:
    """Moves files to where they belong; when one cannot be, or a signal comes, those before it go again."""
    made: list[Path] = []
    try:
        with shielded():  # a signal waits until it is known what there is to undo
            for name in names:
                for parent in reversed((folder / name).parents):
                    if not parent.is_dir():
                        parent.mkdir()
                        made.append(parent)
                _move(draft / name, folder / name)
                made.append(folder / name)
            pause_point("scaffold-put")
    except (OSError, Interrupted):
        with shielded():
            for path in reversed(made):
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def _move(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # unlike a rename, it never replaces a file that has just appeared
    except FileExistsError:
        raise
    except OSError:  # not every file system has links
        source.rename(target)
