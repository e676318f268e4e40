"""Many comparisons at once: p-values that keep the chance of any false alarm, or the share of false alarms, at alpha."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given; None stays None and is not counted.

    Assumes nothing about dependence. Source: Holm 1979.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, index) in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * p))
        adjusted[index] = floor
    return adjusted


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's step-up adjusted p-values, in the order given; None stays None and is not counted.

    Rejecting what is at most q keeps the expected share of false rejections at q for independent tests and for
    positively dependent ones. Source: Benjamini and Hochberg 1995; as `statsmodels.stats.multitest`, `fdr_bh`.

    >>> benjamini_hochberg([0.01, 0.04, None, 0.03, 0.005])
    [0.02, 0.04, None, 0.04, 0.02]
    """
    order = sorted(((p, index) for index, p in enumerate(p_values) if p is not None), reverse=True)
    adjusted: list[float | None] = [None] * len(p_values)
    ceiling = 1.0
    for above, (p, index) in enumerate(order):
        ceiling = min(ceiling, p * len(order) / (len(order) - above))
        adjusted[index] = ceiling
    return adjusted
