"""What answers say, in the terminal: truth, slices, confusion, shifts, tokens and the worst pairs, within 80 columns."""

from __future__ import annotations

from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from proxy.analysis.marking import Marked, mark
from proxy.analysis.markup import printable
from proxy.analysis.page_parts import DASH
from proxy.analysis.results import ConfusionResult, ShadowResult, ShiftResult, TruthResult
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
from proxy.cli.table_parts import MOST_ROWS, put, text_table

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
MOST_OUTPUTS: Final = 3
LONGEST_VALUE: Final = 30


def print_answers(result: ShadowResult, console: Console) -> None:
    """Everything that is read from the answers themselves."""
    if result.truth is not None:
        _print_truth(result.truth, console)
    _print_slices(result, console)
    flips = [found for found in result.confusion[:MOST_OUTPUTS] if found.flips]
    for found in flips:
        put(console, Text(printable(_matrix_title(found)), style="dim"))
        put(console, _matrix(found))
    for shift in result.shifts[:MOST_OUTPUTS]:
        _print_shift(shift, console)
    if result.usage:
        rows = [
            [u.name, number(u.primary), number(u.shadow), DASH if u.ratio is None else f"{u.ratio:.2f}"]
            for u in result.usage
        ]
        put(console, text_table(["tokens per answer", "primary", "shadow", "ratio"], rows))
    if result.worst:
        put(console, Text("pairs that differ most", style="dim"))
        for pair in result.worst[:3]:
            put(console, Text(printable(f"{pair.route or '(no route)'}, {pair.reason}, {pair.exchange_id}")))
            rows2: list[list[RenderableType]] = [
                [place or "/", *beside(ours, theirs)] for place, ours, theirs in pair.differences[:3]
            ]
            put(console, text_table(["  place", "primary", "shadow"], rows2, texts=3))


def beside(ours: str, theirs: str) -> tuple[Text, Text]:
    """Two texts with their difference marked: by colour, and by brackets where there is none."""
    first, second = mark(ours, theirs)
    return _marked(first), _marked(second)


def _marked(text: Marked) -> Text:
    """A short text around the difference, which is what must be seen."""
    room = max(LONGEST_VALUE - len(text.middle), 6)
    before = text.before if len(text.before) <= room else "…" + text.before[1 - room :]
    middle = text.middle if len(text.middle) <= LONGEST_VALUE else text.middle[: LONGEST_VALUE - 1] + "…"
    after = text.after if len(text.after) <= room else text.after[: room - 1] + "…"
    shown = printable(middle)
    if not (before or after):
        return Text(shown, style="bold red")
    return Text.assemble(printable(before), (f"[{shown}]", "bold red"), printable(after))


def _print_truth(truth: TruthResult, console: Console) -> None:
    if truth.rows:
        told = [("both", truth.both), ("only primary", truth.only_primary), ("only shadow", truth.only_shadow)]
        told.append(("neither", truth.neither))
        words = ", ".join(f"{name} {count(n)} ({percent(n / truth.rows)})" for name, n in told)
        put(console, Text(f"right, of {count(truth.rows)} labelled rows: {words}"))
        d = truth.accuracy_difference
        if d is not None:
            put(
                console,
                Text(
                    f"right, shadow minus primary: {metric_value('error_rate', d.value, signed=True)} "
                    f"({interval('error_rate', d, signed=True)}), McNemar p {probability(d.p_value)}"
                ),
            )
    if truth.primary_absolute_error is not None and truth.shadow_absolute_error is not None:
        said = f"mean absolute error: {number(truth.primary_absolute_error)} and {number(truth.shadow_absolute_error)}"
        for name, e in (
            ("absolute", truth.absolute_error_difference),
            ("squared", truth.squared_error_difference),
        ):
            if e is not None:
                said += f"; {name}, shadow minus primary {number(e.value)} ({number_interval(e)})"
        put(console, Text(said))
    if truth.unread:
        put(console, Text(f"{count(truth.unread)} labels belong to answers that say nothing there", style="dim"))


def _print_slices(result: ShadowResult, console: Console) -> None:
    if not result.slices:
        return
    rows: list[list[RenderableType]] = [
        [
            f"{s.segment} = {s.value}",
            count(s.pairs),
            percent(s.share),
            interval("error_rate", s.excess, signed=True),
            Text(probability(s.q_value), style="red" if s.found else ""),
            Text("found" if s.found else DASH, style="red" if s.found else ""),
        ]
        for s in result.slices[:MOST_ROWS]
    ]
    put(console, Text(f"slices: {share_of(result.slices)} found, corrected for looking at all of them", style="dim"))
    put(console, text_table(["slice", "pairs", "differ", "more than elsewhere", "q", ""], rows))


def _matrix_title(found: ConfusionResult) -> str:
    folded = f", {found.folded} rarer labels folded" if found.folded else ""
    return f"{found.output}: {count(found.flips)} of {count(found.total)} labels flipped{folded}"


def _matrix(found: ConfusionResult) -> RenderableType:
    rows: list[list[RenderableType]] = [
        [
            _short(label),
            *(
                Text(count(n) if n else "·", style="bold red" if i != j and n else "" if n else "dim")
                for j, n in enumerate(found.rows[i])
            ),
        ]
        for i, label in enumerate(found.labels)
    ]
    return text_table(["primary → shadow", *map(_short, found.labels)], rows)


def _short(label: str) -> str:
    return label if len(label) <= 10 else label[:9] + "…"


def _print_shift(shift: ShiftResult, console: Console) -> None:
    """A histogram in one line, from the lowest to the highest bin, zero within."""
    top = max(share for _, _, share in shift.bins)
    told = f"p5 {number(shift.quantiles['p5'])}, p50 {number(shift.quantiles['p50'])}, p95 {number(shift.quantiles['p95'])}"
    put(console, Text(printable(f"score shift of {shift.output}: {told} over {count(shift.pairs)} pairs"), style="dim"))
    if len(shift.bins) < 2:
        return
    # What is there is never drawn as nothing.
    drawn = "".join(BLOCKS[0 if not n else max(1, round(n / top * 8))] for _, _, n in shift.bins)
    put(console, Text(f"{number(shift.bins[0][0])} |{drawn}| {number(shift.bins[-1][1])}"))
