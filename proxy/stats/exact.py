"""Exact statements about a share, for events that are independent by design.

Whether a unit is in a fault's cohort, or a label is flipped, is a draw of its own (a hash with its own salt), so the
count is binomial and nothing has to be approximated or clustered.
"""

from __future__ import annotations

from scipy import stats


def clopper_pearson(hits: int, total: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """The exact interval of a binomial share (Clopper and Pearson 1934); covers at least `1 - alpha`, whatever the share.

    Estimand: the probability of one draw. Assumes independent draws. Without draws it is 0..1.

    >>> [round(x, 4) for x in clopper_pearson(0, 10)]
    [0.0, 0.3085]
    >>> [round(x, 4) for x in clopper_pearson(5, 10)]
    [0.1871, 0.8129]
    >>> clopper_pearson(0, 0)
    (0.0, 1.0)
    """
    if not 0 <= hits <= total:
        raise ValueError(f"hits: got {hits}, must be within 0 and total ({total})")
    low = 0.0 if hits == 0 else float(stats.beta.ppf(alpha / 2, hits, total - hits + 1))
    high = 1.0 if hits == total else float(stats.beta.ppf(1 - alpha / 2, hits + 1, total - hits))
    return low, high


def binomial_p(hits: int, total: int, share: float) -> float:
    """The exact two-sided p-value that `hits` of `total` draws have probability `share`.

    >>> round(binomial_p(0, 100, 0.05), 4)
    0.0102
    """
    return float(stats.binomtest(hits, total, share).pvalue)
