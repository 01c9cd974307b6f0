"""Whether an archived experiment is what was launched: the seal, the index, and what AWS remembers of the job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sagemaker_launcher.archive.experiments import (
    INTENT,
    LAUNCH,
    MANIFEST,
    REQUEST,
    RESULT,
    Archive,
    Experiment,
    experiment_root,
    headline_of,
    read_experiment,
    result_in,
)
from sagemaker_launcher.archive.manifest import SEAL_TAG, intent_from
from sagemaker_launcher.archive.recalled import Recall
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import IntegrityError, LauncherError, NotFoundError
from sagemaker_launcher.findings import Finding
from sagemaker_launcher.naming import S3Uri
from sagemaker_launcher.result import ENDED
from sagemaker_launcher.storage import Storage

_DOCUMENT_MAX = 4 * 1024 * 1024  # bytes
_VERSIONS = "look at the versions of the bucket, and at who can write to it"


class Verification:
    """The checks of one experiment.

    Args:
        storage: Where objects are.
        folder: The experiment's folder, ending in a slash.
    """

    def __init__(self, storage: Storage, folder: S3Uri) -> None:
        self._storage = storage
        self._folder = folder
        self._problems: list[str] = []
        self._experiment = read_experiment(storage, folder, self._remember)
        root = experiment_root(folder, self._experiment.manifest.experiment_name)
        self._archive = Archive(storage, root)

    def _remember(self, _: S3Uri, problems: Sequence[str]) -> None:
        self._problems += problems

    def findings(self) -> Iterator[Finding]:
        """What the archive itself tells."""
        for problem in self._problems:
            yield Finding("seal", "failed", problem, _VERSIONS)
        if not self._problems:
            count = len(self._experiment.manifest.files)
            yield Finding("seal", "ok", f"all {count} files are as they were sealed")
        yield self._checked("intent", self._intent)
        yield self._checked("index", self._index)
        if not self._experiment.result:
            yield self._checked("result", self._no_result)
            return
        if not self._experiment.launch:
            # Honest, too: where it could not be written, or its launcher was killed and somebody else saw the job's end.
            yield Finding(
                "launch",
                "warning",
                f"{LAUNCH} is missing: whether {MANIFEST} is the one that was launched is not known",
                "verify --deep asks AWS" if self._experiment.manifest.target == "aws" else "",
            )
        yield self._checked("headline", self._headline)

    def deep_findings(self, recall: Recall | None) -> Iterator[Finding]:
        """What lies elsewhere: the outputs, and the seal that the job on AWS was started with.

        Args:
            recall: Asks AWS what it knows of a job; None where AWS has no part in it.
        """
        if self._experiment.result:
            for name, uri in self._experiment.result.artifacts.items():
                yield self._checked(name, partial(self._output, uri))
        if recall and self._experiment.manifest.target == "aws":
            yield self._checked("job", lambda: self._job(recall))

    def _checked(self, name: str, check: Callable[[], str]) -> Finding:
        try:
            return Finding(name, "ok", check())
        except IntegrityError as error:
            return Finding(name, "failed", error.message, error.hint or _VERSIONS)
        except NotFoundError as error:
            return Finding(name, "warning", error.message, error.hint)
        except LauncherError as error:
            return Finding(name, "unknown", error.message, error.hint)

    def _intent(self) -> str:
        uri = self._folder / INTENT
        try:
            intent = intent_from(self._storage.read(uri, _DOCUMENT_MAX), str(uri))
        except NotFoundError as error:
            raise IntegrityError(f"{uri} was deleted") from error  # it was there before all else
        manifest = self._experiment.manifest
        if (intent.job_name, intent.experiment_name) != (manifest.job_name, manifest.experiment_name):
            raise IntegrityError(f"{uri} reserved another name than the manifest has")
        request = self._experiment.files.get(REQUEST)
        if request is not None and intent.request_sha256 != sha256(request):
            raise IntegrityError(f"{uri} reserved the name for another request")
        return "the name was reserved for this request"

    def _index(self) -> str:
        if self._archive.find(self._folder.name) != self._folder:
            raise IntegrityError(f"the index leads from {self._folder.name} to another experiment")
        return "lists have it"

    def _no_result(self) -> str:
        told = self._archive.headline(self._folder.name)
        if told is None or told.status not in ENDED:
            return "there is none, and lists know of none"
        try:
            result_in(self._storage, self._folder)  # which may have come since the others were read
        except NotFoundError as error:
            uri = self._folder / RESULT
            raise IntegrityError(f"{uri} was deleted: by what lists say, the job is {told.status}") from error
        return "it has just come"

    def _headline(self) -> str:
        experiment: Experiment = self._experiment
        told = self._archive.headline(self._folder.name)
        if told is None:
            raise NotFoundError(
                "lists have to read its folder: it has no headline", hint="doctor --repair makes one"
            )
        if told != headline_of(experiment.manifest, experiment.request, experiment.result):
            raise IntegrityError("lists say something else of it than its result")
        return "lists say of it what its result says"

    def _output(self, uri: str) -> str:
        place = _parsed(uri)
        # The service may name a folder of loose files without its slash; an archive is no folder.
        places = [place] if uri.endswith((".tar.gz", "/")) else [place, place.folder]
        for prefix in places:
            for item in self._storage.list(prefix, 1):
                if item.uri == place or prefix.key.endswith("/"):  # a longer name is something else
                    return f"{item.uri}, {item.size:,} bytes"
        raise NotFoundError(f"nothing is at {uri} any more")

    def _job(self, recall: Recall) -> str:
        uri = self._folder / MANIFEST
        job = recall(self._folder.name, self._experiment.manifest.region)
        if job.tags.get(SEAL_TAG) != sha256(self._storage.read(uri, _DOCUMENT_MAX)):
            raise IntegrityError(f"the job on AWS was started with another manifest than {uri}")
        return "the job on AWS was started with this manifest"


def _parsed(uri: str) -> S3Uri:
    try:
        return S3Uri.parse(uri)
    except ValueError as error:
        raise IntegrityError(f"the result names an output that is no S3 URI: {uri}") from error
