"""Job (i), the isolation table: the primary's latency while its shadow misbehaves, beside that with a healthy one.

Every cell starts its system anew, with the same primary and one of the shadows, and asks at the open-loop rate of
job (d), lower for large bodies. Nothing may hang: a request that is not answered within ten seconds counts as hung.
"""

# ruff: noqa: RUF001 - what people read is set with dashes and signs of multiplication

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from loadtests.bench import cpu, load, show
from loadtests.bench.arrivals import quantile
from loadtests.bench.bars import Bar, Verdict
from loadtests.bench.figures import Series
from loadtests.bench.isolation import (
    AGAIN,
    CONNECTIONS,
    HEALTHY,
    HUNG_S,
    LIMIT,
    MISBEHAVING,
    MOST_PER_SECOND,
    SHADOWS,
    SIZES,
    Cell,
    CellVerdict,
    Window,
    against_itself,
    judge_cell,
)
from loadtests.bench.job import Job, Say, series_of
from loadtests.bench.job_latency import open_rate, rate_in_words
from loadtests.bench.launch import Place
from loadtests.bench.models import Models, start_models
from loadtests.bench.openloop import Observed, Order, check, drive
from loadtests.bench.running import SystemFailed
from loadtests.bench.setting import Setting
from loadtests.bench.systems import able, system_named

TARGET = load.TARGET
WARM_S = 0.4
STRETCH = {"1 KB": 0.4, "1 MB": 0.6, "30 MB": 1.0}  # of --seconds; fewer and larger bodies need longer to say anything
LEAST_S = {"1 KB": 1.0, "1 MB": 1.0, "30 MB": 3.0}  # at two a second, so that each connection is used twice
START_S = {"nginx": 0.8, "envoy": 1.2, "parallax": 2.0}  # with stopping and the generator's start, about
USUALLY_HANGS = {"nginx": ("stalled", "non-reading")}  # with keep-alive; for the estimate of the time left only
ROUNDS_FOR_ONE = 3


