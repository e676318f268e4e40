"""What answers say, on the page: confusion, shifts, tokens, slices, truth, and the worst pairs."""

from __future__ import annotations

from proxy.analysis.marking import Marked, mark
from proxy.analysis.markup import Markup, join, tag
from proxy.analysis.page_parts import DASH, badge, table, two_lines
from proxy.analysis.results import ConfusionResult, ShadowResult, TruthResult
from proxy.analysis.sentences import (
    count,
    interval,
    metric_value,
    number,
    number_interval,
    percent,
    probability,
    share_of,
)

MOST_MATRICES = 3
MOST_SLICES = 15


def matrices(result: ShadowResult) -> Markup:
    """The confusion of labels, a table per output: darker means more of the row."""
    return join([_matrix(found) for found in result.confusion[:MOST_MATRICES] if found.flips])


def tokens(result: ShadowResult) -> Markup:
    """Tokens per answer, side by side."""
    rows = [
        [u.name, count(u.pairs), number(u.primary), number(u.shadow), DASH if u.ratio is None else f"{u.ratio:.2f}"]
        for u in result.usage
    ]
    header = ["Tokens", "Pairs", "Primary, per answer", "Shadow", "Shadow / primary"]
    return table("Tokens per answer", header, rows) if rows else Markup("")


def slice_table(result: ShadowResult) -> Markup:
    """Where disagreement concentrates; found ones first."""
    if not result.slices:
        return Markup("")
    rows = [
        [
            f"{s.segment} = {s.value}",
            count(s.pairs),
            count(s.units),
            two_lines(percent(s.share), f"{count(s.mismatches)} mismatches"),
            two_lines(
                metric_value("error_rate", s.excess.value, signed=True), interval("error_rate", s.excess, signed=True)
            ),
            probability(s.q_value),
            badge("concentrates here", "worse") if s.found else DASH,
        ]
        for s in result.slices[:MOST_SLICES]
    ]
    header = ["Slice", "Pairs", "Units", "Disagreement", "More than elsewhere", "q", "Found"]
    caption = f"Slices, {share_of(result.slices)} found (Benjamini-Hochberg over all of them, clustered by unit)"
    return table(caption, header, rows)


def truth_table(result: TruthResult | None) -> Markup:
    """Which of the two was right."""
    if result is None:
        return Markup("")
    rows: list[list[str]] = []
    if result.rows:
        cells = [
            ("Both right", result.both),
            ("Only the primary right", result.only_primary),
            ("Only the shadow right", result.only_shadow),
            ("Neither right", result.neither),
        ]
        rows += [[name, two_lines(count(n), percent(n / result.rows)), DASH, DASH] for name, n in cells]
        for name, e in (("Primary right", result.primary_accuracy), ("Shadow right", result.shadow_accuracy)):
            if e is not None:
                rows.append([name, percent(e.value), interval("error_rate", e), DASH])
        d = result.accuracy_difference
        if d is not None:
            value = metric_value("error_rate", d.value, signed=True)
            rows.append(
                [
                    "Right, shadow minus primary (McNemar)",
                    value,
                    interval("error_rate", d, signed=True),
                    probability(d.p_value),
                ]
            )
    if result.primary_absolute_error is not None and result.shadow_absolute_error is not None:
        errors = f"{number(result.primary_absolute_error)} and {number(result.shadow_absolute_error)}"
        rows.append(["Mean absolute error: primary and shadow", errors, DASH, DASH])
        for name, e in (
            ("Absolute error, shadow minus primary", result.absolute_error_difference),
            ("Squared error, shadow minus primary", result.squared_error_difference),
        ):
            if e is not None:
                rows.append([name, number(e.value), number_interval(e), probability(e.p_value)])
    if result.unread:
        rows.append(["Labels whose answers say nothing", count(result.unread), DASH, DASH])
    caption = f"Against labels: {count(result.rows + result.numbers)} rows of {count(result.units)} units"
    return table(caption, ["What", "Value", "Interval", "p"], rows)


def worst_pairs(result: ShadowResult) -> Markup:
    """The pairs that differ most, both sides beside each other."""
    if not result.worst:
        return Markup("")
    cards = []
    for pair in result.worst:
        rows = []
        for place, ours, theirs in pair.differences:
            first, second = mark(ours, theirs)
            rows.append(
                tag(
                    "tr",
                    tag("th", tag("code", place or "/"), scope="row"),
                    tag("td", _marked(first)),
                    tag("td", _marked(second)),
                )
            )
        distance = "" if pair.distance is None else f" · largest difference {number(pair.distance)}"
        said = f"{pair.route or '(no route)'} · {pair.reason}{distance} · request {pair.request_id or pair.exchange_id}"
        head = tag(
            "tr", tag("th", "Place", scope="col"), tag("th", "Primary", scope="col"), tag("th", "Shadow", scope="col")
        )
        cards.append(
            tag(
                "div",
                tag("table", tag("caption", said), tag("thead", head), tag("tbody", *rows)),
                class_="scroll worst",
            )
        )
    return join([tag("h3", "Pairs that differ most, each of another unit where there are enough"), *cards])


def _marked(text: Marked) -> Markup:
    middle = [tag("mark", text.middle)] if text.middle else []
    return tag("code", text.before, *middle, text.after)


def _matrix(found: ConfusionResult) -> Markup:
    head = tag(
        "tr",
        tag("th", "primary \N{RIGHTWARDS ARROW} shadow", scope="col"),
        *(tag("th", label, scope="col") for label in found.labels),
    )
    body = []
    for i, label in enumerate(found.labels):
        whole = sum(found.rows[i]) or 1.0
        cells = [
            tag(
                "td",
                count(n) if n else "\N{MIDDLE DOT}",
                class_="same" if i == j else "flip" if n else "none",
                style=f"--heat:{round(100 * (n / whole) ** 0.5)}%" if n else None,
            )
            for j, n in enumerate(found.rows[i])
        ]
        body.append(tag("tr", tag("th", label, scope="row"), *cells))
    folded = f", {found.folded} rarer labels folded" if found.folded else ""
    caption = f"{found.output}: {count(found.flips)} of {count(found.total)} labels flipped{folded}"
    drawn = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", drawn, class_="scroll matrix", tabindex="0", role="region", aria_label=caption)
