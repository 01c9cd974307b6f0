"""Trains epoch by epoch: resumes, measures, prints, makes checkpoints, stops when asked to, and saves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import data
import numpy as np
from checkpoint import Checkpoint, CheckpointError, Checkpoints, fingerprint
from config import Config
from job import Job
from model import Model
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier


@dataclass(frozen=True)
class Metrics:
    """What is measured after an epoch; its names in the log and in files are those that SageMaker shows."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float

    def by_name(self) -> dict[str, float]:
        """Values by name, in full precision."""
        return {
            "epoch": self.epoch,
            "train:loss": self.train_loss,
            "validation:loss": self.validation_loss,
            "validation:accuracy": self.validation_accuracy,
        }

    def __str__(self) -> str:
        return (
            f"epoch={self.epoch} train:loss={self.train_loss:.6e} validation:loss={self.validation_loss:.6e} "
            f"validation:accuracy={self.validation_accuracy:.4f}"
        )


@dataclass(frozen=True)
class Progress:
    """The model so far, and the metrics of every epoch that made it."""

    model: Model
    curves: tuple[Metrics, ...] = ()


@dataclass(frozen=True, eq=False)
class Samples:
    """Images as the regression sees them.

    Attributes:
        features: One row an image.
        labels: One class an image.
        positions: Where in the model's classes each label is.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    positions: NDArray[np.intp]


def train(cfg: Config, job: Job, stopping: Callable[[], bool]) -> bool:
    """Trains until the last epoch or until it is asked to stop, and saves what there is by then.

    Args:
        cfg: The training config.
        job: Says where to read and where to write.
        stopping: Asked between two steps. An epoch that it cuts short does not count, so that a run that
            resumes comes to exactly the same model.

    Returns:
        Whether it came to the last epoch.
    """
    training, validation = _read(cfg, job)
    checkpoints = Checkpoints(job.checkpoint_dir, keep=cfg.CHECKPOINT.KEEP, fingerprint=fingerprint(cfg))
    progress = _resumed(checkpoints, cfg) or _fresh(cfg, training)
    saved_epoch = progress.model.epoch
    save_every = cfg.CHECKPOINT.EVERY if job.saves() else 0
    learn, measure = _samples(progress.model, training), _samples(progress.model, validation)

    while progress.model.epoch < cfg.SOLVER.EPOCHS:
        model = _next_epoch(progress.model, learn, cfg, stopping)
        if model is None:
            break
        metrics = _metrics(model, learn, measure)
        progress = Progress(model, (*progress.curves, metrics))
        print(metrics, flush=True)
        if save_every and model.epoch - saved_epoch >= save_every:
            checkpoints.save(_checkpoint(progress))
            saved_epoch = model.epoch

    epoch = progress.model.epoch
    if save_every and epoch > saved_epoch:
        checkpoints.save(_checkpoint(progress))
    if epoch and job.saves():
        _save(progress, job)
    finished: bool = epoch == cfg.SOLVER.EPOCHS
    if not finished:
        print(f"stopped by a signal after {epoch} of {cfg.SOLVER.EPOCHS} epochs", flush=True)
    return finished


def _read(cfg: Config, job: Job) -> tuple[data.Images, data.Images]:
    training = data.read(job.channel(cfg.DATA.TRAINING_CHANNEL))
    validation = data.read(job.channel(cfg.DATA.VALIDATION_CHANNEL))
    training.check_same_pixels(validation)
    classes = np.unique(training.labels)
    if len(classes) == 1:
        raise data.DataError(f"{training.source} holds only the class {classes[0]}: nothing to tell apart")
    new = np.setdiff1d(validation.labels, classes)
    if len(new):
        raise data.DataError(f"{validation.source} holds class {new[0]}, which {training.source} does not")
    print(f"images: training={len(training.labels)} validation={len(validation.labels)}", flush=True)
    return training, validation


def _resumed(checkpoints: Checkpoints, cfg: Config) -> Progress | None:
    found = checkpoints.newest() if cfg.CHECKPOINT.EVERY else None
    if found is None:
        return None
    if found.epoch > cfg.SOLVER.EPOCHS:
        raise CheckpointError(
            f"the checkpoint is of epoch {found.epoch}, but SOLVER.EPOCHS is {cfg.SOLVER.EPOCHS}; "
            "start in an empty checkpoint folder, or with more epochs"
        )
    print(f"resuming from checkpoint of epoch {found.epoch}", flush=True)
    curves = tuple(Metrics(*values) for values in found.facts["curves"])
    return Progress(Model.from_parts(found.facts["model"], found.arrays), curves)


def _checkpoint(progress: Progress) -> Checkpoint:
    curves = [list(metrics.by_name().values()) for metrics in progress.curves]
    facts = {"model": progress.model.facts(), "curves": curves}
    return Checkpoint(progress.model.epoch, facts, progress.model.arrays())


def _fresh(cfg: Config, training: data.Images) -> Progress:
    classes = np.unique(training.labels)
    return Progress(Model.untrained(cfg, pixels=training.pixels.shape[1], classes=classes))


def _samples(model: Model, images: data.Images) -> Samples:
    positions = np.searchsorted(model.classes, images.labels)
    return Samples(model.features(images.pixels), images.labels, positions)


def _next_epoch(model: Model, samples: Samples, cfg: Config, stopping: Callable[[], bool]) -> Model | None:
    """The model after one more epoch; None when asked to stop before its end."""
    classifier = _classifier(model, cfg)
    # Of this epoch alone, so that it does not matter whether the epochs before it ran in the same process.
    order = np.random.default_rng([cfg.SEED, model.epoch]).permutation(len(samples.labels))
    for start in range(0, len(order), cfg.SOLVER.BATCH_SIZE):
        if stopping():
            return None
        batch = order[start : start + cfg.SOLVER.BATCH_SIZE]
        classifier.partial_fit(samples.features[batch], samples.labels[batch])
    return replace(
        model,
        epoch=model.epoch + 1,
        samples_seen=model.samples_seen + len(order),
        coefficients=classifier.coef_,
        intercepts=classifier.intercept_,
    )


def _classifier(model: Model, cfg: Config) -> SGDClassifier:
    """A scikit-learn classifier that knows what the model knows; these four attributes are all it keeps."""
    classifier = SGDClassifier(
        loss="log_loss",
        alpha=cfg.SOLVER.WEIGHT_DECAY,
        learning_rate="invscaling",
        eta0=cfg.SOLVER.BASE_LR,
        power_t=cfg.SOLVER.LR_DECAY,
        shuffle=False,
    )
    classifier.classes_ = model.classes
    classifier.coef_ = model.coefficients.copy()
    classifier.intercept_ = model.intercepts.copy()
    classifier.t_ = 1.0 + model.samples_seen
    return classifier


def _metrics(model: Model, learn: Samples, measure: Samples) -> Metrics:
    probabilities = model.probabilities(measure.features)
    return Metrics(
        epoch=model.epoch,
        train_loss=_loss(model.probabilities(learn.features), learn.positions),
        validation_loss=_loss(probabilities, measure.positions),
        validation_accuracy=float(np.mean(probabilities.argmax(axis=1) == measure.positions)),
    )


def _loss(probabilities: NDArray[np.float64], positions: NDArray[np.intp]) -> float:
    """The mean cross-entropy."""
    likely = probabilities[np.arange(len(positions)), positions]
    return float(-np.mean(np.log(np.maximum(likely, np.finfo(np.float64).tiny))))


def _save(progress: Progress, job: Job) -> None:
    progress.model.save(job.model_dir)
    job.output_data_dir.mkdir(parents=True, exist_ok=True)
    curves = [metrics.by_name() for metrics in progress.curves]
    final = json.dumps(curves[-1], indent=2)
    (job.output_data_dir / "metrics.json").write_text(f"{final}\n", "utf-8")
    _write_csv(job.output_data_dir / "curves.csv", curves)
    print(f"saved the model of epoch {progress.model.epoch} to {job.model_dir}", flush=True)


def _write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