class IsolationJob(Job):
    """Job (i)."""

    name = "i"
    title = "(i) isolation: p99 of the primary with a misbehaving shadow / with a healthy one"
    rate = 0.0
    primary: Models | None = None
    shadows: Models | None = None

    @property
    def rounds(self) -> int:
        return max(1, self.setting.rounds // ROUNDS_FOR_ONE)

    def prepare(self, say: Say) -> None:
        self.rate = open_rate(self.setting, say)
        say("starting the model servers")
        directory, cores = self.setting.directory, self.setting.cores
        self.primary = start_models("isolation-primary", (HEALTHY,), directory, cores)
        self.shadows = start_models("isolation-shadows", (HEALTHY, *MISBEHAVING), directory, cores)
        for size, length in SIZES.items():
            (directory / f"{size.replace(' ', '')}.json").write_bytes(load.padded_body(length))

    def close(self) -> None:
        for models in (self.primary, self.shadows):
            if models is not None:
                models.running.stop(patience_s=2.0)

    def series(self) -> dict[Cell, Series[Window]]:
        cells = [
            Cell(system.name, size, keep_alive, shadow)
            for size in SIZES
            for keep_alive in (True, False)
            for system in able("isolation", self.setting.systems)
            for shadow in SHADOWS
            if shadow != AGAIN or system.name == "parallax"  # only we are judged
        ]
        return {cell: series_of(self.setting, system_named(cell.system), "isolation", str(cell)) for cell in cells}

    def order(self, keys: list[Any], number: int) -> list[Any]:
        return keys  # the healthy shadow is first and last among the others of its row

    def _seconds(self, size: str) -> float:
        return max(LEAST_S[size], STRETCH[size] * self.setting.seconds)

    def cost_s(self, key: Any) -> float:
        hangs = HUNG_S if key.keep_alive and key.shadow in USUALLY_HANGS.get(key.system, ()) else 0.0
        return START_S.get(key.system, 2.0) + WARM_S + self._seconds(key.size) + hangs

    def rate_of(self, size: str) -> float:
        """Requests per second of a size."""
        return min(self.rate, MOST_PER_SECOND[size])

    def measure(self, key: Cell, number: int, say: Say) -> Window:
        assert self.primary is not None
        assert self.shadows is not None
        setting, system = self.setting, system_named(key.system)
        behaviour = HEALTHY if key.shadow == AGAIN else key.shadow
        ports = {**setting.ports, "a": self.primary.ports[HEALTHY], "c": self.shadows.ports[behaviour]}
        place = Place(setting.directory_for(f"i-{number}-{key.system}-{behaviour}"), ports, setting.cores)
        before = self.shadows.seen(behaviour)
        running = system.launch(setting.peers.get(system.program or ""), "isolation", place)
        try:
            say("measuring")
            observed = drive(self._order(running.port, key, number))
            memory = cpu.memory_bytes(running.process.pid)
            ended = running.process.poll() is not None
            words = running.last_words()
        finally:
            running.stop(patience_s=1.0)  # one that still waits for its shadow is not waited for
        if ended:
            raise SystemFailed(f"it ended while it was measured: {words}")
        if not setting.keep:
            shutil.rmtree(place.directory, ignore_errors=True)
        return window_of(observed, number, setting, memory, self.shadows.seen(behaviour) - before, behaviour)

    def _order(self, port: int, key: Cell, number: int) -> Order:
        return Order(
            port=port,
            target=TARGET,
            body_file=str(self.setting.directory / f"{key.size.replace(' ', '')}.json"),
            users=str(self.setting.directory / "users.txt"),
            rate=self.rate_of(key.size),
            seconds=WARM_S + self._seconds(key.size),
            ignored_s=WARM_S,
            seed=load.SEED + number,  # the same arrivals for every shadow
            keep_alive=key.keep_alive,
            connections=CONNECTIONS[key.size],
            hung_s=HUNG_S,
        )

    def show(self, console: Console, series: dict[Cell, Series[Window]]) -> None:
        columns = ("healthy p50/p99 ms", "itself", *MISBEHAVING)
        table = show.new_table(self.title, columns)
        for row, windows in rows_of(series).items():
            system, size, keep_alive = row
            cells: list[str | Text] = [_healthy_words(windows), show.ratio(against_itself(windows))]
            cells += [
                _cell_text(_judged(series, Cell(system, size, keep_alive, shadow), windows)) for shadow in MISBEHAVING
            ]
            name = f"{system}, {size}, {'keep-alive' if keep_alive else 'close'}"
            table.add_row(name, *cells, style="bold" if system == "parallax" else None)
        console.print()
        console.print(table)
        for cell, one in series.items():
            for why in one.failed:
                console.print(Text(f"  {cell} failed: {why}", style="red" if cell.system == "parallax" else "yellow"))
        for system in {cell.system: None for cell in series}:
            notes = sorted(
                {
                    note
                    for cell, one in series.items()
                    if cell.system == system
                    for m in one.measured
                    for note in m.notes
                }
            )
            for note in notes:
                console.print(Text(f"  {system}: {note}", style="yellow"))
        refused = sum(bool(one.refused and not one.measured) for one in series.values())
        if refused:
            words = f"  {refused} of {len(series)} cells were refused: the generator was late, the machine is too busy"
            console.print(Text(words, style="yellow"))
        rates = ", ".join(f"{self.rate_of(size):,.0f}/s of {size}" for size in SIZES)
        show.say(
            console,
            f"cells are p50 / p99 over the healthy ones; bar ≤ {LIMIT:g} for p99; `itself` is the healthy p99 after over before",
        )
        show.say(console, f"{rate_in_words(self.setting, self.rate)}; {rates}; a request over {HUNG_S:.0f} s hung")

    def judged(self, series: Mapping[Cell, Series[Window]]) -> list[CellVerdict]:
        """The verdict on every misbehaving cell."""
        return [
            _judged(series, Cell(*row, shadow), windows)
            for row, windows in rows_of(series).items()
            for shadow in MISBEHAVING
        ]

    def verdicts(self, series: dict[Cell, Series[Window]]) -> list[Verdict]:
        return [summed_up([one for one in self.judged(series) if one.cell.system == "parallax"])]

    def as_json(self, series: dict[Any, Series[Any]]) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "rates": {size: self.rate_of(size) for size in SIZES},
            "cells": [asdict(one) for one in self.judged(series)],
        }


