"""Proportions of requests with dependent requests: Wilson's interval with honest counts.

The number of requests is replaced by the number of independent observations that would give the same
variance, and the normal by a t whose degrees of freedom are the effective clusters minus 1 (Korn and
Graubard 1998, applied to Wilson 1927). It stays inside 0..1 and says something at 0 and 1, where the
delta method says nothing.
"""

from __future__ import annotations

import math

from proxy.stats.clusters import Floats, Linear, linear_ratio
from proxy.stats.estimate import Estimate, t_quantile


def wilson(share: float, n: float, *, z: float) -> tuple[float, float]:
    """Wilson's score interval for a share of `n` observations, with `z` standard errors.

    >>> low, high = wilson(0.0, 10, z=1.959964)
    >>> low, round(high, 4)
    (0.0, 0.2775)
    >>> [round(x, 4) for x in wilson(0.5, 28, z=1.959964)]
    [0.3263, 0.6737]
    """
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (0.0 if share == 0 else max(0.0, centre - half)), (1.0 if share == 1 else min(1.0, centre + half))


def proportion_of(linear: Linear, *, alpha: float = 0.05) -> Estimate:
    """The interval of a proportion that is already linearised by cluster.

    Without variance (all or none) each effective cluster counts as one observation, which is the most
    careful reading: perfectly dependent requests. Fewer than two effective clusters: no interval.

    >>> import numpy as np
    >>> estimate = proportion_of(linear_ratio(np.zeros(100), np.ones(100)))
    >>> estimate.low, round(estimate.high, 3)
    (0.0, 0.038)
    """
    share, df = min(max(linear.value, 0.0), 1.0), linear.effective - 1
    if df < 1:
        return Estimate(share, method="too_few_clusters")
    variance = linear.variance
    n = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else linear.effective
    low, high = wilson(share, n, z=t_quantile(1 - alpha / 2, df))
    return Estimate(share, math.sqrt(variance), low, high, df, None, "wilson_cluster")


def clustered_proportion(hits: Floats, totals: Floats, *, alpha: float = 0.05) -> Estimate | None:
    """A proportion of requests with Wilson's interval, clustered; None without requests.

    Estimand: the share of requests, units sampled. Assumes independent units. References: Wilson 1927; Korn and
    Graubard 1998; Franco et al. 2019 (intervals for proportions in complex surveys).

    >>> import numpy as np
    >>> one_each = clustered_proportion(np.repeat([1.0, 0.0], 14), np.ones(28))
    >>> round(one_each.low, 3), round(one_each.high, 3)
    (0.316, 0.684)
    """
    linear = linear_ratio(hits, totals)
    return None if linear is None else proportion_of(linear, alpha=alpha)


def newcombe(control: Estimate, treatment: Estimate) -> Estimate:
    """The difference of two independent proportions from their intervals (Newcombe 1998, method 10).

    For arms in which nothing happened, where the delta method has no variance: two arms without an error still
    bound the difference. No p-value. Without both intervals there is none for the difference.

    >>> a = Estimate(0.0, 0.0, 0.0, 0.04)
    >>> newcombe(a, a).low, newcombe(a, a).high
    (-0.04, 0.04)
    """
    value = treatment.value - control.value
    if control.low is None or control.high is None or treatment.low is None or treatment.high is None:
        return Estimate(value, method="no_variance")
    below = math.hypot(treatment.value - treatment.low, control.high - control.value)
    above = math.hypot(treatment.high - treatment.value, control.value - control.low)
    df = min(control.df, treatment.df) if control.df is not None and treatment.df is not None else None
    return Estimate(value, None, value - below, value + above, df, None, "newcombe")


def proportion_difference(control: Linear, treatment: Linear, *, alpha: float = 0.05) -> Estimate:
    """The difference of two clustered proportions by Newcombe's method, with the p-value that inverts the interval.

    Estimand: share of the treatment minus share of the control. Assumes independent units that are in one arm only. When
    one arm has fewer than two effective clusters: no interval. The p-value is the alpha at which the interval just
    touches 0, found by bisection.

    >>> import numpy as np
    >>> none = linear_ratio(np.zeros(200), np.ones(200))
    >>> some = linear_ratio(np.repeat([1.0, 0.0], [20, 180]), np.ones(200))
    >>> estimate = proportion_difference(none, some)
    >>> round(estimate.low, 3), round(estimate.high, 3), estimate.p_value < 0.001
    (0.061, 0.15, True)
    """

    def at(level: float) -> Estimate:
        return newcombe(proportion_of(control, alpha=level), proportion_of(treatment, alpha=level))

    estimate = at(alpha)
    if estimate.low is None:
        return estimate
    low, high = 1e-12, 1.0
    for _ in range(50):
        middle = math.sqrt(low * high)
        bounds = at(middle)
        touches = bounds.low is None or bounds.high is None or bounds.low <= 0 <= bounds.high
        # A wider interval (smaller alpha) holds 0 for longer: keep the largest alpha that still does.
        low, high = (middle, high) if touches else (low, middle)
    p_value = 1.0 if estimate.value == 0 else high
    return Estimate(estimate.value, None, estimate.low, estimate.high, estimate.df, p_value, "newcombe_cluster")
