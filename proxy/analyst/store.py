"""The analyst's SQLite: how far each segment is committed, what waits, and the sums; all in one commit.

Whatever was written to Parquet before a commit is void until the commit: parts carry the number of
their batch, and the batch that is not committed is done again under the same number. One analyst
writes; `parallax replay` reads beside it (WAL). Nothing here knows what a record means.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from proxy.analysis.sums import Sums, decode_arm, encode_arm
from proxy.analyst.joins import EarlyLeg, Joins, Waiting
from proxy.errors import StateError
from proxy.exchange.records import Exchange, Leg

FILE: Final = "analyst.db"
_SCHEMA: Final = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (name TEXT PRIMARY KEY, position INTEGER NOT NULL, damaged INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (exchange_id TEXT PRIMARY KEY, shadows TEXT NOT NULL, expires_s REAL NOT NULL,
    record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS held (exchange_id TEXT, shadow TEXT, record BLOB NOT NULL, PRIMARY KEY (exchange_id, shadow));
CREATE TABLE IF NOT EXISTS early (exchange_id TEXT, shadow TEXT, expires_s REAL NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (exchange_id, shadow));
CREATE TABLE IF NOT EXISTS lost (exchange_id TEXT, shadow TEXT, until_s REAL NOT NULL,
    PRIMARY KEY (exchange_id, shadow)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS arms (origin TEXT, experiment TEXT, epoch INTEGER, arm TEXT, sums BLOB NOT NULL,
    PRIMARY KEY (origin, experiment, epoch, arm));
CREATE TABLE IF NOT EXISTS shadows (origin TEXT, shadow TEXT, kind TEXT, word TEXT, count INTEGER NOT NULL,
    PRIMARY KEY (origin, shadow, kind, word)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS noise (origin TEXT, shadow TEXT, sums BLOB NOT NULL, PRIMARY KEY (origin, shadow));
CREATE TABLE IF NOT EXISTS retired (partition TEXT PRIMARY KEY, batch INTEGER NOT NULL) WITHOUT ROWID;
COMMIT;
"""
# Where sums come from: the whole log, or the part of it that retention has removed from Parquet.
LIVE: Final = "live"
RETIRED: Final = "retired"

_encode = msgspec.msgpack.Encoder().encode
_decode_exchange = msgspec.msgpack.Decoder(Exchange).decode
_decode_leg = msgspec.msgpack.Decoder(Leg).decode


@dataclass(slots=True)
class Position:
    """How far a segment has been read, and how much of it was damaged."""

    position: int = 0
    damaged: int = 0


@dataclass(slots=True)
class State:
    """All that the analyst remembers; `batch` is the number of the next commit, `is_new` before the first."""

    batch: int = 0
    is_new: bool = False
    segments: dict[str, Position] = field(default_factory=dict)
    joins: Joins = field(default_factory=Joins)
    sums: Sums = field(default_factory=Sums)


