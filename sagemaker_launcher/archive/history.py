"""The archive, newest first: filtered, sorted by a metric, joined with jobs that still run.

Two listings tell almost everything: the index, and the headlines of what has ended (see `headline`). Only experiments without
a headline are read one by one: those that run, those whose launcher died, those of older versions. What has ended is kept on
this machine, so that a second look at the whole archive lists only the last day.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count, islice

from sagemaker_launcher.archive.experiments import MARKS, Archive, Entry, State, Summary
from sagemaker_launcher.archive.headline import Headline
from sagemaker_launcher.archive.history_cache import HistoryCache, Known, Scan
from sagemaker_launcher.errors import IntegrityError, UsageError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.naming import newest_first
from sagemaker_launcher.result import ENDED, JobResult

# Gives how jobs on AWS stand, by name, as far as AWS knows them.
Live = Callable[[Sequence[str]], Mapping[str, JobResult]]
_PAGE = 1000  # experiments that are joined at once
_PATIENCE = 10  # pages, until somebody wants to know why nothing is shown yet
_FEW, _ASKED = 100, 20  # experiments of a name that are asked for one by one, and how many at once
# Entries of the index appear minutes after the second that they are named after, and clocks are wrong by hours at most.
_SETTLED_AFTER = timedelta(days=1)
_SCAN_LASTS_S = 24 * 3600.0
_AGO = re.compile(r"(\d{1,20})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# Nothing is older, and neither the index nor CloudWatch counts further back.
_EARLIEST = datetime(1970, 1, 1, tzinfo=timezone.utc)


@frozen
class Filter:
    """Which experiments a list has; what is empty does not filter.

    Attributes:
        experiment: The experiment's name, or the first parts of it (`digits` has `digits/baseline`).
        user: Who launched it.
        status: How it ended or stands, as lists show it; upper and lower case are alike.
        since: The earliest second.
    """

    experiment: str = ""
    user: str = ""
    status: str = ""
    since: datetime | None = None

    def passes(self, summary: Summary) -> bool:
        """Whether the list has it, as far as its words tell; `since` is for whoever reads the index."""
        headline = summary.headline
        name, wanted = headline.experiment_name, self.experiment.rstrip("/")
        return (
            (not wanted or name == wanted or name.startswith(f"{wanted}/"))
            and (not self.user or headline.user == self.user)
            and (
                not self.status
                or self.status.casefold() in {status_of(summary).casefold(), summary.state.value}
            )
        )


def status_of(summary: Summary) -> str:
    """How an experiment ended or stands: AWS's word, or how far the archive knows it came."""
    ended = summary.state in {State.FINISHED, State.STARTED, State.NOT_CONFIRMED}
    return (summary.headline.status if ended else "") or summary.state.value


def ended_unobserved(summary: Summary) -> bool:
    """Whether AWS says that a job has ended, and the archive does not."""
    unknown = summary.state in {State.STARTED, State.NOT_CONFIRMED}
    return unknown and summary.headline.status in ENDED


def since(text: str, now: datetime) -> datetime:
    """Reads `90m`, `12h`, `7d`, `2w` or a date and time of ISO 8601, which is UTC unless it says otherwise.

    What is before 1970 is 1970.

    Raises:
        UsageError: It is neither.
    """
    ago = _AGO.fullmatch(text)
    try:
        moment = _before(now, ago) if ago else datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(f"--since {text}: no time", hint="such as 90m, 12h, 7d, 2w or 2026-01-31") from error
    return max(moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc), _EARLIEST)


def _before(now: datetime, ago: re.Match[str]) -> datetime:
    try:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    except OverflowError:
        return _EARLIEST  # before the first year of all


