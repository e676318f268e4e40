"""Seeded simulations: do intervals cover, are p-values uniform, and do the tempting wrong ways fail?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from proxy.stats.clusters import Floats, linear_ratio
from proxy.stats.estimate import Estimate
from proxy.stats.paired import clustered_mcnemar
from proxy.stats.proportion import clustered_proportion, wilson
from proxy.stats.quantiles import QuantileFunction, linear_quantile
from proxy.stats.slices import slice_contrast
from proxy.stats.strata import Cell, Stratified, Stratum, stratify

pytestmark = pytest.mark.slow


def zipf(rng: np.random.Generator, units: int, *, exponent: float = 1.5, most: int = 1000) -> Floats:
    """Requests per unit, heavy-tailed."""
    weights = np.arange(1, most + 1) ** -exponent
    return rng.choice(np.arange(1, most + 1), units, p=weights / weights.sum()).astype(float)


def arm(rng: np.random.Generator, units: int, first: int, exponent: float = 1.5) -> tuple[Cell, float]:
    """One arm of units that differ in their error rate, and the variance a request-level test would use."""
    d = zipf(rng, units, exponent=exponent)
    x = rng.binomial(d.astype(int), rng.beta(0.5, 9.5, units)).astype(float)
    linear = linear_ratio(x, d)
    assert linear is not None
    naive = linear.value * (1 - linear.value) / d.sum()
    return Cell(linear, np.arange(first, first + units), d), naive


def combined(*strata: Stratum) -> Stratified:
    """Strata that must combine."""
    found = stratify(strata)
    assert found is not None
    return found


def covers(estimate: Estimate | None, truth: float) -> bool:
    """Whether the interval holds the truth; an end that the data do not reach excludes nothing."""
    assert estimate is not None
    low, high = estimate.low, estimate.high
    return (low is None or low <= truth) and (high is None or truth <= high)


def test_ratio_intervals_hold_with_heavy_tailed_units_where_the_request_level_test_fails() -> None:
    """A/A with Zipf units: clustered intervals hold 0 in about 95 % of cases, naive ones in far fewer."""
    rng = np.random.default_rng(20)
    held = naive_held = 0
    runs = 1500
    for _ in range(runs):
        (a, naive_a), (b, naive_b) = arm(rng, 400, 0), arm(rng, 400, 400)
        difference = combined(Stratum(a, b, 1.0)).difference()
        held += covers(difference, 0.0)
        naive_held += abs(difference.value) <= 1.96 * np.sqrt(naive_a + naive_b)
    assert 0.93 <= held / runs <= 0.98
    assert naive_held / runs < 0.6


def test_extreme_tails_are_covered_with_few_effective_units() -> None:
    """Zipf 1.8 up to 10,000 requests leaves some eight effective units; the interval gets wide instead of wrong."""
    rng = np.random.default_rng(21)
    weights = np.arange(1, 10_001) ** -1.8
    held, runs = 0, 1000
    for _ in range(runs):
        cells = []
        for first in (0, 300):
            d = rng.choice(np.arange(1, 10_001), 300, p=weights / weights.sum()).astype(float)
            linear = linear_ratio(np.exp(rng.normal(0, 0.5, 300)) * rng.gamma(d * 2, 0.5), d)
            assert linear is not None
            cells.append(Cell(linear, np.arange(first, first + 300), d))
        held += covers(combined(Stratum(cells[0], cells[1], 1.0)).difference(), 0.0)
    assert held / runs >= 0.93


def test_p_values_of_a_true_null_are_uniform() -> None:
    """Kolmogorov-Smirnov over 2,000 A/A experiments."""
    rng = np.random.default_rng(22)
    p_values = [
        combined(Stratum(arm(rng, 800, 0)[0], arm(rng, 800, 800)[0], 1.0)).difference().p_value for _ in range(2000)
    ]
    assert scipy_stats.kstest([p for p in p_values if p is not None], "uniform").pvalue > 0.01


def test_rare_errors_that_few_units_have_are_nearly_covered() -> None:
    """1 % errors, most of them of few units: the clustered interval falls a little short where a naive one fails."""
    rng = np.random.default_rng(23)
    held, naive_held, runs, rate = 0, 0, 2000, 0.01
    for _ in range(runs):
        d = zipf(rng, 500)
        hits = rng.binomial(d.astype(int), rng.beta(0.5, 0.5 / rate - 0.5, 500)).astype(float)
        held += covers(clustered_proportion(hits, d), rate)
        low, high = wilson(hits.sum() / d.sum(), int(d.sum()), z=1.96)
        naive_held += low <= rate <= high
    assert held / runs >= 0.91
    assert naive_held / runs < 0.6


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_quantile_intervals_cover_with_dependent_requests(share: float) -> None:
    """Requests of a unit share its speed; the clustered interval covers, the one of independent requests does not."""
    rng = np.random.default_rng(24)
    truth = float(np.exp(scipy_stats.norm.ppf(share) * np.sqrt(0.5**2 + 0.5**2)))
    held = naive_held = 0
    runs = 600
    for _ in range(runs):
        d = zipf(rng, 800, most=100).astype(int)
        speed = np.repeat(rng.normal(0, 0.5, 800), d)
        values = np.exp(speed + rng.normal(0, 0.5, d.sum()))
        function = QuantileFunction.of(values)
        at = function.at(share)
        below = np.add.reduceat((values <= at).astype(float), np.concatenate([[0], np.cumsum(d)[:-1]]))
        found = linear_quantile(function, share, below, d.astype(float))
        assert found is not None
        held += covers(found[1], truth)
        reach = 1.96 * np.sqrt(share * (1 - share) / d.sum())
        naive_held += function.at(share - reach) <= truth <= function.at(share + reach)
    assert 0.92 <= held / runs <= 0.985
    assert naive_held / runs < 0.85


def test_a_ramp_with_a_trend_fools_pooled_sums_and_not_strata() -> None:
    """A/A, 10 % then 50 % treatment while everything gets slower: pooling always rejects, strata rarely."""
    rng = np.random.default_rng(25)
    rejected = pooled_rejected = 0
    runs = 600
    for _ in range(runs):
        units = 600
        speed, draw = np.exp(rng.normal(0, 0.3, units)), rng.random(units)
        strata: list[Stratum] = []
        sums = {side: [np.zeros(units), np.zeros(units)] for side in (0, 1)}
        for level, weight in ((1.0, 0.1), (1.6, 0.5)):
            d = zipf(rng, units, most=50)
            x = level * speed * rng.gamma(d * 2, 0.5)
            cells = []
            for side, members in ((0, draw >= weight), (1, draw < weight)):
                sums[side][0][members] += x[members]
                sums[side][1][members] += d[members]
                linear = linear_ratio(x[members], d[members])
                assert linear is not None
                cells.append(Cell(linear, np.flatnonzero(members), d[members]))
            strata.append(Stratum(cells[0], cells[1], float(d.sum())))
        p_value = combined(*strata).difference().p_value
        assert p_value is not None
        rejected += p_value < 0.05
        pooled = [linear_ratio(x[d > 0], d[d > 0]) for x, d in sums.values()]
        assert pooled[0] is not None
        assert pooled[1] is not None
        whole = [
            Cell(linear, np.flatnonzero(d > 0) + 10_000 * side, d[d > 0])
            for side, (linear, (_, d)) in enumerate(zip(pooled, sums.values(), strict=True))
            if linear is not None
        ]
        pooled_p = combined(Stratum(whole[0], whole[1], 1.0)).difference().p_value
        pooled_rejected += pooled_p is not None and pooled_p < 0.05
    assert rejected / runs <= 0.08
    assert pooled_rejected / runs > 0.9


def test_mcnemar_by_unit_covers_where_units_differ() -> None:
    """Units with many pairs that differ in who is right: the interval covers about 95 %, and pairs alone would not."""
    rng = np.random.default_rng(77)
    covered = naive_covered = 0
    runs = 1000
    for _ in range(runs):
        n = zipf(rng, 200, most=60)
        right = rng.beta(1.0, 4.0, (2, 200))
        first = rng.binomial(n.astype(int), right[0] * (1 - right[1])).astype(float)
        second = rng.binomial((n - first).astype(int), right[1] * (1 - right[0]) / (1 - right[0] * (1 - right[1])))
        estimate = clustered_mcnemar(first, second.astype(float), n)
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0 <= estimate.high
        p1, p2 = first.sum() / n.sum(), second.sum() / n.sum()
        naive = 1.96 * ((p1 + p2 - (p2 - p1) ** 2) / n.sum()) ** 0.5
        naive_covered += abs(p2 - p1) <= naive
    assert 0.93 * runs <= covered <= 0.985 * runs
    assert naive_covered < 0.9 * runs


def test_a_slice_that_units_cross_is_found_at_the_nominal_rate() -> None:
    """Units have pairs on both sides of the border and their own rates: rejections under the null stay near 5 %."""
    rng = np.random.default_rng(78)
    rejected = 0
    runs = 1000
    for _ in range(runs):
        rate = rng.beta(1.0, 9.0, 200)
        a, b = rng.poisson(2.0, 200), rng.poisson(6.0, 200)
        inside = (rng.binomial(a, rate).astype(float), a.astype(float))
        outside = (rng.binomial(b, rate).astype(float), b.astype(float))
        estimate = slice_contrast(inside, outside)
        assert estimate is not None
        assert estimate.p_value is not None
        rejected += estimate.p_value < 0.05
    assert 0.03 * runs <= rejected <= 0.07 * runs
