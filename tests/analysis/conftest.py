"""A synthetic log: Parquet as the analyst writes it, made by DuckDB from a seeded table of requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

START_S = 1_790_000_000  # 2026-09-21 14:13:20 UTC

EXCHANGES = """
SELECT 1 AS schema_version, 'x' || i AS exchange_id, 'r' || i AS request_id, 'primary' AS leg, 'x' || i AS leg_id,
    NULL::VARCHAR AS shadow, make_timestamp(({start} + i * {span} / {rows})::BIGINT * 1000000) AS ts,
    '{route}' AS route, 'v1' AS config_version,
    [{{'experiment': '{experiment}', 'epoch': 1, 'arm': CASE WHEN u % 2 = 0 THEN '{a}' ELSE '{b}' END,
       'weight': 0.5::DOUBLE, 'reason': CASE WHEN u % 50 IN (6, 7) THEN 'override' ELSE 'assigned' END}}] AS assignments,
    'u' || u AS unit_hash, 'k1' AS unit_key_id, 'model-' || CASE WHEN u % 2 = 0 THEN '{a}' ELSE '{b}' END AS upstream,
    '127.0.0.1:9001' AS endpoint, 'POST' AS method, '/predict' AS path,
    CASE WHEN hash(i * 7 + 1) % 1000 < CASE WHEN u % 2 = 0 THEN 10 ELSE {errors_b} END THEN 503 ELSE 200 END::INTEGER AS status,
    NULL::VARCHAR AS error_type, NULL::VARCHAR AS outcome,
    0.01 * exp(0.5 * (sqrt(-2 * ln((hash(i) % 1000000 + 1) / 1000001)) * cos(6.2831853 * (hash(i + 13) % 1000000) / 1000000)))
        * (0.8 + 0.4 * (hash('u' || u) % 1000) / 1000) * CASE WHEN u % 2 = 0 THEN 1.0 ELSE {slower_b} END AS latency_s,
    0.005 AS ttfb_s, 0.0 AS queue_s, 84::BIGINT AS request_bytes, 131::BIGINT AS response_bytes,
    CASE WHEN i BETWEEN {rows} * 0.4 AND {rows} * 0.5 AND u % 20 = 3 THEN ['{fault}'] ELSE []::VARCHAR[] END AS faults,
    CASE WHEN i BETWEEN {rows} * 0.4 AND {rows} * 0.55 AND u % 20 IN (2, 3) THEN ['{fault}'] ELSE []::VARCHAR[] END AS fault_cohorts,
    1.0 AS sample_prob
FROM (SELECT i, floor({units} * pow((hash(i + 99) % 1000000) / 1000000, 2.5))::BIGINT AS u FROM range({rows}) t(i))
"""

PAIRS = """
SELECT exchange_id, '{shadow}' AS shadow, o AS shadow_outcome, 'v2' AS comparator,
    CASE WHEN o <> 'sent' THEN NULL WHEN h % 200 = 0 THEN 'incomparable' WHEN h % 100 < 6 THEN 'mismatch' ELSE 'match' END AS comparison,
    CASE WHEN h % 200 = 0 THEN 'not_json' END AS reason,
    CASE WHEN o = 'sent' THEN MAP {{'{output}.max_abs': CASE WHEN h % 100 < 6 THEN pow(10, -3 + (h % 17) / 8.0) ELSE pow(10, -12 + (h % 9) / 4.0) END,
        '{output}.label_flips': CASE WHEN h % 100 < 3 THEN 1.0 ELSE 0.0 END, '{output}.n': 3.0,
        'score.max_abs': CASE WHEN h % 100 < 2 THEN 0.25 ELSE 0.0 END, 'score.n': 1.0}} END AS metrics,
    CASE WHEN o = 'sent' AND h % 200 <> 0 AND h % 100 < 6
        THEN [{{'path': '/outputs/{output}', 'kind': 'value', 'primary_value': '{value}', 'shadow_value': '0.5'}}] ELSE [] END AS differences,
    route, unit_hash, assignments, fault_cohorts, status AS primary_status,
    CASE WHEN o = 'sent' THEN CASE WHEN h % 300 = 5 THEN 500 ELSE status END END AS shadow_status, latency_s AS primary_latency_s,
    CASE WHEN o = 'sent' THEN latency_s + 0.002 + 0.001 * (h % 10) / 10 END AS shadow_latency_s,
    CASE WHEN o = 'sent' THEN 0.002 + 0.001 * (h % 10) / 10 END AS latency_delta_s, 1.0 AS sample_prob, ts
FROM (SELECT *, hash(exchange_id || 's') % 100000 AS h, CASE WHEN hash(exchange_id) % 100 < 3 THEN 'timeout' ELSE 'sent' END AS o
      FROM exchanges WHERE hash(exchange_id || 'gate') % 100 < 30)
"""

DEFAULTS: dict[str, Any] = {
    "rows": 6000,
    "units": 400,
    "span": 1800,
    "start": START_S,
    "route": "predict",
    "experiment": "ranker",
    "a": "a",
    "b": "b",
    "errors_b": 10,
    "slower_b": 1.0,
    "fault": "slow",
    "shadow": "candidate",
    "output": "label",
    "value": "0.25",
}

WriteLog = Callable[..., Path]


def write_parquet(con: duckdb.DuckDBPyConnection, state: Path, table: str, part: str = "seg-0") -> None:
    """Write a DuckDB table as the analyst lays it out, one hour for everything."""
    folder = state / "data" / table / "date=2026-09-21" / "hour=14"
    folder.mkdir(parents=True, exist_ok=True)
    con.execute(f"COPY {table} TO '{folder / f'{part}.parquet'}' (FORMAT parquet)")


@pytest.fixture
def write_log(tmp_path: Path) -> WriteLog:
    """Write a state directory; keywords change the synthetic traffic, `where` and `pairs=False` leave things out."""

    def write(*, pairs: bool = True, where: str = "true", replace: str = "", **changes: Any) -> Path:
        settings = DEFAULTS | {
            name: value.replace("'", "''") if isinstance(value, str) else value for name, value in changes.items()
        }
        state = tmp_path / "state"
        with duckdb.connect() as con:
            columns = f"* REPLACE ({replace})" if replace else "*"
            con.execute(
                f"CREATE TABLE exchanges AS SELECT {columns} FROM ({EXCHANGES.format(**settings)}) WHERE {where}"
            )
            write_parquet(con, state, "exchanges")
            if pairs:
                con.execute(f"CREATE TABLE pairs AS {PAIRS.format(**settings)}")
                write_parquet(con, state, "pairs")
        return state

    return write
