"""Paired differences: two answers to the same request, clustered by the unit that asked.

The legs of a pair share request, user and moment, so they are never compared as independent arms. What
is left after the subtraction is one number per pair, and pairs of the same unit are still dependent.
"""

from __future__ import annotations

from proxy.stats.clusters import Floats, linear_ratio
from proxy.stats.estimate import Estimate


def paired_difference(sums: Floats, counts: Floats, *, alpha: float = 0.05) -> Estimate | None:
    """The mean of differences per pair, from the sum of differences and the number of pairs of each unit.

    Estimand: the mean difference over pairs. Assumes independent units; nothing about the two legs. None
    without pairs; no interval for one unit or when every difference is the same. With one pair per unit it
    is the paired t test. Reference: Liang and Zeger 1986 (working independence).

    >>> import numpy as np
    >>> estimate = paired_difference(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0]))
    >>> round(estimate.value, 1), round(estimate.p_value, 4)
    (2.0, 0.0742)
    """
    linear = linear_ratio(sums, counts)
    return None if linear is None else linear.estimate(alpha=alpha, method="paired_cluster")


def clustered_mcnemar(
    first_only: Floats, second_only: Floats, counts: Floats, *, alpha: float = 0.05
) -> Estimate | None:
    """How much oftener the second leg has a property than the first, from discordant pairs per unit.

    Estimand: P(second) - P(first) over pairs. With one pair per unit it is McNemar's test with a t reference
    and the unpooled variance. None without pairs; no interval when no pair is discordant. Reference: Obuchowski
    1998 (clustered matched-pair data).

    >>> import numpy as np
    >>> none, ones = np.zeros(4), np.ones(4)
    >>> clustered_mcnemar(none, none, ones).low is None
    True
    """
    linear = linear_ratio(second_only - first_only, counts)
    return None if linear is None else linear.estimate(alpha=alpha, method="mcnemar_cluster")
