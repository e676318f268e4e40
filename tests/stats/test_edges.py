"""Small numbers, no variance, and the properties that hold for any data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.stats.clusters import clustered_ratio, effective_clusters, linear_ratio
from proxy.stats.moments import Moments, RatioMoments, difference, relative_difference
from proxy.stats.paired import paired_difference
from proxy.stats.proportion import clustered_proportion, proportion_difference
from proxy.stats.quantiles import QuantileFunction, linear_quantile
from proxy.stats.strata import Cell, Stratum, stratify

sizes = st.lists(st.integers(1, 1000), min_size=2, max_size=40)


@given(sizes)
def test_effective_clusters_lie_between_one_and_their_number(counts: list[int]) -> None:
    """Equal clusters count fully, one that holds everything counts as one."""
    effective = effective_clusters(np.array(counts, dtype=float))
    assert 1 <= effective <= len(counts) + 1e-9


@given(sizes, st.integers(0, 2**32 - 1))
def test_a_proportion_stays_inside_zero_and_one(counts: list[int], seed: int) -> None:
    """Wilson's interval holds its own value and never leaves 0..1."""
    totals = np.array(counts, dtype=float)
    hits = np.random.default_rng(seed).binomial(totals.astype(int), 0.03).astype(float)
    estimate = clustered_proportion(hits, totals)
    assert estimate is not None
    if estimate.low is not None and estimate.high is not None:
        assert 0 <= estimate.low <= estimate.value + 1e-12
        assert estimate.value - 1e-12 <= estimate.high <= 1


@given(sizes, st.integers(0, 2**32 - 1))
def test_influences_of_a_ratio_are_those_of_leaving_one_unit_out(counts: list[int], seed: int) -> None:
    """The jackknife is exact: minus the influence, unscaled, is what leaving the unit out does to the ratio."""
    d = np.array(counts, dtype=float)
    x = np.random.default_rng(seed).gamma(2.0, 1.0, len(d)) * d
    linear = linear_ratio(x, d)
    assert linear is not None
    left_out = (x.sum() - x) / (d.sum() - d) - x.sum() / d.sum()
    scale = np.sqrt((len(d) - 1) / len(d))
    np.testing.assert_allclose(linear.influence, -left_out * scale, rtol=1e-6, atol=1e-9)


def test_nothing_at_all_is_none() -> None:
    """Without requests there is no number, not a zero."""
    none = np.zeros(0)
    assert clustered_ratio(none, none) is None
    assert clustered_proportion(none, none) is None
    assert paired_difference(none, none) is None
    assert linear_quantile(QuantileFunction.of(none), 0.5, none, none) is None
    assert stratify([]) is None


def test_one_unit_has_a_value_and_no_interval() -> None:
    """One cluster says nothing about others."""
    one = np.array([10.0])
    ratio, proportion = clustered_ratio(one * 2, one), clustered_proportion(one * 0.5, one)
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.p_value) == (2.0, None, None)
    assert proportion is not None
    assert (proportion.value, proportion.low) == (0.5, None)


def test_equal_units_have_no_variance_and_say_so() -> None:
    """Zero variance is a None, never an interval of width zero."""
    estimate = clustered_ratio(np.full(50, 0.3), np.full(50, 3.0))
    assert estimate is not None
    assert (estimate.low, estimate.p_value, estimate.method) == (None, None, "no_variance")
    assert difference(Moments(10, 1.0, 0.0), Moments(10, 2.0, 0.0)).p_value is None
    assert difference(Moments(1, 1.0, 0.0), Moments(10, 2.0, 1.0)).low is None
    assert relative_difference(Moments(10, 0.0, 1.0), Moments(10, 2.0, 1.0)) is None
    assert RatioMoments(10, 1.0, 0.0, 1.0, 0.0, 0.0).linearised().mean == 0.0


def test_no_error_in_either_arm_still_bounds_the_difference() -> None:
    """Zero of many is evidence: the bound shrinks with the effective clusters, and p is 1."""
    few, many = (linear_ratio(np.zeros(n), np.ones(n)) for n in (40, 4000))
    assert few is not None
    assert many is not None
    wide, narrow = proportion_difference(few, few), proportion_difference(many, many)
    assert wide.p_value == narrow.p_value == 1.0
    assert wide.high is not None
    assert narrow.high is not None
    assert 0 < narrow.high < 0.01 < wide.high < 0.15


def test_the_p_value_of_proportions_inverts_their_interval() -> None:
    """At alpha = p the interval just touches zero."""
    none, some = linear_ratio(np.zeros(200), np.ones(200)), linear_ratio(np.repeat([1.0, 0.0], [8, 192]), np.ones(200))
    assert none is not None
    assert some is not None
    p_value = proportion_difference(none, some).p_value
    assert p_value is not None
    touching = proportion_difference(none, some, alpha=p_value)
    assert touching.low == pytest.approx(0.0, abs=1e-6)


def test_quantiles_are_numpys_inverted_cdf() -> None:
    """The value at a share is the smallest that enough requests do not exceed."""
    values = np.random.default_rng(5).lognormal(size=777)
    function = QuantileFunction.of(values)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        assert function.at(share) == np.quantile(values, share, method="inverted_cdf")
    assert function.share_at(values.min() - 1) == 0.0
    assert function.share_at(values.max()) == 1.0


def test_a_tail_that_the_data_do_not_reach_has_no_upper_end() -> None:
    """p99 of 60 requests: the upper end lies beyond the data and is not invented."""
    values = np.arange(1.0, 61.0)
    function = QuantileFunction.of(values)
    found = linear_quantile(function, 0.99, (values <= function.at(0.99)).astype(float), np.ones(60))
    assert found is not None
    middle = linear_quantile(function, 0.5, (values <= 30).astype(float), np.ones(60))
    assert middle is not None
    assert found[1].high is None
    assert None not in (middle[1].low, middle[1].high)


def test_a_constant_has_no_quantile_interval() -> None:
    """Without spread there is no density to divide by."""
    values = np.full(100, 0.02)
    found = linear_quantile(QuantileFunction.of(values), 0.5, np.ones(100), np.ones(100))
    assert found is not None
    assert (found[1].value, found[1].low) == (0.02, None)


def test_a_unit_seen_in_two_epochs_is_one_observation() -> None:
    """Influences of a unit add up over epochs before they are squared: doubling the data does not halve the variance."""
    rng = np.random.default_rng(2)
    d = np.ones(50)
    a, b = linear_ratio(rng.normal(size=50), d), linear_ratio(rng.normal(size=50), d)
    assert a is not None
    assert b is not None
    left, right = np.arange(50), np.arange(50, 100)
    stratum = Stratum(Cell(a, left, d), Cell(b, right, d), 1.0)
    others = Stratum(Cell(a, left + 100, d), Cell(b, right + 100, d), 1.0)
    once, again, fresh = stratify([stratum]), stratify([stratum, stratum]), stratify([stratum, others])
    assert once is not None
    assert again is not None
    assert fresh is not None
    se = once.difference().se
    assert se is not None
    assert again.difference().se == pytest.approx(se)
    assert fresh.difference().se == pytest.approx(se / np.sqrt(2))
    assert fresh.control.effective == pytest.approx(2 * once.control.effective)
