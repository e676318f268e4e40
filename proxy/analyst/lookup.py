"""One exchange of the log, found by its id, for `parallax explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import duckdb

from proxy.analyst import parts
from proxy.errors import StateError
from proxy.exchange.parquet import connect, from_files, has_column

_MEMORY_LIMIT: Final = "512MB"
_COLUMNS: Final = (
    "exchange_id, ts, route, config_version, assignments, unit_hash, unit_key_id, upstream, method, path, status, "
    "error_type, latency_s, faults, fault_cohorts"
)


def find_exchange(state_dir: Path, exchange_id: str) -> dict[str, Any] | None:
    """The primary leg of `exchange_id` as a dictionary, or None when the log does not hold it.

    Raises:
        StateError: the parts cannot be read.
    """
    data = state_dir / "data"
    if not data.is_dir():
        return None
    with connect(_MEMORY_LIMIT) as connection, parts.reading(data):
        files = parts.files_of(data, "exchanges")
        if not files:
            return None
        try:
            fallback = "served_by, fallback_reason"
            if not has_column(connection, files, "served_by"):
                fallback = "NULL AS served_by, NULL AS fallback_reason"
            cursor = connection.execute(
                f"SELECT {_COLUMNS}, {fallback} FROM {from_files(files)} WHERE exchange_id = $id AND leg = 'primary' LIMIT 1",  # noqa: S608
                {"id": exchange_id},
            )
            row = cursor.fetchone()
        except duckdb.Error as error:
            raise StateError(f"{data}: cannot be read: {str(error).splitlines()[0]}") from error
        names = [description[0] for description in cursor.description or ()]
    return dict(zip(names, row, strict=True)) if row is not None else None
