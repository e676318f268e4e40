"""Vectors of probabilities: how much mass moved.

Total variation is half the sum of |p - q|: the largest difference in the probability of any event.
The Jensen-Shannon divergence is in bits (Lin 1991), so both lie in 0..1. Rows are scaled to sum to 1;
a row with a negative or non-finite value, or none above 0, is no distribution.
"""

from __future__ import annotations

from math import fsum, log2
from typing import Any

from proxy.predictions.comparators.comparing import Options, Unfit, finite, rows_of
from proxy.predictions.outputs import Output


def measure(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """The worst total variation and Jensen-Shannon divergence of any row."""
    del options
    moved = [(_normalised(a), _normalised(b)) for a, b in rows_of(ours, theirs)]
    return {
        "total_variation": max((total_variation(p, q) for p, q in moved), default=0.0),
        "jensen_shannon": max((jensen_shannon(p, q) for p, q in moved), default=0.0),
    }


def total_variation(p: list[float], q: list[float]) -> float:
    """Half the L1 distance of two distributions over the same events, 0..1.

    >>> total_variation([0.5, 0.5], [1.0, 0.0])
    0.5
    """
    return min(1.0, fsum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2)


def jensen_shannon(p: list[float], q: list[float]) -> float:
    """The Jensen-Shannon divergence in bits, 0..1 (Lin 1991, equation 4.1).

    >>> jensen_shannon([1.0, 0.0], [0.0, 1.0])
    1.0
    """
    terms = [x * log2(x / m) for a, b in zip(p, q, strict=True) for x in (a, b) if x > 0 and (m := (a + b) / 2) > 0]
    return min(1.0, max(0.0, fsum(terms) / 2))


def _normalised(row: list[Any]) -> list[float]:
    values = finite(row)
    try:
        total = fsum(values)
    except OverflowError:
        raise Unfit from None
    if total <= 0 or min(values) < 0:
        raise Unfit
    return [value / total for value in values]
