"""The pipeline: from segments to rows, pairs, sums and Parquet, each record exactly once.

One step reads what the workers wrote since the last, writes its parts, and commits:

    read -> join -> compare -> sum -> write parts (tmp, fsync, rename) -> commit (SQLite) -> delete segments

Whatever dies in between is done again from the committed state: parts of an uncommitted batch are
removed first, and a segment is deleted only after the commit that holds its end. A step that cannot
write (a full disk) gives everything up, goes back to the committed state, and is tried again; the
records wait in the spool.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from proxy.analysis.compare import SENT, compare_pair
from proxy.analysis.noise import NOT_SAMPLED, Repeated
from proxy.analyst import parts
from proxy.analyst.budget import Budget
from proxy.analyst.presentation import Presentation
from proxy.analyst.rows import Rows, lost_leg
from proxy.analyst.sampling import Sampler
from proxy.analyst.settings import DEFAULT_DEADLINE_S, Settings
from proxy.analyst.store import Position, State, Store
from proxy.analyst.tracing import Tracing
from proxy.exchange import segments
from proxy.exchange.parquet import connect
from proxy.exchange.records import Exchange, Leg, Record
from proxy.exchange.segments import Segment
from proxy.plan.repeating import has_repeat, is_repeat
from proxy.predictions.comparators.own import OWN
from proxy.predictions.compare import Comparison
from proxy.predictions.rules import Compare

# About 30,000 exchanges without and 10,000 with shadows and bodies: half a second of work.
BATCH_BYTES: Final = 16 * 1024 * 1024
# However slow comparing is, this often there is a commit, and a look at whether to compare less.
MAX_STEP_S: Final = 5.0
# Small enough that what is decoded from a chunk is still in the cache when it becomes rows.
CHUNK_BYTES: Final = 256 * 1024
NO_SEGMENT: Final = "joins"
_DEFAULT_RULES: Final = Compare()

log = logging.getLogger("parallax.analyst")


def report_failure(operation: str, error: BaseException) -> None:
    """Where every failure of the analyst's machinery goes; `operation` names what was tried."""
    log.error("%s: %s: %s", operation, type(error).__name__, error)


@dataclass(slots=True)
class Counts:
    """Cumulative counts since the start of the process; those of a step count once it is committed."""

    rows: Counter[str] = field(default_factory=Counter)
    comparisons: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeats: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    records: int = 0
    damaged: int = 0
    torn: int = 0
    failed_steps: int = 0

    def add(self, other: Counts) -> None:
        """Add the counts of a step."""
        self.rows.update(other.rows)
        self.comparisons.update(other.comparisons)
        self.repeats.update(other.repeats)
        self.lost.update(other.lost)
        self.records += other.records
        self.damaged += other.damaged
        self.torn += other.torn


@dataclass(slots=True)
class Progress:
    """What a step did: how many records, whether more is waiting, and whether it failed."""

    records: int = 0
    behind: bool = False
    failed: bool = False


class _Step:
    """The work of one step until it is committed."""

    def __init__(self, rows: Rows, now_s: float) -> None:
        self.rows = rows
        self.counts = Counts()
        self.origin: tuple[str, int] | None = None
        self.done: list[Segment] = []
        self.read_bytes = 0
        self.read_until_s = now_s
        self.until_s = now_s + MAX_STEP_S
        self.behind = False
        self.moved = False


