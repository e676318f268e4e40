"""The two hashes by which everything is decided; frozen, with golden vectors in the tests.

Arms: weighted rendezvous (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker
2005). Each arm draws an exponential variate of rate `weight` from the hash of (salt, arm, unit) and
the smallest wins, so P(arm) = weight / sum of weights, and changing one weight changes one score:
units move only into or out of that arm.

Gates: `(h * TOTAL) >> 32 < threshold`, an exact two-way split without modulo bias. A larger
fraction contains a smaller one with the same salt, so ramps are monotone and shadows nest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, log, pi, sqrt
from typing import Final

import mmh3

GATE_TOTAL: Final = 1_000_000
_SPAN: Final = 2.0**32


def hash32(text: str) -> int:
    """MurmurHash3_x86_32 of the UTF-8 bytes, seed 0, as an unsigned integer."""
    return mmh3.hash(text, 0, signed=False)


def seed64(salt: str, key: str) -> int:
    """64 bits that are a function of their arguments, for draws that must be the same again."""
    return hash32(f"{salt}/low:{key}") | hash32(f"{salt}/high:{key}") << 32


def gate_threshold(fraction: float) -> int:
    """The threshold of a gate that lets `fraction` (0..1) through, in millionths."""
    return round(fraction * GATE_TOTAL)


def gate_position(salt: str, key: str) -> int:
    """Where `key` stands before the gate of `salt`, in millionths."""
    return (mmh3.hash(f"{salt}:{key}", 0, signed=False) * GATE_TOTAL) >> 32


def passes_gate(salt: str, key: str, threshold: int) -> bool:
    """Whether `key` is inside the gate of `salt`; monotone in `threshold`."""
    return gate_position(salt, key) < threshold


def choose_arm(arms: Sequence[tuple[str, float, int]], unit: str) -> int:
    """The index of the arm that wins `unit`.

    Args:
        arms: (prefix, weight, index) with prefix `"{salt}:{arm}:"` and weight > 0, in the file's order.
        unit: the unit.

    The first arm wins a tie, which needs two equal 32-bit hashes and two equal weights.
    """
    best = -1
    lowest = float("inf")
    for prefix, weight, index in arms:
        score = -log((mmh3.hash(prefix + unit, 0, signed=False) + 0.5) / _SPAN) / weight
        if score < lowest:
            lowest = score
            best = index
    return best


def uniform(salt: str, key: str) -> float:
    """A draw from (0, 1) that is a function of its arguments."""
    return (mmh3.hash(f"{salt}:{key}", 0, signed=False) + 0.5) / _SPAN


def standard_normal(salt: str, key: str) -> float:
    """A standard normal draw that is a function of its arguments (Box and Muller 1958)."""
    return sqrt(-2.0 * log(uniform(f"{salt}/u", key))) * cos(2.0 * pi * uniform(f"{salt}/v", key))
