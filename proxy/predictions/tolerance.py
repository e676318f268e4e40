"""When two numbers agree: |a - b| <= max(absolute, relative * max(|a|, |b|)).

The relative part scales with the larger of the two, so that the answer does not depend on which
leg is called primary (PEP 485 argues the same for `math.isclose`).
"""

from __future__ import annotations

from math import inf
from typing import Final

_DIFFER: Final = (inf, 0.0)


def measure(a: float, b: float) -> tuple[float, float]:
    """Measure how far apart two numbers are: the distance, and the larger magnitude.

    NaN is at no distance from NaN, nor an infinity from itself. Where only one of them is finite,
    where signs of infinities differ, or where the distance is beyond a double, it is (inf, 0).
    """
    if a == b:
        return 0.0, 0.0
    try:
        distance = abs(a - b)
        left, right = abs(a), abs(b)
        if distance < inf:
            return distance + 0.0, (left if left > right else right) + 0.0  # noqa: FURB136 - a call to max costs as much as all the rest
    except OverflowError:  # integers beyond a double
        return _DIFFER
    return (0.0, 0.0) if a != a and b != b else _DIFFER  # noqa: PLR0124 - NaN is what differs from itself


def agree(a: float, b: float, absolute: float, relative: float) -> bool:
    """Tell whether two numbers agree within an absolute or a relative tolerance."""
    distance, scale = measure(a, b)
    return distance <= absolute or distance <= relative * scale
