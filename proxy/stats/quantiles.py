"""Quantiles over requests when units are what is independent.

The share of requests at or below q is a ratio metric, so its variance comes from (sum 1{x <= q}, n) per unit;
dividing by the density at q gives the variance of the quantile (GrowthBook's clustered quantile; Deng, Knoblich and
Lu 2018, section 4.2). The density is read off the empirical quantile function over the width of the interval
itself, so nothing is smoothed and no bandwidth is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxy.stats.clusters import Floats, Linear, linear_ratio
from proxy.stats.estimate import Estimate, t_quantile


@dataclass(frozen=True, slots=True)
class QuantileFunction:
    """An empirical distribution: `shares` rising to 1 and the value that each share reaches.

    It may be thinned, as long as the shares that are asked for stand in it.
    """

    shares: Floats
    values: Floats

    @staticmethod
    def of(values: Floats) -> QuantileFunction:
        """The empirical distribution of some numbers.

        >>> QuantileFunction.of(np.array([3.0, 1.0, 2.0, 4.0])).at(0.5)
        2.0
        """
        return QuantileFunction(np.arange(1, len(values) + 1) / max(len(values), 1), np.sort(values))

    def at(self, share: float) -> float:
        """The smallest value that at least `share` of the requests do not exceed (`numpy`'s inverted_cdf)."""
        index = int(np.searchsorted(self.shares, share - 1e-9, side="left"))
        return float(self.values[min(index, len(self.values) - 1)])

    def share_at(self, value: float) -> float:
        """The share of requests at or below `value`."""
        index = int(np.searchsorted(self.values, value, side="right"))
        return float(self.shares[index - 1]) if index else 0.0


def linear_quantile(
    function: QuantileFunction, share: float, below: Floats, totals: Floats, *, alpha: float = 0.05
) -> tuple[Linear, Estimate] | None:
    """A quantile linearised by cluster, and its own interval (Woodruff 1952); None without requests.

    `below` counts per unit the requests at or below the quantile, `totals` all its requests. The interval runs between
    the quantiles at share ± t·se, and need not be symmetric. When these fall beyond the data on a side (p99 of
    50 requests), the interval has no honest end there and is None; with a single unit or no spread there is none either.

    Estimand: the quantile over requests. Assumes independent units and a density at the quantile. In the tail few units
    carry the information: p95 with 300 heavy-tailed units covers 91 %, with 800 about 94 % (simulated).

    >>> values = np.arange(1.0, 1001.0)
    >>> _, estimate = linear_quantile(QuantileFunction.of(values), 0.5, (values <= 500) * 1.0, np.ones(1000))
    >>> estimate.value, estimate.low, estimate.high
    (500.0, 469.0, 532.0)
    """
    ratio = linear_ratio(below, totals)
    if ratio is None or not len(function.values):
        return None
    value, df = function.at(share), ratio.effective - 1
    se_share = float(np.sqrt(ratio.variance))
    if df <= 0 or se_share == 0:
        return Linear(value, np.zeros_like(below), ratio.effective), Estimate(value, method="no_variance")
    reach = t_quantile(1 - alpha / 2, df) * se_share
    low, high = function.at(max(share - reach, 0.0)), function.at(min(share + reach, 1.0))
    # One over the density: how far the quantile moves when the share moves by one.
    slope = (high - low) / (min(share + reach, 1.0) - max(share - reach, 0.0))
    se = slope * se_share
    linear = Linear(value, -slope * ratio.influence, ratio.effective)
    if slope == 0:
        return linear, Estimate(value, method="no_variance")
    inside_low, inside_high = share - reach > 0, share + reach < 1
    estimate = Estimate(
        value, se, low if inside_low else None, high if inside_high else None, df, None, "woodruff_cluster"
    )
    return linear, estimate
