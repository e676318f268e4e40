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
from rich.console import Console, RenderableType
from rich.text import Text

from proxy.analysis.markup import printable
from proxy.analyst.listing import Wanted, list_pairs
from proxy.analyst.settings import read_settings
from proxy.cli.answers_table import beside
from proxy.cli.state import STATE, require
from proxy.cli.table_parts import put, text_table
from proxy.exchange.records import COMPARISONS

ALL: Final = "all"
MOST_DIFFERENCES: Final = 3


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
    _print(pairs, Console(highlight=False))


def _why_none(state: Path, wanted: Wanted) -> str:
    if not (state / "data" / "pairs").is_dir():
        return f"{state}: no pairs yet: they appear a few seconds after a request was sampled for a shadow"
    kind = wanted.comparison or "pair"
    chosen = [f"{name} {value}" for name, value in (("route", wanted.route), ("shadow", wanted.shadow)) if value]
    of = f" of {', '.join(printable(text) for text in chosen)}" if chosen else ""
    return f"{state}: no {kind} found{of}" + ("; --outcome all lists every pair" if wanted.comparison else "")


def _print(pairs: list[dict[str, Any]], console: Console) -> None:
    """A block for each pair: who and when in one line, what in the next, then both sides beside each other."""
    for index, pair in enumerate(pairs):
        if index:
            console.print()
        when = pair["ts"][:23].replace("T", " ")
        console.print(_line(f"{when}  {pair['exchange_id']}", style="bold"))
        console.print(_line(f"  {pair['route'] or '-'} / {pair['shadow']}  {pair['comparison']}: {pair['reason']}"))
        console.print(_line(f"  status {_statuses(pair)}, {_latencies(pair)}{_segments(pair)}", style="dim"))
        found = pair["differences"] or []
        if found:
            rows: list[list[RenderableType]] = [
                [d["path"] or "/", *beside(d["primary_value"] or "", d["shadow_value"] or "")]
                for d in found[:MOST_DIFFERENCES]
            ]
            put(console, text_table(["place", "primary", "shadow"], rows, texts=3))
        if len(found) > MOST_DIFFERENCES:
            put(console, _line(f"and {len(found) - MOST_DIFFERENCES} more", style="dim"))


def _line(text: str, *, style: str = "") -> Text:
    return Text(printable(text), style=style, overflow="fold")


def _segments(pair: dict[str, Any]) -> str:
    found = pair.get("segments") or {}
    return "".join(f", {name} {value}" for name, value in found.items())


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
