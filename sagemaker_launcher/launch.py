"""The story of a launch: plan, then execute.

`plan` and `plan_rerun` read and check everything that this machine knows, and write nothing: their outcome is what
`--dry-run` prints. `execute` then goes on, one line per step: ask the target whether it can, gather who launches what,
reserve the name in the archive, write the files, seal them, start the job, record that, follow the job, record how it
ended. The order makes each crash readable from what exists (see `archive`), and costs a handful of small S3 requests one
after the other before the job starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from sagemaker_launcher import config, secret_scan, service_model, strict_yaml
from sagemaker_launcher.archive.experiments import (
    PATCH,
    REQUEST,
    SAGEMAKER_CONFIG,
    TRAINING_CONFIG,
    Archive,
    Experiment,
    Sealed,
    beginner_of,
    headline_of,
    seals,
)
from sagemaker_launcher.archive.manifest import Intent, Launch, Manifest, to_bytes
from sagemaker_launcher.checkout import Checkout, CheckoutReader
from sagemaker_launcher.clock import utc_now
from sagemaker_launcher.coercion import Override
from sagemaker_launcher.comeback import coming_back, running_again
from sagemaker_launcher.config import ArchivedFile, Configs
from sagemaker_launcher.differences import Difference, code_differences, config_differences
from sagemaker_launcher.digest import sha256
from sagemaker_launcher.errors import (
    CommandInterrupted,
    IntegrityError,
    JobStillRunningError,
    LauncherError,
    UsageError,
)
from sagemaker_launcher.events import Events
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.interrupts import Interrupted, end_on_next_signal, pause_point, shielded
from sagemaker_launcher.job import Job
from sagemaker_launcher.naming import ImageUri, S3Uri, job_name
from sagemaker_launcher.provenance import author, source_state, versions
from sagemaker_launcher.request import Request, create_training_job_request
from sagemaker_launcher.result import IN_PROGRESS, STOPPED, JobBrokenError, JobResult
from sagemaker_launcher.storage import Storage
from sagemaker_launcher.targets import Prepared, Target
from sagemaker_launcher.unique import unique_name

if TYPE_CHECKING:
    from sagemaker_launcher.aws import Identity
    from sagemaker_launcher.preflight.subject import Subject

_PACKAGES = ("sagemaker", "boto3", "botocore", "yacs")


@frozen
class Plan:
    """A launch that has been checked and not begun.

    Attributes:
        configs: Both configs.
        job: The job.
        request: Its CreateTrainingJob request.
        target: Where it is going to run, as users type it.
        command: The command line.
        original: The experiment that this one repeats.
        allowed_secrets: Places that look like secrets and were declared harmless.
    """

    configs: Configs
    job: Job
    request: Request
    target: str
    command: tuple[str, ...]
    original: Experiment | None
    allowed_secrets: tuple[str, ...]

    @property
    def archive_root(self) -> S3Uri:
        """The archive that the experiment goes to."""
        return S3Uri.parse(self.configs.sagemaker["S3"]["CONFIGS"])

    @property
    def subject(self) -> Subject:
        """What there is to be asked about before it begins."""
        from sagemaker_launcher.preflight.subject import Subject  # noqa: PLC0415 - a rehearsal has no use for it

        return Subject(self.job, self.archive_root, self.configs.log_samples)

    @property
    def experiment(self) -> S3Uri:
        """The experiment's folder."""
        return (self.archive_root / self.job.experiment_name / self.job.name).folder


@frozen
class Outcome:
    """A launch that has been made: what was planned, how the job stands, and what had changed behind the plan's back."""

    plan: Plan
    result: JobResult
    drift: tuple[Difference, ...] = ()


@frozen
class Surroundings:
    """What a launch works with.

    Attributes:
        target: What runs the job.
        storage: Where the archive is.
        identity: Gives who AWS says we are, once the target is prepared; None where AWS has no part in it.
        review: Called with what the target has found out, before anything is written; raises what keeps the launch back.
        checkout: The reader of the git repository, already at work.
        events: Who is told.
        program: How this program was called, for commands that users can copy.
        options: What those commands have to be told to find the archive and the job, word by word.
    """

    target: Target
    storage: Storage
    identity: Callable[[], Identity | None]
    review: Callable[[Prepared], None]
    checkout: CheckoutReader
    events: Events
    program: str
    options: tuple[str, ...] = ()


def plan(
    path: Path,
    overrides: tuple[Override, ...],
    *,
    target: str,
    command: tuple[str, ...],
    allow_unknown_instance_type: bool = False,
) -> Plan:
    """Reads and checks a SageMaker config and its training config.

    Raises:
        ConfigError: With everything wrong in both files and the overrides.
        UnsafeError: A secret would end up in the archive.
    """
    configs = config.load(path, overrides, allow_unknown_instance_type=allow_unknown_instance_type)
    return _plan(configs, target, command, None)


