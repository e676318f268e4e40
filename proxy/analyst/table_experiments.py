"""Queries over the temporary table `assigned`: per experiment, one row per unit, epoch and arm."""

from __future__ import annotations

from typing import Any, Final

import duckdb
import numpy as np

from proxy.analysis.observations import LATENCY_QUANTILES, ExperimentData, Timeline, UnitRows
from proxy.stats.clusters import Floats
from proxy.stats.quantiles import QuantileFunction

# Widths of a bucket of time that people read easily, in seconds; about this many buckets fill a plot.
WIDTHS_S: Final = (1, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)
BUCKETS: Final = 120
# Reasons that put a unit into the control arm, so that the arm's name can be read off the log.
SENT_TO_CONTROL: Final = ("killed", "no_unit", "opted_out", "not_allocated")
USED: Final = "experiment = $experiment AND reason = 'assigned' AND NOT faulted"

# Each stored point is the first or last request of a ten-thousandth, so shares such as 0.99 are exact and a
# distribution of any size takes at most 20,000 points.
QUANTILE_SQL: Final = """
    WITH ranked AS (
        SELECT {keys}, {value} AS value,
               sum(w) OVER (PARTITION BY {keys} ORDER BY {value} ROWS UNBOUNDED PRECEDING)
               / sum(w) OVER (PARTITION BY {keys}) AS share
        FROM {table} WHERE {where})
    SELECT {keys}, min(share), min(value), max(share), max(value)
    FROM ranked GROUP BY {keys}, floor(share * 10000 + 1e-6) ORDER BY {keys}, min(share)"""


def read_experiments(con: duckdb.DuckDBPyConnection) -> tuple[ExperimentData, ...]:
    """Every experiment in the log, in the order of its name."""
    names = con.execute("SELECT DISTINCT experiment FROM assigned WHERE experiment IS NOT NULL ORDER BY 1").fetchall()
    return tuple(_experiment(con, name) for (name,) in names)


def quantile_functions(
    con: duckdb.DuckDBPyConnection, *, keys: str, value: str, table: str, where: str, parameters: dict[str, Any]
) -> dict[tuple[Any, ...], QuantileFunction]:
    """The weighted empirical distribution of `value` for each combination of `keys`."""
    sql = QUANTILE_SQL.format(keys=keys, value=value, table=table, where=where)
    width = len(keys.split(","))
    points: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for row in con.execute(sql, parameters).fetchall():
        low_share, low, high_share, high = row[width:]
        known = points.setdefault(row[:width], [])
        known.append((low_share, low))
        if high_share > low_share:
            known.append((high_share, high))
    return {
        key: QuantileFunction(np.array([share for share, _ in known]), np.array([value for _, value in known]))
        for key, known in points.items()
    }


def bucket_width(span_s: float) -> int:
    """The narrowest width that needs no more than `BUCKETS` buckets."""
    return next((width for width in WIDTHS_S if span_s / width <= BUCKETS), WIDTHS_S[-1])


def timeline(
    con: duckdb.DuckDBPyConnection, *, series: str, count: str, table: str, where: str, parameters: dict[str, Any]
) -> Timeline:
    """`count` per bucket of time for each value of `series`, with zeros where nothing happened."""
    span = con.execute(f"SELECT min(ts), max(ts) FROM {table} WHERE {where}", parameters).fetchone()  # noqa: S608
    if span is None or span[0] is None:
        return Timeline(60.0, (), {})
    width = bucket_width(span[1] - span[0])
    first, last = span[0] // width, span[1] // width
    rows = con.execute(
        f"SELECT {series}, floor(ts / $width) AS bucket, {count} FROM {table} WHERE {where} GROUP BY ALL",  # noqa: S608
        {**parameters, "width": width},
    ).fetchall()
    size = int(last - first) + 1
    counts: dict[str, list[float]] = {name: [0.0] * size for name in sorted({row[0] for row in rows})}
    for name, bucket, number in rows:
        counts[name][int(bucket - first)] = float(number)
    starts = tuple(float((first + index) * width) for index in range(size))
    return Timeline(float(width), starts, {name: tuple(numbers) for name, numbers in counts.items()})


