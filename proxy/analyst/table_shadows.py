"""Queries over the temporary table `pair`: per shadow, one row per route and cluster, and where answers differ."""

from __future__ import annotations

from typing import Any, Final

import duckdb
import numpy as np

from proxy.analysis.observations import (
    LATENCY_QUANTILES,
    ClusterSums,
    OutputRow,
    PathRow,
    ShadowData,
    SliceRows,
    WorstRow,
)
from proxy.analyst.table_answers import read_answers, read_truth
from proxy.analyst.table_experiments import floats, quantile_functions, timeline
from proxy.analyst.table_noise import OUTPUT, WORST, read_noise
from proxy.stats.quantiles import QuantileFunction

# Bins of a distribution over orders of magnitude: four to a decade.
BINS_PER_DECADE: Final = 4
# Values of a segment that are judged: those of most pairs. Each costs a test, and dilutes all others.
MOST_VALUES: Final = 50
WORST_PAIRS: Final = 5
WORST_DIFFERENCES: Final = 6

MINE: Final = "shadow = $shadow"
USABLE: Final = f"{MINE} AND NOT faulted"
# Every pair has its row, with statuses and times; only what comes of comparing is a sample and has weights.
UNWEIGHTED: Final = "(SELECT * REPLACE (1.0::DOUBLE AS w) FROM pair)"
# Latencies compare only where both sides gave a complete answer.
TIMED: Final = f"{USABLE} AND outcome = 'sent' AND delta_s IS NOT NULL"
# What the operator ignores is no difference. That both failed says nothing about the models, and is no comparison.
BOTH_FAILED: Final = "comparison = 'ignored' AND reason = 'both_failed'"
IGNORED: Final = "comparison = 'ignored' AND reason <> 'both_failed'"
AGREEING: Final = f"(comparison = 'match' OR {IGNORED})"
COMPARED: Final = f"{USABLE} AND (comparison = 'mismatch' OR {AGREEING})"


def read_shadows(con: duckdb.DuckDBPyConnection) -> tuple[ShadowData, ...]:
    """Every shadow in the log, in the order of its name."""
    names = con.execute("SELECT DISTINCT shadow FROM pair ORDER BY 1").fetchall()
    return tuple(_shadow(con, name) for (name,) in names)


def _counts(con: duckdb.DuckDBPyConnection, key: str, where: str, only: dict[str, str]) -> dict[str, int]:
    rows = con.execute(
        f"SELECT {key}, count(*) FROM pair WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1",  # noqa: S608
        only,
    ).fetchall()
    return dict(rows)


def _shadow(con: duckdb.DuckDBPyConnection, name: str) -> ShadowData:
    only = {"shadow": name}
    outcomes = _counts(con, "outcome", MINE, only)
    found = quantile_functions(con, keys="shadow", value="delta_s", table=UNWEIGHTED, where=TIMED, parameters=only)
    delta = found.get((name,))
    latencies = con.execute(
        f"""SELECT quantile_disc(primary_latency_s, {list(LATENCY_QUANTILES)}),
        quantile_disc(shadow_latency_s, {list(LATENCY_QUANTILES)}) FROM pair WHERE {TIMED}""",  # noqa: S608
        only,
    ).fetchone() or (None, None)
    statuses = con.execute(
        f"""SELECT primary_status, shadow_status, count(*) FROM pair
        WHERE {USABLE} AND outcome = 'sent' AND primary_status IS NOT NULL AND shadow_status IS NOT NULL
        AND primary_status <> shadow_status GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {WORST}""",  # noqa: S608
        only,
    ).fetchall()
    alike = con.execute(
        f"SELECT sum(w) FILTER ({IGNORED}), sum(w) FILTER ({BOTH_FAILED}) FROM pair WHERE {USABLE}",  # noqa: S608
        only,
    ).fetchone() or (None, None)
    routes, clusters = _clusters(con, only, delta)
    outputs = _outputs(con, only)
    return ShadowData(
        name=name,
        sampled=sum(outcomes.values()),
        outcomes=outcomes,
        comparisons=_counts(con, "coalesce(comparison, 'none')", MINE, only),
        reasons=_counts(con, "reason", f"{MINE} AND comparison = 'incomparable'", only),
        ignored=alike[0] or 0.0,
        both_failed=alike[1] or 0.0,
        faulted=sum(_counts(con, "outcome", f"{MINE} AND faulted", only).values()),
        routes=routes,
        clusters=clusters,
        delta=delta,
        primary_latency_s=tuple(latencies[0] or ()),
        shadow_latency_s=tuple(latencies[1] or ()),
        statuses=tuple(statuses),
        outputs=outputs,
        paths=_paths(con, only),
        timeline=timeline(
            con, series="comparison", count="sum(w)", table="pair", where=COMPARED, parameters=dict(only)
        ),
        max_abs=_max_abs(con, only, [row.output for row in outputs[:3]]),
        noise=read_noise(con, name),
        least_prob=_least_prob(con, only),
        slices=_slices(con, only),
        worst=_worst(con, only),
        answers=read_answers(con, only),
        truth=read_truth(con, only),
    )


