"""Two independent arms from the moments of their units: Welch, and ratios by the delta method.

Moments are per unit (the unit of assignment), so they are enough for correct variances and they
merge by addition. Variances and covariances divide by n - 1.

The relative difference has two usual forms that disagree on the same data (p 0.0619 against 0.0202 in
gbstats' own example). Parallax reports the **linear** delta: it exists when the treatment's mean is
zero (an error rate often is), it is symmetric around the value that is shown, and GrowthBook uses it.
The verdict always comes from the absolute difference, so no form of the relative one can turn it.
The log form is here to be compared with engines that use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from proxy.stats.estimate import Estimate, satterthwaite, t_estimate, t_quantile


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and variance (n - 1) of one number per unit."""

    n: int
    mean: float
    variance: float

    @staticmethod
    def from_sums(n: int, total: float, squares: float) -> Moments:
        """Moments from a sum and a sum of squares.

        >>> Moments.from_sums(3, 6.0, 14.0)
        Moments(n=3, mean=2.0, variance=1.0)
        """
        mean = total / n if n else 0.0
        return Moments(n, mean, max(squares - n * mean**2, 0.0) / (n - 1) if n > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class RatioMoments:
    """Joint moments of a numerator x and a denominator y per unit; the ratio is mean x / mean y."""

    n: int
    mean_x: float
    mean_y: float
    var_x: float
    var_y: float
    cov: float

    def linearised(self) -> Moments:
        """The ratio as a mean with its delta-method variance (Deng, Knoblich and Lu 2018).

        `var(R) = (var x - 2 R cov + R^2 var y) / mean_y^2` per unit.

        >>> RatioMoments(1000, 2.0, 1.0, 4.0, 1.0, 0.5).linearised()
        Moments(n=1000, mean=2.0, variance=6.0)
        """
        if self.mean_y == 0:
            return Moments(self.n, 0.0, 0.0)
        ratio = self.mean_x / self.mean_y
        variance = (self.var_x - 2 * ratio * self.cov + ratio**2 * self.var_y) / self.mean_y**2
        return Moments(self.n, ratio, max(variance, 0.0))


def _parts(control: Moments, treatment: Moments) -> tuple[float, float, float]:
    """The two variances of the means and the degrees of freedom of their sum; zeros when an arm has under 2 units."""
    if min(control.n, treatment.n) < 2:
        return 0.0, 0.0, 0.0
    parts = control.variance / control.n, treatment.variance / treatment.n
    return *parts, satterthwaite(parts, (control.n - 1.0, treatment.n - 1.0))


def difference(control: Moments, treatment: Moments, *, alpha: float = 0.05) -> Estimate:
    """Treatment mean minus control mean, by Welch's t.

    Estimand: the difference of the population means per unit. Assumes independent units and means that
    are near normal. Fewer than 2 units in an arm, or no variance at all: no interval. Source: Welch 1947.

    >>> a, b = Moments.from_sums(3407, 1396.87, 52377.9767), Moments.from_sums(3461, 2422.7, 134698.29)
    >>> estimate = difference(a, b)
    >>> round(estimate.value, 2), round(estimate.low, 5), round(estimate.high, 5), round(estimate.p_value, 5)
    (0.29, 0.04538, 0.53462, 0.02016)
    """
    var_control, var_treatment, df = _parts(control, treatment)
    return t_estimate(treatment.mean - control.mean, var_control + var_treatment, df, alpha=alpha, method="welch")


def relative_difference(control: Moments, treatment: Moments, *, alpha: float = 0.05) -> Estimate | None:
    """Treatment mean over control mean minus 1, by the linear delta method; None when control's mean is 0.

    Estimand: the ratio of population means minus 1. Assumes that control's mean is many standard errors
    from 0. Source: gbstats, `variance_relative`. Degrees of freedom as for the absolute difference.

    >>> a, b = Moments.from_sums(3407, 1396.87, 52377.9767), Moments.from_sums(3461, 2422.7, 134698.29)
    >>> estimate = relative_difference(a, b)
    >>> round(estimate.value, 5), round(estimate.low, 5), round(estimate.high, 5), round(estimate.p_value, 5)
    (0.70732, -0.03526, 1.44989, 0.06191)
    """
    if control.mean == 0:
        return None
    var_control, var_treatment, df = _parts(control, treatment)
    variance = var_treatment / control.mean**2 + var_control * treatment.mean**2 / control.mean**4
    value = treatment.mean / control.mean - 1
    return t_estimate(value, variance, df, alpha=alpha, method="linear_delta")


def log_relative_difference(control: Moments, treatment: Moments, *, alpha: float = 0.05) -> Estimate | None:
    """Treatment mean over control mean minus 1, by the log-ratio delta method; None unless both means are positive.

    The p-value is that of the absolute difference, as in tea-tasting, so it can disagree with the
    interval. See the module's docstring for why reports use the linear form.

    >>> a, b = Moments.from_sums(3407, 1396.87, 52377.9767), Moments.from_sums(3461, 2422.7, 134698.29)
    >>> estimate = log_relative_difference(a, b)
    >>> round(estimate.low, 5), round(estimate.high, 5)
    (0.10517, 1.63754)
    """
    if control.mean <= 0 or treatment.mean <= 0:
        return None
    var_control, var_treatment, _ = _parts(control, treatment)
    absolute = difference(control, treatment, alpha=alpha)
    value = treatment.mean / control.mean
    if absolute.df is None:
        return Estimate(value - 1, method="no_variance")
    # The degrees of freedom are those of the variance on the log scale, as in tea-tasting.
    parts = var_control / control.mean**2, var_treatment / treatment.mean**2
    df = satterthwaite(parts, (control.n - 1.0, treatment.n - 1.0))
    se = math.sqrt(sum(parts))
    factor = math.exp(t_quantile(1 - alpha / 2, df) * se)
    return Estimate(value - 1, se, value / factor - 1, value * factor - 1, df, absolute.p_value, "log_delta")
