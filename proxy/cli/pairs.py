"""`parallax pairs`: what primaries and shadows answered to the same requests.

Everything shown comes from outside: it goes through `printable` and never through rich's markup, so
that an answer cannot move the cursor, colour the screen or forge a line. JSON escapes it as well.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.analysis.markup import printable
from proxy.analyst.listing import Wanted, list_pairs
from proxy.analyst.settings import read_settings
from proxy.cli.state import STATE, require
from proxy.exchange.records import COMPARISONS

ALL: Final = "all"
MOST_DIFFERENCES: Final = 3
LONGEST_TEXT: Final = 60


@click.command("pairs")
@STATE
@click.option("--worst", is_flag=True, help="those that differ most first, instead of the latest")
@click.option("--route", help="only of this route")
@click.option("--shadow", help="only of this shadow")
@click.option(
    "--outcome",
    type=click.Choice([*COMPARISONS, ALL]),
    default="mismatch",
    show_default=True,
    help="what comparing said",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="how many")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line, bodies included")
def command(
    *, state: Path, worst: bool, route: str | None, shadow: str | None, outcome: str, limit: int, as_json: bool
) -> None:
    """List pairs of answers to the same request, mismatches unless told otherwise."""
    require(state)
    wanted = Wanted(route, shadow, None if outcome == ALL else outcome, limit, worst)
    pairs = list_pairs(state, wanted, read_settings(state))
    if as_json:
        for pair in pairs:
            # ASCII only: what is no plain character is escaped, control characters and bidi overrides too.
            click.echo(
                json.dumps(_plain(pair), ensure_ascii=True, allow_nan=False, default=str).replace("\x7f", "\\u007f")
            )
        return
    if not pairs:
        click.echo(_why_none(state, wanted))
        return
    Console().print(_table(pairs))


def _why_none(state: Path, wanted: Wanted) -> str:
    if not (state / "data" / "pairs").is_dir():
        return f"{state}: no pairs yet: they appear a few seconds after a request was sampled for a shadow"
    kind = wanted.comparison or "pair"
    chosen = [f"{name} {value}" for name, value in (("route", wanted.route), ("shadow", wanted.shadow)) if value]
    of = f" of {', '.join(printable(text) for text in chosen)}" if chosen else ""
    return f"{state}: no {kind} found{of}" + ("; --outcome all lists every pair" if wanted.comparison else "")


def _table(pairs: list[dict[str, Any]]) -> Table:
    """Two lines and more for each pair, so that it fits a terminal of 80 columns."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("pair", no_wrap=True)
    for name in ("route / shadow", "result", "differences"):
        table.add_column(name, overflow="fold")
    for pair in pairs:
        table.add_row(
            _lines(pair["ts"][:23].replace("T", " "), pair["exchange_id"]),
            _lines(pair["route"] or "-", pair["shadow"]),
            _lines(f"{pair['comparison']}: {pair['reason']}", _statuses(pair), _latencies(pair)),
            _differences(pair),
        )
    return table


def _lines(*texts: str) -> Text:
    return Text("\n".join(printable(text) for text in texts))


def _differences(pair: dict[str, Any]) -> Text:
    found = pair["differences"] or []
    lines = [
        f"{d['path']}: {_short(d['primary_value'])} → {_short(d['shadow_value'])}" for d in found[:MOST_DIFFERENCES]
    ]
    if len(found) > MOST_DIFFERENCES:
        lines.append(f"and {len(found) - MOST_DIFFERENCES} more")
    return _lines(*lines)


def _short(value: str | None) -> str:
    text = value or ""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _statuses(pair: dict[str, Any]) -> str:
    return f"{pair['primary_status'] or '-'} / {pair['shadow_status'] or '-'}"


def _latencies(pair: dict[str, Any]) -> str:
    found = (pair["primary_latency_s"], pair["shadow_latency_s"])
    return " / ".join("-" if value is None else f"{value * 1000:.1f}" for value in found) + " ms"


def _plain(value: Any) -> Any:
    """A value that JSON has; infinities and NaN become their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
