"""How records become Parquet: the columns of `exchanges` and `pairs`, and the writer of one part.

What hardly varies (route, upstream, assignments, headers and so on) travels as a *template*: a tuple
that is stored once per batch and joined to its rows by a code, because handing DuckDB 40 columns of
Python objects per row costs several times what the whole analyst may. What varies travels as numpy
columns. Nested values travel as JSON and are cast by DuckDB. The columns are frozen: they may be
added to, never renamed or retyped. Where parts lie and when they are written is not decided here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
import numpy as np

from proxy.exchange.records import SCHEMA_VERSION

ASSIGNMENTS: Final = "STRUCT(experiment VARCHAR, epoch INTEGER, arm VARCHAR, weight DOUBLE, reason VARCHAR)[]"
DIFFERENCES: Final = "STRUCT(path VARCHAR, kind VARCHAR, primary_value VARCHAR, shadow_value VARCHAR)[]"
MEMORY_LIMIT: Final = "256MB"
# Row groups are held in memory while they are written; rows with bodies can be large.
ROW_GROUP_ROWS: Final = 20_000
# The year 9950, beyond which a folder cannot be named; a clock can be wrong by anything.
HOURS_END: Final = 70_000_000
# How many values of a column are looked at before all are.
_TRIED: Final = 256


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its SQL type, and whether it travels with each row or with the row's template."""

    name: str
    type: str
    place: Literal["row", "template"]

    @property
    def is_nested(self) -> bool:
        """Whether a value is handed over as JSON."""
        return self.type.endswith("[]") or self.type.startswith("MAP")

    @property
    def expression(self) -> str:
        """The SQL that makes the column from the column of this name that was handed over."""
        return self.parse(self.name)

    def parse(self, source: str) -> str:
        """The SQL that makes a value from `source`.

        A value that does not fit becomes NULL: one strange record must not hold up the log.
        """
        if self.is_nested:
            source = f"TRY_CAST({source} AS JSON)"
        return f"TRY_CAST({source} AS {self.type})"


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one table, in the order of the file; `schema_version` comes before them all."""

    table: str
    columns: tuple[Column, ...]

    @property
    def row_columns(self) -> tuple[Column, ...]:
        """What a row carries, after the code of its template."""
        return tuple(column for column in self.columns if column.place == "row")

    @property
    def template_columns(self) -> tuple[Column, ...]:
        """What a template carries."""
        return tuple(column for column in self.columns if column.place == "template")


def _columns(text: str) -> tuple[Column, ...]:
    """Read a layout written as lines of `place name type`."""
    found = []
    for line in text.strip().splitlines():
        place, name, kind = line.split(maxsplit=2)
        kind = kind.replace("ASSIGNMENTS", ASSIGNMENTS).replace("DIFFERENCES", DIFFERENCES)
        found.append(Column(name, kind, "row" if place == "row" else "template"))
    return tuple(found)


EXCHANGES: Final = Layout(
    "exchanges",
    _columns("""
        row      exchange_id            VARCHAR
        row      request_id             VARCHAR
        template leg                    VARCHAR
        row      leg_id                 VARCHAR
        template shadow                 VARCHAR
        row      ts                     TIMESTAMP
        row      trace_id               VARCHAR
        template route                  VARCHAR
        template config_version         VARCHAR
        template assignments            ASSIGNMENTS
        row      unit_hash              VARCHAR
        template unit_key_id            VARCHAR
        template unit_reason            VARCHAR
        template upstream               VARCHAR
        template endpoint               VARCHAR
        template method                 VARCHAR
        template path                   VARCHAR
        template status                 SMALLINT
        template outcome                VARCHAR
        template error_type             VARCHAR
        row      latency_s              DOUBLE
        row      ttfb_s                 DOUBLE
        row      queue_s                DOUBLE
        row      request_bytes          BIGINT
        row      response_bytes         BIGINT
        template request_content_type   VARCHAR
        template request_encoding       VARCHAR
        template response_content_type  VARCHAR
        template response_encoding      VARCHAR
        row      request                VARCHAR
        row      response               VARCHAR
        template logging_errors         VARCHAR[]
        template faults                 VARCHAR[]
        template fault_cohorts          VARCHAR[]
        template headers                MAP(VARCHAR, VARCHAR)
        template retries                SMALLINT
        template worker                 VARCHAR
        template sample_prob            DOUBLE
        template served_by              VARCHAR
        template fallback_reason        VARCHAR
        row      degraded_request       VARCHAR
        row      fault_effects          VARCHAR
        row      undegraded_response    VARCHAR
    """),
)

PAIRS: Final = Layout(
    "pairs",
    _columns("""
        row      exchange_id            VARCHAR
        row      request_id             VARCHAR
        row      primary_leg_id         VARCHAR
        row      shadow_leg_id          VARCHAR
        row      ts                     TIMESTAMP
        template route                  VARCHAR
        template config_version         VARCHAR
        template shadow                 VARCHAR
        template method                 VARCHAR
        template path                   VARCHAR
        template primary_upstream       VARCHAR
        template shadow_upstream        VARCHAR
        row      unit_hash              VARCHAR
        template unit_key_id            VARCHAR
        template assignments            ASSIGNMENTS
        template faults                 VARCHAR[]
        template fault_cohorts          VARCHAR[]
        template shadow_outcome         VARCHAR
        template comparator             VARCHAR
        template comparison             VARCHAR
        template reason                 VARCHAR
        row      metrics                MAP(VARCHAR, DOUBLE)
        row      differences            DIFFERENCES
        template absolute_tolerance     DOUBLE
        template relative_tolerance     DOUBLE
        template primary_status         SMALLINT
        template shadow_status          SMALLINT
        template primary_error_type     VARCHAR
        template shadow_error_type      VARCHAR
        row      primary_latency_s      DOUBLE
        row      shadow_latency_s       DOUBLE
        row      latency_delta_s        DOUBLE
        row      compared_at            TIMESTAMP
        row      request                VARCHAR
        row      primary_response       VARCHAR
        row      shadow_response        VARCHAR
        template logging_errors         VARCHAR[]
        template sample_prob            DOUBLE
        template repeat_outcome         VARCHAR
        template repeat_comparison      VARCHAR
        template repeat_reason          VARCHAR
        template repeat_status          SMALLINT
        row      repeat_latency_s       DOUBLE
        row      repeat_metrics         MAP(VARCHAR, DOUBLE)
        row      repeat_differences     DIFFERENCES
        row      segments               MAP(VARCHAR, VARCHAR)
    """),
)


class Batch:
    """Rows of one table on their way to Parquet.

    A row is a tuple: the code of its template, then the values of `Layout.row_columns`. `rows` is
    appended to directly, because a call per row is a cost that shows.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rows: list[tuple[Any, ...]] = []
        self.templates: dict[tuple[Any, ...], int] = {}
        self._contents: list[tuple[Any, ...]] = []
        self._transposed: list[tuple[Any, ...]] = []
        self._time = 1 + [column.name for column in layout.row_columns].index("ts")

    def add_template(self, key: tuple[Any, ...], contents: tuple[Any, ...]) -> int:
        """Remember a new template under `key`; `contents` follow `Layout.template_columns`."""
        code = self.templates[key] = len(self._contents)
        self._contents.append(contents)
        return code

    def transposed(self) -> list[tuple[Any, ...]]:
        """The codes and the columns of all rows; made once, because to visit every row costs more than what is done there."""
        if not self._transposed or len(self._transposed[0]) != len(self.rows):
            self._transposed = list(zip(*self.rows, strict=True))
        return self._transposed

    def by_hour(self) -> dict[int, list[tuple[Any, ...]]]:
        """The rows by the hour that their time falls in, counted from 1970, UTC."""
        if not self.rows:
            return {}
        times = np.array(self.transposed()[self._time], dtype=np.float64)
        hours = np.floor(np.nan_to_num(times) / 3600.0)
        hours[(hours < 0) | (hours >= HOURS_END)] = 0
        first = int(hours[0])
        if (hours == first).all():
            return {first: self.rows}
        found: dict[int, list[tuple[Any, ...]]] = {}
        for hour, row in zip(hours.astype(np.int64).tolist(), self.rows, strict=True):
            found.setdefault(hour, []).append(row)
        return found

    def register_templates(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the table `templates` that `write_part` joins to."""
        columns = self.layout.template_columns
        values = zip(*self._contents, strict=True)
        handed: dict[str, Any] = {
            column.name: _array(column, content) for column, content in zip(columns, values, strict=True)
        }
        handed["code"] = np.arange(len(self._contents), dtype=np.int32)
        expressions = ", ".join(f"{column.expression} AS {column.name}" for column in columns)
        connection.register("handed_templates", handed)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE templates AS SELECT code, {expressions} FROM handed_templates"  # noqa: S608  our own names
        )
        connection.unregister("handed_templates")

    def write_part(self, connection: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]], path: Path) -> None:
        """Write rows of this batch as one file: whole and on the disk, or not there at all."""
        codes, *values = self.transposed() if rows is self.rows else zip(*rows, strict=True)
        handed: dict[str, Any] = {"code": np.array(codes, dtype=np.int32)}
        expressions = {column.name: f"templates.{column.name}" for column in self.layout.template_columns}
        joins = ""
        for column, content in zip(self.layout.row_columns, values, strict=True):
            if _all_null(content):
                expressions[column.name] = f"CAST(NULL AS {column.type})"
                continue
            if column.is_nested and (coded := _coded(content)) is not None:
                # Mostly `no differences`, or the metrics of equal answers: each is parsed once.
                name = column.name
                handed[name], distinct = coded
                connection.register(
                    f"handed_{name}", {"code": np.arange(len(distinct)), name: _array(column, distinct)}
                )
                joins += (
                    f" JOIN (SELECT code, {column.expression} AS value FROM handed_{name}) AS coded_{name}"  # noqa: S608
                    f" ON handed_rows.{name} = coded_{name}.code"
                )
                expressions[name] = f"coded_{name}.value"
                continue
            handed[column.name] = _array(column, content)
            expressions[column.name] = column.parse(f"handed_rows.{column.name}")
        selected = ", ".join(f"{expressions[column.name]} AS {column.name}" for column in self.layout.columns)
        connection.register("handed_rows", handed)
        try:
            copy_to(
                connection,
                f"SELECT CAST({SCHEMA_VERSION} AS SMALLINT) AS schema_version, {selected} "  # noqa: S608  our own names
                f"FROM handed_rows JOIN templates ON handed_rows.code = templates.code{joins}",
                path,
                options=f"COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP_ROWS}",
            )
        finally:
            connection.unregister("handed_rows")


def connect(memory_limit: str = MEMORY_LIMIT, scratch: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB on one thread, with a bound on its memory; it spills to `scratch` if given."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": memory_limit,
        "preserve_insertion_order": False,
        "temp_directory": "" if scratch is None else str(scratch),
        "autoinstall_known_extensions": False,
    }
    connection = duckdb.connect(config=settings)
    # Zero means: an object column is text, whatever its first values are.
    connection.execute("SET pandas_analyze_sample = 0")
    return connection


def copy_to(connection: duckdb.DuckDBPyConnection, select: str, path: Path, *, options: str) -> None:
    """Run `select` into the Parquet file `path`, which appears whole and synced, or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    connection.execute(f"COPY ({select}) TO '{quoted(temporary)}' (FORMAT parquet, {options})")
    sync(temporary)
    temporary.chmod(0o600)
    temporary.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the disk holds this file, or the names of this directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def quoted(path: Path) -> str:
    """A path for a SQL string literal."""
    return str(path).replace("'", "''")


def from_files(files: Sequence[Path]) -> str:
    """The FROM clause over these parts; columns that an old part lacks are NULL."""
    listed = ", ".join(f"'{_escape_glob(quoted(path))}'" for path in files)
    return f"read_parquet([{listed}], hive_partitioning=false, union_by_name=true)"


def has_column(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], name: str) -> bool:
    """Whether any of these parts has this column; those of an older version may not."""
    return name in columns_of(connection, files)


