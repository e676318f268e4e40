"""Job (d): the latency that each system adds to going direct, all at the same open-loop rate.

The rate is a quarter of what Parallax can answer in job (a): below saturation for every system, so that latency
is the way through the proxy and not the queue before it. Arrivals of a round are the same for every system.
"""

# ruff: noqa: RUF001 - what people read is set with dashes and signs of multiplication

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.bench import load, show, verify
from loadtests.bench.arrivals import quantile
from loadtests.bench.figures import Latency, Series, added_ratio, added_us, mid
from loadtests.bench.job import DIRECT_WORDS, Job, Say, series_of
from loadtests.bench.job_cpu import capacity_of_parallax
from loadtests.bench.launch import Place
from loadtests.bench.metrics import collector_pauses
from loadtests.bench.openloop import CONNECTIONS, Observed, Order, check, drive
from loadtests.bench.setting import Setting
from loadtests.bench.systems import able, system_named

SHARE_OF_CAPACITY = 0.25
OVERHEAD_S = 3.0  # starting, verifying and the generator's own start, about


def open_rate(setting: Setting, say: Say) -> float:
    """The open-loop rate of this run, found out once."""
    if setting.rate is not None:
        return setting.rate
    if setting.capacity is None:
        setting.capacity = capacity_of_parallax(setting, say)
        setting.found_how = "one short run of job (a)"
    return setting.capacity * SHARE_OF_CAPACITY


def rate_in_words(setting: Setting, rate: float) -> str:
    """The rate and where it comes from."""
    if setting.rate is not None:
        return f"{rate:,.0f} requests/s, as asked for"
    return f"{rate:,.0f} requests/s, a quarter of parallax's {setting.capacity or 0:,.0f} ({setting.found_how})"


def write_load(setting: Setting, body: bytes, name: str) -> Path:
    """The body of every request, in a file for the generator."""
    path = setting.directory / f"{name}.json"
    path.write_bytes(body)
    return path


class LatencyJob(Job):
    """Job (d)."""

    name = "d"
    title = "(d) latency added over going direct, open loop"
    rate = 0.0

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.body = setting.directory / "body.json"

    def prepare(self, say: Say) -> None:
        self.rate = open_rate(self.setting, say)

    def series(self) -> dict[str, Series[Latency]]:
        asked = self.setting.systems
        found = {"direct": Series[Latency]("direct", DIRECT_WORDS)} if "direct" in asked else {}
        return found | {
            system.name: series_of(self.setting, system, "split")
            for system in able("split", asked)
            if system.name != "naive"  # a quarter of ours is most of what it can do
        }

    def cost_s(self, key: Any) -> float:
        return OVERHEAD_S + 2 * self.setting.warm_up_s + self.setting.seconds

    def _order(self, port: int, number: int, seconds: float, rate: float) -> Order:
        return Order(
            port=port,
            target=load.TARGET,
            body_file=str(self.body),
            users=str(self.setting.directory / "users.txt"),
            rate=rate,
            seconds=seconds,
            seed=load.SEED + number,
        )

    def _drive(self, port: int, number: int, say: Say) -> Observed:
        say("warming up")
        self.setting.load.run(port, self.setting.warm_up_s)
        drive(self._order(port, number, self.setting.warm_up_s, self.rate))
        say("measuring")
        return drive(self._order(port, number, max(2.0, self.setting.seconds), self.rate))

    def measure(self, key: str, number: int, say: Say) -> Latency:
        if key == "direct":
            return latency_of(self._drive(self.setting.ports["a"], number, say), number, self.setting, {})
        system = system_named(key)
        place = Place(self.setting.directory_for(f"d-{number}-{key}"), self.setting.ports, self.setting.cores)
        running = system.launch(self.setting.peers.get(system.program or ""), "split", place)
        try:
            verify.verify_split(running.port)
            observed = self._drive(running.port, number, say)
            found = latency_of(observed, number, self.setting, collector_pauses(running.metrics_port))
        finally:
            running.stop()
        if not self.setting.keep:
            shutil.rmtree(place.directory, ignore_errors=True)
        return found

    def show(self, console: Console, series: dict[str, Series[Latency]]) -> None:
        table = show.new_table(
            self.title, ("p50 ms", "p99 ms", "p50 added µs", "p99 added µs", "× nginx p50", "× nginx p99")
        )
        table.add_column("generator late p50/p99 µs", justify="right", no_wrap=True)
        table.add_column("errors", justify="right", no_wrap=True)
        for name, one in series.items():
            if not one.measured:
                show.add_unmeasured(table, name, one)
                continue
            self._add_row(table, name, series)
        console.print()
        console.print(table)
        show.print_series_notes(console, series)
        show.say(
            console,
            f"{rate_in_words(self.setting, self.rate)}; Poisson arrivals, latency from the time a request was due; "
            f"{CONNECTIONS} keep-alive connections, the longest idle is used next",
        )

    def _add_row(self, table: Table, name: str, series: dict[str, Series[Latency]]) -> None:
        one = series[name]
        added = [_added(series, name, share) for share in ("p50", "p99")]
        ratios = [_times_nginx(series, name, share) for share in ("p50", "p99")]
        late = f"{mid(one, lambda m: m.late_p50_us):.0f}/{mid(one, lambda m: m.late_p99_us):.0f}"
        table.add_row(
            name,
            f"{mid(one, lambda m: m.p50_us) / 1000:.2f}",
            f"{mid(one, lambda m: m.p99_us) / 1000:.2f}",
            *added,
            *ratios,
            late,
            show.errors_cell(one.errors),
            style="bold" if name == "parallax" else None,
        )

    def as_json(self, series: dict[Any, Series[Any]]) -> dict[str, Any]:
        return {"rate": self.rate, "rate_in_words": rate_in_words(self.setting, self.rate)}


def _value(share: str) -> Any:
    return lambda one: getattr(one, f"{share}_us")


def _added(series: dict[str, Series[Latency]], name: str, share: str) -> str:
    if name == "direct" or "direct" not in series:
        return ""
    found = sorted(added_us(series[name].measured, series["direct"].measured, _value(share)).values())
    return f"{quantile(found, 0.5):+.0f}" if found else "–"


def _times_nginx(series: dict[str, Series[Latency]], name: str, share: str) -> str:
    if name in ("direct", "nginx") or "direct" not in series or "nginx" not in series:
        return ""
    return show.ratio(
        added_ratio(series[name].measured, series["nginx"].measured, series["direct"].measured, _value(share))
    )


def latency_of(observed: Observed, number: int, setting: Setting, collector: dict[str, float]) -> Latency:
    """A round from what the generator observed.

    Raises:
        GeneratorLate: the generator was late.
    """
    notes = check(observed, setting.late_us)
    errors = sum(observed.errors.values())
    late_p50, late_p99 = observed.late
    return Latency(
        number,
        observed.planned,
        observed.planned / observed.seconds,
        quantile(observed.all_us, 0.5),
        quantile(observed.all_us, 0.99),
        late_p50,
        late_p99,
        errors + observed.hung,
        observed.hung,
        (*notes, *(f"{count} requests: {why}" for why, count in observed.errors.items())),
        collector,
    )
