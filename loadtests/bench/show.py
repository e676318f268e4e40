"""What the bench prints: one table per job, the words for what was switched on, and the verdicts."""

# ruff: noqa: RUF001 - what people read is set with signs of multiplication, dashes and primes

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtests.bench.figures import Measurement, Series, Verdict, median_ratio

TITLES = {
    "a": "(a) A/B by user header, log off",
    "a'": "(a′) A/B by user header, log on",
    "b": "(b) every request shadowed",
}
SPELLINGS = {"a′": "a'", "a2": "a'"}  # of a job; a prime is hard to type in a shell
DISTURBED = 0.1  # of the core; below, the figures of one machine agree within a few per cent
ROLES = ("worker", "analyst", "supervisor")


def job_name(job: str) -> str:
    """The name of a job as people write it."""
    return job.replace("'", "′")


def mid(series: Series, value: Callable[[Measurement], float]) -> float:
    """The median over rounds."""
    return median(value(one) for one in series.measured)


def job_table(job: str, series: Mapping[str, Series]) -> Table:
    """The table of one job; medians over the rounds, with the lowest and the highest CPU in brackets."""
    table = Table(title=TITLES[job], title_justify="left", title_style="bold", header_style="bold", expand=False)
    table.add_column("system", no_wrap=True)
    for name in (
        "CPU µs/request",
        "× nginx",
        "× Envoy",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "memory MiB",
        "core busy",
        "errors",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in series.items():
        if not one.measured:
            table.add_row(name, Text("skipped", style="yellow"), *[""] * 8)
            continue
        table.add_row(name, *_cells(one, series), style="bold" if name == "parallax" else None)
        if name == "parallax":
            for role in (*ROLES, *sorted({role for m in one.measured for role in m.cpu_us} - set(ROLES))):
                if any(role in m.cpu_us for m in one.measured):
                    share = [mid(one, lambda m, role=role: m.cpu_us.get(role, 0.0))]  # type: ignore[misc]
                    cells = [
                        _ratio(median_ratio(one.measured, series[peer].measured, role)) if peer in series else ""
                        for peer in ("nginx", "envoy")
                    ]
                    table.add_row(f"  {role}", f"{share[0]:.1f}", *cells, *[""] * 6, style="dim")
    return table


def _cells(one: Series, job: Mapping[str, Series]) -> list[str | Text]:
    cpu = [m.total_cpu_us for m in one.measured]
    proxied = one.system != "direct"
    compared = [
        _ratio(median_ratio(one.measured, job[peer].measured)) if proxied and peer in job else ""
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
        Text(f"{one.errors:,}", style="red bold" if one.errors else ""),
    ]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def print_job(console: Console, job: str, series: Mapping[str, Series]) -> None:
    """The table of a job and, below it, what was switched on, who was skipped and what went wrong."""
    console.print()
    console.print(job_table(job, series))
    for name, one in series.items():
        if one.skipped:
            console.print(Text(f"  {name} skipped: {one.skipped}", style="yellow"))
        elif one.switched_on:
            console.print(Text(f"  {name}: {one.switched_on}", style="dim"))
        for note in sorted({note for m in one.measured for note in m.notes}):
            console.print(Text(f"  {name}: {note}", style="red"))
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
        console.print(
            Text(
                f"  parallax: the window stayed open {median(drained):.1f} s after the load until all was in Parquet",
                style="dim",
            )
        )


def verdict_line(verdict: Verdict) -> Text:
    """One line for one bar."""
    bar = verdict.bar
    what = f"({job_name(bar.job)}) {'all processes' if bar.role == 'all' else bar.role + ' alone'} / {bar.peer}"
    value = (
        f"{verdict.ratio:.2f}, bar ≤ {bar.limit:g}"
        if verdict.ratio is not None
        else f"{verdict.reason}, bar ≤ {bar.limit:g}"
    )
    style = {"pass": "green", "fail": "red bold", "not judged": "yellow"}[verdict.outcome]
    return Text.assemble((f"{verdict.outcome:<10}", style), f" {what}: {value}")


def print_verdicts(console: Console, verdicts: Sequence[Verdict]) -> None:
    """A line per bar."""
    console.print()
    for verdict in verdicts:
        console.print(verdict_line(verdict))