class Store:
    """The database, opened for the one process that writes it."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self._connection = _open(self._path)
        self._connection.executescript(_SCHEMA)
        self._path.chmod(0o600)
        # What the database holds, so that a commit writes only what changed.
        self._segments: dict[str, tuple[int, int]] = {}
        self._waiting: dict[str, int] = {}
        self._held: set[tuple[str, str]] = set()
        self._early: set[tuple[str, str]] = set()
        self._lost: set[tuple[str, str]] = set()
        self._shadows: dict[tuple[str, str, str], int] = {}

    def load(self) -> State:
        """The state as of the last commit."""
        query = self._connection.execute
        batch = _batch(self._connection)
        state = State(batch=batch or 0, is_new=batch is None, sums=read_sums(self._connection, LIVE))
        for name, position, damaged in query("SELECT name, position, damaged FROM segments"):
            state.segments[name] = Position(position, damaged)
        held: dict[str, list[Leg]] = {}
        for exchange_id, record in query("SELECT exchange_id, record FROM held ORDER BY rowid"):
            held.setdefault(exchange_id, []).append(_decode_leg(record))
        for shadows, expires_s, record in query("SELECT shadows, expires_s, record FROM waiting ORDER BY rowid"):
            exchange = _decode_exchange(record)
            waiting = Waiting(exchange, msgspec.json.decode(shadows, type=list[str]), expires_s)
            state.joins.restore_waiting(waiting, held.get(exchange.exchange_id, ()))
        for expires_s, record in query("SELECT expires_s, record FROM early ORDER BY rowid"):
            state.joins.restore_early(EarlyLeg(_decode_leg(record), expires_s))
        for exchange_id, shadow, until_s in query("SELECT exchange_id, shadow, until_s FROM lost"):
            state.joins.lost[exchange_id, shadow] = until_s
        self._remember(state)
        return state

    def commit(self, state: State) -> None:
        """Make `state` the committed one, as the next batch; on any failure nothing has changed.

        Raises:
            sqlite3.Error: the database cannot be written; `load` gives the state to go on from.
        """
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('batch', ?)", (state.batch + 1,))
            self._write_segments(state)
            self._write_joins(state.joins)
            self._write_sums(state.sums)
        state.batch += 1
        state.is_new = False
        state.sums.touched.clear()
        state.sums.touched_noise.clear()
        self._remember(state)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _remember(self, state: State) -> None:
        self._segments = {name: (at.position, at.damaged) for name, at in state.segments.items()}
        self._waiting = {key: len(waiting.shadows) for key, waiting in state.joins.waiting.items()}
        self._held = set(_held(state.joins))
        self._early = set(state.joins.early)
        self._lost = set(state.joins.lost)
        self._shadows = dict(state.sums.shadows)

    def _write_segments(self, state: State) -> None:
        now = {name: (at.position, at.damaged) for name, at in state.segments.items()}
        self._connection.executemany(
            "DELETE FROM segments WHERE name = ?", [(name,) for name in self._segments.keys() - now.keys()]
        )
        changed = [(name, *at) for name, at in now.items() if self._segments.get(name) != at]
        self._connection.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", changed)

    def _write_joins(self, joins: Joins) -> None:
        many = self._connection.executemany
        gone = self._waiting.keys() - joins.waiting.keys()
        many("DELETE FROM waiting WHERE exchange_id = ?", [(key,) for key in gone])
        changed = [
            (key, msgspec.json.encode(waiting.shadows).decode(), waiting.expires_s, _encode(waiting.exchange))
            for key, waiting in joins.waiting.items()
            if self._waiting.get(key) != len(waiting.shadows)
        ]
        many("INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", changed)
        held = _held(joins)
        many("DELETE FROM held WHERE exchange_id = ? AND shadow = ?", list(self._held - held.keys()))
        many(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?)",
            [(*key, _encode(leg)) for key, leg in held.items() if key not in self._held],
        )
        many("DELETE FROM early WHERE exchange_id = ? AND shadow = ?", list(self._early - joins.early.keys()))
        legs = [
            (*key, joins.early[key].expires_s, _encode(joins.early[key].leg))
            for key in joins.early.keys() - self._early
        ]
        many("INSERT INTO early VALUES (?, ?, ?, ?)", legs)
        many("DELETE FROM lost WHERE exchange_id = ? AND shadow = ?", list(self._lost - joins.lost.keys()))
        many("INSERT INTO lost VALUES (?, ?, ?)", [(*key, joins.lost[key]) for key in joins.lost.keys() - self._lost])

    def _write_sums(self, sums: Sums) -> None:
        _write_arms(self._connection, LIVE, sums, sums.touched)
        _write_noise(self._connection, LIVE, sums, sums.touched_noise)
        changed = [(LIVE, *key, count) for key, count in sums.shadows.items() if self._shadows.get(key) != count]
        self._connection.executemany("INSERT OR REPLACE INTO shadows VALUES (?, ?, ?, ?, ?)", changed)


class Retirement:
    """The sums of what retention removes from Parquet, kept so that a replay still adds up.

    It has a connection of its own, because it works beside the analyst's loop.
    """

    def __init__(self, state_dir: Path) -> None:
        self._connection = _open(state_dir / FILE)

    def retired(self) -> dict[str, int]:
        """Partitions whose sums are kept already, each with the last batch of which that is true."""
        return dict(self._connection.execute("SELECT partition, batch FROM retired"))

    def retire(self, partition: str, batch: int, sums: Sums) -> None:
        """Add the sums of a partition's parts up to `batch` to those retired; then they may be removed."""
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT OR REPLACE INTO retired VALUES (?, ?)", (partition, batch))
            total = read_sums(connection, RETIRED)
            total.merge(sums)
            _write_arms(connection, RETIRED, total, set(total.arms))
            _write_noise(connection, RETIRED, total, set(total.noise))
            rows = [(RETIRED, *key, count) for key, count in total.shadows.items()]
            connection.executemany("INSERT OR REPLACE INTO shadows VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


@dataclass(slots=True)
class Snapshot:
    """What a reader beside the analyst sees of one commit: its sums, and which parts belong to it."""

    batch: int
    live: Sums
    retired: Sums


def read_snapshot(state_dir: Path) -> Snapshot | None:
    """The sums as of the last commit, or None when there was no analyst yet."""
    path = state_dir / FILE
    if not path.exists():
        return None
    connection = _open(path)
    try:
        connection.execute("BEGIN")
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone() is None:
            return None  # an analyst is just starting
        return Snapshot(_batch(connection) or 0, read_sums(connection, LIVE), read_sums(connection, RETIRED))
    except sqlite3.Error as error:
        raise StateError(f"{path}: {error}") from error
    finally:
        connection.close()


def read_sums(connection: sqlite3.Connection, origin: str) -> Sums:
    """The sums of one origin."""
    sums = Sums()
    arms = connection.execute("SELECT experiment, epoch, arm, sums FROM arms WHERE origin = ?", (origin,))
    for experiment, epoch, arm, data in arms:
        sums.arms[experiment, epoch, arm] = decode_arm(data)
    shadows = connection.execute("SELECT shadow, kind, word, count FROM shadows WHERE origin = ?", (origin,))
    for shadow, kind, word, count in shadows:
        sums.shadows[shadow, kind, word] = count
    # A database of an earlier version, which nobody has opened for writing yet, has no such table.
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'noise'").fetchone() is not None:
        for shadow, data in connection.execute("SELECT shadow, sums FROM noise WHERE origin = ?", (origin,)):
            sums.noise[shadow] = decode_arm(data)
    return sums


def _held(joins: Joins) -> dict[tuple[str, str], Leg]:
    """The legs that wait for others of their exchange."""
    return {
        (exchange_id, leg.shadow): leg
        for exchange_id, waiting in joins.waiting.items()
        if waiting.holds
        for leg in waiting.held
    }


def _open(path: Path) -> sqlite3.Connection:
    """Open in autocommit mode; a commit is on the disk when it returns, because segments are deleted after it."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise StateError(f"{path}: {error}; remove it only together with the data directory") from error
    return connection


def _batch(connection: sqlite3.Connection) -> int | None:
    row = connection.execute("SELECT value FROM meta WHERE key = 'batch'").fetchone()
    return None if row is None else int(row[0])


def _write_arms(connection: sqlite3.Connection, origin: str, sums: Sums, keys: set[tuple[str, int, str]]) -> None:
    rows = [(origin, *key, encode_arm(sums.arms[key])) for key in keys]
    connection.executemany("INSERT OR REPLACE INTO arms VALUES (?, ?, ?, ?, ?)", rows)


def _write_noise(connection: sqlite3.Connection, origin: str, sums: Sums, shadows: set[str]) -> None:
    rows = [(origin, shadow, encode_arm(sums.noise[shadow])) for shadow in shadows]
    connection.executemany("INSERT OR REPLACE INTO noise VALUES (?, ?, ?)", rows)
