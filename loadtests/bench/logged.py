"""When everything that Parallax logged has arrived: rows in Parquet, and a lag of nothing."""

from __future__ import annotations

import re
import time
from pathlib import Path

import duckdb

from loadtests.bench.metrics import scrape
from loadtests.bench.running import Running

DRAIN_S = 180.0


def rows_in_parquet(state: Path, table: str) -> int:
    """The rows of one table of the log that are in Parquet now."""
    files = [str(path) for path in (state / "data" / table).glob("**/*.parquet")]
    if not files:
        return 0
    try:
        with duckdb.connect(config={"threads": "1"}) as connection:
            found = connection.execute(
                "SELECT count(*) FROM read_parquet(?, union_by_name=true, hive_partitioning=false)", [files]
            ).fetchone()
    except (duckdb.Error, OSError):
        return -1  # compaction replaced a file meanwhile; the next look counts
    return int(found[0]) if found else 0


def lag_bytes(metrics_port: int) -> float:
    """What the analyst has not committed yet, from `/metrics`; -1 while it is not known."""
    found = re.search(r"^parallax_analyst_lag_bytes(?:\{[^}]*\})? (\S+)$", scrape(metrics_port), re.MULTILINE)
    return float(found[1]) if found else -1.0


def wait_for_log(running: Running, table: str, wanted: int, *, patience_s: float = DRAIN_S) -> int:
    """Wait until `wanted` rows are in Parquet and the lag is 0; returns the rows there are then, or when patience ends."""
    deadline = time.monotonic() + patience_s
    while True:
        rows = rows_in_parquet(running.directory / "state", table)
        if rows >= wanted and running.metrics_port is not None and lag_bytes(running.metrics_port) == 0:
            return rows_in_parquet(running.directory / "state", table)
        if time.monotonic() > deadline or running.process.poll() is not None:
            return rows
        time.sleep(0.25)
