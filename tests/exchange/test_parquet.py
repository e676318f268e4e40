"""Parquet: the columns are frozen, and whatever a record holds becomes a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from proxy.exchange.parquet import EXCHANGES, PAIRS, Batch, Layout, connect, copy_to, from_files

ASSIGNMENTS = "STRUCT(experiment VARCHAR, epoch INTEGER, arm VARCHAR, weight DOUBLE, reason VARCHAR)[]"
# Golden: columns may be added, never renamed, retyped or removed, because people's queries name them.
GOLDEN = {
    "exchanges": f"""
        schema_version SMALLINT | exchange_id VARCHAR | request_id VARCHAR | leg VARCHAR | leg_id VARCHAR
        | shadow VARCHAR | ts TIMESTAMP | trace_id VARCHAR | route VARCHAR | config_version VARCHAR
        | assignments {ASSIGNMENTS} | unit_hash VARCHAR | unit_key_id VARCHAR | unit_reason VARCHAR
        | upstream VARCHAR | endpoint VARCHAR | method VARCHAR | path VARCHAR | status SMALLINT | outcome VARCHAR
        | error_type VARCHAR | latency_s DOUBLE | ttfb_s DOUBLE | queue_s DOUBLE | request_bytes BIGINT
        | response_bytes BIGINT | request_content_type VARCHAR | request_encoding VARCHAR
        | response_content_type VARCHAR | response_encoding VARCHAR | request VARCHAR | response VARCHAR
        | logging_errors VARCHAR[] | faults VARCHAR[] | fault_cohorts VARCHAR[] | headers MAP(VARCHAR, VARCHAR)
        | retries SMALLINT | worker VARCHAR | sample_prob DOUBLE | served_by VARCHAR
        | fallback_reason VARCHAR | degraded_request VARCHAR | fault_effects VARCHAR
        | undegraded_response VARCHAR""",
    "pairs": f"""
        schema_version SMALLINT | exchange_id VARCHAR | request_id VARCHAR | primary_leg_id VARCHAR
        | shadow_leg_id VARCHAR | ts TIMESTAMP | route VARCHAR | config_version VARCHAR | shadow VARCHAR
        | method VARCHAR | path VARCHAR | primary_upstream VARCHAR | shadow_upstream VARCHAR | unit_hash VARCHAR
        | unit_key_id VARCHAR | assignments {ASSIGNMENTS} | faults VARCHAR[] | fault_cohorts VARCHAR[]
        | shadow_outcome VARCHAR | comparator VARCHAR | comparison VARCHAR | reason VARCHAR
        | metrics MAP(VARCHAR, DOUBLE)
        | differences STRUCT(path VARCHAR, kind VARCHAR, primary_value VARCHAR, shadow_value VARCHAR)[]
        | absolute_tolerance DOUBLE | relative_tolerance DOUBLE | primary_status SMALLINT | shadow_status SMALLINT
        | primary_error_type VARCHAR | shadow_error_type VARCHAR | primary_latency_s DOUBLE
        | shadow_latency_s DOUBLE | latency_delta_s DOUBLE | compared_at TIMESTAMP | request VARCHAR
        | primary_response VARCHAR | shadow_response VARCHAR | logging_errors VARCHAR[] | sample_prob DOUBLE
        | repeat_outcome VARCHAR | repeat_comparison VARCHAR | repeat_reason VARCHAR | repeat_status SMALLINT
        | repeat_latency_s DOUBLE | repeat_metrics MAP(VARCHAR, DOUBLE)
        | repeat_differences STRUCT(path VARCHAR, kind VARCHAR, primary_value VARCHAR, shadow_value VARCHAR)[]
        | segments MAP(VARCHAR, VARCHAR)""",
}
SAMPLES: dict[str, Any] = {
    "VARCHAR": "text",
    "DOUBLE": 0.5,
    "SMALLINT": 200,
    "BIGINT": 2**40,
    "TIMESTAMP": 1_700_000_000.123456,
    "VARCHAR[]": '["one","two"]',
    "MAP(VARCHAR, VARCHAR)": '{"k":"v"}',
    "MAP(VARCHAR, DOUBLE)": '{"score.max_abs":0.5,"score.max_rel":"inf"}',
    ASSIGNMENTS: '[{"experiment":"e","epoch":1,"arm":"a","weight":0.5,"reason":"assigned"}]',
}


def values(layout: Layout, place: str, **changes: Any) -> tuple[Any, ...]:
    columns = layout.row_columns if place == "row" else layout.template_columns
    return tuple(changes.get(column.name, SAMPLES.get(column.type, "[]")) for column in columns)


def write(path: Path, layout: Layout, **changes: Any) -> Path:
    batch = Batch(layout)
    code = batch.add_template(("k",), values(layout, "template", **changes))
    batch.rows.append((code, *values(layout, "row", **changes)))
    with connect() as connection:
        batch.register_templates(connection)
        (rows,) = batch.by_hour().values()
        batch.write_part(connection, rows, path)
    return path


@pytest.mark.parametrize("layout", [EXCHANGES, PAIRS], ids=lambda layout: layout.table)
def test_the_columns_are_the_frozen_ones(tmp_path: Path, layout: Layout) -> None:
    """The file's own schema, as DuckDB reads it, is the golden one."""
    path = write(tmp_path / "x.parquet", layout)
    described = duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()
    golden = [tuple(" ".join(part.split()).split(" ", 1)) for part in GOLDEN[layout.table].split("|")]
    assert [(name, kind.replace('"', "")) for name, kind, *_ in described] == golden


