"""`parallax replay`: the live sums computed again from Parquet, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.analysis.markup import printable
from proxy.analysis.sums import Sums, summarise
from proxy.analyst.replay import replay
from proxy.cli.state import STATE, require
from proxy.errors import StateError
from proxy.exchange.parquet import connect

_IDENTITY = ("experiment", "epoch", "arm", "shadow")
_WORDS = {"mean_latency_s": "mean latency (s)"}


@click.command("replay")
@STATE
def command(state: Path) -> int:
    """Compute the live numbers again from the stored exchanges, and compare.

    The exit code is 1 if any of them differs.
    """
    require(state)
    try:
        with connect("512MB") as connection:
            result = replay(connection, state)
    except duckdb.Error as error:
        raise StateError(f"{state / 'data'}: cannot be read: {str(error).splitlines()[0]}") from error
    if result is None or not (result.live.arms or result.live.shadows or result.replayed != Sums()):
        click.echo(f"{state}: nothing to replay yet: no exchange of an experiment or a shadow has been committed")
        return 0
    live, replayed = _by_name(result.live), _by_name(result.replayed)
    table = Table(box=None, pad_edge=False)
    for name, justify in (("of", "left"), ("what", "left"), ("live", "right"), ("replayed", "right"), ("", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for key in dict.fromkeys([*live, *replayed]):
        ours, theirs = live.get(key), replayed.get(key)
        verdict = Text("equal", style="green") if ours == theirs else Text("different", style="bold red")
        table.add_row(Text(printable(key[0])), Text(printable(key[1])), _shown(ours), _shown(theirs), verdict)
    console = Console()
    console.print(table)
    equal = result.live == result.replayed
    # The table shows totals; equality is asked of each of the 1,024 buckets.
    console.print("equal in every bucket" if equal else "different")
    return 0 if equal else 1


def _by_name(sums: Sums) -> dict[tuple[str, str], Any]:
    """Every number by whose it is and what it is."""
    found: dict[tuple[str, str], Any] = {}
    for row in summarise(sums):
        if "experiment" in row:
            owner = f"{row['experiment']}/{row['arm']} epoch {row['epoch']}"
        else:
            owner = f"shadow {row['shadow']}"
        for name, value in row.items():
            if name not in _IDENTITY:
                found[owner, _WORDS.get(name, name.replace("_", " "))] = value
    return found


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
