"""When two numbers agree: |a - b| <= max(absolute, relative * max(|a|, |b|)).

The relative part scales with the larger of the two, so that the answer does not depend on which
leg is called primary (PEP 485 argues the same for `math.isclose`).
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

_DIFFER: Final = (inf, 0.0)
_NUMBERS: Final = frozenset({int, float})


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


def same(a: object, b: object, absolute: float, relative: float) -> bool:
    """Tell whether two scalars of a JSON document are the same: integers exactly, other numbers by tolerance."""
    kinds = {type(a), type(b)}
    if kinds <= _NUMBERS:
        left: Any = a
        right: Any = b
        return bool(left == right) if kinds == {int} else agree(left, right, absolute, relative)
    return len(kinds) == 1 and a == b


def class_of(value: object) -> str:
    """Name the JSON type of a value; integers and other numbers are one type."""
    kind = type(value)
    return "number" if kind in _NUMBERS else kind.__name__