@pytest.mark.parametrize("layout", [EXCHANGES, PAIRS], ids=lambda layout: layout.table)
def test_hive_partitions_are_read_by_duckdb_and_pandas(tmp_path: Path, layout: Layout) -> None:
    """The documented call works, and partition columns are not in the files."""
    path = write(tmp_path / "date=2023-11-14" / "hour=22" / "x.parquet", layout)
    found = duckdb.sql(
        f"SELECT * FROM read_parquet('{tmp_path}/**/*.parquet', hive_partitioning=true, union_by_name=true)"
    )
    assert found.columns[-2:] == ["date", "hour"]
    assert "date" not in pq.read_schema(path).names
    frame = pd.read_parquet(tmp_path)
    assert len(frame) == 1
    assert frame["ts"].iloc[0] == pd.Timestamp("2023-11-14T22:13:20.123456")


def test_values_arrive_as_they_left(tmp_path: Path) -> None:
    """Times in microseconds, nested values, infinities; None is NULL."""
    path = write(tmp_path / "x.parquet", PAIRS, primary_latency_s=None, reason=None)
    (row,) = duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchdf().to_dict("records")
    assert row["ts"] == pd.Timestamp("2023-11-14T22:13:20.123456")
    assert dict(row["metrics"]) == {"score.max_abs": 0.5, "score.max_rel": float("inf")}
    assert row["assignments"][0] == {"experiment": "e", "epoch": 1, "arm": "a", "weight": 0.5, "reason": "assigned"}
    assert pd.isna(row["primary_latency_s"])
    assert pd.isna(row["reason"])


@pytest.mark.parametrize(
    "text", ["", "nul\x00byte", "'; DROP TABLE templates; --", "\x1b[31m", "☃ \U0001f600", "a" * 100_000]
)
def test_any_text_is_kept(tmp_path: Path, text: str) -> None:
    """What a model answers is data, whatever it looks like to SQL."""
    path = write(tmp_path / "it's.parquet", EXCHANGES, request=text, route=text)
    found = duckdb.execute("SELECT request, route FROM read_parquet($path)", {"path": str(path)}).fetchall()
    assert found == [(text, text)]


