"""Queries over the temporary table `pair`: the pairs whose primary was asked twice, per output and unit, and per field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import duckdb
import numpy as np

from proxy.analysis.noise import PAIRED_SQL, WHOLE
from proxy.analysis.observations import FieldRow, NoiseData, NoiseSums
from proxy.analyst.table_experiments import floats

# A table longer than this is not read by anyone; the log has the rest.
WORST: Final = 20

_PAIRED: Final = f"shadow = $shadow AND NOT faulted AND {PAIRED_SQL}"
# The output that a difference lies in; NULL where it lies in none.
OUTPUT: Final = """CASE WHEN d.path = '/predictions' OR prefix(d.path, '/predictions/') THEN 'predictions'
    ELSE nullif(regexp_extract(d.path, '^/outputs/([^/]*)', 1), '') END"""
# One row for each pair and place that differs, on either side; `side` is raw or noise.
_PLACES: Final = f"""place AS (
    SELECT id, route, cluster, w, 'raw' AS side, unnest(differences) AS d
    FROM pair WHERE {_PAIRED} AND comparison = 'mismatch'
    UNION ALL
    SELECT id, route, cluster, w, 'noise' AS side, unnest(repeat_differences) AS d
    FROM pair WHERE {_PAIRED} AND repeat_comparison = 'mismatch')"""  # noqa: S608  our own names


def read_noise(con: duckdb.DuckDBPyConnection, shadow: str) -> NoiseData | None:
    """What the pairs of a shadow say of noise; None where nothing was repeated."""
    only = {"shadow": shadow}
    repeats = con.execute(
        """SELECT repeat_outcome, count(*) FROM pair WHERE shadow = $shadow AND repeat_outcome IS NOT NULL
        GROUP BY 1 ORDER BY 2 DESC, 1""",
        only,
    ).fetchall()
    if not repeats:
        return None
    whole = con.execute(
        f"""SELECT sum(w) AS pairs, sum(w) FILTER (comparison = 'mismatch') AS raw,
        sum(w) FILTER (repeat_comparison = 'mismatch') AS noise, sum(w * w) AS squares
        FROM pair WHERE {_PAIRED} GROUP BY cluster ORDER BY cluster""",  # noqa: S608
        only,
    ).fetchnumpy()
    known = con.execute(
        f"""SELECT count(DISTINCT regexp_replace(key, '\\.[^.]*$', ''))
        FROM (SELECT unnest(map_keys(metrics)) AS key FROM pair WHERE {_PAIRED} AND metrics IS NOT NULL)""",  # noqa: S608
        only,
    ).fetchone()
    return NoiseData(
        repeats=dict(repeats),
        whole=_sums(WHOLE, whole),
        outputs=_outputs(con, only),
        outputs_known=known[0] if known else 0,
        fields=_fields(con, only),
    )


def _sums(output: str, columns: Mapping[str, Any]) -> NoiseSums:
    """Sums per cluster, and how many pairs of equal weight they are worth (Kish 1965)."""
    pairs, raw, noise, squares = (floats(columns[name]) for name in ("pairs", "raw", "noise", "squares"))
    total = float(squares.sum())
    return NoiseSums(output, pairs, raw, noise, float(pairs.sum()) ** 2 / total if total else 0.0)


def _outputs(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> tuple[NoiseSums, ...]:
    """The outputs that differ anywhere, over all pairs of the routes that have them, the most often differing first."""
    columns = con.execute(
        f"""WITH {_PLACES},
        differing AS (SELECT DISTINCT id, route, cluster, w, side, {OUTPUT} AS output FROM place),
        worst AS (SELECT output FROM differing WHERE output IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {WORST}),
        owner AS (SELECT DISTINCT output, route FROM differing SEMI JOIN worst USING (output)),
        total AS (
            SELECT output, cluster, sum(w) AS pairs, sum(w * w) AS squares
            FROM (SELECT route, cluster, w FROM pair WHERE {_PAIRED}) JOIN owner USING (route) GROUP BY ALL),
        counted AS (
            SELECT output, cluster, sum(w) FILTER (side = 'raw') AS raw, sum(w) FILTER (side = 'noise') AS noise
            FROM differing SEMI JOIN worst USING (output) GROUP BY ALL)
        SELECT output, pairs, raw, noise, squares
        FROM total LEFT JOIN counted USING (output, cluster) ORDER BY output, cluster""",  # noqa: S608
        only,
    ).fetchnumpy()
    names = np.asarray(columns["output"], dtype=object).astype(str)
    found = [
        _sums(name, {column: values[names == name] for column, values in columns.items()})
        for name in dict.fromkeys(names.tolist())
    ]
    return tuple(sorted(found, key=lambda sums: (-float(sums.raw.sum()), -float(sums.noise.sum()), sums.output)))


def _fields(con: duckdb.DuckDBPyConnection, only: dict[str, str]) -> tuple[FieldRow, ...]:
    rows = con.execute(
        f"""WITH {_PLACES},
        once AS (SELECT DISTINCT id, w, side, coalesce(d.path, '') AS path FROM place)
        SELECT path, coalesce(sum(w) FILTER (side = 'raw'), 0), coalesce(sum(w) FILTER (side = 'noise'), 0)
        FROM once GROUP BY 1 ORDER BY 2 DESC, 3 DESC, 1 LIMIT {WORST}""",  # noqa: S608
        only,
    ).fetchall()
    return tuple(FieldRow(*row) for row in rows)
