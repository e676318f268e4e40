"""The table at the end of a run: a row for each server, client and protocol, a column for each question."""

from __future__ import annotations

from collections.abc import Iterable

from tests.servers.cells import COLUMNS, Cell


class Results:
    """How the tests of each cell ended, by column."""

    def __init__(self) -> None:
        self._found: dict[Cell, dict[str, list[str]]] = {}
        self.skipped: dict[str, int] = {}  # reason -> tests

    def add(self, cell: Cell, column: str, outcome: str, reason: str = "") -> None:
        """Keep the outcome of one test: passed, failed or skipped."""
        self._found.setdefault(cell, {}).setdefault(column, []).append(outcome)
        if outcome == "skipped":
            self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def lines(self) -> list[str]:
        """The table in Markdown, servers together, in the order in which they were first asked."""
        order = {server: index for index, server in enumerate(dict.fromkeys(cell.server for cell in self._found))}
        rows = sorted(self._found, key=lambda cell: order[cell.server])
        cells = [
            [c.server, c.client, c.protocol, *(in_words(self._found[c].get(name, ())) for name in COLUMNS)]
            for c in rows
        ]
        return table([["server", "client", "protocol", *COLUMNS], *cells])


def in_words(outcomes: Iterable[str]) -> str:
    """What became of the tests behind one field of the table."""
    found = list(outcomes)
    if not found:
        return ""
    failed, skipped = found.count("failed"), found.count("skipped")
    if failed:
        return f"{failed} of {len(found)} FAILED"
    if skipped == len(found):
        return "skipped"
    return f"{len(found) - skipped} ok" + (f", {skipped} skipped" if skipped else "")


def table(rows: list[list[str]]) -> list[str]:
    """Rows as Markdown, the first one being the head, columns in line."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
