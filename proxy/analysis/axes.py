"""Scales, ticks and the frame of a plot: what all plots of the page share.

A plot is an SVG of fixed view box that scales with the page; colours come from the page's style sheet, so one
drawing serves the light and the dark scheme. Every plot carries a title and a description for those who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from proxy.analysis.markup import Markup, join, tag

WIDTH, HEIGHT = 560.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 12.0, 34.0
# The width of a digit of a tick's label, generously.
DIGIT = 7.0
# Hues that stay apart for colour-blind readers are in the style sheet; this is how many there are.
COLOURS = 6


@dataclass(frozen=True, slots=True)
class Scale:
    """A map from values to pixels, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; values outside are clamped to the ends."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        value = math.log10(max(value, self.low)) if self.log else value
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 2)


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) inside low..high.

    >>> linear_ticks(0.0, 1.0, 4)
    [0.0, 0.5, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= wanted)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade inside low..high, or only the powers of ten over many decades."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = last - first
    step = max(1, decades // 6)
    factors = (1, 2, 5) if decades <= 3 else (1,)
    found = [factor * 10.0**power for power in range(first, last + 1, step) for factor in factors]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]


def time_label(moment_s: float, span_s: float) -> str:
    """A moment in UTC, as precisely as the span needs."""
    pattern = "%H:%M:%S" if span_s < 600 else "%H:%M" if span_s < 2 * 86400 else "%d %b"
    return datetime.fromtimestamp(moment_s, UTC).strftime(pattern)


def time_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Moments on round seconds, minutes, hours or days."""
    steps = (1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 7 * 86400)
    step = next((step for step in steps if (high - low) / step <= wanted), steps[-1])
    first = math.ceil(low / step)
    return [float(index * step) for index in range(first, math.floor(high / step) + 1)]


def x_axis(
    scale: Scale, ticks: Sequence[float], label: Callable[[float], str], *, height: float = HEIGHT, title: str = ""
) -> Markup:
    """Tick labels below, fine vertical grid lines, and the axis' name."""
    base = height - BOTTOM
    parts = [
        join(
            [
                tag("line", x1=scale(tick), x2=scale(tick), y1=TOP, y2=base, class_="grid"),
                tag(
                    "text",
                    label(tick),
                    x=_fitting(scale(tick), label(tick)),
                    y=base + 15,
                    class_="tick",
                    text_anchor="middle",
                ),
            ]
        )
        for tick in ticks
    ]
    if title:
        parts.append(
            tag("text", title, x=(scale.start + scale.end) / 2, y=height - 4, class_="axis", text_anchor="middle")
        )
    return join(parts)


def _fitting(middle: float, text: str) -> float:
    """Where the middle of a tick's label stands, so that its end is not cut off at the right edge."""
    return min(middle, WIDTH - len(text) * DIGIT / 2)


def y_axis(scale: Scale, ticks: Sequence[float], label: Callable[[float], str]) -> Markup:
    """Tick labels on the left and horizontal grid lines."""
    return join(
        [
            join(
                [
                    tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=scale(tick), y2=scale(tick), class_="grid"),
                    tag("text", label(tick), x=LEFT - 7, y=scale(tick) + 4, class_="tick", text_anchor="end"),
                ]
            )
            for tick in ticks
        ]
    )


def path(points: Sequence[tuple[float, float]], **attributes: object) -> Markup:
    """A line through points."""
    return tag("path", d="M" + "L".join(f"{x:g} {y:g}" for x, y in points), **attributes)


def frame(identity: str, title: str, description: str, *parts: Markup, height: float = HEIGHT) -> Markup:
    """The SVG around a plot, with its title and description."""
    return tag(
        "svg",
        tag("title", title, id=f"{identity}-t"),
        tag("desc", description, id=f"{identity}-d"),
        *parts,
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=f"{identity}-t {identity}-d",
    )


def legend(names: Sequence[str]) -> Markup:
    """Which colour is whom, under a plot."""
    keys = [tag("span", tag("span", "", class_=f"key c{i % COLOURS}"), name) for i, name in enumerate(names)]
    return tag("p", *keys, class_="legend")
