"""Reading the Parquet of a state directory with DuckDB into the sums that `analysis` estimates from.

This is the only place that knows the columns. DuckDB aggregates per unit, so Python holds one row per unit and never
one per request; memory is bounded and what exceeds it spills to disk. The list of files is taken once, so a report is
a snapshot even while the analyst goes on writing; a part that compaction took away in between means a second try.
Columns that an older or newer log lacks read as NULL.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb

from proxy.analysis.compare import FALLBACK
from proxy.analysis.observations import FaultData, LogData, RouteTraffic
from proxy.analyst import parts
from proxy.analyst.labels import label_files
from proxy.analyst.table_answers import ANSWER_COLUMNS, load_answers
from proxy.analyst.table_experiments import read_experiments
from proxy.analyst.table_shadows import read_shadows
from proxy.errors import StateError
from proxy.exchange.failure import FAILURE_SQL

MEMORY_LIMIT: Final = "512MB"
ATTEMPTS: Final = 3
# Pairs whose primary answer came from a fallback say nothing about the model that the shadow is held against.
FELL_BACK: Final = f"coalesce(reason, '') = '{FALLBACK}'"
# Two sightings of a fault further apart than this are two windows.
WINDOW_GAP_S: Final = 30.0

EXCHANGE_COLUMNS: Final = {
    "exchange_id": "VARCHAR",
    "leg": "VARCHAR",
    "ts": "TIMESTAMP",
    "route": "VARCHAR",
    "assignments": "STRUCT(experiment VARCHAR, epoch INTEGER, arm VARCHAR, weight DOUBLE, reason VARCHAR)[]",
    "unit_hash": "VARCHAR",
    "unit_key_id": "VARCHAR",
    "upstream": "VARCHAR",
    "status": "INTEGER",
    "error_type": "VARCHAR",
    "fallback_reason": "VARCHAR",
    "latency_s": "DOUBLE",
    "faults": "VARCHAR[]",
    "fault_cohorts": "VARCHAR[]",
    "sample_prob": "DOUBLE",
}
PAIR_COLUMNS: Final = {
    "exchange_id": "VARCHAR",
    "shadow": "VARCHAR",
    "shadow_outcome": "VARCHAR",
    "comparison": "VARCHAR",
    "reason": "VARCHAR",
    "metrics": "MAP(VARCHAR, DOUBLE)",
    "differences": "STRUCT(path VARCHAR, kind VARCHAR, primary_value VARCHAR, shadow_value VARCHAR)[]",
    "route": "VARCHAR",
    "unit_hash": "VARCHAR",
    "fault_cohorts": "VARCHAR[]",
    "primary_status": "INTEGER",
    "shadow_status": "INTEGER",
    "primary_latency_s": "DOUBLE",
    "shadow_latency_s": "DOUBLE",
    "latency_delta_s": "DOUBLE",
    "sample_prob": "DOUBLE",
    "repeat_outcome": "VARCHAR",
    "repeat_comparison": "VARCHAR",
    "repeat_reason": "VARCHAR",
    "repeat_differences": "STRUCT(path VARCHAR, kind VARCHAR, primary_value VARCHAR, shadow_value VARCHAR)[]",
    "ts": "TIMESTAMP",
    "request_id": "VARCHAR",
    "shadow_leg_id": "VARCHAR",
    "path": "VARCHAR",
    "segments": "MAP(VARCHAR, VARCHAR)",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """What of the log to read: Unix seconds, since inclusive and until exclusive; None means everything."""

    since_s: float | None = None
    until_s: float | None = None
    experiment: str | None = None
    shadow: str | None = None


def read_log(state: Path, selection: Selection | None = None) -> LogData:
    """Read everything that a report needs from `<state>/data`.

    No data at all is a valid, empty log. Raises `StateError` when the directory does not exist or a file in it cannot
    be read as Parquet.
    """
    if not state.is_dir():
        raise StateError(f"{state}: no such state directory, name the one of `state:` with --state")
    chosen = selection or Selection()
    problem: duckdb.Error | None = None
    for _ in range(ATTEMPTS):
        try:
            return _read(state / "data", chosen)
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException):
            raise  # our own query is wrong, not a file
        except duckdb.Error as error:
            problem = error
    raise StateError(f"{state / 'data'}: cannot be read: {str(problem).splitlines()[0]}") from problem


def _read(data: Path, selection: Selection) -> LogData:
    with (
        tempfile.TemporaryDirectory(prefix="parallax-report-") as spill,
        duckdb.connect() as con,
        parts.reading(data) if data.is_dir() else contextlib.nullcontext(),
    ):
        con.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        con.execute("SET temp_directory = $spill", {"spill": spill})
        con.execute("SET enable_progress_bar = false")
        con.execute("SET preserve_insertion_order = false")
        con.execute("SET TimeZone = 'UTC'")
        pairs = _load_pairs(con, _files(data, "pairs", selection), selection)
        files = _files(data, "exchanges", selection)
        if not files:
            return LogData(shadows=read_shadows(con) if pairs else (), has_pairs=pairs)
        if pairs:
            load_answers(con, _select(con, files, ANSWER_COLUMNS), files, label_files(data))
        _load_exchanges(con, files, selection)
        row = con.execute("SELECT count(*), min(ts), max(ts) FROM exchange").fetchone()
        count, first_s, last_s = row or (0, None, None)
        return LogData(
            exchanges=count,
            first_s=first_s,
            last_s=last_s,
            routes=_routes(con),
            experiments=read_experiments(con),
            shadows=read_shadows(con) if pairs else (),
            faults=_faults(con),
            has_pairs=pairs,
        )


def _files(data: Path, table: str, selection: Selection) -> list[str]:
    """The parts of a table, without the hours that cannot hold the period (an hour of slack on both sides)."""
    strangers = [path for path in (data / table).glob("**/*.parquet") if parts.parse_part(path) is None]
    files = [*parts.files_of(data, table), *sorted(strangers)]
    return [str(path) for path in files if _overlaps(path, selection)]


def _overlaps(path: Path, selection: Selection) -> bool:
    place = re.search(r"date=(\d{4}-\d\d-\d\d)/hour=(\d\d?)/", path.as_posix())
    if place is None:
        return True
    try:
        start = datetime.strptime(f"{place[1]} {place[2]}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    except ValueError:
        return True
    slack = timedelta(hours=1)
    late = selection.until_s is not None and (start - slack).timestamp() >= selection.until_s
    early = selection.since_s is not None and (start + 2 * slack).timestamp() <= selection.since_s
    return not (late or early)


def _select(con: duckdb.DuckDBPyConnection, files: list[str], columns: dict[str, str]) -> str:
    """A subquery with exactly these columns; what the files lack is NULL. Uses the parameter `$files`."""
    source = "read_parquet($files, union_by_name = true, hive_partitioning = false)"
    described = con.execute(f"DESCRIBE SELECT * FROM {source}", {"files": files}).fetchall()  # noqa: S608  a constant
    found = {row[0] for row in described}
    listed = ", ".join(
        f"{name}::{kind} AS {name}" if name in found else f"NULL::{kind} AS {name}" for name, kind in columns.items()
    )
    return f"(SELECT {listed} FROM {source})"  # noqa: S608  names and types are the constants above


def _period(selection: Selection, parameters: dict[str, Any]) -> str:
    conditions = ["true"]
    if selection.since_s is not None:
        parameters["since"] = selection.since_s
        conditions.append("epoch(ts) >= $since")
    if selection.until_s is not None:
        parameters["until"] = selection.until_s
        conditions.append("epoch(ts) < $until")
    return " AND ".join(conditions)


def _load_exchanges(con: duckdb.DuckDBPyConnection, files: list[str], selection: Selection) -> None:
    """Make `exchange` (a narrow row per request) and `assigned` (a row per request and experiment)."""
    parameters: dict[str, Any] = {"files": files}
    where = _period(selection, parameters)
    source = _select(con, files, EXCHANGE_COLUMNS)
    con.execute(
        f"""CREATE TEMP TABLE exchange AS
        SELECT epoch(ts) AS ts, coalesce(route, '') AS route, coalesce(upstream, '') AS upstream,
               hash(coalesce(unit_hash, exchange_id)) AS unit, unit_key_id,
               coalesce(latency_s, 0) AS latency_s, {FAILURE_SQL} AS failed,
               1 / coalesce(nullif(sample_prob, 0), 1) AS w,
               assignments, coalesce(faults, []) AS faults, coalesce(fault_cohorts, []) AS cohorts,
               fallback_reason IS NOT NULL AS fell_back
        FROM {source} WHERE coalesce(leg, 'primary') = 'primary' AND {where}""",  # noqa: S608
        parameters,
    )
    only: dict[str, Any] = {} if selection.experiment is None else {"experiment": selection.experiment}
    wanted = "" if selection.experiment is None else "WHERE a.experiment = $experiment"
    con.execute(
        f"""CREATE TEMP TABLE assigned AS
        SELECT a.experiment AS experiment, a.epoch AS epoch, a.arm AS arm, a.weight AS weight, a.reason AS reason,
               unit, unit_key_id, ts, latency_s, failed, w, faulted, fell_back
        FROM (SELECT unnest(assignments) AS a, * EXCLUDE (assignments, faults, cohorts),
                     len(cohorts) > 0 OR len(faults) > 0 AS faulted FROM exchange) {wanted}""",  # noqa: S608
        only or None,
    )


def _load_pairs(con: duckdb.DuckDBPyConnection, files: list[str], selection: Selection) -> bool:
    """Make `pair`; False when there is no such table yet."""
    if not files:
        return False
    parameters: dict[str, Any] = {"files": files}
    where = _period(selection, parameters)
    if selection.shadow is not None:
        parameters["shadow"] = selection.shadow
        where += " AND shadow = $shadow"
    source = _select(con, files, PAIR_COLUMNS)
    con.execute(
        f"""CREATE TEMP TABLE pair AS
        SELECT row_number() OVER () AS id, coalesce(shadow, '') AS shadow, coalesce(shadow_outcome, '') AS outcome, comparison,
               coalesce(reason, '') AS reason, metrics, coalesce(differences, []) AS differences,
               coalesce(route, '') AS route, hash(coalesce(unit_hash, exchange_id)) AS cluster,
               len(coalesce(fault_cohorts, [])) > 0 AS faulted,
               CASE WHEN {FELL_BACK} THEN NULL ELSE primary_status END AS primary_status, shadow_status,
               primary_latency_s, shadow_latency_s,
               CASE WHEN {FELL_BACK} THEN NULL
                    ELSE coalesce(latency_delta_s, shadow_latency_s - primary_latency_s) END AS delta_s,
               1 / coalesce(nullif(sample_prob, 0), 1) AS w, epoch(ts) AS ts,
               repeat_outcome, repeat_comparison, repeat_reason, coalesce(repeat_differences, []) AS repeat_differences,
               exchange_id, coalesce(request_id, '') AS request_id, shadow_leg_id, coalesce(path, '') AS path, segments
        FROM {source} WHERE {where}""",  # noqa: S608
        parameters,
    )
    return True


def _routes(con: duckdb.DuckDBPyConnection) -> tuple[RouteTraffic, ...]:
    rows = con.execute(
        """SELECT route, upstream, count(*), count(*) FILTER (failed), quantile_disc(latency_s, [0.5, 0.95, 0.99])
        FROM exchange GROUP BY route, upstream ORDER BY count(*) DESC, route, upstream LIMIT 50"""
    ).fetchall()
    return tuple(RouteTraffic(route, upstream, n, bad, tuple(q)) for route, upstream, n, bad, q in rows)


def _faults(con: duckdb.DuckDBPyConnection) -> tuple[FaultData, ...]:
    """Every fault that was applied or whose cohort was seen, with the windows in which it was applied."""
    rows = con.execute(
        """WITH seen AS (
            SELECT ts, unit, unnest(list_distinct(list_concat(faults, cohorts))) AS name, faults, cohorts
            FROM exchange WHERE len(faults) > 0 OR len(cohorts) > 0),
        marked AS (
            SELECT ts, unit, name, list_contains(faults, name) AS applied,
                   list_contains(cohorts, name) AS cohort FROM seen)
        SELECT name, count(*) FILTER (applied), count(DISTINCT unit) FILTER (applied), count(*) FILTER (cohort),
               coalesce(min(ts) FILTER (applied), min(ts)), coalesce(max(ts) FILTER (applied), max(ts))
        FROM marked GROUP BY name ORDER BY 5, name"""
    ).fetchall()
    windows: dict[str, list[tuple[float, float]]] = {}
    times = con.execute(
        """SELECT DISTINCT name, floor(ts) FROM (SELECT unnest(faults) AS name, ts FROM exchange) ORDER BY 1, 2"""
    ).fetchall()
    for name, second in times:
        known = windows.setdefault(name, [])
        if known and second - known[-1][1] <= WINDOW_GAP_S:
            known[-1] = (known[-1][0], second + 1)
        else:
            known.append((second, second + 1))
    return tuple(
        FaultData(name, applied, units, cohort, first, last, tuple(windows.get(name, ())))
        for name, applied, units, cohort, first, last in rows
    )