def plan_rerun(
    original: Experiment,
    overrides: tuple[Override, ...],
    *,
    target: str,
    command: tuple[str, ...],
    root: Path,
    allow_unknown_instance_type: bool = False,
    resume: bool = False,
) -> Plan:
    """Makes a new launch of an archived experiment.

    Args:
        original: The experiment.
        overrides: What is to be different.
        target: Where it is going to run; empty: where the original ran.
        command: The command line.
        root: The folder below which the training code is looked for, where the original had it.
        allow_unknown_instance_type: Let instance types pass that the installed botocore does not know.
        resume: Whether the job goes on from the original's checkpoints, and goes on writing them there.

    Raises:
        ConfigError: With everything wrong.
        UsageError: There are no checkpoints to go on from.
        UnsafeError: A secret would end up in the archive.
    """
    configs = config.load_archived(
        _archived(original, SAGEMAKER_CONFIG),
        _archived(original, TRAINING_CONFIG),
        overrides,
        _source_folder(original, root),
        allow_unknown_instance_type=allow_unknown_instance_type,
    )
    checkpoints = _checkpoints(original) if resume else ""
    return _plan(configs, target or original.manifest.target, command, original, checkpoints)


def execute(
    plan: Plan, surroundings: Surroundings, *, detach: bool = False, allow_drift: bool = False
) -> Outcome:
    """Carries a plan out.

    Args:
        plan: What to do.
        surroundings: What to do it with.
        detach: Come back as soon as the job has started.
        allow_drift: Repeat an experiment although its image's tag means another image by now.

    Raises:
        IntegrityError: The image's tag has moved.
        CommandInterrupted: By a signal; the message says what was left and what goes on.
        LauncherError: Anything else that a user can understand.
    """
    target, events, progress = surroundings.target, surroundings.events, _Progress()
    archive = Archive(surroundings.storage, plan.archive_root)
    way_back = coming_back(surroundings.program, [str(plan.experiment)], surroundings.options)
    again = running_again(surroundings.program, str(plan.experiment), surroundings.options)
    with _explaining_interrupts(plan, progress, way_back, again):
        pause_point("planned")
        prepared = target.prepare(plan.job, plan.request, events)
        drift = _drift(plan, prepared)
        _tell_drift(drift, events, allowed=allow_drift)
        surroundings.review(prepared)
        manifest, files = _documents(plan, surroundings, prepared)
        pause_point("prepared")
        progress.stage = _Stage.RESERVED
        folder = archive.reserve(_intent(plan, manifest))
        if plan.original:
            archive.record_rerun(plan.original.folder.name, plan.job.name, folder)
        pause_point("reserved")
        sealed = archive.seal(folder, files, manifest)
        progress.stage = _Stage.SEALED
        pause_point("sealed")
        with shielded():
            started = target.start(plan.job, plan.request, sealed)
            progress.stage = _Stage.STARTED
            pause_point("started")
            _record(archive, sealed, Launch(started.job_arn, started.at, sealed.manifest_sha256), events)
        events.phase("Started", f"{plan.job.name}, archived at {folder}")
        pause_point("recorded")
        service_model.keep_copy()
        if detach:
            events.note(f"the job goes on, and is billed\n{way_back}")
            return Outcome(plan, JobResult(IN_PROGRESS, "Starting"), drift)
        result = _follow(plan, target, archive, sealed.folder, manifest, events)
    return Outcome(plan, result, drift)


def _drift(plan: Plan, prepared: Prepared) -> tuple[Difference, ...]:
    """What an image's name means now, when that is not what it meant in the experiment that a plan repeats on AWS."""
    if plan.original is None or plan.target != "aws":
        return ()
    before, uri = plan.original.manifest, plan.job.image.uri
    comparable = (before.target, before.image_uri) == (plan.target, uri)
    moved = before.image_digest and prepared.image_digest and before.image_digest != prepared.image_digest
    if not comparable or not moved:
        return ()
    return (Difference("image", uri, before.image_digest, prepared.image_digest),)


def _tell_drift(drift: tuple[Difference, ...], events: Events, *, allowed: bool) -> None:
    for one in drift:
        message = f"{one.name} was {one.before}, and is {one.after} now"
        if not allowed:
            repository = one.name.rpartition(":")[0]
            raise IntegrityError(
                message,
                hint=f"run the same image: --set ESTIMATOR.IMAGE_URI {repository}@{one.before}\n"
                "or take the new one: --allow-drift",
                code="image_moved",
            )
        events.note(message)


