"""The report in the terminal: first what is said in words, then the numbers.

Text from the log goes through `printable` and is never read as rich's markup, so a route's name cannot move the cursor,
colour the screen or forge a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from proxy.analysis.markup import printable
from proxy.analysis.page_parts import DASH
from proxy.analysis.results import ArmResult, Difference, ExperimentResult, Report, ShadowResult
from proxy.analysis.sentences import (
    METRIC_NAMES,
    VERDICT_WORDS,
    arm_name,
    count,
    duration,
    interval,
    metric_value,
    number,
    pairs,
    percent,
    period,
    probability,
)
from proxy.stats.estimate import Estimate

VERDICT_STYLES = {"better": "green", "worse": "red", "withheld": "yellow"}
MOST_ROWS = 8
# From this width on there is room for the relative difference and the adjusted p-value.
WIDE = 100


def print_report(report: Report, console: Console) -> None:
    """Write the whole report to a console."""
    title = Text("Parallax report", style="bold")
    title.append(
        f"   {period(report)} · {', '.join(report.summary)} · {report.confidence * 100:g} % intervals", style="dim"
    )
    console.print(title)
    for experiment in report.experiments:
        console.print()
        _print_experiment(experiment, console)
    for shadow in report.shadows:
        console.print()
        _print_shadow(shadow, console)
    if report.faults:
        console.print()
        console.print(Text("faults", style="bold"))
        rows = [
            [f.name, count(f.applied), count(f.units), count(f.cohort_exchanges), duration(f.last_s - f.first_s)]
            for f in report.faults
        ]
        _put(console, _table(["fault", "exchanges hit", "units hit", "left out", "from first to last"], rows))
    if report.routes and not report.experiments:
        console.print()
        console.print(Text("routes", style="bold"))
        rows = [
            [r.route or "(no route)", r.upstream, count(r.exchanges), count(r.errors)]
            + [duration(r.latency_s.get(name, 0.0)) for name in ("p50", "p95", "p99")]
            for r in report.routes[:MOST_ROWS]
        ]
        _put(console, _table(["route", "upstream", "exchanges", "errors", "p50", "p95", "p99"], rows, texts=2))
    if report.experiments or report.shadows:
        console.print()
        console.print(Text(report.notes[0], style="dim"))
    elif not report.routes:
        console.print("  Send traffic through the proxy and ask again; it is in the log ten seconds later at most.")


def _print_experiment(result: ExperimentResult, console: Console) -> None:
    console.print(Text.assemble(("experiment ", "dim"), (printable(result.name), "bold")))
    _words(result.summary, result.warnings, console)
    if result.arms:
        rows = [
            [
                arm_name(arm, result),
                count(arm.requests),
                percent(arm.share),
                count(arm.units),
                count(arm.effective_units),
                f"{count(result.srm.observed.get(arm.arm, 0.0))} of {count(result.srm.expected.get(arm.arm, 0.0))}",
            ]
            for arm in result.arms
        ]
        _put(console, _table(["arm", "requests", "share", "units", "count as", "split, due"], rows))
        console.print()
    for arm in result.arms:
        if arm.arm != result.control or len(result.arms) == 1:
            _put(console, _comparison(result, arm, wide=console.width >= WIDE))
            console.print()
    if len(result.epochs) > 1:
        by_epoch: list[list[RenderableType]] = [
            [
                f"{epoch.epoch} {arm.arm}",
                percent(epoch.weights.get(arm.arm, 0.0)),
                count(arm.requests),
                count(arm.units),
                probability(epoch.srm.p_value),
                _epoch_change(epoch.differences, arm.arm, "error_rate"),
                _epoch_change(epoch.differences, arm.arm, "latency_mean_s"),
            ]
            for epoch in result.epochs
            for arm in epoch.arms
        ]
        _put(
            console,
            _table(["epoch, arm", "weight", "requests", "units", "split p", "errors", "mean latency"], by_epoch),
        )
    left_out = [f"{count(n)} {reason or 'without a reason'}" for reason, n in result.not_randomised.items()]
    if result.excluded_by_fault:
        left_out.append(f"{count(result.excluded_by_fault)} in a fault's cohort")
    if left_out:
        _put(console, Text(printable(f"not in the analysis: {', '.join(left_out)}"), style="dim"))


def _print_shadow(result: ShadowResult, console: Console) -> None:
    console.print(Text.assemble(("shadow ", "dim"), (printable(result.name), "bold")))
    _words(result.summary, result.warnings, console)
    told = [f"{name} {count(n)} ({percent(n / result.sampled)})" for name, n in result.outcomes.items()]
    _put(console, Text(printable(f"outcomes: {', '.join(told)}")))
    if len(result.routes) > 1:
        rows = [
            [r.route, count(r.compared), *_share(r.agreement)]
            for r in result.routes[:MOST_ROWS]
            if r.agreement is not None
        ]
        _put(console, _table(["route", "compared", "agreement", "interval"], rows))
    if result.outputs:
        rows = [
            [
                o.output,
                count(o.pairs),
                _two(count(o.differing), percent(o.share)),
                count(o.label_flips),
                DASH if o.max_abs is None else number(o.max_abs),
            ]
            for o in result.outputs[:MOST_ROWS]
        ]
        _put(console, _table(["output", "compared", "differing", "label flips", "largest difference"], rows))
    if result.paths:
        rows = [
            [p.path or "/", p.kind, count(p.pairs), p.primary_value, p.shadow_value] for p in result.paths[:MOST_ROWS]
        ]
        _put(console, _table(["place", "kind", "pairs", "primary, for example", "shadow"], rows, texts=2))
    if result.statuses:
        told = [f"{s.primary} against {s.shadow} in {pairs(s.pairs)}" for s in result.statuses[:MOST_ROWS]]
        _put(console, Text(f"different statuses: {', '.join(told)}"))
    latency = result.latency.mean_difference_s
    if latency is not None:
        told_mean = f"latency of shadow minus primary: mean {duration(latency.value, signed=True)}"
        if latency.low is not None:
            told_mean += f" ({interval('latency', latency, signed=True)})"
        _put(console, Text(f"{told_mean} over {pairs(result.latency.pairs)}"))
    if result.excluded_by_fault:
        _put(console, Text(f"left out: {pairs(result.excluded_by_fault)} in a fault's cohort", style="dim"))


def _words(summary: str, warnings: Sequence[str], console: Console) -> None:
    _put(console, Text(printable(summary)))
    for warning in warnings:
        _put(console, Text(f"! {printable(warning)}", style="yellow"))


def _put(console: Console, what: RenderableType) -> None:
    console.print(Padding(what, (0, 0, 0, 2)))


def _comparison(result: ExperimentResult, arm: ArmResult, *, wide: bool) -> Table:
    """One arm beside control, a row per metric."""
    base = next((other for other in result.arms if other.arm == result.control and other is not arm), None)
    differences = {difference.metric: difference for difference in result.differences if difference.arm == arm.arm}
    rows: list[list[RenderableType]] = []
    for metric, name in METRIC_NAMES.items():
        found = differences.get(metric)
        row: list[RenderableType] = [
            name.removesuffix(" latency"),
            *([_value(metric, base)] if base else []),
            _value(metric, arm),
        ]
        if found is not None:
            relative = DASH if found.relative is None else percent(found.relative.value, signed=True)
            row += [
                metric_value(metric, found.absolute.value, signed=True),
                interval(metric, found.absolute, signed=True),
                *([relative, probability(found.p_adjusted)] if wide else []),
                Text(VERDICT_WORDS.get(found.verdict, found.verdict), style=VERDICT_STYLES.get(found.verdict, "")),
            ]
        else:
            estimate = arm.metrics.get(metric)
            row.append(DASH if estimate is None else interval(metric, estimate))
        rows.append(row)
    if not differences:
        return _table(["", *([result.control or ""] if base else []), arm.arm, "interval"], rows)
    extra = ["relative", "p adjusted"] if wide else []
    header = ["", *([result.control or ""] if base else []), arm.arm, "difference", "interval", *extra, "verdict"]
    return _table(header, rows)


def _value(metric: str, arm: ArmResult) -> str:
    estimate = arm.metrics.get(metric)
    return DASH if estimate is None else metric_value(metric, estimate.value)


def _epoch_change(differences: Sequence[Difference], arm: str, metric: str) -> RenderableType:
    found = next((d.absolute for d in differences if d.arm == arm and d.metric == metric), None)
    if found is None:
        return DASH
    return _two(metric_value(metric, found.value, signed=True), interval(metric, found, signed=True))


def _table(header: Sequence[str], rows: Sequence[Sequence[RenderableType]], *, texts: int = 1) -> Table:
    """A table whose first `texts` columns are words and the rest numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for index, name in enumerate(header):
        words = index < texts
        table.add_column(
            Text(printable(name)), justify="left" if words else "right", overflow="fold" if words else "ellipsis"
        )
    for row in rows:
        table.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    return table


def _two(above: str, below: str) -> Group:
    return Group(Text(above, justify="right"), Text(below, style="dim", justify="right"))


def _share(estimate: Estimate) -> list[RenderableType]:
    return [percent(estimate.value), interval("error_rate", estimate)]
