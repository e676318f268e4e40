"""What the terminal's sections are put together from; all text goes through `printable` and never through rich's markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from proxy.analysis.markup import printable

MOST_ROWS: Final = 8


def put_words(summary: str, warnings: Sequence[str], console: Console) -> None:
    """What is said in words, and what must be known before the numbers."""
    put(console, Text(printable(summary)))
    for warning in warnings:
        put(console, Text(f"! {printable(warning)}", style="yellow"))


def put(console: Console, what: RenderableType) -> None:
    """Print something under the head of its section."""
    console.print(Padding(what, (0, 0, 0, 2)))


def text_table(header: Sequence[str], rows: Sequence[Sequence[RenderableType]], *, texts: int = 1) -> Table:
    """A table whose first `texts` columns are words and the rest numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for index, name in enumerate(header):
        words = index < texts
        table.add_column(
            Text(printable(name)), justify="left" if words else "right", overflow="fold" if words else "ellipsis"
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    return table


def two_lines(above: str, below: str) -> Group:
    """A number, and what qualifies it in fainter print below."""
    return Group(Text(above, justify="right"), Text(below, style="dim", justify="right"))
