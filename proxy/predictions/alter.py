"""What a rule makes of the values of one output.

Values keep their kind: a text stays a text, a truth value stays one, an output of integers stays one
of integers (a V2 datatype says so, else the values do), and a number stays finite and within its
datatype. `None` means that the rule has nothing to do here. A rule whose draws happen to spare every
value has still been applied.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, isfinite
from typing import Any, Final

from proxy.predictions.draws import Draws
from proxy.predictions.outputs import SCORES, Output, has_floats, vector_length
from proxy.predictions.rules import Bias, Constant, Flip, Noise

_INTEGERS: Final = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
# Largest finite values: binary16 65504, bfloat16 and binary32 by IEEE 754; one digit fewer is safe for both.
_LARGEST: Final = {"FP16": 65504.0, "BF16": 3.38e38, "FP32": 3.4028234e38}
_LARGEST_DOUBLE: Final = 1.7976931348623157e308


class _Kind:
    """What may stand in an output: numbers or not, whole or not, and between which bounds; found once per output."""

    __slots__ = ("high", "low", "numeric", "whole")

    def __init__(self, output: Output) -> None:
        datatype = output.datatype
        self.whole = datatype in _INTEGERS if datatype else not has_floats(output)
        # A BOOL tensor of 0 and 1 holds no numbers to calculate with.
        self.numeric = datatype is None or datatype in SCORES or self.whole
        largest = _LARGEST.get(datatype or "", _LARGEST_DOUBLE)
        self.low, self.high = _INTEGERS.get(datatype or "", (None, None) if self.whole else (-largest, largest))

    def holds(self, value: object) -> bool:
        """Tell whether a value is a number to calculate with."""
        return self.numeric and type(value) in (int, float)

    def fit(self, number: Any) -> Any:
        """Bring a number into range; what overflowed becomes the largest that is finite."""
        if self.whole:
            number = round(number)
        if self.high is not None and number > self.high:
            return self.high
        return self.low if self.low is not None and number < self.low else number

    def shift(self, value: Any, delta: float) -> Any:
        """Move a number; None where there is none, and what a server sent as NaN or infinity stays that."""
        if not self.holds(value) or not isfinite(delta):
            return None
        try:
            if not isfinite(value):
                return value
            # An integer moves by an integer, which keeps 64-bit values exact.
            return self.fit(value + (round(delta) if self.whole and type(value) is int else delta))
        except OverflowError:  # an integer beyond a double
            return value


def alter(output: Output, rule: Noise | Bias | Flip | Constant, draws: Draws, *, batched: bool) -> list[Any] | None:
    """Make the degraded values of an output, as many as it has, or None where the rule does not apply."""
    kind = _Kind(output)
    match rule:
        case Noise():
            return _each(output, lambda value: kind.shift(value, rule.sd * draws.normal()))
        case Bias():
            return _each(output, lambda value: _clipped(kind, kind.shift(value, rule.delta), rule))
        case Constant():
            return _each(output, lambda value: _constant(kind, value, rule.value))
        case Flip():
            length = vector_length(output, batched=batched) if has_floats(output) else 0
            if length:
                return None if rule.labels else _rotated(output.values, length, rule, draws)
            return _each(output, lambda value: _flipped(kind, value, rule, draws))


def _each(output: Output, change: Callable[[Any], Any]) -> list[Any] | None:
    """Change value by value; `change` returns None for a value that it does not apply to."""
    changed = [None if value is None else change(value) for value in output.values]
    if all(value is None for value in changed):
        return None
    return [old if new is None else new for old, new in zip(output.values, changed, strict=True)]


def _clipped(kind: _Kind, value: Any, rule: Bias) -> Any:
    if value is None:
        return None
    if rule.low is not None and value < rule.low:
        return kind.fit(ceil(rule.low) if kind.whole else float(rule.low))
    if rule.high is not None and value > rule.high:
        return kind.fit(floor(rule.high) if kind.whole else float(rule.high))
    return value


def _constant(kind: _Kind, value: object, constant: str | float) -> Any:
    if isinstance(constant, str) or isinstance(value, str):
        return constant if isinstance(constant, str) and isinstance(value, str) else None
    if isinstance(value, bool):
        return bool(constant) if constant in (0, 1) else None
    if isinstance(value, int) and not kind.numeric:
        return int(constant) if constant in (0, 1) else None
    if isinstance(constant, bool) or not kind.holds(value) or not _is_finite(constant):
        return None
    return kind.fit(constant if kind.whole else float(constant))


def _is_finite(number: float) -> bool:
    return -_LARGEST_DOUBLE <= number <= _LARGEST_DOUBLE  # `isfinite` raises on integers beyond a double


def _flipped(kind: _Kind, value: Any, rule: Flip, draws: Draws) -> Any:
    others = _others(kind, value, rule.labels) if rule.labels else _opposite(value)
    if not others:
        return None
    return others[draws.below(len(others))] if draws.uniform() < rule.probability else value


def _opposite(value: Any) -> list[Any]:
    if type(value) is bool:
        return [not value]
    return [type(value)(1 - value)] if type(value) in (int, float) and value in (0, 1) else []


def _others(kind: _Kind, value: Any, labels: list[str | int | float | bool]) -> list[Any]:
    """List the labels that could stand in place of `value`: of its kind, and not itself."""
    if type(value) in (str, bool):
        return [label for label in labels if type(label) is type(value) and label != value]
    numbers = [x for x in labels if isinstance(x, int | float) and type(x) is not bool and _is_finite(x)]
    if not kind.holds(value):
        return []
    if kind.whole:
        whole = [int(label) for label in numbers if label == int(label)]
        return [label for label in whole if label != value and kind.fit(label) == label]
    # A number among numbers that are no labels is a score, which no label can replace.
    return [float(label) for label in numbers if label != value] if value in numbers else []


def _rotated(values: list[Any], length: int, rule: Flip, draws: Draws) -> list[Any]:
    rotated: list[Any] = []
    for start in range(0, len(values), length):
        row = values[start : start + length]
        rotated += [row[-1], *row[:-1]] if draws.uniform() < rule.probability else row
    return rotated
