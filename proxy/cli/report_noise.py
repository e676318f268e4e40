"""The noise floor in the terminal: how much of a shadow's disagreement is the primary's own."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from proxy.analysis.page_parts import DASH
from proxy.analysis.results import NoiseResult, OutputNoise
from proxy.analysis.sentences import count, interval, metric_value, percent

NOISE_HEADER = ("asked twice", "pairs", "with itself", "shadow", "above noise", "interval at every look", "verdict")
FIELD_HEADER = ("by Diffy's thresholds", "raw", "noise", "relative", "absolute", "reported")


def noise_rows(result: NoiseResult, most: int) -> Iterator[list[RenderableType]]:
    """The whole answer, then its outputs."""
    for row in (result.whole, *result.outputs[:most]):
        yield [row.output or "(whole answer)", count(row.pairs), *_shares(row), row.verdict]


def _shares(row: OutputNoise) -> list[RenderableType]:
    excess = row.excess
    return [
        DASH if row.with_itself is None else percent(row.with_itself),
        DASH if row.disagree is None else percent(row.disagree),
        DASH if excess is None else metric_value("error_rate", excess.value, signed=True),
        DASH if excess is None else interval("error_rate", excess, signed=True),
    ]


def field_rows(result: NoiseResult, most: int) -> Iterator[list[RenderableType]]:
    """Where answers differ, by Diffy's count filter."""
    for field in result.fields[:most]:
        yield [
            field.path or "/",
            count(field.raw),
            count(field.noise),
            f"{field.relative:.1f} %",
            f"{field.absolute:.2f} %",
            "yes" if field.reported else "no",
        ]
