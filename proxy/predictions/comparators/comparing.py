"""What every comparator is given, and what it may say.

A comparator is a function of two outputs of the same shape. It returns numbers by name, or raises
`Unfit` where the values are none that it can compare: then equality decides.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, Final

import msgspec

from proxy.errors import ParallaxError
from proxy.predictions.outputs import Output

# Rankings and tables of this length take milliseconds; what stands further down no longer matters.
MOST_RANKS: Final = 1000


class Unfit(ParallaxError):
    """The values are none that this comparator compares."""


class Options(msgspec.Struct, frozen=True):
    """What the operator says beside the values: `k` is the depth of top-k and overlap, `p` the persistence of RBO."""

    k: int = 10
    p: float = 0.9
    absolute: float = 1e-8
    relative: float = 1e-6


def rows_of(ours: Output, theirs: Output) -> list[tuple[list[Any], list[Any]]]:
    """Cut two outputs into the vectors along their last axis; a single axis is one vector, batched or not."""
    a, b = ours.values, theirs.values
    length = len(a)
    if ours.shape == theirs.shape and len(ours.shape) > 1:
        length = ours.shape[-1]
    if len(a) != len(b) or not length:
        return [(a, b)] if a or b else []
    return [(a[start : start + length], b[start : start + length]) for start in range(0, len(a), length)]


def finite(values: list[Any]) -> list[float]:
    """The values as finite doubles.

    Raises:
        Unfit: one of them is no number, or none that is finite.
    """
    if any(type(value) not in (int, float) for value in values):
        raise Unfit
    try:
        numbers = [float(value) for value in values]
    except OverflowError:
        raise Unfit from None
    if not all(map(isfinite, numbers)):
        raise Unfit
    return numbers
