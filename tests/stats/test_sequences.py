"""Confidence sequences against published numbers, and at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from proxy.stats.clusters import Linear, linear_ratio
from proxy.stats.moments import Moments, difference
from proxy.stats.sequences import MIN_CLUSTERS, always_valid, sequence_half_width, sequence_rho


def test_the_half_width_is_the_published_one() -> None:
    """gbstats, A of 3000 and B of 3461 units, tuned for 1000: 0.41347, where the fixed horizon has 0.25447."""
    a, b = Moments.from_sums(3000, 1396.87, 52377.9767), Moments.from_sums(3461, 2422.7, 134698.29)
    se = math.sqrt(a.variance / a.n + b.variance / b.n)
    assert sequence_rho(0.05, 1000) == pytest.approx(0.0890851, abs=1e-7)
    assert sequence_half_width(se, a.n + b.n, tuned_for=1000) == pytest.approx(0.4134658, abs=1e-6)
    fixed = difference(a, b)
    assert fixed.high is not None
    assert fixed.high - fixed.value == pytest.approx(0.25447, abs=1e-4)


def test_no_interval_below_thirty_effective_clusters() -> None:
    """However many requests they have: one heavy unit makes the others count for little."""
    assert always_valid(Linear(0.1, np.full(29, 0.01), MIN_CLUSTERS - 0.1)).low is None
    assert always_valid(Linear(0.1, np.full(30, 0.01), MIN_CLUSTERS)).low is not None
    heavy = linear_ratio(np.ones(200), np.concatenate([[10_000.0], np.ones(199)]))
    assert heavy is not None
    assert always_valid(heavy, step=0.001).method == "too_few_clusters"


def test_what_never_happened_has_an_interval_only_if_it_is_known_how_far_one_can_move() -> None:
    """No variance means nothing without a step, and with one it means `rare`."""
    none = linear_ratio(np.zeros(100), np.ones(100))
    assert none is not None
    assert always_valid(none).low is None
    bounded = always_valid(none, step=0.01)
    assert bounded.low is not None
    assert bounded.high == -bounded.low
    assert 0.03 < bounded.high < 0.08


def test_it_narrows_with_clusters_and_widens_with_confidence() -> None:
    """And is always wider than the interval for one look."""
    widths = [sequence_half_width(1 / math.sqrt(n), n) for n in (50.0, 500.0, 5000.0)]
    assert widths == sorted(widths, reverse=True)
    assert all(width > 1.96 / math.sqrt(n) for width, n in zip(widths, (50, 500, 5000), strict=True))
    assert sequence_half_width(0.1, 500, alpha=0.01) > sequence_half_width(0.1, 500, alpha=0.05)
