"""Cluster-robust inference: the rows are requests, the independent observations are units.

A ratio of sums R = X / D (errors per request, seconds per request) is linearised into one influence
per unit, `psi_u = (x_u - R d_u) / D`. Leaving out unit u moves R by exactly `-psi_u / (1 - d_u / D)`,
so `psi_u / (1 - h_u)` with the factor (k - 1) / k is the delete-one jackknife (CR3). With one request
per unit it is Welch's variance to the last digit; with heavy-tailed units it still covers where the plain
delta method does not (Zipf 1.8, 300 units: 0.82 against 0.97, and 0.27 for the naive request-level test).

Degrees of freedom count what carries information: `(sum d)^2 / sum d^2` effective clusters, minus 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.stats.estimate import Estimate, t_estimate

Floats = NDArray[np.float64]


def effective_clusters(sizes: Floats) -> float:
    """How many equally large clusters carry as much information: (sum d)^2 / sum d^2 (Kish 1965); 0 when empty.

    >>> effective_clusters(np.array([1.0, 1.0, 1.0])), round(effective_clusters(np.array([98.0, 1.0, 1.0])), 2)
    (3.0, 1.04)
    """
    squares = float(np.square(sizes).sum())
    return float(sizes.sum()) ** 2 / squares if squares > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Linear:
    """A statistic of clustered data: its value and one jackknife influence per cluster.

    The variance is the sum of squared influences; influences of the same cluster in different strata
    add up before squaring, which is how dependence between strata is kept.
    """

    value: float
    influence: Floats
    effective: float

    @property
    def variance(self) -> float:
        """The cluster-robust variance of the value."""
        return float(np.square(self.influence).sum())

    def estimate(self, *, alpha: float = 0.05, method: str = "cluster_jackknife") -> Estimate:
        """A t interval with `effective - 1` degrees of freedom; none for a single cluster or no variance."""
        return t_estimate(self.value, self.variance, self.effective - 1, alpha=alpha, method=method)


def linear_ratio(numerators: Floats, denominators: Floats, *, slope: float = 1.0) -> Linear | None:
    """Sum of numerators over sum of denominators, linearised by cluster; None without a denominator.

    `slope` multiplies the influences (a quantile's is one over the density). One cluster that holds
    everything has no influence, because nothing is left to compare it with.

    >>> linear_ratio(np.array([1.0, 2.0, 3.0]), np.ones(3)).estimate().se == (1 / 3) ** 0.5
    True
    """
    total = float(denominators.sum())
    if not total > 0:
        return None
    ratio = float(numerators.sum()) / total
    count = int(np.count_nonzero(denominators))
    rest = 1 - denominators / total
    with np.errstate(divide="ignore", invalid="ignore"):
        influence = np.where(rest > 1e-12, (numerators - ratio * denominators) / (total * rest), 0.0)
    scale = slope * np.sqrt((count - 1) / count)
    # Zero variance must be an exact zero: the ratio of equal clusters rounds in the last digit.
    noise = 1e-12 * max(abs(ratio), 1e-300) * denominators / total
    influence = np.where(np.abs(influence) <= noise, 0.0, influence * scale)
    return Linear(ratio, influence, effective_clusters(denominators))


def clustered_ratio(numerators: Floats, denominators: Floats, *, alpha: float = 0.05) -> Estimate | None:
    """Sum over sum with an interval whose unit is the cluster; None without a denominator.

    Estimand: the ratio of population means per unit, that is, the value per request with units sampled.
    Assumes independent units. One unit or no variance: a value without an interval. Reference: Deng,
    Knoblich and Lu 2018 (arXiv 1803.06336); jackknife form: MacKinnon and White 1985.

    >>> estimate = clustered_ratio(np.array([0.0, 1.0, 4.0, 1.0]), np.array([2.0, 2.0, 4.0, 2.0]))
    >>> round(estimate.value, 2), round(estimate.df, 3)
    (0.6, 2.571)
    """
    linear = linear_ratio(numerators, denominators)
    return None if linear is None else linear.estimate(alpha=alpha)


def sum_by(groups: NDArray[np.integer], values: Floats, count: int) -> Floats:
    """Sums of `values` per group 0..count-1.

    >>> sum_by(np.array([0, 1, 0]), np.array([1.0, 2.0, 3.0]), 2).tolist()
    [4.0, 2.0]
    """
    return np.asarray(np.bincount(groups, weights=values, minlength=count), dtype=np.float64)
