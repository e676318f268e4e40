"""One shadow in the terminal, in the order of the page."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.text import Text

from proxy.analysis.markup import printable
from proxy.analysis.page_parts import DASH
from proxy.analysis.results import ShadowResult
from proxy.analysis.sentences import count, duration, interval, number, pairs, percent
from proxy.cli.answers_table import print_answers
from proxy.cli.report_noise import FIELD_HEADER, NOISE_HEADER, field_rows, noise_rows
from proxy.cli.table_parts import MOST_ROWS, put, put_words, text_table, two_lines
from proxy.stats.estimate import Estimate


def print_shadow(result: ShadowResult, console: Console) -> None:
    """Write everything about one shadow."""
    console.print(Text.assemble(("shadow ", "dim"), (printable(result.name), "bold")))
    put_words(result.summary, result.warnings, console)
    told = [f"{name} {count(n)} ({percent(n / result.sampled)})" for name, n in result.outcomes.items()]
    put(console, Text(printable(f"outcomes: {', '.join(told)}")))
    if len(result.routes) > 1:
        rows = [
            [r.route, count(r.compared), *_share(r.agreement)]
            for r in result.routes[:MOST_ROWS]
            if r.agreement is not None
        ]
        put(console, text_table(["route", "compared", "agreement", "interval"], rows))
    if result.outputs:
        rows = [
            [
                o.output,
                count(o.pairs),
                two_lines(count(o.differing), percent(o.share)),
                count(o.label_flips),
                DASH if o.max_abs is None else number(o.max_abs),
            ]
            for o in result.outputs[:MOST_ROWS]
        ]
        put(console, text_table(["output", "compared", "differing", "label flips", "largest difference"], rows))
    if result.noise is not None:
        put(console, text_table(NOISE_HEADER, list(noise_rows(result.noise, MOST_ROWS))))
        if result.noise.fields:
            put(console, text_table(FIELD_HEADER, list(field_rows(result.noise, MOST_ROWS))))
    if result.paths:
        rows = [
            [p.path or "/", p.kind, count(p.pairs), p.primary_value, p.shadow_value] for p in result.paths[:MOST_ROWS]
        ]
        put(console, text_table(["place", "kind", "pairs", "primary, for example", "shadow"], rows, texts=2))
    if result.statuses:
        told = [f"{s.primary} against {s.shadow} in {pairs(s.pairs)}" for s in result.statuses[:MOST_ROWS]]
        put(console, Text(f"different statuses: {', '.join(told)}"))
    print_answers(result, console)
    latency = result.latency.mean_difference_s
    if latency is not None:
        told_mean = f"latency of shadow minus primary: mean {duration(latency.value, signed=True)}"
        if latency.low is not None:
            told_mean += f" ({interval('latency', latency, signed=True)})"
        put(console, Text(f"{told_mean} over {pairs(result.latency.pairs)}"))
        rows = [
            [name, duration(value), duration(result.latency.shadow_s.get(name, 0.0))]
            for name, value in result.latency.primary_s.items()
        ]
        put(console, text_table(["latency", "primary", "shadow"], rows))
    if result.excluded_by_fault:
        put(console, Text(f"left out: {pairs(result.excluded_by_fault)} in a fault's cohort", style="dim"))


def _share(estimate: Estimate) -> list[RenderableType]:
    return [percent(estimate.value), interval("error_rate", estimate)]
