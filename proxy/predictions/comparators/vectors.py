"""Embeddings: the angle between two vectors, whatever their lengths."""

from __future__ import annotations

from math import fsum

from proxy.predictions.comparators.comparing import Options, finite, rows_of
from proxy.predictions.outputs import Output


def measure(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """The smallest cosine similarity of any pair of vectors."""
    del options
    return {"cosine": min((cosine(finite(a), finite(b)) for a, b in rows_of(ours, theirs)), default=1.0)}


def cosine(a: list[float], b: list[float]) -> float:
    """Cosine of the angle, -1..1; two zero vectors are the same, one beside another is orthogonal.

    >>> cosine([1.0, 0.0], [0.0, 2.0])
    0.0
    """
    if a == b:
        return 1.0
    # Scaled by the largest entry, so that no square leaves the range of a double.
    left, right = _unit(a), _unit(b)
    if not left or not right:
        return 0.0
    return max(-1.0, min(1.0, fsum(x * y for x, y in zip(left, right, strict=True))))


def _unit(vector: list[float]) -> list[float]:
    largest = max(map(abs, vector), default=0.0)
    if not largest:
        return []
    scaled = [value / largest for value in vector]
    length: float = fsum(value * value for value in scaled) ** 0.5
    return [value / length for value in scaled]
