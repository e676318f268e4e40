"""A number with its uncertainty, and how a standard error becomes an interval.

Everything in `proxy.stats` returns an `Estimate`. What is unknown is None, never NaN and never a
made-up zero: a difference without variance has a value but no interval and no p-value. Every
interval is for a fixed horizon, that is, for one look at a moment chosen beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with standard error, interval, degrees of freedom, p-value and the method's name."""

    value: float
    se: float | None = None
    low: float | None = None
    high: float | None = None
    df: float | None = None
    p_value: float | None = None
    method: str = "none"


def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t for any positive, also fractional, degrees of freedom.

    >>> round(t_quantile(0.975, 10.0), 4)
    2.2281
    """
    return float(special.stdtrit(df, probability))


def t_estimate(value: float, variance: float, df: float, *, alpha: float = 0.05, method: str = "t") -> Estimate:
    """A two-sided t interval around `value`, and the p-value of "the true value is 0".

    Without variance or without degrees of freedom there is no interval: the estimate says so by None.

    >>> estimate = t_estimate(2.0, 1.0, 10.0)
    >>> round(estimate.low, 4), round(estimate.high, 4), round(estimate.p_value, 4)
    (-0.2281, 4.2281, 0.0734)
    >>> t_estimate(2.0, 0.0, 10.0).low is None
    True
    """
    if not (variance > 0 and df > 0 and math.isfinite(variance)):
        return Estimate(value, method="no_variance")
    se = math.sqrt(variance)
    half = t_quantile(1 - alpha / 2, df) * se
    p_value = min(1.0, 2 * float(special.stdtr(df, -abs(value) / se)))
    return Estimate(value, se, value - half, value + half, df, p_value, method)


def satterthwaite(variances: tuple[float, ...], dfs: tuple[float, ...]) -> float:
    """Degrees of freedom of a sum of independent variances (Welch 1947, Satterthwaite 1946).

    Zero when nothing varies or when a part that varies has no degrees of freedom.

    >>> satterthwaite((1.0, 1.0), (9.0, 9.0))
    18.0
    """
    total = sum(variances)
    parts = [(variance, df) for variance, df in zip(variances, dfs, strict=True) if variance > 0]
    if total <= 0 or any(df <= 0 for _, df in parts):
        return 0.0
    return float(total**2 / sum(variance**2 / df for variance, df in parts))
