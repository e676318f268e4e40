"""Job (s): a stream of events, one every 20 ms: time to the first byte, and the delay of each event.

A proxy that buffers lets an event wait for the next; that shows as a delay near the beat, and as events that
come together. nginx stands beside with `proxy_buffering off`.
"""

from __future__ import annotations

import shutil
from typing import Any

from rich.console import Console

from loadtests.bench import show, streams
from loadtests.bench.arrivals import quantile
from loadtests.bench.figures import Series, Stream, mid
from loadtests.bench.job import DIRECT_WORDS, Job, Say, series_of
from loadtests.bench.launch import Place
from loadtests.bench.models import Models, start_models
from loadtests.bench.systems import able, system_named

TARGET = "/v2/models/stream/events"
STREAMS = 32
OVERHEAD_S = 2.0
MOST_S = 2.0  # a hundred events on each stream


class StreamJob(Job):
    """Job (s)."""

    name = "s"
    title = f"(s) {STREAMS} streams, an event every 20 ms on each"
    models: Models | None = None

    def prepare(self, say: Say) -> None:
        say("starting the model server")
        self.models = start_models("stream-model", ("healthy",), self.setting.directory, self.setting.cores)

    def close(self) -> None:
        if self.models is not None:
            self.models.running.stop(patience_s=2.0)

    def series(self) -> dict[str, Series[Stream]]:
        asked = self.setting.systems
        found = {"direct": Series[Stream]("direct", DIRECT_WORDS)} if "direct" in asked else {}
        return found | {system.name: series_of(self.setting, system, "stream") for system in able("stream", asked)}

    @property
    def _seconds(self) -> float:
        return min(MOST_S, self.setting.seconds)

    def cost_s(self, key: Any) -> float:
        return OVERHEAD_S + self._seconds

    def measure(self, key: str, number: int, say: Say) -> Stream:
        assert self.models is not None
        port = self.models.ports["healthy"]
        if key == "direct":
            return stream_of(streams.read_apart(port, TARGET, STREAMS, self._seconds), number)
        system, setting = system_named(key), self.setting
        ports = {**setting.ports, "a": port, "b": port}
        place = Place(setting.directory_for(f"s-{number}-{key}"), ports, setting.cores)
        running = system.launch(setting.peers.get(system.program or ""), "stream", place)
        try:
            streams.read_apart(running.port, TARGET, 2, 0.5)
            say("measuring")
            seen = streams.read_apart(running.port, TARGET, STREAMS, self._seconds)
        finally:
            running.stop(patience_s=2.0)
        if not setting.keep:
            shutil.rmtree(place.directory, ignore_errors=True)
        return stream_of(seen, number)

    def show(self, console: Console, series: dict[str, Series[Stream]]) -> None:
        columns = ("first byte p50 ms", "p99 ms", "event p50 µs", "event p99 µs", "events", "came together", "errors")
        table = show.new_table(self.title, columns)
        for name, one in series.items():
            if not one.measured:
                show.add_unmeasured(table, name, one)
                continue
            table.add_row(
                name,
                f"{mid(one, lambda m: m.first_p50_us) / 1000:.2f}",
                f"{mid(one, lambda m: m.first_p99_us) / 1000:.2f}",
                f"{mid(one, lambda m: m.p50_us):.0f}",
                f"{mid(one, lambda m: m.p99_us):.0f}",
                f"{sum(m.events for m in one.measured):,}",
                f"{sum(m.together for m in one.measured):,}",
                show.errors_cell(one.errors),
                style="bold" if name == "parallax" else None,
            )
        console.print()
        console.print(table)
        show.print_series_notes(console, series)


def stream_of(seen: streams.Seen, number: int) -> Stream:
    """A round from what the readers saw.

    Raises:
        RuntimeError: they saw nothing.
    """
    if not seen.delays_us:
        raise RuntimeError(f"no event arrived: {', '.join(sorted(set(seen.errors))) or 'silence'}")
    return Stream(
        number,
        len(seen.delays_us),
        quantile(seen.first_us, 0.5),
        quantile(seen.first_us, 0.99),
        quantile(seen.delays_us, 0.5),
        quantile(seen.delays_us, 0.99),
        seen.together,
        len(seen.errors),
        tuple(sorted(set(seen.errors))),
    )
