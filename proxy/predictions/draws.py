"""Numbers that look random and are not: every draw is a function of a seed and a counter.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): the
n-th output is a mix of seed + n * gamma, so the same exchange degraded again gives the same answer.
"""

from __future__ import annotations

from math import cos, log, pi, sin, sqrt
from typing import Final

_MASK: Final = 0xFFFFFFFFFFFFFFFF
_GAMMA: Final = 0x9E3779B97F4A7C15


class Draws:
    """A sequence of draws from a 64-bit seed."""

    __slots__ = ("_spare", "_state")

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK
        self._spare: float | None = None

    def bits(self) -> int:
        """Draw 64 bits."""
        self._state = (self._state + _GAMMA) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def uniform(self) -> float:
        """Draw uniformly from [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def below(self, count: int) -> int:
        """Draw an integer from 0 to `count` - 1; the bias of scaling is under `count` in 2**64."""
        return (self.bits() * count) >> 64

    def normal(self) -> float:
        """Draw from the standard normal distribution (Box and Muller, 1958: two at a time)."""
        spare = self._spare
        if spare is not None:
            self._spare = None
            return spare
        radius = sqrt(-2.0 * log(1.0 - self.uniform()))
        angle = 2.0 * pi * self.uniform()
        self._spare = radius * sin(angle)
        return radius * cos(angle)
