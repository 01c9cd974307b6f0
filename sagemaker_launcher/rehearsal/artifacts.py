"""What a job leaves in S3: model and output, packed as the service packs them.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-output.html
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.rehearsal.tree import Tree
from sagemaker_launcher.request import Request
from sagemaker_launcher.storage import Storage

_LEVEL = 6  # of gzip


def save_artifacts(request: Request, tree: Tree, storage: Storage) -> dict[str, str]:
    """Uploads what the program left in the model and output folders; a folder that is empty leaves nothing.

    Returns:
        The S3 URIs by name, `model` and `output`: of a tarball, or of a folder when the request asks for no compression.
    """
    output = request["OutputDataConfig"]
    place = S3Uri.parse(output["S3OutputPath"]) / request["TrainingJobName"] / "output"
    compress = output.get("CompressionType", "GZIP") == "GZIP"
    saved = {}
    for name, folder, loose in (("model", tree.model, "model"), ("output", tree.output_data, "data")):
        if not folder.is_dir() or not any(folder.iterdir()):
            continue  # a program may even have removed the folder
        target = place / f"{name}.tar.gz" if compress else (place / loose).folder
        _upload_packed(folder, target, storage) if compress else _upload_files(folder, target, storage)
        saved[name] = str(target)
    return saved


def _upload_packed(folder: Path, target: S3Uri, storage: Storage) -> None:
    packed = folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(packed, "w:gz", compresslevel=_LEVEL) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    storage.upload(packed, target)


def _upload_files(folder: Path, target: S3Uri, storage: Storage) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.upload(path, target / path.relative_to(folder).as_posix())
