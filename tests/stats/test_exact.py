"""Exact intervals: they cover as they say, and refuse what is no count."""

from __future__ import annotations

import pytest
from scipy import stats

from proxy.stats.exact import clopper_pearson


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("total", [20, 200])
def test_the_interval_covers_at_least_as_often_as_it_says(share: float, total: int) -> None:
    """Summed over every outcome, so the coverage is exact and no draw is made."""
    covered = 0.0
    for hits in range(total + 1):
        low, high = clopper_pearson(hits, total)
        covered += stats.binom.pmf(hits, total, share) if low <= share <= high else 0.0
    assert covered >= 0.95


def test_more_hits_than_draws_are_refused() -> None:
    """A share beyond 1 is a defect of the caller."""
    with pytest.raises(ValueError, match="within 0 and total"):
        clopper_pearson(3, 2)
