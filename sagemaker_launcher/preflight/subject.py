"""What a preflight is about: a job, and all places in S3 that it or its launcher touches. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.job import CONFIG_CHANNEL, Channel, Job
from sagemaker_launcher.naming import S3Uri


@frozen
class Place:
    """A place in S3.

    Attributes:
        key: The config key that names it.
        uri: An object or a prefix.
        read: The job reads it.
        written: The job, or the launcher, writes to it.
    """

    key: str
    uri: S3Uri
    read: bool = False
    written: bool = False


@frozen
class Subject:
    """What is checked.

    Attributes:
        job: The job.
        archive: The archive, S3.CONFIGS.
        samples: Lines of log that the training code says it prints; None when it does not say.
    """

    job: Job
    archive: S3Uri
    samples: tuple[str, ...] | None = None

    @property
    def experiment(self) -> S3Uri:
        """The folder that the launcher is going to write."""
        return (self.archive / self.job.experiment_name / self.job.name).folder

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels whose data is in S3 already: all but that of the training config."""
        data = [one for one in self.job.channels if one.name != CONFIG_CHANNEL and not one.file_system]
        if self.job.model_uri:
            data.append(Channel(self.job.model_channel_name, self.job.model_uri, input_mode="File"))
        return tuple(data)

    def key_of(self, channel: Channel) -> str:
        """The config key that a channel comes from."""
        # No other channel has that name: `rules`.
        model = self.job.model_uri and channel.name == self.job.model_channel_name
        return "ESTIMATOR.MODEL_URI" if model else f"CHANNELS.{channel.name}"

    @property
    def owners(self) -> dict[str, str]:
        """The accounts of buckets that belong to others, by bucket."""
        return {
            S3Uri.parse(one.s3_uri).bucket: one.bucket_owner for one in self.job.channels if one.bucket_owner
        }

    def places(self) -> Iterator[Place]:
        """Every place, the archive first."""
        job = self.job
        yield Place("S3.CONFIGS", self.experiment, read=True, written=True)
        yield Place("S3.OUTPUTS", S3Uri.parse(f"{job.outputs_uri}/{job.name}/"), written=True)
        if job.checkpoints_uri:
            yield Place("S3.CHECKPOINTS", S3Uri.parse(job.checkpoints_uri), read=True, written=True)
        for channel in self.channels:
            yield Place(self.key_of(channel), S3Uri.parse(channel.s3_uri), read=True)
        observers = {
            "DEBUGGER_HOOK_CONFIG": job.debugger_hook,
            "PROFILER_CONFIG": job.profiler,
            "TENSORBOARD_OUTPUT_CONFIG": job.tensorboard,
        }
        for key, observer in observers.items():
            if observer:
                uri = S3Uri.parse(observer.s3_output_path)
                yield Place(f"ESTIMATOR.{key}.S3_OUTPUT_PATH", uri.folder, written=True)

    def buckets(self) -> dict[str, tuple[Place, ...]]:
        """The places of each bucket."""
        found: dict[str, list[Place]] = {}
        for place in self.places():
            found.setdefault(place.uri.bucket, []).append(place)
        return {bucket: tuple(places) for bucket, places in found.items()}
