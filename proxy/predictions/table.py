"""CSV (RFC 4180): rows of cells, of which those that look like numbers are numbers."""

from __future__ import annotations

import re
from typing import Any, Final

from proxy.predictions.decode import Undecodable
from proxy.predictions.reading import Written

_CELL: Final = re.compile(r'("[^"]*(?:""[^"]*)*"|(?!")[^,\r\n]*)(,|\r\n|\n|\r|\Z)')
_INTEGER: Final = re.compile(r"-?\d{1,40}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf)", re.ASCII | re.IGNORECASE)
_LONGEST_NUMBER: Final = 400
_QUOTED: Final = re.compile(r'[,"\r\n]')
# Each cell is a Python object; a body of nothing but commas would take a hundred times its size.
_MOST_CELLS: Final = 500_000


class TableReading:
    """A CSV body, of which `document` is the rows; what did not change keeps its text.

    Raises:
        Undecodable: "not_csv" (a quote that does not end, text that is not UTF-8) or "too_large".
    """

    __slots__ = ("_cells", "_ends", "_mark", "_rows", "document")

    def __init__(self, body: bytes) -> None:
        if body.count(b",") + body.count(b"\n") + body.count(b"\r") > _MOST_CELLS:
            raise Undecodable("too_large")
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise Undecodable("not_csv") from None
        self._mark = b"\xef\xbb\xbf" if body.startswith(b"\xef\xbb\xbf") else b""
        self._cells: list[str] = []
        self._ends: list[str] = []
        self._rows: list[list[Any]] = []
        self._parse(text)
        self.document: object = [list(row) for row in self._rows]

    def _parse(self, text: str) -> None:
        row: list[Any] = []
        at = 0
        while at < len(text) or row:
            found = _CELL.match(text, at)
            if found is None:
                raise Undecodable("not_csv")
            cell, end = found.groups()
            self._cells.append(cell)
            self._ends.append(end)
            row.append(_value(cell))
            at = found.end()
            if end != ",":
                self._rows.append(row)
                row = []

    def encode(self) -> Written:
        """Write changed cells in their places; rows or cells that come or go make a new text."""
        rows = self.document if isinstance(self.document, list) else []
        if [len(row) for row in rows] != [len(row) for row in self._rows]:
            return Written(self._mark + "".join(",".join(map(_text, row)) + "\n" for row in rows).encode())
        values = [value for row in rows for value in row]
        old = [value for row in self._rows for value in row]
        parts: list[str] = []
        for cell, end, value, was in zip(self._cells, self._ends, values, old, strict=True):
            same = value is was or (type(value) is type(was) and value == was)
            parts += (cell if same else _text(value), end)
        return Written(self._mark + "".join(parts).encode())


def _value(cell: str) -> str | int | float:
    bare = cell.strip(" \t")
    if cell.startswith('"'):
        return cell[1:-1].replace('""', '"')
    if _INTEGER.fullmatch(bare):
        return int(bare)
    if len(bare) <= _LONGEST_NUMBER and _FLOAT.fullmatch(bare):
        return float(bare)
    return cell


def _text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else repr(value)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
