"""A finished experiment in a few words that fit into an object's key, so that a listing tells them without reading. Pure.

The key is `<newest-first second>-<job name>.1<words>`: compact JSON, compressed with words that both sides know, in the
letters of base64url. A word longer than a file name may be goes on after a slash. 1,000 of them come in one ListObjectsV2.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, field, fields, replace
from itertools import islice
from typing import Any

from sagemaker_launcher.documents import read_document
from sagemaker_launcher.frozen import frozen

VERSION = "1"
NOT_STARTED, ABANDONED = (
    "NotStarted",
    "Abandoned",
)  # statuses of experiments that have no result and never will
_KEY_MAX = 1000  # bytes; S3 ends at 1,024
_NAME_MAX = 250  # bytes; most file systems end at 255
_TEXT_MAX = 8192  # characters of a headline's JSON; refuses what would unpack to more
_VALUES_MAX = 32  # metrics, and as many changed keys
_VALUE_MAX = 40  # characters of a changed value
# Part of the format: another dictionary is another VERSION. The likeliest words stand last.
_WORDS = (
    b'"docker","aws","process","NotStarted","Abandoned","Stopped","Failed","Completed",".2xlarge.4xlarge.12xlarge'
    b'"1 x ml.p4d.24xlarge","1 x ml.g5.xlarge","1 x ml.m5.large",false,true,{"loss":0.,"train:loss":0.,'
    b'"validation:loss":0.,"test:accuracy":0.,"validation:accuracy":0.},{"SEED":"","SOLVER.EPOCHS":"","SOLVER.BASE_LR":"'
)


@frozen
class Headline:
    """What lists say of an experiment.

    Attributes:
        experiment_name: The experiment's name.
        created_at: When it was launched (ISO 8601, UTC).
        user: Who launched it.
        target: Where: `aws`, `docker` or `process`.
        status: How it ended, in the words of `JobResult`, `NotStarted` or `Abandoned`; empty while it has not.
        training_seconds: How long it trained; None when unknown.
        billable_seconds: What is billed per instance; None when unknown.
        instances: Such as `2 x ml.m5.large`; empty when unknown.
        spot: Whether on spot instances.
        metrics: The last values, to six digits.
        changed: The training config's keys that differ from the training code's defaults, with their values.
        complete: Whether nothing had to be left out for want of room.
    """

    experiment_name: str
    created_at: str
    user: str
    target: str
    status: str = ""
    training_seconds: int | None = None
    billable_seconds: int | None = None
    instances: str = ""
    spot: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    @property
    def short(self) -> Headline:
        """The same with values as long as a list shows them."""
        metrics = {name: float(f"{value:.6g}") for name, value in islice(self.metrics.items(), _VALUES_MAX)}
        changed = {name: value[:_VALUE_MAX] for name, value in islice(self.changed.items(), _VALUES_MAX)}
        return replace(
            self,
            metrics=metrics,
            changed=changed,
            complete=len(metrics) == len(self.metrics) and len(changed) == len(self.changed),
        )


_FIELDS = [item.name for item in fields(Headline)]


def key_of(stem: str, headline: Headline, room: int) -> str:
    """The key of a headline, relative to its folder.

    Args:
        stem: `<newest-first second>-<job name>`.
        headline: What to say; as much of it as there is room for is in the key.
        room: How many bytes are already in use before the key.

    Raises:
        ValueError: Not even the shortest headline has room, and could be read again.
    """
    for smaller in _shorter(headline.short):
        key = f"{stem}.{_in_parts(VERSION + _packed(smaller, stem), len(stem) + 1)}"
        if room + len(key) <= _KEY_MAX and _is_readable(key):
            return key
    raise ValueError(stem)


def read_key(key: str) -> tuple[str, Headline]:
    """The stem and the headline of a key that `key_of` made. Raises ValueError for anything else."""
    stem, _, words = key.partition(".")
    if not words.startswith(VERSION):
        raise ValueError(f"not a headline of this version: {key!r}")
    return stem, _unpacked(words.removeprefix(VERSION).replace("/", ""), stem)


def _is_readable(key: str) -> bool:
    """Whether a key's words do not unpack to more than readers take: what repeats itself is packed very small."""
    try:
        read_key(key)
    except ValueError:
        return False
    return True


def _shorter(headline: Headline) -> Iterator[Headline]:
    """The headline, and then with ever less in it: the last changed values go first, then the last metrics."""
    yield headline
    metrics, changed = list(headline.metrics.items()), list(headline.changed.items())
    while changed or metrics:
        (changed or metrics).pop()
        yield replace(headline, metrics=dict(metrics), changed=dict(changed), complete=False)


def _packed(headline: Headline, stem: str) -> str:
    text = json.dumps(astuple(headline), separators=(",", ":"), ensure_ascii=False)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=_dictionary(stem))
    data = packer.compress(text.encode("utf-8", "backslashreplace")) + packer.flush()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unpacked(words: str, stem: str) -> Headline:
    try:
        data = base64.b64decode(words + "=" * (-len(words) % 4), b"-_", validate=True)
        unpacker = zlib.decompressobj(-15, zdict=_dictionary(stem))
        text = unpacker.decompress(data, _TEXT_MAX)
        values: Any = json.loads(text)
        return read_document(Headline, dict(zip(_FIELDS, values, strict=True)))
    except (binascii.Error, zlib.error, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"not a headline: {stem!r}: {error}") from error


def _dictionary(stem: str) -> bytes:
    """Words that are likely to come: the job's name begins with the experiment's."""
    return _WORDS + stem.encode()


def _in_parts(words: str, used: int) -> str:
    first, rest = words[: _NAME_MAX - used], words[_NAME_MAX - used :]
    return "/".join([first, *(rest[start : start + _NAME_MAX] for start in range(0, len(rest), _NAME_MAX))])
