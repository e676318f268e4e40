"""Differences between arms, stratified by allocation epoch.

Estimand: the mean over epochs, weighted by an epoch's share of requests, of (treatment - control) within the
epoch. Pooling the sums of epochs with different allocations compares different times: with a ramp and a trend it
rejects a true A/A every time. A unit seen in several epochs is still one observation, so its influences are
summed over epochs (with the sign of its arm) before they are squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.stats.clusters import Floats, Linear, effective_clusters, sum_by
from proxy.stats.estimate import Estimate, satterthwaite, t_estimate


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm in one epoch: its linearised statistic, which units it holds and how many requests each has."""

    linear: Linear
    units: NDArray[np.integer]
    requests: Floats


@dataclass(frozen=True, slots=True)
class Stratum:
    """Both arms in one epoch, and the epoch's weight (its requests)."""

    control: Cell
    treatment: Cell
    weight: float


@dataclass(frozen=True, slots=True)
class Stratified:
    """The two standardised arm values and their influences per unit, ready for any smooth function of them."""

    control: Linear
    treatment: Linear

    def difference(self, *, alpha: float = 0.05) -> Estimate:
        """Treatment minus control; no interval without variance or with one effective unit in an arm."""
        variance = float(np.square(self.treatment.influence - self.control.influence).sum())
        value = self.treatment.value - self.control.value
        return t_estimate(value, variance, self._df(1.0, 1.0), alpha=alpha, method="stratified_cluster")

    def relative(self, *, alpha: float = 0.05) -> Estimate | None:
        """Treatment over control minus 1 by the linear delta method; None when control's value is 0."""
        base = self.control.value
        if base == 0:
            return None
        a, b = self.treatment.value / base**2, 1 / base
        variance = float(np.square(b * self.treatment.influence - a * self.control.influence).sum())
        value = self.treatment.value / base - 1
        return t_estimate(value, variance, self._df(a, b), alpha=alpha, method="stratified_linear_delta")

    def _df(self, a: float, b: float) -> float:
        variances = a**2 * self.control.variance, b**2 * self.treatment.variance
        return satterthwaite(variances, (self.control.effective - 1, self.treatment.effective - 1))


def stratify(strata: Sequence[Stratum]) -> Stratified | None:
    """Combine epochs; None when no epoch holds both arms.

    >>> one = np.ones(3)
    >>> a = Cell(Linear(1.0, np.array([0.1, -0.1, 0.0]), 3.0), np.array([0, 1, 2]), one)
    >>> b = Cell(Linear(3.0, np.array([0.1, 0.0, -0.1]), 3.0), np.array([3, 4, 5]), one)
    >>> round(stratify([Stratum(a, b, 1.0)]).difference().value, 3)
    2.0
    """
    total = sum(stratum.weight for stratum in strata)
    if not total > 0:
        return None
    cells = [cell for stratum in strata for cell in (stratum.control, stratum.treatment)]
    known, places = np.unique(np.concatenate([cell.units for cell in cells]), return_inverse=True)
    offsets = np.cumsum([0, *(len(cell.units) for cell in cells)])

    def combine(side: int) -> Linear:
        value, influence, requests = 0.0, np.zeros(len(known)), np.zeros(len(known))
        for index, stratum in enumerate(strata):
            position = 2 * index + side
            cell, share = cells[position], stratum.weight / total
            groups = places[offsets[position] : offsets[position + 1]]
            value += share * cell.linear.value
            influence += share * sum_by(groups, cell.linear.influence, len(known))
            # What a unit weighs in the standardised value: its share of the cell, times the cell's share.
            requests += share * sum_by(groups, cell.requests / max(float(cell.requests.sum()), 1e-300), len(known))
        return Linear(value, influence, effective_clusters(requests))

    return Stratified(combine(0), combine(1))
