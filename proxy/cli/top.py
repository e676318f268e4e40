"""`parallax top`: rates and latencies of a running proxy, over themselves once a second, or once as text or JSON."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from proxy.cli.state import STATE
from proxy.cli.top_keys import Keys, keys
from proxy.cli.top_rates import WINDOW_S, Rates, Reading, read_totals
from proxy.cli.top_screen import render, span
from proxy.cli.top_view import SORTS, View, make_view
from proxy.errors import StateError
from proxy.supervisor.client import ask

EVERY_S: Final = 1.0
# A supervisor that says nothing for so long is as good as gone to who watches.
PATIENCE_S: Final = 2.0
PIPE_WIDTH: Final = 120


class Watch:
    """Readings of the last seconds, and what they say; survives a supervisor that goes and comes back.

    Args:
        ask_totals: asks for `GET /totals`; raises `StateError` when nobody answers.
        now: a steady clock.
    """

    def __init__(self, ask_totals: Callable[[], dict[str, Any]], now: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask_totals
        self._now = now
        self._readings: deque[Reading] = deque()
        self._last_s = 0.0
        self.gone = ""

    def look(self) -> None:
        """Take a reading, or note that nobody is there."""
        try:
            reading = read_totals(self._now(), self._ask())
        except StateError as error:
            self.gone = str(error)
            if self._readings:
                self.gone += f"; what it last said, {span(self._now() - self._last_s)} ago:"
            return
        readings = self._readings
        if readings and reading.status["uptime_s"] < readings[-1].status["uptime_s"]:
            readings.clear()  # another supervisor, whose counts begin anew
        readings.append(reading)
        self._last_s = reading.at_s
        while len(readings) > 2 and readings[1].at_s <= reading.at_s - WINDOW_S:
            readings.popleft()
        self.gone = ""

    def view(self, sort: str) -> View | None:
        """What the last seconds say; None before the second reading."""
        if len(self._readings) < 2:
            return None
        return make_view(Rates(self._readings[0], self._readings[-1]), sort=sort)


@click.command()
@STATE
@click.option("--once", is_flag=True, help="Print one picture and end; so does a pipe.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, every second; with --once, one.")
@click.option("--sort", type=click.Choice(SORTS), default="name", show_default=True, help="How routes are sorted.")
def command(state: Path, once: bool, as_json: bool, sort: str) -> None:  # noqa: FBT001  click passes them by name
    """Watch rates, latencies, shadows and what is dropped, over the last five seconds.

    On a terminal it is drawn anew every second; q quits, s sorts. It goes on while a supervisor is
    replaced, and says when none is there.
    """
    watch = Watch(lambda: ask(state, "GET", "/totals", timeout_s=PATIENCE_S))
    watch.look()
    if watch.gone:
        raise StateError(watch.gone)
    console = Console()
    if as_json:
        _print_json(watch, sort, once=once)
    elif once or not console.is_terminal:
        view = _second_look(watch, sort)
        wide = console if console.is_terminal else Console(width=PIPE_WIDTH)
        wide.print(render(view, width=wide.width, sort=sort))
    else:
        with keys() as pressed:
            _draw(watch, console, pressed, sort)


def _second_look(watch: Watch, sort: str) -> View:
    """The first view that there is, a second later."""
    while True:
        time.sleep(EVERY_S)
        watch.look()
        if watch.gone:
            raise StateError(watch.gone)
        if (view := watch.view(sort)) is not None:
            return view


def _print_json(watch: Watch, sort: str, *, once: bool) -> None:
    while True:
        click.echo(msgspec.json.encode(_second_look(watch, sort)).decode())
        if once:
            return


def _draw(watch: Watch, console: Console, pressed: Keys, sort: str) -> None:
    """Draw until q or Ctrl-C."""

    def picture() -> RenderableType:
        view = watch.view(sort)
        if view is None:
            return Text(watch.gone or "reading …")
        return render(view, width=console.width, sort=sort, keys=pressed.given, gone=watch.gone)

    with Live(
        picture(), console=console, auto_refresh=False, screen=console.is_terminal, vertical_overflow="crop"
    ) as live:
        due_s = time.monotonic() + EVERY_S
        while True:
            key = pressed.wait(max(due_s - time.monotonic(), 0.0))
            if key == "q":
                return
            if key == "s":
                sort = SORTS[(SORTS.index(sort) + 1) % len(SORTS)]
            if time.monotonic() >= due_s:
                watch.look()
                due_s = time.monotonic() + EVERY_S
            live.update(picture(), refresh=True)