def differences(plan: Plan, before: Experiment, checkout: CheckoutReader) -> tuple[Difference, ...]:
    """What is not going to be as it was in an experiment."""
    configs = plan.configs
    files = {SAGEMAKER_CONFIG: configs.sagemaker_yaml, TRAINING_CONFIG: configs.training_yaml}
    found: list[Difference] = []
    for area, name in (("sagemaker config", SAGEMAKER_CONFIG), ("training config", TRAINING_CONFIG)):
        if before.files[name] != files[name]:
            old, new = (_tree(data, name) for data in (before.files[name], files[name]))
            found += config_differences(area, old, new)
    now = _manifest(plan, checkout.read(), {}, None, ())
    old_start = _start(before.checkpoints, before.manifest.job_name)
    new_start = _start(plan.job.checkpoints_uri, plan.job.name)
    if old_start != new_start:
        found.append(Difference("checkpoints", "goes on from", old_start, new_start))
    return (*found, *code_differences(before.manifest, now))


def _start(checkpoints: str, job_name: str) -> str:
    """What a job goes on from: the checkpoints that another one began, or nothing."""
    return checkpoints if checkpoints and beginner_of(checkpoints) != job_name else "nothing"


def _archived(original: Experiment, name: str) -> ArchivedFile:
    return ArchivedFile(str(original.folder / name), original.files[name])


def _checkpoints(original: Experiment) -> str:
    """Where the job of an experiment keeps its checkpoints, by the sealed request."""
    uri = original.checkpoints
    if not uri:
        raise UsageError(
            f"--resume: {original.folder} keeps no checkpoints",
            hint="without --resume it starts from the beginning",
        )
    return uri


def _plan(
    configs: Configs,
    target: str,
    command: tuple[str, ...],
    original: Experiment | None,
    checkpoints: str = "",
) -> Plan:
    allowed = _refuse_secrets(configs)
    name = job_name(configs.sagemaker["EXPERIMENT_NAME"], datetime.now(timezone.utc), unique_name(3))
    job = configs.job(name)
    if checkpoints:
        job = replace(job, checkpoints_uri=checkpoints)
    return Plan(configs, job, create_training_job_request(job), target, command, original, allowed)


def _refuse_secrets(configs: Configs) -> tuple[str, ...]:
    """Refuses secrets in what people wrote, and in what the archived config has from the code; gives those declared harmless."""
    scans = [secret_scan.scan_text(text.text, text.name) for text in configs.texts]
    if configs.schema:
        scans.append(secret_scan.scan_defaults(configs.defaults, configs.schema.text, configs.schema.name))
    for option in ("--set", "--train"):
        pairs = [
            (override.key, override.value) for override in configs.overrides if override.option == option
        ]
        scans.append(secret_scan.scan_values(pairs, option))
    secret_scan.refuse(scans)
    return tuple(str(finding) for scan in scans for finding in scan.allowed)


def _source_folder(original: Experiment, root: Path) -> Path | None:
    """The training code on this machine; the archive's word for the place is taken only below `root`."""
    source = original.manifest.source
    if source is None:
        return None
    try:
        folder = (root / source.path).resolve()
        inside = not Path(source.path).is_absolute() and folder.is_relative_to(root.resolve())
        return folder if inside and folder.is_dir() else None
    except (OSError, ValueError):
        return None  # no path at all


class _Stage(Enum):
    """How far `execute` has come, and what an interruption there leaves."""

    PLANNED = "nothing was written and nothing was started"
    RESERVED = (
        "the upload was interrupted and nothing was started; `list` shows the experiment as interrupted"
    )
    SEALED = "the experiment is archived and the job was not started"
    STARTED = "the job was archived and not carried out"


class _Progress:
    """How far a launch has come."""

    def __init__(self) -> None:
        self.stage = _Stage.PLANNED


@contextmanager
def _explaining_interrupts(plan: Plan, progress: _Progress, way_back: str, again: str) -> Iterator[None]:
    try:
        yield
    except JobStillRunningError as error:
        error.hint = "\n".join(filter(None, [error.hint, way_back]))
        raise
    except Interrupted as interrupted:
        end_on_next_signal()
        stage, hint = progress.stage, ""
        message = f"interrupted: {stage.value}"
        if interrupted.result is not None:
            message = f"interrupted: {_what_became_of(interrupted.result)}; archived at {plan.experiment}"
        elif stage is _Stage.SEALED:
            hint = f"start it with: {again}"
        elif stage is _Stage.STARTED and plan.target == "aws":
            message = f"detached: the job {plan.job.name} goes on, and is billed"
            hint = way_back
        raise CommandInterrupted(message, signal_number=interrupted.number, hint=hint) from None


