"""The section of one experiment on the page."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.analysis.markup import Markup, join, tag
from proxy.analysis.page_parts import DASH, badge, heading, plot_grid, table, two_lines, warning_list
from proxy.analysis.plots import ecdf_plot, forest_plot, traffic_plot
from proxy.analysis.results import Difference, ExperimentResult, FaultResult
from proxy.analysis.sentences import (
    METRIC_NAMES,
    VERDICT_WORDS,
    arm_name,
    count,
    interval,
    metric_value,
    percent,
    probability,
)
from proxy.stats.estimate import Estimate


def experiment_section(identity: str, result: ExperimentResult, faults: Sequence[FaultResult]) -> Markup:
    """What is said of an experiment, its plots, and the tables behind them."""
    badges = []
    if result.srm.failed:
        badges.append(badge("sample ratio mismatch", "fail"))
    elif result.srm.p_value is not None:
        badges.append(badge("split as configured", "ok"))
    verdicts = {d.verdict for d in result.differences}
    for verdict in ("worse", "better"):
        names = [METRIC_NAMES[d.metric] for d in result.differences if d.verdict == verdict]
        if names:
            badges.append(badge(f"{verdict}: {', '.join(dict.fromkeys(names))}", verdict))
    if verdicts and not verdicts & {"better", "worse"}:
        kind = "withheld" if verdicts == {"withheld"} else ""
        badges.append(badge("no verdict" if kind else "no difference shown", kind))
    control = result.control or ""
    plots = [
        ecdf_plot(f"{identity}-ecdf", result),
        traffic_plot(f"{identity}-traffic", result.timeline, faults),
        forest_plot(f"{identity}-latency", result.differences, control, errors=False),
        forest_plot(f"{identity}-errors", result.differences, control, errors=True),
    ]
    return tag(
        "section",
        heading("experiment", result.name, badges),
        tag("p", result.summary, class_="lead"),
        warning_list(result.warnings),
        plot_grid(plots),
        _arms(result),
        _differences(result),
        _epochs(result),
        _left_out(result),
        id=identity,
    )


def _arms(result: ExperimentResult) -> Markup:
    if not result.arms:
        return Markup("")
    metrics = tuple(METRIC_NAMES)
    fell_back = any(arm.fell_back for arm in result.arms)
    rows = [
        [
            arm_name(arm, result),
            two_lines(count(arm.requests), percent(arm.share)),
            two_lines(count(arm.units), f"count as {count(arm.effective_units)}"),
            two_lines(
                count(result.srm.observed.get(arm.arm, 0.0)), f"due {count(result.srm.expected.get(arm.arm, 0.0))}"
            ),
            *(_cell(metric, arm.metrics.get(metric)) for metric in metrics),
            *([count(arm.fell_back)] if fell_back else []),
        ]
        for arm in result.arms
    ]
    header = [
        "Arm",
        "Requests",
        "Units",
        f"Split, p {probability(result.srm.p_value)}",
        *(METRIC_NAMES[m] for m in metrics),
        *(["Fell back"] if fell_back else []),
    ]
    return table(
        "Arms, as recounted from the log, with intervals clustered by unit (split: units by the arm that first served them)",
        header,
        rows,
    )


def _differences(result: ExperimentResult) -> Markup:
    if not result.differences:
        return Markup("")
    rows = [
        [
            f"{d.arm} {DASH} {METRIC_NAMES[d.metric]}",
            metric_value(d.metric, d.absolute.value, signed=True),
            interval(d.metric, d.absolute, signed=True),
            _relative(d.relative),
            two_lines(probability(d.absolute.p_value), f"adjusted {probability(d.p_adjusted)}"),
            _verdict(d),
        ]
        for d in result.differences
    ]
    strata = f", stratified over {len(result.epochs)} epochs" if len(result.epochs) > 1 else ""
    caption = f"Difference to {result.control}{strata} (control known from: {result.control_source})"
    return table(caption, ["Metric", "Difference", "Interval", "Relative", "p", "Verdict"], rows)


def _epochs(result: ExperimentResult) -> Markup:
    if len(result.epochs) < 2:
        return Markup("")
    rows: list[list[str]] = []
    for epoch in result.epochs:
        for arm in epoch.arms:
            mine = {d.metric: d for d in epoch.differences if d.arm == arm.arm}
            rows.append(
                [
                    f"{epoch.epoch} {DASH} {arm.arm}",
                    percent(epoch.weights.get(arm.arm, 0.0)),
                    count(arm.requests),
                    count(arm.units),
                    probability(epoch.srm.p_value) + (" (mismatch)" if epoch.srm.failed else ""),
                    _cell("error_rate", arm.metrics.get("error_rate")),
                    _cell("latency_p50_s", arm.metrics.get("latency_p50_s")),
                    *(_change(metric, mine.get(metric)) for metric in ("error_rate", "latency_mean_s")),
                ]
            )
    header = [
        "Epoch and arm",
        "Weight",
        "Requests",
        "Units",
        "Split, p",
        "Error rate",
        "p50 latency",
        "Errors to control",
        "Mean latency to control",
    ]
    return table("By allocation epoch (not judged one by one)", header, rows)


def _left_out(result: ExperimentResult) -> Markup:
    rows = [[reason or "(none given)", count(n)] for reason, n in result.not_randomised.items()]
    if result.excluded_by_fault:
        rows.append(["in a fault's cohort", count(result.excluded_by_fault)])
    return table("Exchanges that are not in the analysis", ["Reason", "Exchanges"], rows) if rows else Markup("")


def _cell(metric: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return DASH
    return two_lines(metric_value(metric, estimate.value), interval(metric, estimate))


def _change(metric: str, difference: Difference | None) -> str:
    if difference is None:
        return DASH
    estimate = difference.absolute
    return two_lines(metric_value(metric, estimate.value, signed=True), interval(metric, estimate, signed=True))


def _relative(estimate: Estimate | None) -> str:
    if estimate is None:
        return DASH
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value, signed=True)
    ends = f"{percent(estimate.low, signed=True)} to {percent(estimate.high, signed=True)}"
    return two_lines(percent(estimate.value, signed=True), ends)


def _verdict(difference: Difference) -> Markup:
    words = VERDICT_WORDS.get(difference.verdict, difference.verdict)
    return join([badge(words, difference.verdict), tag("small", difference.reason)])
