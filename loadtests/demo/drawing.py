"""Where snapshots go: over themselves on a terminal, as lines into a log."""

from __future__ import annotations

import contextlib
from typing import Self

from rich.console import Console
from rich.live import Live

from loadtests.demo import screen


class Drawing(contextlib.AbstractContextManager["Drawing"]):
    """Where snapshots go."""

    def update(self, snapshot: screen.Snapshot, *, last: bool = False) -> None:
        """Show one snapshot; `last` is the one that stays."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        return None


class Drawn(Drawing):
    """A terminal: the table is drawn over itself."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, snapshot: screen.Snapshot, *, last: bool = False) -> None:
        """Draw the table again."""
        size = self._console.size
        picture = screen.render(snapshot, width=min(size.width, 110), height=size.height, last=last)
        self._live.update(picture, refresh=True)


class Plain(Drawing):
    """A log: the story as it happens, and a line of numbers every few seconds."""

    def __init__(self, console: Console, duration_s: float) -> None:
        self._console = console
        self._every_s = min(max(duration_s / 12, 1.0), 5.0)
        self._next_s = self._every_s
        self._told = 0

    def update(self, snapshot: screen.Snapshot, *, last: bool = False) -> None:
        """Print what is new."""
        for at_s, text in snapshot.lines[self._told :]:
            self._print(f"t={at_s:.0f}s: {text}")
        self._told = len(snapshot.lines)
        if last or snapshot.now_s >= self._next_s:
            self._next_s = snapshot.now_s + self._every_s
            self._print(screen.plain(snapshot))

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def choose(console: Console, *, plain: bool, duration_s: float) -> Drawing:
    """The table for a terminal, lines for everything else."""
    return Plain(console, duration_s) if plain or not console.is_terminal else Drawn(console)
