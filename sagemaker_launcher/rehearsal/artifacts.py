"""What a job leaves in S3: model and output of all hosts, packed as the service packs them.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sagemaker_launcher.archive.unpacking import refusals
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.own_files import held, is_own_folder, is_text, refuse_nameless
from sagemaker_launcher.rehearsal.tree import Tree
from sagemaker_launcher.rehearsal.workspace import entries
from sagemaker_launcher.request import Request
from sagemaker_launcher.storage import Storage

_LEVEL = 6  # of gzip


@frozen
class Saved:
    """What was uploaded.

    Attributes:
        uris: The S3 URIs by name, `model` and `output`: of a tarball, or of a folder when the request asks for no compression.
        collisions: Files that several hosts wrote, of which only one was kept: `model/weights.bin (algo-1, algo-2)`.
        refusals: Why `download` is not going to unpack a tarball; see `archive.unpacking.refusals`.
        problem: Why not all is saved, such as a full disk or a name that no key can have; empty when it is.
    """

    uris: dict[str, str]
    collisions: tuple[str, ...]
    refusals: tuple[str, ...]
    problem: str


def save_artifacts(request: Request, trees: Mapping[Host, Tree], storage: Storage, scratch: Path) -> Saved:
    """Uploads what the programs left in the model and output folders; a folder that is empty leaves nothing.

    When one of both cannot be saved, the other is all the same; and of a folder without compression, all files but those whose
    names no key can have; one without any file leaves nothing there either.

    Links are stored as links in tarballs. Without compression, a link to a file within its folder is uploaded as that file;
    all others are left out (to folders, out of the folder, to nowhere), and so are FIFOs, sockets and devices. A folder that
    the program has replaced by a link leaves nothing: on this machine it may lead to the user's own files.

    Args:
        request: The request.
        trees: The tree of each host. The folders of all are merged; of files with the same path, the first host's is kept.
        storage: Where the artifacts go.
        scratch: An existing folder for tarballs.
    """
    output = request["OutputDataConfig"]
    place = S3Uri.parse(output["S3OutputPath"]) / request["TrainingJobName"] / "output"
    compress = output.get("CompressionType", "GZIP") == "GZIP"
    uris: dict[str, str] = {}
    collisions: list[str] = []
    refused: list[str] = []
    problems: list[str] = []
    for name, part, loose in (("model", "model", "model"), ("output", "output_data", "data")):
        folders = {host: getattr(Tree(tree.base.resolve()), part) for host, tree in trees.items()}
        # A program may even have removed its folder.
        folders = {host: folder for host, folder in folders.items() if is_own_folder(folder)}
        if not any(any(folder.iterdir()) for folder in folders.values()):
            continue
        merged, twice = _merge(folders)
        collisions += [f"{name}/{path}" for path in twice]
        target = place / f"{name}.tar.gz" if compress else (place / loose).folder
        try:
            if compress:
                packed = scratch / f"{name}.tar.gz"
                _pack(merged, packed)
                refused += refusals(merged, packed)
                storage.upload(packed, target)
            elif not _upload_files(merged, target, storage):
                continue  # folders alone are no objects: nothing of them is there
        except (LauncherError, OSError) as error:
            problems.append(str(error))  # what the other part has may well be saved
        else:
            uris[name] = str(target)
    return Saved(uris, tuple(collisions), tuple(refused), "; ".join(problems))


def _merge(folders: Mapping[Host, Path]) -> tuple[dict[str, Path], list[str]]:
    """Everything below the folders of all hosts by relative path, parents first, and what only one host can have there."""
    merged: dict[str, Path] = {}
    owners: dict[str, list[str]] = {}
    files: set[str] = set()
    for host, folder in folders.items():
        for path in sorted(Path(entry.path) for entry in entries(folder)):
            relative = path.relative_to(folder)
            name, parent = relative.as_posix(), relative.parent.as_posix()
            if parent != "." and (parent not in merged or not _is_folder(merged[parent])):
                continue  # below what is a file of another host, which has been told
            merged.setdefault(name, path)
            owners.setdefault(name, []).append(host.name)
            if not _is_folder(path):
                files.add(name)
    twice = [f"{name} ({', '.join(owners[name])})" for name in sorted(files) if len(owners[name]) > 1]
    return merged, twice


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _pack(merged: Mapping[str, Path], packed: Path) -> None:
    import tarfile  # noqa: PLC0415 - not before the program has been started

    with tarfile.open(packed, "w:gz", compresslevel=_LEVEL) as tar:
        for name in sorted(merged):
            tar.add(merged[name], name, recursive=False)


def _upload_files(merged: Mapping[str, Path], target: S3Uri, storage: Storage) -> bool:
    """Whether there was any file."""
    found = []
    for name, path in merged.items():
        with held(path, path.parents[name.count("/")]) as file:
            if not file:
                continue
            found.append(name)
            if is_text(name):
                storage.upload(file, target / name)
    refuse_nameless(found, target)
    return bool(found)
