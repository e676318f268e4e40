"""The plots of the page, each a pure function from results to SVG.

Nothing is drawn that the tables do not also say in numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.analysis.axes import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    frame,
    legend,
    linear_ticks,
    log_ticks,
    path,
    time_label,
    time_ticks,
    x_axis,
    y_axis,
)
from proxy.analysis.markup import Markup, join, tag
from proxy.analysis.results import (
    Difference,
    ExperimentResult,
    FaultResult,
    RouteAgreement,
    Series,
    ShadowResult,
    ShiftResult,
)
from proxy.analysis.sentences import METRIC_NAMES, MINUS, count, duration, interval, metric_value, number, percent
from proxy.stats.estimate import Estimate

ROW = 26.0


def ecdf_plot(identity: str, experiment: ExperimentResult) -> Markup:
    """The share of requests answered within a time, per arm, on a log axis."""
    xs, curves = experiment.ecdf_x_s, experiment.ecdf
    if not xs or not curves:
        return Markup("")
    # The slowest and fastest 0.2 % stretch the axis and show nothing.
    low = max(
        (max([x for x, y in zip(xs, ys, strict=True) if y <= 0.002] or [xs[0]]) for ys in curves.values()),
        default=xs[0],
    )
    high = max(min([x for x, y in zip(xs, ys, strict=True) if y >= 0.998] or [xs[-1]]) for ys in curves.values())
    low, high = (low, high) if high > low * 1.05 else (low / 2, low * 2)
    x, y = Scale(low, high, LEFT, WIDTH - RIGHT, log=True), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    lines = [
        path(
            [(x(a), y(b)) for a, b in zip(xs, ys, strict=True) if low <= a <= high],
            class_=f"line s{index % COLOURS}",
        )
        for index, ys in enumerate(curves.values())
    ]
    title = "Latency distribution per arm"
    return _figure(
        title,
        "share of requests answered within a time",
        frame(
            identity,
            title,
            f"cumulative share of requests by latency for {', '.join(curves)}, logarithmic time axis",
            y_axis(y, [0, 0.25, 0.5, 0.75, 1], lambda v: f"{v:.0%}"),
            x_axis(x, log_ticks(low, high), _short_duration),
            *lines,
        ),
        legend(list(curves)),
    )


def traffic_plot(identity: str, series: Series, faults: Sequence[FaultResult]) -> Markup:
    """Requests per minute per arm, with the windows of faults shaded."""
    if not series.starts:
        return Markup("")
    rates = {name: [n * 60 / series.width_s for n in numbers] for name, numbers in series.counts.items()}
    # The buckets in which the period starts and ends are rarely full, and would draw a rise and a fall that never were.
    whole = slice(1, -1) if len(series.starts) > 4 else slice(None)
    rates, starts = {name: numbers[whole] for name, numbers in rates.items()}, series.starts[whole]
    first, last = starts[0], starts[-1] + series.width_s
    top = max((max(numbers) for numbers in rates.values()), default=1.0) * 1.08 or 1.0
    x, y = Scale(first, last, LEFT, WIDTH - RIGHT), Scale(0, top, HEIGHT - BOTTOM, TOP)
    shades = [
        _window(x, fault, window)
        for fault in faults
        for window in fault.windows
        if window[0] < last and window[1] > first
    ]
    lines = [
        path(
            [(x(t + series.width_s / 2), y(v)) for t, v in zip(starts, numbers, strict=True)],
            class_=f"line s{index % COLOURS}",
        )
        for index, numbers in enumerate(rates.values())
    ]
    title = "Requests per minute"
    names = ", ".join(fault.name for fault in faults if fault.windows)
    return _figure(
        title,
        f"randomised exchanges per arm; shaded: {names}" if shades else "randomised exchanges per arm",
        frame(
            identity,
            title,
            f"requests per minute over time for {', '.join(rates)}"
            + (f", with the windows of {names}" if shades else ""),
            join(shades),
            y_axis(y, linear_ticks(0, top, 5), count),
            x_axis(x, time_ticks(first, last), lambda v: time_label(v, last - first)),
            *lines,
        ),
        legend(list(rates)),
    )


def forest_plot(identity: str, differences: Sequence[Difference], control: str, *, errors: bool) -> Markup:
    """Differences to control with their intervals: error rates in points, latencies relative to control."""
    rows: list[tuple[str, str, Estimate, str]] = []
    for d in differences:
        if (d.metric == "error_rate") != errors:
            continue
        estimate = d.absolute if errors else d.relative
        if estimate is not None and estimate.low is not None and estimate.high is not None:
            shown = metric_value(d.metric, d.absolute.value, signed=True)
            rows.append((d.arm, METRIC_NAMES[d.metric], estimate, shown))
    if not rows:
        return Markup("")
    verdicts = {(d.arm, METRIC_NAMES[d.metric]): d.verdict for d in differences}
    left, right = 170.0, WIDTH - 78
    ends = [end for *_, e, _ in rows for end in (e.low, e.high) if end is not None]
    reach = max(0.0, *ends) - min(0.0, *ends) or 1.0
    height = TOP + ROW * len(rows) + BOTTOM
    x = Scale(min(0.0, *ends) - 0.06 * reach, max(0.0, *ends) + 0.06 * reach, left, right)
    parts = [tag("line", x1=x(0), x2=x(0), y1=TOP, y2=height - BOTTOM, class_="zero")]
    for index, (arm, metric, e, shown) in enumerate(rows):
        middle = TOP + ROW * (index + 0.5)
        kind = verdicts[arm, metric]
        parts += [
            tag("text", f"{_cut(arm, 12)} · {metric}", x=left - 10, y=middle + 4, class_="row", text_anchor="end"),
            tag("line", x1=x(e.low or 0), x2=x(e.high or 0), y1=middle, y2=middle, class_=f"bar {kind}"),
            tag("circle", cx=x(e.value), cy=middle, r=4.5, class_=f"dot {kind}"),
            tag("text", shown, x=WIDTH - 4, y=middle + 4, class_="row", text_anchor="end"),
        ]
    label = (
        (lambda v: percent(v, signed=True).replace(" %", " pp"))
        if errors
        else (lambda v: _signed(f"{v:+.0%}") if v else "0")
    )
    if not errors and reach < 0.05:
        label = lambda v: _signed(f"{v:+.1%}") if v else "0"  # noqa: E731  three forms of one label
    title = f"Error rate against {control}" if errors else f"Latency against {control}"
    return _figure(
        title,
        "percentage points; left of 0 is better" if errors else "relative difference; left of 0 is faster",
        frame(
            identity,
            title,
            "; ".join(f"{arm} {metric}: {shown}" for arm, metric, _, shown in rows),
            x_axis(x, linear_ticks(x.low, x.high, 4), label, height=height),
            *parts,
            height=height,
        ),
    )


def agreement_plot(identity: str, shadow: ShadowResult) -> Markup:
    """The share of compared pairs that agree, over time."""
    series = shadow.timeline
    nothing = [0.0] * len(series.starts)
    matches, ignored, misses = (series.counts.get(name, nothing) for name in ("match", "ignored", "mismatch"))
    points = [
        (start + series.width_s / 2, (match + alike) / (match + alike + miss))
        for start, match, alike, miss in zip(series.starts, matches, ignored, misses, strict=True)
        if match + alike + miss > 0
    ]
    if not points:
        return Markup("")
    first, last = series.starts[0], series.starts[-1] + series.width_s
    floor = max(0.0, min(share for _, share in points) - 0.05)
    low = next(level for level in (0.9, 0.8, 0.5, 0.0) if level <= floor or level == 0.0)
    x, y = Scale(first, last, LEFT, WIDTH - RIGHT), Scale(low, 1, HEIGHT - BOTTOM, TOP)
    drawn = [(x(t), y(share)) for t, share in points]
    mean = shadow.agreement
    parts = [path(drawn, class_="line s0")] if len(drawn) > 1 else []
    parts += [tag("circle", cx=a, cy=b, r=2.2, class_="dot s0") for a, b in drawn] if len(drawn) <= 60 else []
    if mean is not None:
        parts.insert(0, tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(mean.value), y2=y(mean.value), class_="mean"))
        if mean.low is not None and mean.high is not None:
            band = tag(
                "rect",
                x=LEFT,
                width=WIDTH - RIGHT - LEFT,
                y=y(mean.high),
                height=max(y(mean.low) - y(mean.high), 1),
                class_="band",
            )
            parts.insert(0, band)
    title = "Agreement over time"
    said = f"overall {percent(mean.value)}, interval {interval('error_rate', mean)}" if mean else ""
    return _figure(
        title,
        "share of compared pairs that agree; band: the overall interval",
        frame(
            identity,
            title,
            f"share of agreeing pairs per {series.width_s:g} s, {said}",
            y_axis(y, linear_ticks(low, 1, 5), lambda v: f"{v:.0%}"),
            x_axis(x, time_ticks(first, last), lambda v: time_label(v, last - first)),
            *parts,
        ),
    )


def histogram_plot(identity: str, shadow: ShadowResult) -> Markup:
    """How large the largest difference of a pair is, by order of magnitude, for the outputs that differ most."""
    outputs = {name: {float(low): n for low, n in bins.items()} for name, bins in shadow.max_abs.items()}
    positive = sorted({low for bins in outputs.values() for low in bins if low > 0})
    if not positive:
        return Markup("")
    low, high = positive[0], positive[-1] * 10**0.25
    # Exact equality has no place on a log axis; its bar stands apart on the left.
    apart = any(0.0 in bins for bins in outputs.values())
    x = Scale(low, high, LEFT + (46 if apart else 0), WIDTH - RIGHT, log=True)
    top = max(n for bins in outputs.values() for n in bins.values()) * 1.15
    y = Scale(0.8, top, HEIGHT - BOTTOM, TOP, log=True)
    bars: list[Markup] = []
    for index, bins in enumerate(outputs.values()):
        thin = 1.0 / len(outputs)
        for start, n in sorted(bins.items()):
            a, b = (LEFT + 6, LEFT + 32) if start == 0 else (x(start) + 0.8, x(start * 10**0.25) - 0.8)
            width = (b - a) * thin
            bars.append(
                tag(
                    "rect",
                    x=round(a + index * width, 2),
                    width=max(round(width, 2), 0.8),
                    y=y(n),
                    height=HEIGHT - BOTTOM - y(n),
                    class_=f"fill s{index}",
                )
            )
    zero = [tag("text", "0", x=LEFT + 19, y=HEIGHT - BOTTOM + 15, class_="tick", text_anchor="middle")] if apart else []
    title = "Size of the largest difference per pair"
    return _figure(
        title,
        "pairs by largest absolute difference, without identical answers; both axes logarithmic",
        frame(
            identity,
            title,
            f"histogram of the largest absolute difference for {', '.join(outputs)}",
            y_axis(y, [10.0**k for k in range(9) if 0.8 <= 10.0**k <= top], count),
            x_axis(x, [tick for tick in log_ticks(low, high) if not apart or x(tick) > LEFT + 60], number),
            *zero,
            *bars,
        ),
        legend(list(outputs)),
    )


def shift_plot(identity: str, shift: ShiftResult) -> Markup:
    """By how much the scores of one output moved: shares of pairs per bin around zero."""
    if len(shift.bins) < 2:
        return Markup("")
    low, high = shift.bins[0][0], shift.bins[-1][1]
    top = max(share for _, _, share in shift.bins)
    x, y = Scale(low, high, LEFT, WIDTH - RIGHT), Scale(0, top * 1.1, HEIGHT - BOTTOM, TOP)
    bars = [
        tag(
            "rect",
            x=round(x(a) + 0.8, 2),
            width=round(max(x(b) - x(a) - 1.6, 0.8), 2),
            y=round(y(share), 2),
            height=round(HEIGHT - BOTTOM - y(share), 2),
            class_="fill s0",
        )
        for a, b, share in shift.bins
        if share > 0
    ]
    zero = tag("line", x1=x(0), x2=x(0), y1=TOP, y2=HEIGHT - BOTTOM, class_="zero")
    title = f"Score shift of {_cut(shift.output, 40)}"
    told = ", ".join(
        f"{name} {number(value)}" for name, value in shift.quantiles.items() if name in {"p5", "p50", "p95"}
    )
    return _figure(
        title,
        f"shadow minus primary, share of {count(shift.pairs)} pairs; {told}",
        frame(
            identity,
            title,
            f"histogram of score shifts of {shift.output}: {told}",
            y_axis(y, linear_ticks(0, top, 4), percent),
            x_axis(x, linear_ticks(low, high, 5), number),
            *bars,
            zero,
        ),
    )


def routes_plot(identity: str, routes: Sequence[RouteAgreement]) -> Markup:
    """Agreement per route with its interval."""
    rows = [(route.route, route.agreement) for route in routes if route.agreement is not None][:12]
    if len(rows) < 2:
        return Markup("")
    low = min(e.value if e.low is None else e.low for _, e in rows)
    left, right, height = 170.0, WIDTH - 78, TOP + ROW * len(rows) + BOTTOM
    x = Scale(max(0.0, low - 0.02), 1.0, left, right)
    parts: list[Markup] = []
    for index, (route, e) in enumerate(rows):
        middle = TOP + ROW * (index + 0.5)
        if e.low is not None and e.high is not None:
            parts.append(tag("line", x1=x(e.low), x2=x(e.high), y1=middle, y2=middle, class_="bar"))
        parts += [
            tag("text", _cut(route, 24), x=left - 10, y=middle + 4, class_="row", text_anchor="end"),
            tag("circle", cx=x(e.value), cy=middle, r=4.5, class_="dot s0"),
            tag("text", percent(e.value), x=WIDTH - 4, y=middle + 4, class_="row", text_anchor="end"),
        ]
    title = "Agreement by route"
    description = "; ".join(f"{route}: {percent(e.value)}" for route, e in rows)
    axis = x_axis(x, linear_ticks(x.low, 1.0, 4), percent, height=height)
    return _figure(
        title, "share of compared pairs that agree", frame(identity, title, description, axis, *parts, height=height)
    )


def _figure(title: str, subtitle: str, *parts: Markup) -> Markup:
    caption = tag("figcaption", tag("strong", title), tag("span", subtitle))
    return tag("figure", caption, *parts)


def _window(x: Scale, fault: FaultResult, window: tuple[float, float]) -> Markup:
    start, end = x(window[0]), x(window[1])
    return join(
        [
            tag("rect", x=start, width=max(end - start, 2), y=TOP, height=HEIGHT - BOTTOM - TOP, class_="fault"),
            tag("text", _cut(fault.name, 18), x=start + 4, y=TOP + 12, class_="tick"),
        ]
    )


def _short_duration(seconds: float) -> str:
    text = duration(seconds)
    value, unit = text.split()
    return f"{float(value):g} {unit}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _signed(text: str) -> str:
    return text.replace("-", MINUS)
