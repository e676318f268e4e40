"""What may stand in an output: numbers or not, whole or not, in which range and how precise.

A degraded number keeps the form of its datatype: an integer stays one, a binary32 stays a number that a binary32 can
be (so that a server's `0.30000001192092896` does not become digits that no such server sends), and nothing finite
leaves the range.
"""

from __future__ import annotations

from math import isfinite
from struct import Struct
from typing import Any, Final

from proxy.predictions.outputs import SCORES, Output, has_floats

INTEGERS: Final = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
# Largest finite values: binary16 65504, bfloat16 and binary32 by IEEE 754; one digit fewer is safe for both.
_LARGEST: Final = {"FP16": 65504.0, "BF16": 3.38e38, "FP32": 3.4028234e38}
LARGEST_DOUBLE: Final = 1.7976931348623157e308
_BINARY16: Final = Struct("<e")
_BINARY32: Final = Struct("<f")
_BITS32: Final = Struct("<I")


def to_binary16(number: float) -> float:
    """The nearest binary16; `number` is in its range."""
    return float(_BINARY16.unpack(_BINARY16.pack(number))[0])


def to_binary32(number: float) -> float:
    """The nearest binary32; `number` is in its range."""
    return float(_BINARY32.unpack(_BINARY32.pack(number))[0])


def to_bfloat16(number: float) -> float:
    """The nearest bfloat16, which is the upper half of a binary32; ties go to the even one.

    >>> to_bfloat16(1.0), to_bfloat16(3.14159), to_bfloat16(-1.00390625)
    (1.0, 3.140625, -1.0)
    """
    bits = _BITS32.unpack(_BINARY32.pack(number))[0]
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(_BINARY32.unpack(_BITS32.pack(bits))[0])


_PRECISE: Final = {"FP16": to_binary16, "BF16": to_bfloat16, "FP32": to_binary32}


def is_finite(number: float) -> bool:
    """Whether a number is one that a double can be near to; `math.isfinite` raises on integers beyond."""
    return -LARGEST_DOUBLE <= number <= LARGEST_DOUBLE


class Kind:
    """What may stand in one output; found once per output."""

    __slots__ = ("_precise", "high", "low", "numeric", "whole")

    def __init__(self, output: Output) -> None:
        datatype = output.datatype
        self.whole = datatype in INTEGERS if datatype else not has_floats(output)
        # A BOOL tensor of 0 and 1 holds no numbers to calculate with.
        self.numeric = datatype is None or datatype in SCORES or self.whole
        largest = _LARGEST.get(datatype or "", LARGEST_DOUBLE)
        self.low, self.high = INTEGERS.get(datatype or "", (None, None) if self.whole else (-largest, largest))
        self._precise = _PRECISE.get(datatype or "")

    def holds(self, value: object) -> bool:
        """Tell whether a value is a number to calculate with."""
        return self.numeric and type(value) in (int, float)

    def fit(self, number: Any) -> Any:
        """Bring a number into range and precision; what overflowed becomes the largest that is finite."""
        if self.whole:
            number = round(number)
        if self.high is not None and number > self.high:
            return self.high
        if self.low is not None and number < self.low:
            return self.low
        return number if self._precise is None else self._precise(number)

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

    def become(self, value: Any, number: float) -> Any:
        """Put `number` in the place of `value`; None where that is no number, and NaN and infinity stay."""
        if not self.holds(value):
            return None
        try:
            return self.fit(number) if isfinite(value) and number == number else value  # noqa: PLR0124 - not NaN
        except OverflowError:
            return value
