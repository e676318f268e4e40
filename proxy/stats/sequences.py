"""Intervals that may be looked at all the time: asymptotic confidence sequences.

A fixed-horizon interval holds at one look; whoever watches a number until it convinces them sees a 95 % interval
miss its truth about once in five (ten looks: 0.19, Armitage et al. 1969). A confidence sequence holds at all looks
at once: the chance that it ever leaves out the truth is at most alpha, so a verdict may be drawn the moment it is
clear. The price is width, some 60 % more.

This is the normal-mixture boundary of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (arXiv 2103.06476, eq. 9), the
form that gbstats uses, with n the number of effective clusters and the variance the jackknife's over clusters.
"""

from __future__ import annotations

import math
from typing import Final

from proxy.stats.clusters import Linear
from proxy.stats.estimate import Estimate

# The number of clusters at which the interval is tightest; far from it in either direction it widens slowly.
TUNED_FOR: Final = 1000.0
# Asymptotics need something to work with.
MIN_CLUSTERS: Final = 30.0
# How many observations are thought to be there beside those seen, half of them one up and half of them one down.
PSEUDO: Final = 2.0


def sequence_rho(alpha: float, tuned_for: float = TUNED_FOR) -> float:
    """The mixture's parameter that makes the boundary tightest at `tuned_for` observations.

    >>> round(sequence_rho(0.05, 1000), 7)
    0.0890851
    """
    return math.sqrt((-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned_for)


def sequence_half_width(se: float, n: float, *, alpha: float = 0.05, tuned_for: float = TUNED_FOR) -> float:
    """Half the width of the two-sided sequence around a mean of `n` observations with standard error `se`.

    The golden numbers are gbstats' (A: 3000, B: 3461 units, means 1396.87/3000 and 2422.7/3461).

    >>> round(sequence_half_width(0.1298347, 6461.0, tuned_for=1000), 4)
    0.4135
    """
    rho = sequence_rho(alpha, tuned_for)
    mixed = n * rho**2
    return se * math.sqrt(n) * math.sqrt(2 * (mixed + 1) / (n * rho) ** 2 * math.log(math.sqrt(mixed + 1) / alpha))


def always_valid(linear: Linear, *, alpha: float = 0.05, tuned_for: float = TUNED_FOR, step: float = 0.0) -> Estimate:
    """An interval around `linear` that holds at every look, without a p-value.

    Estimand: that of the statistic. Assumes independent clusters and, in the limit, a normal mean; nothing about when
    or how often one looks. Fewer than `MIN_CLUSTERS` effective clusters, or no variance and no `step`: no interval.

    Args:
        linear: the statistic with an influence per cluster.
        alpha: the chance that the interval ever leaves out the truth.
        tuned_for: the number of effective clusters at which it is to be tightest.
        step: how far one more observation can move the value (one over their number, if each is -1, 0 or 1). Rare
            events have no variance before the first and too little after it, so two observations that nobody saw are
            added to the variance, one up and one down, as Agresti and Min (2005) add half an observation to each
            cell of a matched table. With 0 nothing is added.
    """
    if linear.effective < MIN_CLUSTERS:
        return Estimate(linear.value, method="too_few_clusters")
    variance = linear.variance + PSEUDO * step**2
    if not (variance > 0 and math.isfinite(variance)):
        return Estimate(linear.value, method="no_variance")
    se = math.sqrt(variance)
    half = sequence_half_width(se, linear.effective, alpha=alpha, tuned_for=tuned_for)
    return Estimate(linear.value, se, linear.value - half, linear.value + half, None, None, "asymptotic_cs")
