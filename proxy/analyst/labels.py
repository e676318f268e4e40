"""Labels: what was true, imported from a file of the operator's and kept under `data/labels`.

    data/labels/<digest of the file and of what was asked for>.parquet

One row per request and row of its answer. The name makes an import idempotent: the same file asked for in the same way
is the same file again. A later import replaces what an earlier one said; so does a later line of the same file. DuckDB
streams from file to file, so memory does not grow with the number of labels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from proxy.errors import StateError
from proxy.exchange.parquet import connect, copy_to

MEMORY_LIMIT: Final = "512MB"
MOST_TOLD: Final = 10
MOST_ROW: Final = 1_000_000
LONGEST_LABEL: Final = 1_000
FOLDER: Final = "labels"


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the file mean what; without `row` a label is about the first row of the answer."""

    request_id: str
    label: str
    row: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file: rows kept and rows left out, with the first of them in words."""

    kept: int
    requests: int
    bad: int
    told: tuple[str, ...]


def label_files(data: Path) -> list[str]:
    """The files of labels of a state directory."""
    return sorted(str(path) for path in (data / FOLDER).glob("*.parquet"))


def import_labels(state: Path, file: Path, columns: Columns, *, now_s: float, progress: bool = False) -> Imported:
    """Import a CSV or Parquet of labels.

    Raises:
        StateError: the file cannot be read, lacks a column, or holds no usable row.
    """
    if not state.is_dir():
        raise StateError(f"{state}: no such state directory, name the one of `state:` with --state")
    target = state / "data" / FOLDER / f"{_digest(file, columns)}.parquet"
    with connect(MEMORY_LIMIT) as con:
        con.execute("SET preserve_insertion_order = true")
        con.execute(f"SET enable_progress_bar = {progress}")
        try:
            return _import(con, file, columns, target, now_s)
        except duckdb.Error as error:
            raise StateError(f"{file}: cannot be read as {_kind(file)}: {str(error).splitlines()[0]}") from error


def _import(con: duckdb.DuckDBPyConnection, file: Path, columns: Columns, target: Path, now_s: float) -> Imported:
    is_parquet = _kind(file) == "Parquet"
    source = (
        "read_parquet($file, file_row_number = true)"
        if is_parquet
        else "read_csv($file, all_varchar = true, header = true, store_rejects = true, parallel = false)"
    )
    given = {"file": str(file)}
    names = [row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {source}", given).fetchall()]  # noqa: S608
    for option, name in (("--request-id", columns.request_id), ("--label", columns.label), ("--row", columns.row)):
        if name is not None and name not in names:
            shown = ", ".join(name for name in names[:20] if name != "file_row_number")
            raise StateError(f"{file}: {option}: got {name!r}, the file has no such column; it has {shown}")
    # A header takes the first line of a CSV, and lines count from one.
    place = "file_row_number + 1" if is_parquet else "row_number() OVER () + 1"
    row = f"CAST({_name(columns.row)} AS VARCHAR)" if columns.row else "'0'"
    request, label = (f"CAST({_name(name)} AS VARCHAR)" for name in (columns.request_id, columns.label))
    con.execute(
        f"""CREATE TEMP VIEW given AS
        SELECT {place} AS place, {request} AS request_id, {row} AS raw_row, TRY_CAST({row} AS DOUBLE) AS number, {label} AS label
        FROM {source.replace("$file", _literal(str(file)))}"""  # noqa: S608  names and the path are quoted
    )
    problem = f"""CASE
        WHEN coalesce(request_id, '') = '' THEN 'request'
        WHEN coalesce(label, '') = '' THEN 'label'
        WHEN length(label) > {LONGEST_LABEL} THEN 'long'
        WHEN number IS NULL OR number <> floor(number) OR number < 0 OR number > {MOST_ROW} THEN 'row' END"""
    con.execute(
        f"""CREATE TEMP TABLE checked AS SELECT *, {problem} AS problem FROM given"""  # noqa: S608
    )
    told = [
        _told(file, columns, place, word, raw_row, is_parquet=is_parquet)
        for place, word, raw_row in con.execute(
            f"SELECT place, problem, raw_row FROM checked WHERE problem IS NOT NULL ORDER BY place LIMIT {MOST_TOLD}"  # noqa: S608
        ).fetchall()
    ]
    kept, requests, bad = con.execute(
        "SELECT count(*) FILTER (problem IS NULL), count(DISTINCT request_id) FILTER (problem IS NULL), count(problem) FROM checked"
    ).fetchone() or (0, 0, 0)
    if not is_parquet:
        rejects = con.execute(
            f"SELECT DISTINCT line, error_message FROM reject_errors ORDER BY line LIMIT {MOST_TOLD}"  # noqa: S608
        ).fetchall()
        told += [f"{file}:{line}: {_first(message)}; quote the value or correct the line" for line, message in rejects]
        row_count = con.execute("SELECT count(DISTINCT line) FROM reject_errors").fetchone()
        bad += row_count[0] if row_count else 0
    if not kept:
        raise StateError("\n".join([f"{file}: no usable row, nothing was imported", *told[:MOST_TOLD]]))
    output = "NULL" if columns.output is None else _literal(columns.output)
    copy_to(
        con,
        f"""SELECT request_id, CAST(number AS INTEGER) AS row, label, CAST({output} AS VARCHAR) AS output,
            CAST({float(now_s)} AS DOUBLE) AS imported_at, CAST(place AS BIGINT) AS place
            FROM checked WHERE problem IS NULL""",  # noqa: S608
        target,
        options="COMPRESSION snappy",
    )
    return Imported(kept, requests, bad, tuple(told[:MOST_TOLD]))


def _told(file: Path, columns: Columns, place: int, word: str, raw_row: str | None, *, is_parquet: bool) -> str:
    where = f"{file}: row {place - 1}" if is_parquet else f"{file}:{place}"
    if word == "row":
        return (
            f"{where}: {columns.row}: got {raw_row!r}, must be a whole number from 0 to {MOST_ROW:,}; rows count from 0"
        )
    if word == "request":
        return f"{where}: {columns.request_id}: is empty, must be the request id that the log has; remove the line"
    if word == "long":
        return f"{where}: {columns.label}: longer than {LONGEST_LABEL:,} characters, must be a label or a number"
    return f"{where}: {columns.label}: is empty, must be what was true; remove the line until it is known"


def _kind(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return "Parquet" if stream.read(4) == b"PAR1" else "CSV"
    except OSError as error:
        raise StateError(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def _digest(file: Path, columns: Columns) -> str:
    found = hashlib.sha256(repr(columns).encode())
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                found.update(chunk)
    except OSError as error:
        raise StateError(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    return found.hexdigest()[:32]


def _first(message: str) -> str:
    return message.splitlines()[0][:200]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