def columns_of(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> set[str]:
    """The columns that any of these parts has."""
    described = connection.execute(f"DESCRIBE SELECT * FROM {from_files(files)}").fetchall()  # noqa: S608
    return {row[0] for row in described}


def _escape_glob(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


def _coded(values: tuple[Any, ...]) -> tuple[np.ndarray[Any, Any], list[Any]] | None:
    """Each value's number and the distinct values, or None when too many are distinct for that to pay."""
    if len(set(values[:_TRIED])) * 2 > len(values[:_TRIED]) + 2:
        return None
    numbers: dict[Any, int] = {}
    codes = [numbers.setdefault(value, len(numbers)) for value in values]
    if len(numbers) * 4 > len(values) + 4:
        return None
    return np.array(codes, dtype=np.int64), list(numbers)


def _all_null(values: tuple[Any, ...]) -> bool:
    return values[0] is None and values.count(None) == len(values)


def _array(column: Column, values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """The values as the numpy column that DuckDB reads fastest; None becomes NULL."""
    match column.type:
        case "DOUBLE":
            return np.array(values, dtype=np.float64)
        case "TIMESTAMP":
            seconds = np.array(values, dtype=np.float64)
            seconds[~(np.abs(seconds) < HOURS_END * 3600.0)] = np.nan
            return np.rint(seconds * 1e6).astype("datetime64[us]")
        case "BIGINT" | "SMALLINT":
            # Exact to 2**53; as a float it can be NULL.
            return np.array(values, dtype=np.float64 if None in values else np.int64)
        case _:
            return np.fromiter(values, dtype=object, count=len(values))
