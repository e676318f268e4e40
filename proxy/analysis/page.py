"""The report as one HTML file: no script, no external resource, everything from outside escaped.

The order is the reader's: what is said in words, then the plots, then the tables behind them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import resources

from proxy.analysis.markup import Markup, join, tag
from proxy.analysis.plots import agreement_plot, ecdf_plot, forest_plot, histogram_plot, routes_plot, traffic_plot
from proxy.analysis.results import ArmResult, Difference, ExperimentResult, FaultResult, Report, ShadowResult
from proxy.analysis.sentences import (
    METRIC_NAMES,
    count,
    duration,
    interval,
    metric_value,
    number,
    pairs,
    percent,
    probability,
)
from proxy.stats.estimate import Estimate

DASH = "\N{EM DASH}"
VERDICT_WORDS = {"better": "better", "worse": "worse", "inconclusive": "not shown", "withheld": "no verdict"}


def render_page(report: Report) -> str:
    """Draw a report as a complete HTML document."""
    style = Markup(resources.files("proxy.analysis").joinpath("page.css").read_text(encoding="utf-8"))
    sections = [
        *(_experiment(f"e{index}", result, report.faults) for index, result in enumerate(report.experiments)),
        *(_shadow(f"s{index}", result) for index, result in enumerate(report.shadows)),
    ]
    links = [(f"e{i}", result.name) for i, result in enumerate(report.experiments)]
    links += [(f"s{i}", result.name) for i, result in enumerate(report.shadows)]
    links += [("faults", "Faults")] if report.faults else []
    links += [("routes", "Routes")] if report.routes else []
    head = tag(
        "header",
        tag("h1", "Parallax report"),
        tag(
            "p",
            f"{period(report)} · {', '.join(report.summary)} · {report.confidence * 100:g} % intervals",
            class_="meta",
        ),
        tag("nav", *(tag("a", name, href=f"#{target}") for target, name in links), aria_label="Sections"),
        class_="top",
    )
    if report.faults:
        sections.append(_faults(report.faults))
    if report.routes:
        sections.append(_routes(report))
    if not sections:
        said = tag(
            "p", "The log holds nothing for this period. Send traffic through the proxy and ask again.", class_="lead"
        )
        sections.append(tag("section", tag("h2", "Nothing to show yet"), said))
    notes = tag("ul", *(tag("li", note) for note in report.notes), class_="notes")
    body = join([head, tag("main", *sections), tag("footer", tag("h3", "How to read this"), notes)])
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{policy}\n'
        f"<title>Parallax report</title>\n{tag('style', style)}\n</head>\n{tag('body', body)}\n</html>\n"
    )


def period(report: Report) -> str:
    """From when to when the log speaks, in UTC."""
    if report.first_s is None or report.last_s is None:
        return "no period"
    first, last = datetime.fromtimestamp(report.first_s, UTC), datetime.fromtimestamp(report.last_s, UTC)
    same = first.date() == last.date()
    return f"{first:%Y-%m-%d %H:%M:%S} to {last:{'%H:%M:%S' if same else '%Y-%m-%d %H:%M:%S'}} UTC"


def arm_name(arm: ArmResult, result: ExperimentResult) -> str:
    """The name of an arm, and that it is control where the name does not say so."""
    return f"{arm.arm} (control)" if arm.arm == result.control != "control" else arm.arm


def _experiment(identity: str, result: ExperimentResult, faults: Sequence[FaultResult]) -> Markup:
    badges = []
    if result.srm.failed:
        badges.append(_badge("sample ratio mismatch", "fail"))
    elif result.srm.p_value is not None:
        badges.append(_badge("split as configured", "ok"))
    verdicts = {d.verdict for d in result.differences}
    for verdict in ("worse", "better"):
        names = [METRIC_NAMES[d.metric] for d in result.differences if d.verdict == verdict]
        if names:
            badges.append(_badge(f"{verdict}: {', '.join(dict.fromkeys(names))}", verdict))
    if verdicts and not verdicts & {"better", "worse"}:
        kind = "withheld" if verdicts == {"withheld"} else ""
        badges.append(_badge("no verdict" if kind else "no difference shown", kind))
    control = result.control or ""
    plots = [
        ecdf_plot(f"{identity}-ecdf", result),
        traffic_plot(f"{identity}-traffic", result.timeline, faults),
        forest_plot(f"{identity}-latency", result.differences, control, errors=False),
        forest_plot(f"{identity}-errors", result.differences, control, errors=True),
    ]
    return tag(
        "section",
        _head("experiment", result.name, badges),
        tag("p", result.summary, class_="lead"),
        _warnings(result.warnings),
        _plots(plots),
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
    rows = [
        [
            arm_name(arm, result),
            _two(count(arm.requests), percent(arm.share)),
            _two(count(arm.units), f"count as {count(arm.effective_units)}"),
            _two(count(result.srm.observed.get(arm.arm, 0.0)), f"due {count(result.srm.expected.get(arm.arm, 0.0))}"),
            *(_cell(metric, arm.metrics.get(metric)) for metric in metrics),
        ]
        for arm in result.arms
    ]
    header = [
        "Arm",
        "Requests",
        "Units",
        f"Split, p {probability(result.srm.p_value)}",
        *(METRIC_NAMES[m] for m in metrics),
    ]
    return _table(
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
            _two(probability(d.absolute.p_value), f"adjusted {probability(d.p_adjusted)}"),
            _verdict(d),
        ]
        for d in result.differences
    ]
    strata = f", stratified over {len(result.epochs)} epochs" if len(result.epochs) > 1 else ""
    caption = f"Difference to {result.control}{strata} (control known from: {result.control_source})"
    return _table(caption, ["Metric", "Difference", "Interval", "Relative", "p", "Verdict"], rows)


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
    return _table("By allocation epoch (not judged one by one)", header, rows)


def _left_out(result: ExperimentResult) -> Markup:
    rows = [[reason or "(none given)", count(n)] for reason, n in result.not_randomised.items()]
    if result.excluded_by_fault:
        rows.append(["in a fault's cohort", count(result.excluded_by_fault)])
    return _table("Exchanges that are not in the analysis", ["Reason", "Exchanges"], rows) if rows else Markup("")


def _shadow(identity: str, result: ShadowResult) -> Markup:
    badges = []
    if result.agreement is not None:
        share = result.agreement.value
        badges.append(
            _badge(f"{percent(share)} agreement", "ok" if share >= 0.99 else "warn" if share >= 0.9 else "fail")
        )
    return tag(
        "section",
        _head("shadow", result.name, badges),
        tag("p", result.summary, class_="lead"),
        _warnings(result.warnings),
        _outcomes(result),
        _plots(
            [
                agreement_plot(f"{identity}-time", result),
                histogram_plot(f"{identity}-size", result),
                routes_plot(f"{identity}-routes", result.routes),
            ]
        ),
        _outputs(result),
        _paths(result),
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
            _two(count(row.differing), percent(row.share)),
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
    return _table("Outputs that differ most", header, rows) if rows else Markup("")


def _paths(result: ShadowResult) -> Markup:
    rows = [
        [
            Markup(tag("code", row.path or "/")),
            row.kind,
            _two(count(row.pairs), f"{percent(row.share)} of mismatches"),
            Markup(tag("code", row.primary_value)),
            Markup(tag("code", row.shadow_value)),
        ]
        for row in result.paths[:12]
    ]
    header = ["Place", "Kind", "Pairs", "Primary, for example", "Shadow"]
    return _table("Where answers differ", header, rows, text=(1, 3, 4)) if rows else Markup("")


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
    return _table(caption, ["What", "Value", "Interval"], rows)


def _faults(faults: Sequence[FaultResult]) -> Markup:
    rows = [
        [
            fault.name,
            count(fault.applied),
            count(fault.units),
            count(fault.cohort_exchanges),
            _moment(fault.first_s),
            _moment(fault.last_s),
            str(len(fault.windows)),
        ]
        for fault in faults
    ]
    header = ["Fault", "Exchanges hit", "Units hit", "Exchanges left out", "First", "Last", "Windows"]
    return tag("section", _head("", "Faults", []), _table("Seen in the log (UTC)", header, rows), id="faults")


def _routes(report: Report) -> Markup:
    rows = [
        [
            row.route or "(no route)",
            row.upstream,
            count(row.exchanges),
            _two(count(row.errors), percent(row.errors / row.exchanges if row.exchanges else 0.0)),
            *(duration(row.latency_s.get(name, 0.0)) for name in ("p50", "p95", "p99")),
        ]
        for row in report.routes
    ]
    header = ["Route", "Upstream", "Exchanges", "Errors", "p50", "p95", "p99"]
    return tag(
        "section",
        _head("", "Routes", []),
        _table("All traffic, described without inference", header, rows, text=(1,)),
        id="routes",
    )


def _head(kind: str, name: str, badges: Sequence[Markup]) -> Markup:
    title = tag("h2", *([tag("span", kind, class_="kind")] if kind else []), name)
    return tag("div", title, tag("div", *badges, class_="badges"), class_="head")


def _badge(words: str, kind: str) -> Markup:
    return tag("span", words, class_=f"badge {kind}".strip())


def _warnings(warnings: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", warning) for warning in warnings), class_="warnings") if warnings else Markup("")


def _plots(plots: Sequence[Markup]) -> Markup:
    drawn = [plot for plot in plots if plot]
    return tag("div", *drawn, class_="plots") if drawn else Markup("")


def _table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = ()) -> Markup:
    head = tag(
        "tr", *(tag("th", name, scope="col", class_="text" if i in text else None) for i, name in enumerate(header))
    )
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_="text" if i in text else None) for i, cell in enumerate(row[1:], start=1)),
        )
        for row in rows
    ]
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    # A wide table scrolls by itself, and can be reached by keyboard.
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _two(above: str, below: str) -> Markup:
    return join([tag("span", above), tag("small", below)])


def _cell(metric: str, estimate: Estimate | None) -> str:
    if estimate is None:
        return DASH
    return _two(metric_value(metric, estimate.value), interval(metric, estimate))


def _change(metric: str, difference: Difference | None) -> str:
    if difference is None:
        return DASH
    estimate = difference.absolute
    return _two(metric_value(metric, estimate.value, signed=True), interval(metric, estimate, signed=True))


def _relative(estimate: Estimate | None) -> str:
    if estimate is None:
        return DASH
    if estimate.low is None or estimate.high is None:
        return percent(estimate.value, signed=True)
    ends = f"{percent(estimate.low, signed=True)} to {percent(estimate.high, signed=True)}"
    return _two(percent(estimate.value, signed=True), ends)


def _verdict(difference: Difference) -> Markup:
    words = VERDICT_WORDS.get(difference.verdict, difference.verdict)
    return join([_badge(words, difference.verdict), tag("small", difference.reason)])


def _moment(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
