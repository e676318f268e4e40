"""What the sections of the page are put together from: heads, badges, warnings, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from proxy.analysis.markup import Markup, join, tag

DASH: Final = "\N{EM DASH}"


def heading(kind: str, name: str, badges: Sequence[Markup]) -> Markup:
    """The head of a section: what it is, its name, and its badges."""
    title = tag("h2", *([tag("span", kind, class_="kind")] if kind else []), name)
    return tag("div", title, tag("div", *badges, class_="badges"), class_="head")


def badge(words: str, kind: str) -> Markup:
    """A word or two that stand out; `kind` is a class of the style sheet."""
    return tag("span", words, class_=f"badge {kind}".strip())


def warning_list(warnings: Sequence[str]) -> Markup:
    """What a reader must know before the numbers."""
    return tag("ul", *(tag("li", warning) for warning in warnings), class_="warnings") if warnings else Markup("")


def plot_grid(plots: Sequence[Markup]) -> Markup:
    """The plots that have something to show, side by side where there is room."""
    drawn = [plot for plot in plots if plot]
    return tag("div", *drawn, class_="plots") if drawn else Markup("")


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int] = ()) -> Markup:
    """A table whose first column names the row; `text` lists the columns that are words."""
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
    drawn = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    # A wide table scrolls by itself, and can be reached by keyboard.
    return tag("div", drawn, class_="scroll", tabindex="0", role="region", aria_label=caption)


def two_lines(above: str, below: str) -> Markup:
    """A number, and what qualifies it in small print below."""
    return join([tag("span", above), tag("small", below)])
