"""A slice of the pairs against all the rest, where a unit may have pairs on both sides.

The two shares are not independent when units cross the border, so their influences are subtracted unit by
unit before they are squared: that keeps the covariance that a two-sample test would drop.
"""

from __future__ import annotations

import numpy as np

from proxy.stats.clusters import Floats, linear_ratio
from proxy.stats.estimate import Estimate, t_estimate


def slice_contrast(
    inside: tuple[Floats, Floats], outside: tuple[Floats, Floats], *, alpha: float = 0.05
) -> Estimate | None:
    """The share inside a slice minus the share outside, clustered by unit.

    Estimand: P(event | in the slice) - P(event | not in it), over pairs. Assumes independent units. None where a
    side is empty; no interval where nothing varies. Degrees of freedom are those of the side with fewer effective
    units, which is conservative. Reference: Liang and Zeger 1986; MacKinnon and White 1985 for the jackknife.

    Args:
        inside: per unit, the events and the pairs in the slice; both arrays are in one order of units.
        outside: the same for the pairs that are not in it.
        alpha: one minus the confidence.

    >>> one, none = np.ones(4), np.zeros(4)
    >>> up, down = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 1.0])
    >>> slice_contrast((up * [1, 0, 0, 0], up), (none, down)).value
    0.5
    """
    first, second = linear_ratio(*inside), linear_ratio(*outside)
    if first is None or second is None:
        return None
    variance = float(np.square(first.influence - second.influence).sum())
    df = min(first.effective, second.effective) - 1
    return t_estimate(first.value - second.value, variance, df, alpha=alpha, method="slice_cluster")
