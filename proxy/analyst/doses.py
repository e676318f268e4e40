"""The runs of faults: starts and ends from the audit, and what the log holds of each.

A worker hears of a start within a second, so that second is left out; what is in the cohort stays marked until it has
washed out, so the end needs no margin.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from proxy.analysis.dose import Changed, Run
from proxy.analyst import parts
from proxy.errors import StateError
from proxy.exchange.parquet import connect, from_files, has_column

MARGIN_S: Final = 1.0
# Bodies read of one run: enough for any test to see what matters, and bounded in memory.
MOST_BODIES: Final = 20_000
_BATCH: Final = 1_000
_MEMORY_LIMIT: Final = "512MB"


def read_runs(state_dir: Path, *, fault: str | None = None) -> list[Run]:
    """Every run whose definition the audit holds, the oldest first.

    Raises:
        StateError: audit or log cannot be read.
    """
    started = _starts(state_dir / "faults.jsonl", fault)
    data = state_dir / "data"
    if not started or not data.is_dir():
        return started
    with connect(_MEMORY_LIMIT) as connection, parts.reading(data):
        files = parts.files_of(data, "exchanges")
        if not files or not has_column(connection, files, "fault_effects"):
            return started
        try:
            return [_observed(connection, from_files(files), run) for run in started]
        except duckdb.Error as error:
            raise StateError(f"{data}: cannot be read: {str(error).splitlines()[0]}") from error


def _starts(path: Path, fault: str | None) -> list[Run]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    runs: dict[str, Run] = {}
    for line in lines:
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
            activation, at_s = found.get("activation", ""), _seconds(found.get("at", ""))
        except ValueError:
            continue  # torn by a crash, or no time
        definition = found.get("definition")
        if found.get("what") == "started" and isinstance(definition, dict) and fault in (None, found.get("fault")):
            most_s = definition.get("max_duration_s", 0.0)
            runs[activation] = Run(found["fault"], activation, definition, at_s, at_s + most_s)
        elif found.get("what") == "ended" and activation in runs:
            runs[activation] = _ended(runs[activation], at_s)
    return list(runs.values())


def _ended(run: Run, at_s: float) -> Run:
    return Run(run.fault, run.activation, run.definition, run.start_s, min(run.end_s, at_s))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _observed(connection: duckdb.DuckDBPyConnection, source: str, run: Run) -> Run:
    given = {"fault": run.fault, "start": run.start_s + MARGIN_S, "end": run.end_s}
    within = f"FROM {source} WHERE leg = 'primary' AND epoch(ts) >= $start AND epoch(ts) < $end"
    units, cohort = connection.execute(
        "SELECT count(DISTINCT unit_hash), "
        f"count(DISTINCT unit_hash) FILTER (list_contains(fault_cohorts, $fault)) {within}",
        given,
    ).fetchall()[0]
    # Bodies stream: a run may have millions of them, of which few are looked at.
    log = connection.execute(
        "SELECT path, coalesce(undegraded_response, response), response, list_contains(faults, $fault), "
        f"len(faults) = 1, fault_effects {within} AND list_contains(fault_cohorts, $fault) ORDER BY exchange_id",
        given,
    )
    applied, skipped = 0, Counter[str]()
    changed: list[Changed] = []
    ages_s: list[float] = []
    delays_s: list[float] = []
    rows = chain.from_iterable(iter(lambda: log.fetchmany(_BATCH), []))
    for path, before, after, was_applied, alone, effects in rows:
        effect = _effect_of(effects, run.fault)
        if was_applied:
            applied += 1
            if alone and before is not None and after is not None and len(changed) < MOST_BODIES:
                changed.append(Changed(path, before, after))
            if "age_s" in effect:
                ages_s.append(float(effect["age_s"]))
            if "delay_ms" in effect:
                delays_s.append(float(effect["delay_ms"]) / 1000)
        elif "skipped" in effect:
            skipped[str(effect["skipped"])] += 1
    return Run(
        run.fault, run.activation, run.definition, run.start_s, run.end_s, units, cohort, applied, skipped, changed,
        ages_s, delays_s,
    )  # fmt: skip


def _effect_of(effects: str | None, fault: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(effects or "{}", type=dict[str, dict[str, Any]])
    except ValueError:
        return {}
    return found.get(fault, {})