@pytest.mark.parametrize(
    ("column", "value"), [("status", 70_000), ("assignments", "not json"), ("headers", "[1]"), ("response_bytes", None)]
)
def test_a_value_that_does_not_fit_becomes_null(tmp_path: Path, column: str, value: object) -> None:
    """One strange record must not hold up the log."""
    path = write(tmp_path / "x.parquet", EXCHANGES, **{column: value})
    assert duckdb.sql(f"SELECT {column} FROM read_parquet('{path}')").fetchall() == [(None,)]


@pytest.mark.parametrize("ts", [-1.0, float("nan"), 1e18])
def test_an_impossible_time_has_an_hour_all_the_same(ts: float) -> None:
    """A clock can be wrong by anything; the row is kept in the first hour of 1970."""
    batch = Batch(EXCHANGES)
    batch.rows.append((0, *values(EXCHANGES, "row", ts=ts)))
    assert list(batch.by_hour()) == [0]


def test_rows_are_parted_by_hour() -> None:
    """A batch that spans an hour's end becomes two parts."""
    batch = Batch(EXCHANGES)
    for ts in (3599.999, 3600.0, 3599.0):
        batch.rows.append((0, *values(EXCHANGES, "row", ts=ts)))
    assert {hour: len(rows) for hour, rows in batch.by_hour().items()} == {0: 2, 1: 1}


def test_a_part_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A query that fails leaves no file under the final name."""
    with connect() as connection, pytest.raises(duckdb.Error):
        copy_to(connection, "SELECT error('no')", tmp_path / "x.parquet", options="COMPRESSION snappy")
    assert not (tmp_path / "x.parquet").exists()


def test_files_are_private(tmp_path: Path) -> None:
    """Parts hold what users sent: nobody else may read them."""
    assert write(tmp_path / "x.parquet", EXCHANGES).stat().st_mode & 0o777 == 0o600


def test_a_path_with_wildcards_names_one_file(tmp_path: Path) -> None:
    """A state directory may be called anything."""
    path = write(tmp_path / "a*[b]?'" / "x.parquet", EXCHANGES)
    assert duckdb.sql(f"SELECT count(*) FROM {from_files([path])}").fetchall() == [(1,)]


def test_rows_that_come_after_a_look_are_written_too(tmp_path: Path) -> None:
    """The columns are made once, but never of fewer rows than there are."""
    batch = Batch(EXCHANGES)
    code = batch.add_template(("k",), values(EXCHANGES, "template"))
    for count in (1, 2, 3):
        batch.rows.append((code, *values(EXCHANGES, "row")))
        assert len(batch.transposed()[0]) == count
    with connect() as connection:
        batch.register_templates(connection)
        (rows,) = batch.by_hour().values()
        batch.write_part(connection, rows, tmp_path / "x.parquet")
    assert duckdb.sql(f"SELECT count(*) FROM read_parquet('{tmp_path / 'x.parquet'}')").fetchall() == [(3,)]


@pytest.mark.parametrize("spread", [1, 50, 400], ids=["one", "late", "many"])
def test_nested_values_are_their_own_however_many_are_distinct(tmp_path: Path, spread: int) -> None:
    """Whether each distinct value is parsed once or every one is, a row gets its own."""
    batch = Batch(PAIRS)
    code = batch.add_template(("k",), values(PAIRS, "template"))
    for number in range(800):
        metrics = json.dumps({"n": float(number % spread)})
        batch.rows.append((code, *values(PAIRS, "row", exchange_id=f"{number:03}", metrics=metrics)))
    with connect() as connection:
        batch.register_templates(connection)
        (rows,) = batch.by_hour().values()
        batch.write_part(connection, rows, tmp_path / "x.parquet")
    found = duckdb.sql(
        f"SELECT metrics['n'] FROM read_parquet('{tmp_path / 'x.parquet'}') ORDER BY exchange_id"
    ).fetchall()
    assert found == [(float(number % spread),) for number in range(800)]
