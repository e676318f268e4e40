"""What a file says, as plain values that still know their line and whether a variable filled them.

Nothing here knows what Parallax expects to find, nor how the file was read (`reader`). A `View` is
one place in the document, present or not, for checks that must go on when other places are broken.
All that is shown to people passes through here: short, escaped, and masked where a variable took part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from proxy.errors import Problem

Path = tuple[str | int, ...]
T = TypeVar("T")

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_*][A-Za-z0-9_*-]*", re.ASCII)
_LONGEST_SHOWN: Final = 60


class Unset:
    """Stands where a value could not be had; its problem is already reported."""

    def __repr__(self) -> str:
        return "unset"


UNSET: Final = Unset()


@dataclass(slots=True)
class Document:
    """The values of one file, with the line of every path and the text of values from variables."""

    file: str
    data: object = None
    lines: dict[Path, int] = field(default_factory=dict)
    sources: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: set[Path] = field(default_factory=set)

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest place around it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def report(self, path: Path, message: str, *, severity: str = "error") -> None:
        """Note a problem, unless the value at this very place is already reported as unreadable."""
        if path not in self.broken:
            self.problems.append(Problem(self.file, self.line(path), show_path(path), printable(message), severity))

    def add(self, line: int, path: Path, message: str) -> None:
        """Note a problem at a line of its own, whatever else is wrong there."""
        self.problems.append(Problem(self.file, line, show_path(path), printable(message)))

    def show(self, path: Path, value: object) -> str:
        """A value for a message: as written in the file when a variable took part in it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.sources:
                return quote(self.sources[path[:length]])
        return show_value(value)

    @property
    def root(self) -> View:
        """The whole document as a view."""
        return View(self, (), self.data)


@dataclass(frozen=True, slots=True)
class View:
    """One place in a document; `value` is `UNSET` where there is nothing."""

    document: Document
    path: Path
    value: object

    def __getitem__(self, key: str) -> View:
        value = self.value.get(key, UNSET) if isinstance(self.value, dict) else UNSET
        return View(self.document, (*self.path, key), value)

    @property
    def given(self) -> bool:
        """Whether something is written here, readable or not."""
        return (self.value is not UNSET and self.value is not None) or self.path in self.document.broken

    @property
    def text(self) -> str | None:
        """The text here, if it is text."""
        return self.value if isinstance(self.value, str) else None

    @property
    def shown(self) -> str:
        """The value as a message may show it."""
        return self.document.show(self.path, self.value)

    @property
    def where(self) -> str:
        """The path as a message shows it."""
        return show_path(self.path)

    def entries(self) -> list[tuple[str, View]]:
        """The entries of a mapping, in file order; none if it is not a mapping."""
        return [(key, self[key]) for key in self.value] if isinstance(self.value, dict) else []

    def items(self) -> list[View]:
        """The items of a list; a single value counts as a list of one."""
        if isinstance(self.value, list):
            return [View(self.document, (*self.path, index), item) for index, item in enumerate(self.value)]
        return [] if self.value is None or self.value is UNSET else [self]

    def read(self, parse: Callable[[object], T]) -> T | None:
        """The parsed value; None if it is missing or wrong, which the schema reports."""
        if self.value is UNSET or self.value is None:
            return None
        try:
            return parse(self.value)
        except ValueError:
            return None

    def report(self, message: str) -> None:
        """Note an error at this place."""
        self.document.report(self.path, message)

    def warn(self, message: str) -> None:
        """Note a warning at this place."""
        self.document.report(self.path, message, severity="warning")


def show_path(path: Path) -> str:
    """`routes[0].unit`; a key that is no plain word is quoted, so that it cannot mislead a terminal."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif all(_PLAIN_KEY.fullmatch(word) for word in part.split(".")):
            shown += f".{part}" if shown else part
        else:
            shown += f"[{json.dumps(_shorten(part))}]"
    return shown


def show_value(value: object) -> str:
    """A value for a message: containers by their kind, text quoted and escaped, all of it short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return quote(str(value))
        case int() | float():
            return _shorten(str(value))
        case _:
            return "something else"


def quote(text: str) -> str:
    """Text in quotes, escaped and cut short."""
    return repr(_shorten(text))


def printable(text: str) -> str:
    """Text whose control characters are escaped, so that it cannot drive a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
