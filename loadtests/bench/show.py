"""What the bench prints: the table of CPU, the parts that all tables share, and the bars."""

# ruff: noqa: RUF001 - what people read is set with signs of multiplication, dashes and primes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtests.bench.bars import Verdict
from loadtests.bench.figures import Measurement, Series, median_ratio, mid

SPELLINGS = {"a′": "a'", "alog": "a'"}  # of a job; a prime is hard to type in a shell
DISTURBED = 0.1  # of the core; below, the figures of one machine agree within a few per cent
ROLES = ("worker", "analyst", "supervisor")
STYLES = {"pass": "green", "fail": "red bold", "not judged": "yellow"}


def job_name(job: str) -> str:
    """The name of a job as people write it."""
    return job.replace("'", "′")


def new_table(title: str, columns: Sequence[str]) -> Table:
    """A table of systems in rows, with its figures to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", expand=False)
    table.add_column("system", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def say(console: Console, words: str) -> None:
    """A line below a table."""
    console.print(Text(f"  {words}", style="dim"))


def add_unmeasured(table: Table, name: str, one: Series[Any]) -> None:
    """The row of a system without a single round."""
    why = "failed" if one.failed else "refused" if one.refused else "skipped"
    table.add_row(name, Text(why, style="yellow"))


def errors_cell(errors: int) -> Text:
    """The number of errors; nothing for none."""
    return Text(f"{errors:,}" if errors else "", style="red bold")


def ratio(value: float | None) -> str:
    """A ratio with two digits, a dash for none."""
    return "–" if value is None else f"{value:.2f}"


def cpu_table(title: str, series: Mapping[str, Series[Measurement]]) -> Table:
    """The table of a job that counts CPU; medians over the rounds, with the lowest and the highest in brackets."""
    columns = (
        "CPU µs/request",
        "× nginx",
        "× Envoy",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "memory MiB",
        "core busy",
        "errors",
    )
    table = new_table(title, columns)
    for name, one in series.items():
        if not one.measured:
            add_unmeasured(table, name, one)
            continue
        table.add_row(name, *_cells(one, series), style="bold" if name == "parallax" else None)
        if name.startswith("parallax"):
            for role in (*ROLES, *sorted({role for m in one.measured for role in m.cpu_us} - set(ROLES))):
                if any(role in m.cpu_us for m in one.measured):
                    share = [mid(one, lambda m, role=role: m.cpu_us.get(role, 0.0))]  # type: ignore[misc]
                    cells = [
                        ratio(median_ratio(one.measured, series[peer].measured, role)) if peer in series else ""
                        for peer in ("nginx", "envoy")
                    ]
                    table.add_row(f"  {role}", f"{share[0]:.1f}", *cells, *[""] * 6, style="dim")
    return table


def _cells(one: Series[Measurement], job: Mapping[str, Series[Measurement]]) -> list[str | Text]:
    cpu = [m.total_cpu_us for m in one.measured]
    proxied = one.system != "direct"
    compared = [
        ratio(median_ratio(one.measured, job[peer].measured)) if proxied and peer in job else ""
        for peer in ("nginx", "envoy")
    ]
    return [
        f"{median(cpu):.1f} ({min(cpu):.1f}–{max(cpu):.1f})" if proxied else "–",
        *compared,
        f"{mid(one, lambda m: m.per_second):,.0f}",
        f"{mid(one, lambda m: m.p50_us) / 1000:.2f}",
        f"{mid(one, lambda m: m.p99_us) / 1000:.2f}",
        f"{mid(one, lambda m: m.memory_bytes) / 2**20:.0f}" if proxied else "–",
        f"{mid(one, lambda m: m.core_share):.0%}" if proxied else "–",
        errors_cell(one.errors),
    ]


def print_series_notes(console: Console, series: Mapping[str, Series[Any]]) -> None:
    """What was switched on in each system, what failed, and what a reader must know of the rounds."""
    for name, one in series.items():
        if one.switched_on and one.measured:
            say(console, f"{name}: {one.switched_on}")
        if one.skipped and not one.failed:
            console.print(Text(f"  {name} skipped: {one.skipped}", style="yellow"))
        for why in one.refused:
            console.print(Text(f"  {name} refused: {why}", style="yellow"))
        for why in one.failed:
            console.print(Text(f"  {name} failed: {why}", style="red" if name.startswith("parallax") else "yellow"))
        for note in sorted({note for m in one.measured for note in m.notes}):
            console.print(Text(f"  {name}: {note}", style="red"))
        for m in one.measured[-1:]:
            for sample, value in getattr(m, "collector", {}).items():
                say(console, f"{name}: {sample} {value:g}")


def print_cpu(console: Console, title: str, series: Mapping[str, Series[Measurement]]) -> None:
    """The table of a job that counts CPU and, below it, what was switched on, who failed and what went wrong."""
    console.print()
    console.print(cpu_table(title, series))
    print_series_notes(console, series)
    disturbed = {name: mid(one, lambda m: m.others_share) for name, one in series.items() if one.measured}
    if disturbed and max(disturbed.values()) > DISTURBED:
        worst = max(disturbed, key=lambda name: disturbed[name])
        console.print(
            Text(
                f"  other programs took {disturbed[worst]:.0%} of the core while {worst} was measured: "
                "throughput and latency are theirs too, CPU is higher than on a quiet machine, ratios are worth most",
                style="yellow",
            )
        )
    drained = [m.drain_s for m in series["parallax"].measured if m.drain_s] if "parallax" in series else []
    if drained:
        say(
            console, f"parallax: the window stayed open {median(drained):.1f} s after the load until all was in Parquet"
        )


def what_words(verdict: Verdict) -> str:
    """What a bar compares, in words."""
    bar = verdict.bar
    figure = {"all": "CPU of all processes", "worker": "CPU of the worker alone"}.get(bar.figure, bar.figure)
    ours = "" if bar.ours == "parallax" else f"{bar.ours}, "
    peer = "a healthy one" if bar.job == "i" else bar.peer
    return f"{ours}{figure} / {peer}"


def bars_table(title: str, verdicts: Sequence[Verdict]) -> Table:
    """One set of bars with what became of each."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", expand=False)
    table.add_column("job", no_wrap=True)
    table.add_column("what")
    for name in ("measured", "bar"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("why", overflow="fold")
    for verdict in verdicts:
        table.add_row(
            job_name(verdict.bar.job),
            what_words(verdict),
            ratio(verdict.ratio),
            f"≤ {verdict.bar.limit:g}",
            Text(verdict.outcome, style=STYLES[verdict.outcome]),
            verdict.reason,
        )
    return table


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """The two sets of bars, each with its score."""
    for stage, title in (("first", "first bars"), ("final", "final bars")):
        mine = [verdict for verdict in verdicts if verdict.bar.stage == stage]
        if not mine:
            continue
        counts = {outcome: sum(one.outcome == outcome for one in mine) for outcome in STYLES}
        score = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        console.print()
        console.print(bars_table(f"{title}: {score}", mine))
