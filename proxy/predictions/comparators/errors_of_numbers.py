"""Regression: how far the shadow's numbers are from the served ones, over all values of an output."""

from __future__ import annotations

from math import fsum, hypot, inf, sqrt

from proxy.predictions.comparators.comparing import Options, Unfit, finite
from proxy.predictions.outputs import Output


def measure(ours: Output, theirs: Output, options: Options) -> dict[str, float]:
    """Mean absolute error, root of the mean square, and the mean of shadow minus primary."""
    del options
    a, b = finite(ours.values), finite(theirs.values)
    if len(a) != len(b):
        raise Unfit
    n = len(a) or 1
    deltas = [y - x for x, y in zip(a, b, strict=True)]
    if inf in map(abs, deltas):
        raise Unfit
    root = hypot(*deltas) / sqrt(n)
    return {"mae": sum(abs(d) / n for d in deltas), "rmse": root, "bias": fsum(d / n for d in deltas)}
