"""Progress over the whole run: where it is, how much is done, about how long it takes yet.

The estimate starts from what each cell should take and follows what the cells done so far really took.
On a terminal it is one line that moves; elsewhere it is a line now and then, so that a log shows life.
"""

from __future__ import annotations

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LINE_EVERY_S = 20.0


def remaining_s(expected_s: float, expected_done_s: float, elapsed_s: float) -> float:
    """About how long the rest takes: the rest as expected, stretched as the part that is done was.

    Until a twentieth is done, the stretch is blended in only as far as that.
    """
    left = max(0.0, expected_s - expected_done_s)
    if expected_done_s <= 0:
        return left
    stretch = elapsed_s / expected_done_s
    trust = min(1.0, expected_done_s / (expected_s / 20)) if expected_s else 1.0
    return left * (1 + (stretch - 1) * trust)


def in_words(seconds: float) -> str:
    """A time left, no more precise than it is."""
    return "less than a minute" if seconds < 45 else f"about {max(1, round(seconds / 60))} min"


class RunProgress:
    """Told of every step by the jobs."""

    def __init__(self, console: Console, expected_s: float) -> None:
        self._console = console
        self._expected_s = expected_s
        self._done_s = 0.0
        self._started = time.monotonic()
        self._last_line = 0.0
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[left]} left  {task.description}"),
            console=console,
            transient=True,
            refresh_per_second=1,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=max(expected_s, 0.001), left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    @property
    def _left(self) -> str:
        return in_words(remaining_s(self._expected_s, self._done_s, time.monotonic() - self._started))

    def say(self, job: Any, what: str) -> None:
        """What is being done now."""
        words = f"({job.name.replace(chr(39), chr(0x2032))}) {what}"
        self._bar.update(self._task, description=words, left=self._left)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            share = self._done_s / self._expected_s if self._expected_s else 1.0
            self._console.print(f"  {share:4.0%}  {self._left} left  {words}", highlight=False, style="dim")

    def done(self, expected_s: float) -> None:
        """A cell is done, or was left out; it was expected to take so long."""
        self._done_s += expected_s
        self._bar.update(self._task, completed=self._done_s, left=self._left)