class History:
    """The experiments of an archive.

    Args:
        archive: The archive.
        cache: What this machine has already seen of it.
        live: Asks AWS how jobs stand that the archive does not know the end of; None where AWS has no part in it.
        tell: Hears why it takes long, when it does.
    """

    def __init__(
        self,
        archive: Archive,
        cache: HistoryCache,
        live: Live | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._archive = archive
        self._cache = cache
        self._live = live
        self._tell = tell

    def newest(self, limit: int, wanted: Filter = Filter()) -> tuple[Summary, ...]:
        """The newest experiments that pass. Without a filter it costs the same whatever the number of experiments is."""
        if wanted == Filter():
            entries, headlines = self._archive.entries(limit), self._archive.headlines(limit)
            found = list(self._joined(entries, headlines, limit))
            self._cache.keep([(summary.stem, _final(summary)) for summary in found])
            return tuple(found)
        return tuple(islice(self._passing(wanted), limit))

    def best(self, metric: str, limit: int, wanted: Filter, *, ascending: bool) -> tuple[Summary, ...]:
        """The experiments that have most (or least) of a metric among those that pass; those without it are left out."""
        found = (
            (value, summary)
            for summary in self._passing(wanted)
            if (value := self._metric(summary, metric)) is not None and value == value  # noqa: PLR0124 - not NaN
        )
        choose = heapq.nsmallest if ascending else heapq.nlargest
        return tuple(summary for _, summary in choose(limit, found, key=lambda pair: pair[0]))

    def _metric(self, summary: Summary, metric: str) -> float | None:
        headline = summary.headline
        if metric not in headline.metrics and not headline.complete and summary.state is State.FINISHED:
            headline = self._archive.full_headline(summary)
        return headline.metrics.get(metric)

    def _passing(self, wanted: Filter) -> Iterator[Summary]:
        last = newest_first(wanted.since) if wanted.since else ""
        for summary in self._candidates(wanted):
            if last and summary.stem[: len(last)] > last:
                return
            if wanted.passes(summary):
                yield summary

    def _candidates(self, wanted: Filter) -> Iterator[Summary]:
        """Every experiment, or, as long as that takes more of S3, the few of a name."""
        known = self._cache.known()
        if known and not 0 <= time.time() - known.scan.at < _SCAN_LASTS_S:
            known = None
        name = wanted.experiment.rstrip("/")
        few = self._archive.names_of(name, _FEW) if name and not known else None
        return self._all(known) if few is None else self._few(few)

    def _few(self, names: Sequence[str]) -> Iterator[Summary]:
        """Experiments of which each is asked for, so many at once as a list usually shows."""
        entries = iter([self._archive.entry_of(name) for name in names])
        while batch := list(islice(entries, _ASKED)):
            yield from self._summaries(batch, self._archive.headlines_of([entry.stem for entry in batch]))

    def _all(self, known: Known | None) -> Iterator[Summary]:
        """Every experiment, newest first: the new ones from S3, and those that are settled from this machine."""
        settled = newest_first(datetime.now(timezone.utc) - _SETTLED_AFTER)
        began = time.time()
        fresh = self._joined(self._entries(known), self._archive.headlines(), _PAGE)
        yield from self._keeping(fresh, settled)
        if known:
            yield from self._kept(known)
        # Who comes here has read everything.
        self._cache.keep((), Scan(settled, known.scan.at if known else began))

    def _keeping(self, summaries: Iterator[Summary], settled: str) -> Iterator[Summary]:
        """Hands summaries on, and keeps those that are settled."""
        for number in count():
            page = list(islice(summaries, _PAGE))
            if not page:
                return
            if number == _PATIENCE:
                self._tell(
                    f"more than {number * _PAGE:,} experiments are read; --since says how far back to go"
                )
            self._cache.keep([(one.stem, _final(one)) for one in page if one.stem >= settled])
            yield from page

    def _entries(self, known: Known | None) -> Iterator[Entry]:
        """The index as far as it may have changed since a reading."""
        for entry in self._archive.entries():
            if known and entry.stem >= known.scan.settled:
                return
            yield entry

    def _kept(self, known: Known) -> Iterator[Summary]:
        kept = iter(known.experiments)
        while batch := list(islice(kept, _PAGE)):
            entries = [self._archive.entry(stem) for stem, _ in batch]
            headlines = {stem: headline for stem, headline in batch if headline}
            found = self._summaries(entries, headlines)
            ended = [(one.stem, _final(one)) for one in found if one.stem not in headlines and _final(one)]
            if ended:
                self._cache.keep(ended)
            yield from found

    def _joined(
        self, entries: Iterable[Entry], headlines: Iterator[tuple[str, Headline]], page: int
    ) -> Iterator[Summary]:
        """Entries of the index with their headlines; both come in the same order, so no more than a page is held."""
        entries = iter(entries)
        ahead: list[tuple[str, Headline]] = []
        while batch := list(islice(entries, page)):
            known, last = dict(ahead), batch[-1].stem
            ahead.clear()
            for stem, headline in headlines:
                if stem > last:
                    ahead.append((stem, headline))
                    break
                if stem not in known or known[stem].status in MARKS:
                    known[stem] = headline
            yield from self._summaries(batch, known)

    def _summaries(self, batch: Sequence[Entry], known: Mapping[str, Headline]) -> list[Summary]:
        told: dict[str, Summary] = {}
        for entry in batch:
            if entry.stem in known:
                try:
                    told[entry.stem] = self._archive.told(entry, known[entry.stem])
                except IntegrityError:
                    continue  # its folder says more
        untold = [entry for entry in batch if entry.stem not in told]
        for summary in self._joined_with_aws(self._archive.read_summaries(untold)):
            told[summary.stem] = summary
        return [told[entry.stem] for entry in batch]

    def _joined_with_aws(self, summaries: list[Summary]) -> list[Summary]:
        waiting = [
            summary.job_name
            for summary in summaries
            if summary.state in {State.STARTED, State.NOT_CONFIRMED} and summary.headline.target == "aws"
        ]
        if not self._live or not waiting:
            return summaries
        answers = self._live(waiting)
        return [
            replace(summary, headline=_with_result(summary.headline, answers[summary.job_name]))
            if summary.job_name in waiting and summary.job_name in answers
            else summary
            for summary in summaries
        ]


def _final(summary: Summary) -> Headline | None:
    """What can be kept of an experiment, since it cannot change any more."""
    ended = summary.state in {State.FINISHED, State.NOT_STARTED, State.ABANDONED}
    return summary.headline if ended else None


def _with_result(headline: Headline, result: JobResult) -> Headline:
    return replace(
        headline,
        status=result.status,
        training_seconds=result.training_seconds,
        billable_seconds=result.billable_seconds,
        metrics=dict(result.metrics),
    )
