"""Replay: the live sums computed again from Parquet, by other means.

Parts of a batch are on the disk before its commit, so a replay reads the parts of committed batches
alone. What retention removed was summed before it went; with that the numbers are equal, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from proxy.analysis.noise import PAIRED_SQL
from proxy.analysis.sums import ASSIGNED, NANOSECONDS, Sums
from proxy.analyst import parts
from proxy.analyst.store import read_snapshot
from proxy.exchange.failure import FAILURE_SQL
from proxy.exchange.parquet import from_files, has_column


def sums_of_files(connection: duckdb.DuckDBPyConnection, exchanges: Sequence[Path], pairs: Sequence[Path]) -> Sums:
    """The sums of what these parts hold."""
    sums = Sums()
    if exchanges:
        reason = "fallback_reason" if has_column(connection, exchanges, "fallback_reason") else "NULL"
        cursor = connection.execute(
            f"""
            SELECT a.experiment, a.epoch, a.arm, unit_hash, count(*),
                count(*) FILTER {FAILURE_SQL},
                CAST(coalesce(sum(TRY_CAST(trunc(latency_s * {NANOSECONDS}) AS BIGINT)), 0) AS BIGINT)
            FROM (
                SELECT unnest(assignments) AS a, unit_hash, status, error_type, {reason} AS fallback_reason, latency_s
                FROM {from_files(exchanges)}
                WHERE leg = 'primary' AND unit_hash IS NOT NULL AND len(fault_cohorts) = 0
            )
            WHERE a.reason = ?
            GROUP BY ALL
            """,  # noqa: S608  our own file names, quoted
            [ASSIGNED],
        )
        while rows := cursor.fetchmany(10_000):
            for experiment, epoch, arm, unit_hash, requests, errors, latency_ns in rows:
                sums.add_to_arm((experiment, epoch, arm), unit_hash, (requests, errors, latency_ns))
    if pairs:
        counted = connection.execute(
            f"""
            SELECT shadow, 'outcome', shadow_outcome, count(*) FROM {from_files(pairs)} GROUP BY ALL
            UNION ALL
            SELECT shadow, 'comparison', comparison, count(*) FROM {from_files(pairs)}
            WHERE len(fault_cohorts) = 0 GROUP BY ALL
            """  # noqa: S608  our own file names, quoted
        ).fetchall()
        for shadow, kind, word, count in counted:
            sums.add_to_shadow(shadow, kind, word, count)
        if has_column(connection, pairs, "repeat_outcome"):
            _add_repeats(connection, pairs, sums)
    return sums


def _add_repeats(connection: duckdb.DuckDBPyConnection, pairs: Sequence[Path], sums: Sums) -> None:
    """Add what the pairs say whose primary was asked twice."""
    counted = connection.execute(
        f"""
        SELECT shadow, 'repeat_outcome', repeat_outcome, count(*) FROM {from_files(pairs)}
        WHERE repeat_outcome IS NOT NULL GROUP BY ALL
        UNION ALL
        SELECT shadow, 'repeat_comparison', repeat_comparison, count(*) FROM {from_files(pairs)}
        WHERE repeat_outcome IS NOT NULL AND len(fault_cohorts) = 0 GROUP BY ALL
        """  # noqa: S608  our own file names, quoted
    ).fetchall()
    for shadow, kind, word, count in counted:
        sums.add_to_shadow(shadow, kind, word, count)
    cursor = connection.execute(
        f"""
        SELECT shadow, coalesce(unit_hash, exchange_id), CAST(sum(w) AS BIGINT),
            CAST(coalesce(sum(w) FILTER (comparison = 'mismatch'), 0) AS BIGINT),
            CAST(coalesce(sum(w) FILTER (repeat_comparison = 'mismatch'), 0) AS BIGINT)
        FROM (SELECT *, round(1 / sample_prob)::BIGINT AS w FROM {from_files(pairs)})
        WHERE {PAIRED_SQL} AND len(fault_cohorts) = 0
        GROUP BY ALL
        """  # noqa: S608  our own file names, quoted
    )
    while rows := cursor.fetchmany(10_000):
        for shadow, cluster, paired, raw, noise in rows:
            sums.add_noise(shadow, cluster, (paired, raw, noise))


@dataclass(frozen=True, slots=True)
class Replayed:
    """The sums as they were kept live, and as Parquet says that they should be."""

    live: Sums
    replayed: Sums


def replay(connection: duckdb.DuckDBPyConnection, state_dir: Path) -> Replayed | None:
    """Recompute the sums of everything that was ever committed; None when nothing was.

    It may run beside an analyst: parts of later commits are left out.
    """
    data = state_dir / "data"
    if not data.is_dir():
        return None
    with parts.reading(data):
        snapshot = read_snapshot(state_dir)
        if snapshot is None:
            return None
        sums = sums_of_files(
            connection,
            parts.files_of(data, "exchanges", snapshot.batch),
            parts.files_of(data, "pairs", snapshot.batch),
        )
    sums.merge(snapshot.retired)
    return Replayed(snapshot.live, sums)
