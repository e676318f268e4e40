"""The report in the terminal: first what is said in words, then the numbers.

Text from the log goes through `printable` and is never read as rich's markup, so a route's name cannot move the cursor,
colour the screen or forge a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.analysis.markup import printable
from proxy.analysis.page_parts import DASH
from proxy.analysis.results import ArmResult, Difference, ExperimentResult, Report
from proxy.analysis.sentences import (
    METRIC_NAMES,
    VERDICT_WORDS,
    arm_name,
    count,
    duration,
    interval,
    metric_value,
    percent,
    period,
    probability,
)
from proxy.cli.shadow_table import print_shadow
from proxy.cli.table_parts import MOST_ROWS, put, put_words, text_table, two_lines

VERDICT_STYLES = {"better": "green", "worse": "red", "withheld": "yellow"}
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
        print_shadow(shadow, console)
    if report.faults:
        console.print()
        console.print(Text("faults", style="bold"))
        rows = [
            [f.name, count(f.applied), count(f.units), count(f.cohort_exchanges), duration(f.last_s - f.first_s)]
            for f in report.faults
        ]
        put(console, text_table(["fault", "exchanges hit", "units hit", "left out", "from first to last"], rows))
    if report.routes and not report.experiments:
        console.print()
        console.print(Text("routes", style="bold"))
        rows = [
            [r.route or "(no route)", r.upstream, count(r.exchanges), count(r.errors)]
            + [duration(r.latency_s.get(name, 0.0)) for name in ("p50", "p95", "p99")]
            for r in report.routes[:MOST_ROWS]
        ]
        put(console, text_table(["route", "upstream", "exchanges", "errors", "p50", "p95", "p99"], rows, texts=2))
    if report.experiments or report.shadows:
        console.print()
        console.print(Text(report.notes[0], style="dim"))
    elif not report.routes:
        console.print("  Send traffic through the proxy and ask again; it is in the log ten seconds later at most.")


def _print_experiment(result: ExperimentResult, console: Console) -> None:
    console.print(Text.assemble(("experiment ", "dim"), (printable(result.name), "bold")))
    put_words(result.summary, result.warnings, console)
    fell_back = any(arm.fell_back for arm in result.arms)
    if result.arms:
        rows = [
            [
                arm_name(arm, result),
                count(arm.requests),
                percent(arm.share),
                count(arm.units),
                count(arm.effective_units),
                f"{count(result.srm.observed.get(arm.arm, 0.0))} of {count(result.srm.expected.get(arm.arm, 0.0))}",
                *([count(arm.fell_back)] if fell_back else []),
            ]
            for arm in result.arms
        ]
        put(
            console,
            text_table(
                ["arm", "requests", "share", "units", "count as", "split, due", *(["fell back"] if fell_back else [])],
                rows,
            ),
        )
        console.print()
    for arm in result.arms:
        if arm.arm != result.control or len(result.arms) == 1:
            put(console, _comparison(result, arm, wide=console.width >= WIDE))
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
        put(
            console,
            text_table(["epoch, arm", "weight", "requests", "units", "split p", "errors", "mean latency"], by_epoch),
        )
    left_out = [f"{count(n)} {reason or 'without a reason'}" for reason, n in result.not_randomised.items()]
    if result.excluded_by_fault:
        left_out.append(f"{count(result.excluded_by_fault)} in a fault's cohort")
    if left_out:
        put(console, Text(printable(f"not in the analysis: {', '.join(left_out)}"), style="dim"))


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
        return text_table(["", *([result.control or ""] if base else []), arm.arm, "interval"], rows)
    extra = ["relative", "p adjusted"] if wide else []
    header = ["", *([result.control or ""] if base else []), arm.arm, "difference", "interval", *extra, "verdict"]
    return text_table(header, rows)


def _value(metric: str, arm: ArmResult) -> str:
    estimate = arm.metrics.get(metric)
    return DASH if estimate is None else metric_value(metric, estimate.value)


def _epoch_change(differences: Sequence[Difference], arm: str, metric: str) -> RenderableType:
    found = next((d.absolute for d in differences if d.arm == arm and d.metric == metric), None)
    if found is None:
        return DASH
    return two_lines(metric_value(metric, found.value, signed=True), interval(metric, found, signed=True))