Row = tuple[str, str, bool]


def rows_of(series: Mapping[Cell, Series[Window]]) -> dict[Row, dict[str, list[Window]]]:
    """The windows of every row by shadow."""
    found: dict[Row, dict[str, list[Window]]] = {}
    for cell, one in series.items():
        found.setdefault((cell.system, cell.size, cell.keep_alive), {})[cell.shadow] = one.measured
    return found


def _judged(series: Mapping[Cell, Series[Window]], cell: Cell, windows: Mapping[str, list[Window]]) -> CellVerdict:
    one = series[cell]
    if one.failed:
        return CellVerdict(cell, "fail", one.failed[0])
    if one.refused and not one.measured:
        return CellVerdict(cell, "not judged", one.refused[0])
    return judge_cell(cell, windows)


def summed_up(judged: list[CellVerdict]) -> Verdict:
    """One verdict for the whole table: the worst of its cells, and how many there are of each."""
    bar = Bar("i", "parallax", LIMIT, "p99 with a misbehaving shadow")
    if not judged:
        return Verdict(bar, "not judged", reason="parallax was not asked for")
    counts = {outcome: sum(one.outcome == outcome for one in judged) for outcome in ("pass", "fail", "not judged")}
    worst = "fail" if counts["fail"] else "not judged" if counts["not judged"] else "pass"
    open_ones = [one for one in judged if one.outcome == worst and worst != "pass"]
    said = f"{counts['pass']} of {len(judged)} cells pass"
    if open_ones:
        said += f", {counts['fail']} fail, {counts['not judged']} cannot be told from noise; first: {open_ones[0].cell}: {open_ones[0].reason}"
    return Verdict(bar, worst, max((one.p99 for one in judged if one.p99 is not None), default=None), said)  # type: ignore[arg-type]


def _healthy_words(windows: Mapping[str, list[Window]]) -> str:
    values = [value for shadow in (HEALTHY, AGAIN) for one in windows.get(shadow, ()) for value in one.latencies_us]
    if not values:
        return "–"
    return f"{quantile(values, 0.5) / 1000:.2f}/{quantile(values, 0.99) / 1000:.2f}"


def _cell_text(verdict: CellVerdict) -> Text:
    style = {"pass": "", "fail": "red", "not judged": "yellow"}[verdict.outcome]
    if verdict.hung:
        return Text(f"{verdict.hung} hung", style=style)
    if verdict.p50 is None or verdict.p99 is None:
        words = "failed" if verdict.outcome == "fail" else "refused" if "generator" in verdict.reason else "–"
        return Text(words, style=style)
    return Text(f"{verdict.p50:.2f} / {verdict.p99:.2f}", style=style)


def window_of(observed: Observed, number: int, setting: Setting, memory: int, seen: int, behaviour: str) -> Window:
    """A window from what the generator observed.

    Raises:
        SystemFailed: the shadow saw nothing, so that nothing was shown.
        GeneratorLate: the generator was late.
    """
    if seen == 0 and behaviour != "refusing":  # who refuses cannot count
        raise SystemFailed(f"the {behaviour} shadow saw no connection")
    notes = check(observed, setting.late_us)
    errors = tuple(f"{count} requests: {why}" for why, count in sorted(observed.errors.items()))
    return Window(
        number,
        tuple(observed.all_us),
        observed.planned / observed.seconds,
        observed.hung,
        sum(observed.errors.values()),
        memory,
        seen,
        (*notes, *errors),
    )
