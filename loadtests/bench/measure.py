"""One measurement: start a system, prove that it does the job, warm it up, drive it, and read what it used.

The window closes when the load has ended and nothing is left to do: with a mirror, when the second server has
seen every request; with Parallax's log, when every exchange or pair is in Parquet and the analyst's lag is 0.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from loadtests.bench import cpu, verify
from loadtests.bench.figures import Measurement
from loadtests.bench.load import CONNECTIONS, Load
from loadtests.bench.peers import Peer
from loadtests.bench.running import Running, SystemFailed
from loadtests.bench.systems import Place, System

DRAIN_S = 180.0
LOGGED_TABLE = {"a'": "exchanges", "b": "pairs"}


@dataclass(frozen=True, slots=True)
class Job:
    """What one measurement needs besides its system."""

    name: str
    load: Load
    seconds: float
    warm_up_s: float


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
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError:
        return -1.0
    found = re.search(r"^parallax_analyst_lag_bytes(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
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


def measure_direct(job: Job, number: int, port: int) -> Measurement:
    """The model server without a proxy: what the load generator and the server can do at most."""
    job.load.run(port, job.warm_up_s)
    totals = job.load.run(port, job.seconds)
    return Measurement(
        number, totals.requests, totals.duration_us / 1e6, totals.p50_us, totals.p99_us, {}, 0.0, 0, totals.errors
    )


def measure(
    system: System, peer: Peer | None, job: Job, place: Place, number: int, *, progress: Callable[[str], None]
) -> Measurement:
    """Measure one system in one round.

    Raises:
        SystemFailed: it does not start or does not do its job.
        LoadError: wrk failed.
    """
    progress("starting")
    running = system.launch(peer, job.name, place)
    try:
        progress("verifying")
        status = place.ports["status"]
        sent = verify.verify_mirror(running.port, status) if job.name == "b" else verify.verify_split(running.port)
        sent += verify.verify_bytes(running.port)
        progress("warming up")
        sent += job.load.run(running.port, job.warm_up_s).requests
        return _measure_running(running, job, place, number, sent, progress)
    finally:
        running.stop()


def _measure_running(
    running: Running, job: Job, place: Place, number: int, sent: int, progress: Callable[[str], None]
) -> Measurement:
    table = LOGGED_TABLE.get(job.name) if running.name == "parallax" else None
    rows_before, status = 0, place.ports["status"]
    if table is not None:
        rows_before = wait_for_log(running, table, sent, patience_s=30.0)
        if rows_before < sent:
            raise SystemFailed(f"{rows_before} of {sent} rows of {table} were in Parquet 30 s after the warm-up")
    mirrored_before = verify.mirror_baseline(status) if job.name == "b" else 0
    progress("measuring")
    busy_before = cpu.core_busy_ns(place.cores.proxy)
    before = running.tree()
    opened = time.monotonic()
    totals = job.load.run(running.port, job.seconds)
    ended = time.monotonic()
    notes, errors = [], totals.errors
    if job.name == "b":
        mirrored = verify.settled_mirror(status, totals.requests, mirrored_before)
        # wrk closes its connections with a request on each; such a request may or may not be mirrored
        if not totals.requests <= mirrored <= totals.requests + CONNECTIONS:
            errors += abs(totals.requests - mirrored)
            notes.append(f"the mirror got {mirrored} of {totals.requests} requests")
    if table is not None:
        progress("waiting until everything is in Parquet")
        rows = wait_for_log(running, table, rows_before + totals.requests) - rows_before
        if not totals.requests <= rows <= totals.requests + CONNECTIONS:
            errors += abs(totals.requests - rows)
            notes.append(f"{rows} rows of {table} for {totals.requests} requests")
    after = running.tree()
    closed = time.monotonic()
    busy = cpu.core_busy_ns(place.cores.proxy) - busy_before
    drain_s = closed - ended
    if running.process.poll() is not None:
        raise SystemFailed(f"it ended while it was measured: {running.last_words()}")
    requests = max(totals.requests, 1)
    used = cpu.cpu_by_role(before, after)
    seconds = totals.duration_us / 1e6
    return Measurement(
        number, totals.requests, seconds, totals.p50_us, totals.p99_us,
        {role: nanoseconds / 1000 / requests for role, nanoseconds in used.items()},
        sum(used.values()) / 1e9 / (seconds + (drain_s if table else 0.0)),
        cpu.memory_bytes(running.process.pid), errors, tuple(notes), drain_s if table else 0.0,
        max(0.0, busy - sum(used.values())) / 1e9 / (closed - opened),
    )  # fmt: skip
