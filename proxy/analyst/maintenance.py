"""Maintenance: closed hours become few files, and what is too old or too much goes.

It works beside the pipeline, in a thread with a database of its own, on parts that are committed. A
crash anywhere is completed by the next run: a compacted file names the batches that it stands for,
and a partition's sums are kept (once) before its files go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from proxy.analyst import parts
from proxy.analyst.parts import Part
from proxy.analyst.replay import sums_of_files
from proxy.analyst.settings import Retention
from proxy.analyst.store import Retirement
from proxy.exchange.parquet import connect, copy_to, from_files
from proxy.exchange.segments import DAMAGED

# An hour is closed when joins that began in it have ended.
CLOSED_AFTER_S: Final = 300.0
# Larger files are left as they are, so that a late part never costs a large rewrite.
LARGE_BYTES: Final = 64 * 1024 * 1024
RUN_BYTES: Final = 256 * 1024 * 1024


@dataclass(slots=True)
class Done:
    """What one round did."""

    compacted: int = 0
    retired: int = 0
    busy: bool = False


class Maintenance:
    """One round at a time: `run` may be called from any thread, but from one at a time.

    Args:
        state_dir: the state directory.
        reach: called with the name of each point that a crash could fall between.
    """

    def __init__(self, state_dir: Path, *, reach: Callable[[str], None] = lambda point: None) -> None:  # noqa: ARG005
        self._data = state_dir / "data"
        self._damaged = state_dir / "spool" / DAMAGED
        self._state_dir = state_dir
        self._reach = reach
        self._connection: duckdb.DuckDBPyConnection | None = None

    def run(self, batch: int, retention: Retention, now_s: float) -> Done:
        """Compact and retire what is due.

        Args:
            batch: every batch below it is committed.
            retention: how long parts are kept.
            now_s: the time, Unix seconds.

        Raises:
            OSError, duckdb.Error, sqlite3.Error: the round was cut short; the next completes it.
        """
        done = Done()
        connection = connect()
        self._connection = connection
        try:
            self._retire(connection, batch, retention, now_s, done)
            self._compact(connection, batch, now_s, done)
        except BlockingIOError:
            done.busy = True
        finally:
            self._connection = None
            connection.close()
        return done

    def interrupt(self) -> None:
        """Make a running round end soon, with an error."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(duckdb.Error):
                connection.interrupt()

    def _compact(self, connection: duckdb.DuckDBPyConnection, batch: int, now_s: float, done: Done) -> None:
        for table in parts.TABLES:
            for hour, folder in parts.hours_of(self._data, table):
                if (hour + 1) * 3600 + CLOSED_AFTER_S > now_s:
                    continue
                committed = [part for part in parts.parts_of(folder) if part.last < batch]
                parts.drop_replaced(committed)
                for run in _runs([part for part in committed if part.path.exists()]):
                    target = parts.compacted_path(folder, run[0].first, max(part.last for part in run))
                    select = f"SELECT * FROM {from_files([part.path for part in run])}"  # noqa: S608  our own names
                    unpublished = target.with_name(target.name + ".new.tmp")
                    # 20,000 rows with large bodies would not fit the memory limit, hence bytes.
                    copy_to(connection, select, unpublished, options="COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '16MB'")
                    self._reach("compacted")
                    with parts.replacing(self._data):
                        unpublished.rename(target)
                        self._reach("published")
                        for part in run:
                            if part.path != target:
                                part.path.unlink(missing_ok=True)
                                self._reach("replaced")
                    done.compacted += len(run)

    def _retire(
        self, connection: duckdb.DuckDBPyConnection, batch: int, retention: Retention, now_s: float, done: Done
    ) -> None:
        hours = sorted(
            (hour, table, folder) for table in parts.TABLES for hour, folder in parts.hours_of(self._data, table)
        )
        sizes = {folder: sum(part.path.stat().st_size for part in parts.parts_of(folder)) for _, _, folder in hours}
        total = sum(sizes.values())
        due = []
        for hour, table, folder in hours:
            too_old = (hour + 1) * 3600 < now_s - retention.age_s
            # The hour that is being written stays, whatever its size.
            too_much = total > retention.size_bytes and (hour + 1) * 3600 + CLOSED_AFTER_S < now_s
            if too_old or too_much:
                due.append((table, folder))
                total -= sizes[folder]
        if due:
            retirement = Retirement(self._state_dir)
            try:
                for table, folder in due:
                    self._retire_folder(connection, retirement, (table, folder), batch)
                    done.retired += 1
            finally:
                retirement.close()
        if self._damaged.is_dir():
            for path in self._damaged.iterdir():
                if path.stat().st_mtime < now_s - retention.age_s:
                    path.unlink(missing_ok=True)

    def _retire_folder(
        self, connection: duckdb.DuckDBPyConnection, retirement: Retirement, where: tuple[str, Path], batch: int
    ) -> None:
        """Keep the sums of a folder's committed parts, then remove them."""
        table, folder = where
        partition = str(folder.relative_to(self._data))
        committed = [part for part in parts.parts_of(folder) if part.last < batch]
        parts.drop_replaced(committed)
        kept_to = retirement.retired().get(partition, -1)
        remaining = [part for part in committed if part.path.exists()]
        new = [part for part in remaining if part.last > kept_to]
        with parts.replacing(self._data):
            if new:
                files = [part.path for part in new]
                sums = sums_of_files(
                    connection, files if table == "exchanges" else [], files if table == "pairs" else []
                )
                retirement.retire(partition, max(part.last for part in new), sums)
                self._reach("retired")
            for part in remaining:
                part.path.unlink(missing_ok=True)
                self._reach("removed")
            with contextlib.suppress(OSError):  # a part came in the meantime, or another hour remains
                folder.rmdir()
                folder.parent.rmdir()


def _runs(found: list[Part]) -> list[list[Part]]:
    """Neighbouring parts that are worth merging, each run up to `RUN_BYTES`; large files stay alone."""
    runs: list[list[Part]] = []
    run: list[Part] = []
    size = 0
    for part in found:
        bytes_ = part.path.stat().st_size
        if bytes_ >= LARGE_BYTES or size + bytes_ > RUN_BYTES:
            runs.append(run)
            run, size = [], 0
        if bytes_ < LARGE_BYTES:
            run.append(part)
            size += bytes_
    runs.append(run)
    return [run for run in runs if len(run) > 1]