def _experiment(con: duckdb.DuckDBPyConnection, name: str) -> ExperimentData:
    only = {"experiment": name}
    cells = con.execute(
        """SELECT epoch, arm, max(weight), count(*) FILTER (NOT faulted), count(*) FILTER (faulted), count(*) FILTER (fell_back)
        FROM assigned WHERE experiment = $experiment AND reason = 'assigned' GROUP BY epoch, arm ORDER BY epoch, arm""",
        only,
    ).fetchall()
    epochs, arms = tuple(sorted({c[0] for c in cells})), tuple(sorted({c[1] for c in cells}))
    weights = np.zeros((len(epochs), len(arms)))
    exchanges, faulted, fell_back = [0] * len(arms), [0] * len(arms), [0] * len(arms)
    for epoch, arm, weight, used, left_out, covered in cells:
        weights[epochs.index(epoch), arms.index(arm)] = weight or 0.0
        exchanges[arms.index(arm)] += used
        faulted[arms.index(arm)] += left_out
        fell_back[arms.index(arm)] += covered
    found = quantile_functions(con, keys="epoch, arm", value="latency_s", table="assigned", where=USED, parameters=only)
    quantiles: dict[tuple[int | None, int], QuantileFunction] = {
        (epochs.index(epoch), arms.index(arm)): function for (epoch, arm), function in found.items()
    }
    if len(epochs) > 1:
        found = quantile_functions(con, keys="arm", value="latency_s", table="assigned", where=USED, parameters=only)
        quantiles |= {(None, arms.index(arm)): function for (arm,), function in found.items()}
    else:
        quantiles |= {(None, arm): function for (_, arm), function in list(quantiles.items())}
    facts = con.execute(
        f"""SELECT count(DISTINCT unit_key_id), coalesce(max(w), 1) > 1 FROM assigned WHERE {USED}""",  # noqa: S608
        only,
    ).fetchone() or (0, False)
    return ExperimentData(
        name=name,
        epochs=epochs,
        arms=arms,
        weights=weights,
        rows=_unit_rows(con, name, epochs, arms, quantiles),
        quantiles=quantiles,
        exchanges=tuple(exchanges),
        faulted=tuple(faulted),
        reasons=_reasons(con, only),
        control_hint=_control_hint(con, only),
        unit_keys=facts[0],
        sampled=bool(facts[1]),
        fell_back=tuple(fell_back),
        timeline=timeline(
            con,
            series="arm",
            count="sum(w)",
            table="assigned",
            where="experiment = $experiment AND reason = 'assigned'",
            parameters=only,
        ),
    )


def _unit_rows(
    con: duckdb.DuckDBPyConnection,
    name: str,
    epochs: tuple[int, ...],
    arms: tuple[str, ...],
    quantiles: dict[tuple[int | None, int], QuantileFunction],
) -> UnitRows:
    con.execute(
        """CREATE OR REPLACE TEMP TABLE threshold (epoch_index INTEGER, epoch INTEGER, arm_index INTEGER, arm VARCHAR,
        own DOUBLE[], whole DOUBLE[])"""
    )
    for (epoch, arm), function in quantiles.items():
        if epoch is None:
            continue
        own = [function.at(share) for share in LATENCY_QUANTILES]
        whole = [quantiles[None, arm].at(share) for share in LATENCY_QUANTILES]
        con.execute(
            "INSERT INTO threshold VALUES (?, ?, ?, ?, ?, ?)", [epoch, epochs[epoch], arm, arms[arm], own, whole]
        )
    positions = range(1, len(LATENCY_QUANTILES) + 1)
    below = ", ".join(
        f"sum(w) FILTER (latency_s <= {kind}[{i}]) AS {kind}_{i}" for kind in ("own", "whole") for i in positions
    )
    columns = con.execute(
        f"""SELECT unit, epoch_index, arm_index, min(ts) AS first_s, sum(w) AS requests,
               coalesce(sum(w) FILTER (failed), 0) AS errors, sum(w * latency_s) AS latency_s, {below}
        FROM assigned JOIN threshold USING (epoch, arm) WHERE {USED}
        GROUP BY unit, epoch_index, arm_index ORDER BY epoch_index, arm_index, unit""",  # noqa: S608
        {"experiment": name},
    ).fetchnumpy()
    return UnitRows(
        unit=np.asarray(columns["unit"], dtype=np.uint64),
        epoch=np.asarray(columns["epoch_index"], dtype=np.int64),
        arm=np.asarray(columns["arm_index"], dtype=np.int64),
        first_s=floats(columns["first_s"]),
        requests=floats(columns["requests"]),
        errors=floats(columns["errors"]),
        latency_s=floats(columns["latency_s"]),
        below=np.column_stack([floats(columns[f"own_{i}"]) for i in positions]),
        below_arm=np.column_stack([floats(columns[f"whole_{i}"]) for i in positions]),
    )


def floats(column: Any) -> Floats:
    """A DuckDB column as floats; NULL (a sum over nothing) is 0."""
    return np.asarray(np.ma.filled(np.ma.asarray(column).astype(np.float64), 0.0), dtype=np.float64)


def _reasons(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> dict[str, int]:
    rows = con.execute(
        """SELECT coalesce(reason, ''), count(*) FROM assigned WHERE experiment = $experiment
        AND reason IS DISTINCT FROM 'assigned' GROUP BY 1 ORDER BY 2 DESC, 1""",
        only,
    ).fetchall()
    return dict(rows)


def _control_hint(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> str | None:
    listed = ", ".join(f"'{reason}'" for reason in SENT_TO_CONTROL)
    row = con.execute(
        f"""SELECT arg_max(arm, ts) FROM assigned
        WHERE experiment = $experiment AND reason IN ({listed}) AND arm <> ''""",  # noqa: S608
        only,
    ).fetchone()
    return row[0] if row else None
