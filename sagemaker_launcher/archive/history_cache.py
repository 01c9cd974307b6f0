"""Finished experiments that this machine has already seen: a file that may be lost, and is made anew when it is spoiled."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from sagemaker_launcher.archive.headline import Headline
from sagemaker_launcher.errors import LauncherError
from sagemaker_launcher.frozen import frozen
from sagemaker_launcher.user_cache import cache_folder

_FILE = "history.sqlite"
_VERSION = 1  # of the tables; a file of another one is made anew
_WAIT_S = 5.0  # for another process that writes
_TABLES = """\
CREATE TABLE experiments (archive TEXT, stem TEXT, headline TEXT, PRIMARY KEY (archive, stem)) WITHOUT ROWID;
CREATE TABLE scans (archive TEXT PRIMARY KEY, settled TEXT, at REAL) WITHOUT ROWID;
"""
_Answer = TypeVar("_Answer")


@frozen
class Scan:
    """A reading of a whole archive.

    Attributes:
        settled: The index from this stem on, which is to say everything older, was read completely.
        at: When (seconds of the wall clock).
    """

    settled: str
    at: float


@frozen
class Known:
    """What a reading found.

    Attributes:
        scan: The reading.
        experiments: What is settled, in the order of the index; None stands for those that had not ended.
    """

    scan: Scan
    experiments: Sequence[tuple[str, Headline | None]]


class HistoryCache:
    """What is known of one archive. Never fails: without a file it knows nothing and keeps nothing.

    Args:
        archive: The archive, and where it is reached: what makes it another one on another machine or server.
    """

    def __init__(self, archive: str) -> None:
        self._archive = archive

    def known(self) -> Known | None:
        """What the last complete reading found; None when there was none. All of it is read at once, or nothing."""

        def ask(database: sqlite3.Connection) -> Known | None:
            row = database.execute(
                "SELECT settled, at FROM scans WHERE archive = ?", (self._archive,)
            ).fetchone()
            if row is None:
                return None
            scan = Scan(*row)
            rows = database.execute(
                "SELECT stem, headline FROM experiments WHERE archive = ? AND stem >= ? ORDER BY stem",
                (self._archive, scan.settled),
            )
            return Known(scan, [(stem, _headline(text)) for stem, text in rows])

        return _with_database(ask, None)

    def keep(self, experiments: Sequence[tuple[str, Headline | None]], scan: Scan | None = None) -> None:
        """Keeps what a listing has told, and that it was a complete one."""
        rows = [
            (self._archive, stem, json.dumps(asdict(headline)) if headline else "")
            for stem, headline in experiments
        ]

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.executemany("INSERT OR REPLACE INTO experiments VALUES (?, ?, ?)", rows)
                if scan:
                    values = (self._archive, scan.settled, scan.at)
                    database.execute("INSERT OR REPLACE INTO scans VALUES (?, ?, ?)", values)

        _with_database(write, None)


def recent_names(limit: int) -> tuple[str, ...]:
    """The job names of the newest experiments of all archives that were listed on this machine."""

    def ask(database: sqlite3.Connection) -> tuple[str, ...]:
        rows = database.execute("SELECT DISTINCT stem FROM experiments ORDER BY stem LIMIT ?", (limit,))
        return tuple(stem.partition("-")[2] for (stem,) in rows)

    return _with_database(ask, ())


def _headline(text: str) -> Headline | None:
    """Raises ValueError or TypeError for what this version did not write. Nobody but the user writes this file."""
    return Headline(**json.loads(text)) if text else None


def _with_database(use: Callable[[sqlite3.Connection], _Answer], otherwise: _Answer) -> _Answer:
    """Uses the file; a spoiled one is removed and tried again as a new one, and what cannot be used at all is done without."""
    try:
        path = cache_folder() / _FILE
    except LauncherError:
        return otherwise
    for _ in range(2):
        try:
            with closing(_open(path)) as database:
                return use(database)
        except sqlite3.OperationalError:
            return otherwise  # locked, read-only, or a full disk
        except (sqlite3.DatabaseError, ValueError, TypeError):
            with suppress(OSError):
                path.unlink()
    return otherwise


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_WAIT_S)
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            _make_tables(database)
    except BaseException:
        database.close()
        raise
    return database


def _make_tables(database: sqlite3.Connection) -> None:
    """Makes the tables anew, in one step for everybody who looks."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == _VERSION:
            return  # another process was faster
        for name in ("experiments", "scans"):
            database.execute(f"DROP TABLE IF EXISTS {name}")
        for statement in _TABLES.strip().splitlines():
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {_VERSION}")
