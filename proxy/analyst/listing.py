"""Listing: the latest or the worst pairs, read from Parquet for `parallax pairs`.

Worst is by how far the outputs are apart, then by how much else differs; what cannot be measured
(a status, a structure) comes before every distance. What is read was redacted before it was written;
the redaction in force now is applied again, because a display may know better than an old part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from proxy.analysis.compare import hide
from proxy.analyst import parts
from proxy.analyst.settings import Settings
from proxy.errors import StateError
from proxy.exchange.parquet import PAIRS, connect, from_files, has_column
from proxy.predictions.compare import Comparison, Difference

MEMORY_LIMIT: Final = "512MB"
_BODIES: Final = ("request", "primary_response", "shadow_response")
# Infinite where answers differ in a way that has no distance: nothing was measured, or nothing but zero.
_DISTANCE: Final = """
coalesce(nullif(list_max([e.value FOR e IN map_entries(metrics) IF suffix(e.key, 'max_abs')]), 0), 'infinity'::DOUBLE)
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pairs to list; `comparison` is one of `records.COMPARISONS`, None means any."""

    route: str | None = None
    shadow: str | None = None
    comparison: str | None = "mismatch"
    limit: int = 20
    worst: bool = False


def list_pairs(state_dir: Path, wanted: Wanted, settings: Settings) -> list[dict[str, Any]]:
    """The pairs that are wanted, the latest or the worst first; empty while there are none.

    Raises:
        StateError: the parts cannot be read.
    """
    data = state_dir / "data"
    if not data.is_dir():
        return []
    filters = {"route": wanted.route, "shadow": wanted.shadow, "comparison": wanted.comparison}
    given = {name: value for name, value in filters.items() if value is not None}
    condition = " AND ".join(f"{name} = ${name}" for name in given) or "true"
    order = f"{_DISTANCE} DESC, len(differences) DESC, ts DESC" if wanted.worst else "ts DESC"
    with connect(MEMORY_LIMIT) as connection, parts.reading(data):
        files = parts.files_of(data, "pairs")
        if not files:
            return []
        try:
            has_segments = has_column(connection, files, "segments")  # logs of an older version have none
            columns = ", ".join(
                "NULL AS segments" if column.name == "segments" and not has_segments else column.name
                for column in PAIRS.columns
            )
            cursor = connection.execute(
                f"SELECT {columns} FROM {from_files(files)} WHERE {condition} "  # noqa: S608  our own names
                f"ORDER BY {order}, exchange_id DESC LIMIT {int(wanted.limit)}",
                given,
            )
            names = [description[0] for description in cursor.description or ()]
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        except duckdb.Error as error:
            raise StateError(f"{data}: cannot be read: {str(error).splitlines()[0]}") from error
    for pair in found:
        _present(pair, settings)
    return found


def _present(pair: dict[str, Any], settings: Settings) -> None:
    """Redact once more, with the pointers of today, and make times text."""
    for name in ("ts", "compared_at"):
        pair[name] = "" if pair[name] is None else pair[name].isoformat(timespec="microseconds") + "Z"
    if not settings.redaction:
        return
    for name in _BODIES:
        if pair[name] is not None:
            pair[name] = settings.redaction.text_of(pair[name].encode())
    verdict = Comparison(pair["comparison"], pair["reason"], pair["comparator"] or "")
    verdict.differences = [
        Difference(d["path"], d["kind"], d["primary_value"], d["shadow_value"]) for d in pair["differences"] or ()
    ]
    hide(verdict, settings.redaction)
    pair["differences"] = [
        {"path": d.path, "kind": d.kind, "primary_value": d.primary, "shadow_value": d.shadow}
        for d in verdict.differences
    ]
