"""The section of one shadow on the page."""

from __future__ import annotations

from proxy.analysis.markup import Markup, join, tag
from proxy.analysis.page_answers import matrices, slice_table, tokens, truth_table, worst_pairs
from proxy.analysis.page_noise import noise_tables
from proxy.analysis.page_parts import DASH, badge, heading, plot_grid, table, two_lines, warning_list
from proxy.analysis.plots import agreement_plot, histogram_plot, routes_plot, shift_plot
from proxy.analysis.results import ShadowResult
from proxy.analysis.sentences import count, duration, interval, metric_value, number, pairs, percent

MOST_SHIFTS = 2


def shadow_section(identity: str, result: ShadowResult) -> Markup:
    """What is said of a shadow, its plots, and the tables behind them."""
    badges = []
    if result.agreement is not None:
        share = result.agreement.value
        badges.append(
            badge(f"{percent(share)} agreement", "ok" if share >= 0.99 else "warn" if share >= 0.9 else "fail")
        )
    return tag(
        "section",
        heading("shadow", result.name, badges),
        tag("p", result.summary, class_="lead"),
        warning_list(result.warnings),
        _outcomes(result),
        plot_grid(
            [
                agreement_plot(f"{identity}-time", result),
                histogram_plot(f"{identity}-size", result),
                *(shift_plot(f"{identity}-shift{i}", shift) for i, shift in enumerate(result.shifts[:MOST_SHIFTS])),
                routes_plot(f"{identity}-routes", result.routes),
            ]
        ),
        noise_tables(result.noise),
        truth_table(result.truth),
        slice_table(result),
        matrices(result),
        _outputs(result),
        _paths(result),
        worst_pairs(result),
        tokens(result),
        _pair_facts(result),
        id=identity,
    )


def _outcomes(result: ShadowResult) -> Markup:
    if not result.sampled:
        return Markup("")
    bar = [
        tag("span", "", class_=f"c{index % 6}", style=f"flex:{n}", title=f"{name}: {count(n)}")
        for index, (name, n) in enumerate(result.outcomes.items())
    ]
    keys = [
        tag("span", tag("span", "", class_=f"key c{index % 6}"), f"{name} {count(n)} ({percent(n / result.sampled)})")
        for index, (name, n) in enumerate(result.outcomes.items())
    ]
    return join(
        [
            tag(
                "div",
                *bar,
                class_="stack",
                role="img",
                aria_label=f"outcomes of {count(result.sampled)} sampled exchanges",
            ),
            tag("p", *keys, class_="legend"),
        ]
    )


def _outputs(result: ShadowResult) -> Markup:
    rows = [
        [
            Markup(tag("code", row.output)),
            count(row.pairs),
            two_lines(count(row.differing), percent(row.share)),
            count(row.label_flips),
            DASH if row.median_abs is None else number(row.median_abs),
            DASH if row.max_abs is None else number(row.max_abs),
        ]
        for row in result.outputs
    ]
    header = [
        "Output",
        "Compared pairs",
        "Differing",
        "Label flips",
        "Median difference, if not identical",
        "Largest difference",
    ]
    return table("Outputs that differ most", header, rows) if rows else Markup("")


def _paths(result: ShadowResult) -> Markup:
    rows = [
        [
            Markup(tag("code", row.path or "/")),
            row.kind,
            two_lines(count(row.pairs), f"{percent(row.share)} of mismatches"),
            Markup(tag("code", row.primary_value)),
            Markup(tag("code", row.shadow_value)),
        ]
        for row in result.paths[:12]
    ]
    header = ["Place", "Kind", "Pairs", "Primary, for example", "Shadow"]
    return table("Where answers differ", header, rows, text=(1, 3, 4)) if rows else Markup("")


def _pair_facts(result: ShadowResult) -> Markup:
    latency = result.latency
    rows: list[list[str]] = []
    for name, estimate in (("median", latency.median_difference_s), ("mean", latency.mean_difference_s)):
        if estimate is not None:
            rows.append(
                [
                    f"Latency, {name} of shadow minus primary",
                    duration(estimate.value, signed=True),
                    interval("latency", estimate, signed=True),
                ]
            )
    if result.failure_difference is not None and result.failure_difference.low is not None:
        e = result.failure_difference
        rows.append(
            [
                "Failures of shadow minus primary",
                metric_value("error_rate", e.value, signed=True),
                interval("error_rate", e, signed=True),
            ]
        )
    rows += [
        [
            f"Latency, {name}: primary and shadow",
            f"{duration(value)} and {duration(latency.shadow_s.get(name, 0.0))}",
            DASH,
        ]
        for name, value in latency.primary_s.items()
    ]
    rows += [
        [f"Status {s.primary} from the primary, {s.shadow} from the shadow", pairs(s.pairs), DASH]
        for s in result.statuses
    ]
    rows += [[f"Not comparable: {reason or 'unknown'}", pairs(n), DASH] for reason, n in result.incomparable.items()]
    rows += [[f"Compared as {name}", pairs(n), DASH] for name, n in result.comparisons.items()]
    if result.ignored:
        rows.append(["Agreeing: differences only in ignored paths", pairs(result.ignored), DASH])
    if result.both_failed:
        rows.append(["Left out: both sides failed", pairs(result.both_failed), DASH])
    if result.excluded_by_fault:
        rows.append(["Left out: in a fault's cohort", pairs(result.excluded_by_fault), DASH])
    caption = f"Pair by pair ({pairs(latency.pairs)} with both answers)"
    return table(caption, ["What", "Value", "Interval"], rows)