class Pipeline:
    """Everything between the spool and Parquet, driven by calls to `step`.

    Args:
        state_dir: the state directory.
        settings: the analyst's part of the configuration; may be replaced between steps.
        now: the clock, Unix seconds.
        report: gets every failure that is survived.
        reach: called with the name of each point that a crash could fall between.
    """

    def __init__(
        self,
        state_dir: Path,
        settings: Settings,
        *,
        now: Callable[[], float] = time.time,
        report: Callable[[str, BaseException], None] = report_failure,
        reach: Callable[[str], None] = lambda point: None,  # noqa: ARG005
    ) -> None:
        self.settings = settings
        self.tracing: Tracing | None = None
        self.sampler = Sampler()
        self.counts = Counts()
        self._now = now
        self._report = report
        self._reach = reach
        self._spool = state_dir / "spool"
        self._data = state_dir / "data"
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._connection = connect()
        self._store = Store(state_dir)
        OWN.guard = Budget
        self._read_until: dict[str, float] = {}
        self.state = self._recover()

    def step(self, *, batch_bytes: int = BATCH_BYTES, last: bool = False) -> Progress:
        """Read, write and commit what there is, up to about `batch_bytes`.

        Args:
            last: no worker is left that could write a leg, so nothing is waited for any more.
        """
        now_s = self._now()
        self.sampler.observe(now_s, *self.lag())
        presentation = Presentation(self.settings.redaction, self.settings.bodies, self.settings.segments)
        work = _Step(Rows(presentation, now_s, self.sampler.probability), now_s)
        try:
            self._read(work, batch_bytes)
            self._expire(work, last=last)
            self._write(work)
        except (OSError, duckdb.Error, sqlite3.Error) as error:
            self._report("writing a batch", error)
            self.counts.failed_steps += 1
            if self.tracing is not None:
                self.tracing.roll_back()
            self.state = self._recover()
            return Progress(failed=True, behind=True)
        self.counts.add(work.counts)
        if self.tracing is not None:
            self.tracing.commit()
        self._delete(work.done)
        return Progress(work.counts.records, work.behind)

    def lag(self) -> tuple[float, int]:
        """The age in seconds of the oldest record that is not committed, and the bytes that are not."""
        now_s = self._now()
        oldest_s, unread = now_s, 0
        for segment in segments.list_segments(self._spool):
            at = self.state.segments.get(segment.name)
            rest = _size(segment.path) - (at.position if at else 0)
            if rest > 0:
                unread += rest
                oldest_s = min(oldest_s, self._read_until.get(segment.name, segment.unix_ms / 1000))
        return max(0.0, now_s - oldest_s), unread

    def close(self) -> None:
        """Let go of both databases."""
        self._connection.close()
        self._store.close()

    def _recover(self) -> State:
        """The committed state, with nothing on the disk beyond it."""
        state = self._store.load()
        if state.is_new:
            state.batch = parts.adopt(self._data, [segment.name for segment in segments.list_segments(self._spool)])
        removed = parts.clean(self._data, state.batch)
        if removed:
            log.info("removed %d unfinished files", removed)
        return state

    def _read(self, work: _Step, batch_bytes: int) -> None:
        """Take what is new in every segment, the oldest first."""
        found = segments.list_segments(self._spool)
        names = {segment.name for segment in found}
        for name in [name for name in self.state.segments if name not in names]:
            del self.state.segments[name]
            self._read_until.pop(name, None)
        started_s = work.read_until_s
        for segment in found:
            at = self.state.segments.get(segment.name)
            if at is None:
                at = self.state.segments[segment.name] = Position()
            exhausted = self._read_segment(segment, at, work, batch_bytes)
            if exhausted:
                self._read_until[segment.name] = started_s
            else:
                work.behind = True
                since_s = self._read_until.setdefault(segment.name, segment.unix_ms / 1000)
                work.read_until_s = min(work.read_until_s, since_s)

    def _read_segment(self, segment: Segment, at: Position, work: _Step, batch_bytes: int) -> bool:
        """Take what is new in one segment; whether that was all."""
        finished = segments.is_finished(segment.path)
        while work.read_bytes < batch_bytes and self._now() < work.until_s:
            size = _size(segment.path)
            if at.position >= size:
                if finished and size:
                    work.done.append(segment)
                return True
            chunk = segments.read(segment.path, at.position, CHUNK_BYTES, finished=finished)
            if chunk.end > at.position:
                work.moved = True
                if work.origin is None:
                    work.origin = (segment.name, at.position)
            work.read_bytes += chunk.end - at.position
            at.damaged += chunk.damaged
            work.counts.damaged += chunk.damaged
            work.counts.torn += chunk.torn
            at.damaged += self._take_all([record for record, _ in chunk.records], work)
            if chunk.records:
                last = chunk.records[-1][0]
                self._read_until[segment.name] = last.ts + last.latency_s
            stuck = chunk.end == at.position
            at.position = chunk.end
            if chunk.exhausted and not (finished and at.position >= size):
                return True
            if stuck:
                return True
        return False

    def _take_all(self, records: list[Record], work: _Step) -> int:
        """Take records one by one; a defect that one of them meets is reported and costs that one."""
        rows, joins, settings, tracing = work.rows, self.state.joins, self.settings, self.tracing
        failures = 0
        for record in records:
            try:
                if type(record) is Exchange:
                    rows.add_exchange(record)
                    if tracing is not None:
                        tracing.add_exchange(record)
                    if record.shadows:
                        found = joins.add_exchange(record, settings.deadlines, DEFAULT_DEADLINE_S)
                        if found:
                            self._pairs(record, found, rows)
                elif type(record) is Leg:
                    joined = joins.add_leg(record)
                    if joined is not None:
                        self._pairs(*joined, rows)
            except Exception as error:  # noqa: BLE001  the exchange barrier
                self._report("record", error)
                failures += 1
        work.counts.records += len(records)
        work.counts.damaged += failures
        return failures

    def _pairs(self, exchange: Exchange, legs: list[Leg], rows: Rows) -> None:
        """Compare an exchange with its legs; if one of them is a repeat, the others are all here."""
        repeat = next((leg for leg in legs if is_repeat(leg.shadow)), None) if has_repeat(exchange.shadows) else None
        sampled = self.sampler.keeps(exchange.exchange_id)
        again: list[tuple[Compare, Repeated]] = []
        if repeat is not None:
            rows.add_repeat(exchange, repeat)
        for leg in legs:
            if leg is repeat:
                continue
            rules = self.settings.rules.get(leg.shadow, _DEFAULT_RULES)
            verdict = self._compare(exchange, leg, rules, sampled=sampled)
            repeated = None
            if repeat is not None:
                # Judged by the rules of each shadow, and once for those that have the same.
                repeated = next((found for known, found in again if known == rules), None)
                if repeated is None:
                    verdict_again = self._compare(exchange, repeat, rules, sampled=sampled, kind="repeat")
                    repeated = Repeated(repeat, verdict_again)
                    again.append((rules, repeated))
            rows.add_pair(exchange, leg, verdict, rules, repeated)
            if self.tracing is not None:
                self.tracing.add_shadow(exchange, leg, verdict)
        if repeat is not None and self.tracing is not None and again:
            self.tracing.add_shadow(exchange, repeat, again[0][1].verdict)

    def _compare(
        self, exchange: Exchange, leg: Leg, rules: Compare, *, sampled: bool, kind: str = "shadow"
    ) -> Comparison:
        if not sampled and leg.outcome == SENT:
            return Comparison("incomparable", NOT_SAMPLED, "")
        dialect = self.settings.dialects.get(exchange.route)
        return compare_pair(exchange, leg, rules, self._report, kind=kind, dialect=dialect)

    def _expire(self, work: _Step, *, last: bool) -> None:
        """Give up the joins whose time is over, as far as the log has been read."""
        expired = self.state.joins.expire(math.inf if last else work.read_until_s)
        for exchange, shadow in expired.lost:
            self._pairs(exchange, [lost_leg(exchange, shadow)], work.rows)
            work.counts.lost[shadow] += 1
        for exchange, held, missing in expired.incomplete:
            self._pairs(exchange, [*held, *(lost_leg(exchange, shadow) for shadow in missing)], work.rows)
            work.counts.lost.update(missing)
        for leg in expired.orphans:
            work.rows.add_orphan(leg, self.settings.rules.get(leg.shadow, _DEFAULT_RULES))

    def _write(self, work: _Step) -> None:
        """Write the parts, then commit; nothing at all when nothing happened."""
        rows = work.rows
        if not work.moved and not rows.exchanges.rows:
            return
        segment, offset = work.origin or (NO_SEGMENT, 0)
        origin = parts.origin_name(segment, offset, self.state.batch)
        for batch in (rows.exchanges, rows.pairs):
            table = batch.layout.table
            if not batch.rows:
                continue
            self._reach(f"before {table}")
            batch.register_templates(self._connection)
            for hour, of_hour in batch.by_hour().items():
                batch.write_part(self._connection, of_hour, parts.part_path(self._data, table, hour, origin))
                self._reach(f"wrote {table}")
            work.counts.rows[table] += len(batch.rows)
        for kind, count in rows.pair_counts():
            work.counts.comparisons[kind.shadow, kind.comparison] += count
            if kind.repeat_comparison:
                work.counts.repeats[kind.shadow, kind.repeat_comparison] += count
        rows.add_to(self.state.sums)
        self._reach("before commit")
        self._store.commit(self.state)
        self._reach("committed")

    def _delete(self, done: list[Segment]) -> None:
        """Remove the segments that are committed to their end, or set them aside if they were damaged."""
        for segment in done:
            try:
                if self.state.segments[segment.name].damaged:
                    segments.set_aside(segment)
                else:
                    segment.path.unlink(missing_ok=True)
            except OSError as error:
                self._report("removing a segment", error)
            self._reach("deleted a segment")


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  polled, and half the price
    except FileNotFoundError:
        return 0
