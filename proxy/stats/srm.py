"""Sample ratio mismatch: was the split that was configured the split that happened?

It is asked first, because a failed split biases everything after it. The unit of counting is the distinct unit,
within an epoch: an allocation that changes in mid-run would otherwise raise false alarms (PostHog #43804).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

# GrowthBook and Statsig use 0.001; Microsoft's 0.0005 is not far. Low, because it is looked at again and again.
SRM_ALPHA = 0.001


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The χ² test of observed units against weights; `p_value` None when there is nothing to test."""

    observed: tuple[float, ...]
    expected: tuple[float, ...]
    statistic: float | None
    df: int
    p_value: float | None

    @property
    def failed(self) -> bool:
        """Whether the split that was observed is incredible under the weights."""
        return self.p_value is not None and self.p_value < SRM_ALPHA


def sample_ratio(counts: Sequence[float], weights: Sequence[float]) -> SampleRatio:
    """χ² of distinct units per arm against the arms' weights.

    Estimand: none; the null is that units fall into arms with these weights. df = arms with positive weight - 1
    (gbstats counts zero-weight arms too, which loses power). A unit in an arm of zero weight is a mismatch
    with p = 0. One arm or no units: no test. Small n: under 5 expected per arm the χ² is rough, but at
    p < 0.001 it errs towards silence. Source: Fabijan et al. 2019; Kohavi, Tang and Xu, chapter 3.

    >>> round(sample_ratio([821588, 815482], [0.5, 0.5]).p_value * 1e6, 3)
    1.822
    >>> sample_ratio([5, 0], [1.0, 0.0]).p_value is None
    True
    """
    return pooled_sample_ratio([counts], [weights])


def pooled_sample_ratio(counts: Sequence[Sequence[float]], weights: Sequence[Sequence[float]]) -> SampleRatio:
    """One test over epochs of different weights; a row per epoch, the same arms in the same order.

    Observed minus expected is summed over epochs and judged by the summed multinomial covariance (the generalised
    Cochran-Mantel-Haenszel score). With one epoch it is χ² itself. Each unit may be counted in one epoch only,
    or the epochs are not independent: count it where it was first seen.

    >>> pooled_sample_ratio([[600, 400]], [[1, 1]]).p_value == sample_ratio([600, 400], [0.5, 0.5]).p_value
    True
    >>> pooled_sample_ratio([[900, 100], [500, 500]], [[9, 1], [1, 1]]).p_value
    1.0
    """
    if not counts:
        return SampleRatio((), (), None, 0, None)
    observed = np.asarray(counts, dtype=float).reshape(len(counts), -1)
    shares = np.asarray(weights, dtype=float).reshape(observed.shape)
    totals = shares.sum(axis=1, keepdims=True)
    shares = np.divide(shares, totals, out=np.zeros_like(shares), where=totals > 0)
    sizes = observed.sum(axis=1)
    expected = shares * sizes[:, None]
    covariance = np.zeros((observed.shape[1], observed.shape[1]))
    for size, share in zip(sizes, shares, strict=True):
        covariance += size * (np.diag(share) - np.outer(share, share))
    df = int(np.linalg.matrix_rank(covariance, hermitian=True)) if covariance.any() else 0
    seen, due = tuple(observed.sum(axis=0).tolist()), tuple(expected.sum(axis=0).tolist())
    if (observed[(shares == 0) & (sizes[:, None] > 0)] > 0).any():
        return SampleRatio(seen, due, None, max(df, 1), 0.0)
    if df == 0:
        return SampleRatio(seen, due, None, 0, None)
    gap = (observed - expected).sum(axis=0)
    statistic = max(float(gap @ np.linalg.pinv(covariance, hermitian=True) @ gap), 0.0)
    return SampleRatio(seen, due, statistic, df, float(special.chdtrc(df, statistic)))