def _least_prob(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> float:
    row = con.execute(f"SELECT 1 / max(w) FROM pair WHERE {MINE}", only).fetchone()  # noqa: S608
    return row[0] if row and row[0] else 1.0


def _clusters(
    con: duckdb.DuckDBPyConnection, only: dict[str, str], delta: QuantileFunction | None
) -> tuple[tuple[str, ...], ClusterSums]:
    timed = "outcome = 'sent' AND delta_s IS NOT NULL"
    both = "outcome = 'sent' AND primary_status > 0 AND shadow_status > 0"
    columns: dict[str, Any] = con.execute(
        f"""SELECT route, cluster,
            sum(w) FILTER (comparison = 'mismatch' OR {AGREEING}) AS compared, sum(w) FILTER ({AGREEING}) AS matches,
            count(*) FILTER ({timed}) AS timed, sum(delta_s) FILTER ({timed}) AS delta_s,
            count(*) FILTER ({timed} AND delta_s <= $median) AS delta_below,
            count(*) FILTER ({both} AND primary_status >= 500 AND shadow_status < 500) AS primary_failed,
            count(*) FILTER ({both} AND primary_status < 500 AND shadow_status >= 500) AS shadow_failed
        FROM pair WHERE {USABLE} GROUP BY route, cluster ORDER BY route, cluster""",  # noqa: S608
        {**only, "median": delta.at(0.5) if delta else 0.0},
    ).fetchnumpy()
    names, places = np.unique(np.asarray(columns["route"], dtype=object).astype(str), return_inverse=True)
    sums = {name: floats(columns[name]) for name in columns if name not in {"route", "cluster"}}
    cluster = np.asarray(columns["cluster"], dtype=np.uint64)
    return tuple(str(name) for name in names), ClusterSums(route=places.astype(np.int64), cluster=cluster, **sums)


def _outputs(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> tuple[OutputRow, ...]:
    """Outputs by how often they differ beyond tolerance.

    The metrics of an output are the keys `<output>.<statistic>`; its differences stand at
    `/outputs/<output>` or below, and at `/predictions` where the protocol gives the output no name.
    Identical answers have no metrics, so the pairs of an output are all that were compared on the routes that have it.
    """
    rows = con.execute(
        f"""WITH entry AS (
            SELECT id, route, w, unnest(map_entries(metrics)) AS e FROM pair WHERE {COMPARED} AND metrics IS NOT NULL),
        measured AS (
            SELECT id, route, w, regexp_replace(e.key, '\\.[^.]*$', '') AS output,
                   max(e.value) FILTER (suffix(e.key, '.max_abs')) AS max_abs,
                   max(e.value) FILTER (suffix(e.key, '.label_flips')) AS flips
            FROM entry WHERE contains(e.key, '.') GROUP BY ALL),
        differing AS (
            SELECT DISTINCT id, route, w, {OUTPUT} AS output
            FROM (SELECT id, route, w, unnest(differences) AS d FROM pair WHERE {COMPARED} AND comparison = 'mismatch')),
        found AS (
            SELECT output, route, w, max_abs, flips, 0 AS differs FROM measured UNION ALL
            SELECT output, route, w, NULL, NULL, 1 FROM differing SEMI JOIN measured USING (output)),
        ranked AS (
            SELECT output, max_abs, sum(w) OVER (PARTITION BY output ORDER BY max_abs) AS below,
                   sum(w) OVER (PARTITION BY output) AS total
            FROM measured WHERE isfinite(max_abs)),
        middle AS (SELECT output, min(max_abs) AS median FROM ranked WHERE below >= total / 2 GROUP BY output),
        compared AS (SELECT route, sum(w) AS n FROM pair WHERE {COMPARED} GROUP BY route),
        whole AS (
            SELECT output, sum(n)::BIGINT AS pairs
            FROM (SELECT DISTINCT output, route FROM found) JOIN compared USING (route) GROUP BY output)
        SELECT output, any_value(pairs), sum(differs * w)::BIGINT, coalesce(sum(flips * w), 0),
               max(max_abs) FILTER (isfinite(max_abs)), any_value(median)
        FROM found JOIN whole USING (output) LEFT JOIN middle USING (output)
        GROUP BY output ORDER BY 3 DESC, 4 DESC, 5 DESC NULLS LAST, 1 LIMIT {WORST}""",  # noqa: S608
        only,
    ).fetchall()
    return tuple(OutputRow(*row) for row in rows)


def _paths(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> tuple[PathRow, ...]:
    rows = con.execute(
        f"""WITH entry AS (
            SELECT id, w, unnest(differences) AS d
            FROM pair WHERE {USABLE} AND comparison = 'mismatch')
        SELECT path, kind, sum(w)::BIGINT, any_value(ours), any_value(theirs)
        FROM (SELECT id, any_value(w) AS w, coalesce(d.path, '') AS path, coalesce(d.kind, '') AS kind,
                     coalesce(any_value(d.primary_value), '') AS ours, coalesce(any_value(d.shadow_value), '') AS theirs
              FROM entry GROUP BY ALL)
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {WORST}""",  # noqa: S608
        only,
    ).fetchall()
    return tuple(PathRow(*row) for row in rows)


def _max_abs(con: duckdb.DuckDBPyConnection, only: dict[str, str], outputs: list[str]) -> dict[str, dict[float, int]]:
    """For each output the number of pairs by order of magnitude of the largest difference; exact zeros under 0."""
    rows = con.execute(
        f"""WITH entry AS (
            SELECT w, unnest(map_entries(metrics)) AS e FROM pair WHERE {COMPARED} AND metrics IS NOT NULL)
        SELECT regexp_replace(e.key, '\\.max_abs$', ''),
               CASE WHEN e.value > 0 THEN pow(10, floor(log10(e.value) * {BINS_PER_DECADE}) / {BINS_PER_DECADE}) ELSE 0 END,
               sum(w)::BIGINT
        FROM entry WHERE suffix(e.key, '.max_abs') AND isfinite(e.value) GROUP BY 1, 2 ORDER BY 1, 2""",  # noqa: S608
        only,
    ).fetchall()
    bins: dict[str, dict[float, int]] = {output: {} for output in outputs}
    for output, low, count in rows:
        if output in bins:
            bins[output][low] = count
    return {output: found for output, found in bins.items() if found}


def _slices(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> SliceRows | None:
    """Compared pairs per segment, value and cluster, for the values that most pairs have."""
    columns: dict[str, Any] = con.execute(
        f"""WITH entry AS (
            SELECT unnest(map_entries(segments)) AS e, cluster, w, comparison FROM pair
            WHERE {COMPARED} AND segments IS NOT NULL),
        ranked AS (
            SELECT e.key AS segment, e.value AS value,
                   row_number() OVER (PARTITION BY e.key ORDER BY sum(w) DESC, e.value) AS place
            FROM entry WHERE e.value IS NOT NULL GROUP BY e.key, e.value QUALIFY place <= {MOST_VALUES})
        SELECT segment, value, cluster, sum(w) AS compared, coalesce(sum(w) FILTER (comparison = 'mismatch'), 0) AS mismatches
        FROM entry JOIN ranked ON e.key = segment AND e.value = value
        GROUP BY segment, value, cluster ORDER BY segment, value, cluster""",  # noqa: S608
        only,
    ).fetchnumpy()
    names = sorted(set(zip(columns["segment"], columns["value"], strict=True)))
    if not names:
        return None
    index = {name: place for place, name in enumerate(names)}
    places = [index[name] for name in zip(columns["segment"], columns["value"], strict=True)]
    return SliceRows(
        tuple((str(segment), str(value)) for segment, value in names),
        np.array(places, dtype=np.int64),
        np.asarray(columns["cluster"], dtype=np.uint64),
        floats(columns["compared"]),
        floats(columns["mismatches"]),
    )


def _worst(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> tuple[WorstRow, ...]:
    """The pairs that differ most, of different units where there are enough: one user is not five examples."""
    rows = con.execute(
        f"""WITH measured AS (
            SELECT exchange_id, request_id, route, reason, differences, cluster, ts,
                   nullif(list_max([e.value FOR e IN map_entries(metrics) IF suffix(e.key, '.max_abs')]), 0) AS distance
            FROM pair WHERE {COMPARED} AND comparison = 'mismatch'),
        ranked AS (
            SELECT *, row_number() OVER (PARTITION BY cluster ORDER BY coalesce(distance, 'infinity'::DOUBLE) DESC,
                                         len(differences) DESC, exchange_id) AS turn FROM measured)
        SELECT exchange_id, request_id, route, reason, distance, differences FROM ranked
        ORDER BY turn, coalesce(distance, 'infinity'::DOUBLE) DESC, len(differences) DESC, exchange_id LIMIT {WORST_PAIRS}""",  # noqa: S608
        only,
    ).fetchall()
    return tuple(
        WorstRow(
            exchange or "",
            request,
            route,
            reason,
            None if distance is None or not np.isfinite(distance) else distance,
            tuple(
                (d["path"] or "", d["primary_value"] or "", d["shadow_value"] or "") for d in found[:WORST_DIFFERENCES]
            ),
        )
        for exchange, request, route, reason, distance, found in rows
    )
