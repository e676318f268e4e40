"""The noise floor on the page: how much of a shadow's disagreement is the primary's own."""

from __future__ import annotations

from proxy.analysis.markup import Markup, join, tag
from proxy.analysis.page_parts import DASH, table, two_lines
from proxy.analysis.results import NoiseResult, OutputNoise
from proxy.analysis.sentences import count, interval, metric_value, percent

MOST_ROWS = 12


def noise_tables(result: NoiseResult | None) -> Markup:
    """The whole answer and its outputs above noise, and the places that Diffy's two thresholds would report."""
    if result is None:
        return Markup("")
    header = ["Asked twice", "Pairs", "Primary with itself", "Primary with shadow", "Above noise", "Verdict"]
    rows = [_row(row) for row in (result.whole, *result.outputs[:MOST_ROWS])]
    found = table("Disagreement above the primary's disagreement with itself", header, rows, text=(5,))
    if not result.fields:
        return found
    header = ["Place", "Differing pairs", "Of them noise", "Relative", "Absolute", "Reported"]
    rows = [
        [
            Markup(tag("code", field.path or "/")),
            count(field.raw),
            count(field.noise),
            f"{field.relative:.1f} %",
            f"{field.absolute:.2f} %",
            "yes" if field.reported else "no",
        ]
        for field in result.fields[:MOST_ROWS]
    ]
    return join([found, table("The same by Diffy's thresholds", header, rows, text=(5,))])


def _row(row: OutputNoise) -> list[str]:
    excess = row.excess
    return [
        Markup(tag("code", row.output)) if row.output else "the whole answer",
        count(row.pairs),
        DASH if row.with_itself is None else percent(row.with_itself),
        DASH if row.disagree is None else percent(row.disagree),
        DASH
        if excess is None
        else two_lines(
            metric_value("error_rate", excess.value, signed=True), interval("error_rate", excess, signed=True)
        ),
        two_lines(row.verdict, row.reason) if row.reason else row.verdict,
    ]