def _what_became_of(result: JobResult) -> str:
    if result.status != STOPPED:
        return f"the job had ended before: {result.status}"
    saved = "what it left is saved" if result.artifacts else "nothing that it left is saved"
    return f"the job was stopped, and {saved}"


def _documents(
    plan: Plan, surroundings: Surroundings, prepared: Prepared
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the files of a new experiment. Raises UnsafeError for a secret in the uncommitted changes."""
    checkout = surroundings.checkout.read()
    if surroundings.checkout.problem:
        surroundings.events.note(
            f"git does not say which code this is, and nothing of it is archived: {surroundings.checkout.problem}"
        )
    if checkout and checkout.state.patch_omitted:
        surroundings.events.note(f"{PATCH} lacks changes: {checkout.state.patch_omitted}")
    files = {
        SAGEMAKER_CONFIG: plan.configs.sagemaker_yaml,
        TRAINING_CONFIG: plan.configs.training_yaml,
        REQUEST: to_bytes(plan.request),
    }
    allowed: tuple[str, ...] = ()
    if checkout and checkout.patch:
        scan = secret_scan.scan_patch(checkout.patch.decode("utf-8", "replace"), PATCH)
        secret_scan.refuse([scan])
        allowed = tuple(str(finding) for finding in scan.allowed)
        files[PATCH] = checkout.patch
    manifest = _manifest(plan, checkout, files, surroundings.identity(), allowed)
    return replace(manifest, image_digest=prepared.image_digest or manifest.image_digest), files


def _manifest(
    plan: Plan,
    checkout: Checkout | None,
    files: Mapping[str, bytes],
    identity: Identity | None,
    allowed: tuple[str, ...],
) -> Manifest:
    folder = plan.configs.source.folder
    return Manifest(
        job_name=plan.job.name,
        experiment_name=plan.job.experiment_name,
        target=plan.target,
        created_at=utc_now(),
        author=author(identity.arn if identity else ""),
        command=plan.command,
        versions=versions(*_PACKAGES),
        account=identity.account if identity else "",
        region=plan.job.region,
        image_uri=plan.job.image.uri,
        image_digest=ImageUri.parse(plan.job.image.uri).digest,
        files=seals(files),
        git=checkout.state if checkout else None,
        source=source_state(folder, checkout) if folder else None,
        rerun_of=str(plan.original.folder) if plan.original else "",
        allowed_secrets=plan.allowed_secrets + allowed,
        changed={
            **(plan.original.manifest.changed if plan.original else {}),
            **plan.configs.training_changes,
        },
    )


def _intent(plan: Plan, manifest: Manifest) -> Intent:
    return Intent(
        job_name=manifest.job_name,
        experiment_name=manifest.experiment_name,
        target=manifest.target,
        created_at=manifest.created_at,
        author=manifest.author,
        request_sha256=sha256(to_bytes(plan.request)),
    )


def _record(archive: Archive, sealed: Sealed, launch: Launch, events: Events) -> None:
    try:
        archive.record_launch(sealed.folder, launch)
    except LauncherError as error:
        # The job runs and costs money: losing sight of it now would be worse than an incomplete record.
        events.note(f"the job {launch.job_arn} has started, but the archive does not say so: {error.message}")


def _follow(
    plan: Plan, target: Target, archive: Archive, folder: S3Uri, manifest: Manifest, events: Events
) -> JobResult:
    recorded = False

    def record(result: JobResult) -> None:
        nonlocal recorded
        with shielded():
            if recorded:
                return
            recorded = True
            try:
                archive.record_result(folder, result, headline_of(manifest, plan.request, result))
            except LauncherError as error:
                events.note(f"the archive does not have the result: {error.message}")

    def keep_log(path: Path) -> None:
        try:
            archive.record_log(folder, path)
        except LauncherError as error:
            events.note(f"the archive does not have the log {path.name}: {error.message}")

    result: JobResult | None = None
    try:
        result = target.follow(plan.request, events, keep_log)
        pause_point("followed")
        record(result)
    except JobBrokenError as end:
        record(end.result)
        raise
    except Interrupted as end:
        result = result or end.result
        if result is None:
            raise
        with suppress(Interrupted):
            record(result)
        raise Interrupted(end.number, result) from None
    return result


def _tree(data: bytes, name: str) -> dict[str, object]:
    values = strict_yaml.plain(strict_yaml.parse(data, name))
    if not isinstance(values, dict):
        raise TypeError(name)
    return values
