"""The data of all channels: brought once, and laid out for every host of every attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from sagemaker_launcher.events import Events
from sagemaker_launcher.job import CONFIG_CHANNEL, TRAINING_CONFIG_FILE
from sagemaker_launcher.rehearsal.cache import DataCache
from sagemaker_launcher.rehearsal.channels import ChannelContent, Placed
from sagemaker_launcher.rehearsal.hosts import Host
from sagemaker_launcher.rehearsal.tree import Tree

if TYPE_CHECKING:
    from sagemaker_launcher.rehearsal.pipes import PipeFeeder

PIPE, FAST_FILE = "Pipe", "FastFile"
_WORTH_A_WORD, _MANY = 1024 * 1024, 20  # bytes and objects that take so long that somebody may wonder


class Inputs:
    """The input channels of a job.

    Args:
        contents: What each channel has.
        hosts: All hosts.
        cache: Where the objects are kept.
        config: Gives the training config, which need not exist before the job starts.
    """

    def __init__(
        self,
        contents: tuple[ChannelContent, ...],
        hosts: tuple[Host, ...],
        cache: DataCache,
        config: Callable[[], bytes],
    ) -> None:
        self._contents = contents
        self._hosts = hosts
        self._cache = cache
        self._config = config

    def fetch(self, events: Events) -> None:
        """Brings what is not in the cache yet. Raises LauncherError for data that cannot be read."""
        missing = self._cache.missing([placed for content in self._contents for placed in content.objects])
        size = sum(placed.size for placed in missing)
        if size < _WORTH_A_WORD and len(missing) < _MANY:
            self._cache.fetch(missing)
            return
        with events.progress(f"fetching {len(missing):,} objects", size) as advance:
            self._cache.fetch(missing, advance)

    def lay_out(self, host: Host, tree: Tree) -> None:
        """Puts the files of a host's channels into its tree. Raises LauncherError when the training config cannot be read."""
        tree.channel(CONFIG_CHANNEL).mkdir()
        (tree.channel(CONFIG_CHANNEL) / TRAINING_CONFIG_FILE).write_bytes(self._config())
        for content, objects in self._of(host):
            if content.mode != PIPE:
                folder = tree.channel(content.name)
                folder.mkdir(parents=True, exist_ok=True)
                self._cache.link(objects, folder)

    @contextmanager
    def feeding(self, trees: dict[Host, Tree]) -> Iterator[list[PipeFeeder]]:
        """Feeds the FIFOs of all hosts while the block runs; gives the feeders, which know what went wrong."""
        feeders = [
            self._feeder(content, objects, tree)
            for host, tree in trees.items()
            for content, objects in self._of(host)
            if content.mode == PIPE
        ]
        with ExitStack() as stack:
            for feeder in feeders:
                stack.enter_context(feeder.running())
            yield feeders

    def _feeder(self, content: ChannelContent, objects: tuple[Placed, ...], tree: Tree) -> PipeFeeder:
        from sagemaker_launcher.rehearsal.pipes import PipeFeeder  # noqa: PLC0415 - few jobs have a pipe

        return PipeFeeder(content, objects, tree.data, self._cache)

    def size(self, host: Host) -> int:
        """Bytes on a host's disk."""
        return sum(
            placed.size for content, objects in self._of(host) if content.mode == "File" for placed in objects
        )

    def _of(self, host: Host) -> Iterator[tuple[ChannelContent, tuple[Placed, ...]]]:
        for content in self._contents:
            members = [one for one in self._hosts if not content.groups or one.group in content.groups]
            if host in members:
                yield content, content.part(members.index(host), len(members))
