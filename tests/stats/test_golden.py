"""Numbers that other engines have published, and textbook cases that must come out exactly."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from scipy import stats as scipy_stats

import proxy.stats
from proxy.stats.adjust import benjamini_hochberg, holm
from proxy.stats.clusters import clustered_ratio
from proxy.stats.estimate import Estimate
from proxy.stats.moments import Moments, RatioMoments, difference, log_relative_difference, relative_difference
from proxy.stats.paired import clustered_mcnemar, paired_difference
from proxy.stats.slices import slice_contrast
from proxy.stats.srm import pooled_sample_ratio, sample_ratio

MODULES = sorted(module.name for module in pkgutil.iter_modules(proxy.stats.__path__))
# gbstats, packages/stats/tests/frequentist/test_tests.py
GB_A = Moments.from_sums(3407, 1396.87, 52377.9767)
GB_B = Moments.from_sums(3461, 2422.7, 134698.29)
# tea-tasting 1.14, Aggregates with the moments given in its documentation
TEA_A = RatioMoments(1000, 2.0, 1.0, 4.0, 1.0, 0.5)
TEA_B = RatioMoments(1010, 2.2, 1.0, 4.0, 1.0, 0.5)


def ends(estimate: Estimate | None) -> tuple[float, float]:
    """Both ends of an interval that must be there."""
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_docstrings_run(module: str) -> None:
    """Every statistic shows itself in an example, and the example is true."""
    outcome = doctest.testmod(importlib.import_module(f"proxy.stats.{module}"))
    assert outcome.failed == 0
    assert outcome.attempted > 0


def test_welch_matches_gbstats() -> None:
    """The absolute difference of gbstats' published case."""
    estimate = difference(GB_A, GB_B)
    assert estimate.value == pytest.approx(0.29, abs=1e-5)
    assert ends(estimate) == pytest.approx((0.0453779, 0.5346221), abs=5e-7)
    assert estimate.p_value == pytest.approx(0.0201584, abs=5e-7)


def test_the_relative_difference_is_the_linear_delta_of_gbstats() -> None:
    """We report the linear form, whose p-value is 0.0619 where the log form's is 0.0202."""
    estimate = relative_difference(GB_A, GB_B)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.70732, abs=5e-6)
    assert ends(estimate) == pytest.approx((-0.03526, 1.44989), abs=5e-6)
    assert estimate.p_value == pytest.approx(0.06191, abs=5e-6)


def test_the_log_form_matches_tea_tasting() -> None:
    """The other form is kept for comparison, with the interval and p-value that tea-tasting prints."""
    estimate = log_relative_difference(GB_A, GB_B)
    assert ends(estimate) == pytest.approx((0.10517, 1.63754), abs=5e-6)
    assert estimate is not None
    assert estimate.p_value == pytest.approx(0.0202, abs=5e-5)


def test_proportions_match_gbstats() -> None:
    """14 of 28 against 16 of 30: the relative interval of gbstats, whose variance is p(1 - p)."""
    a, b = Moments(28, 14 / 28, 0.25), Moments(30, 16 / 30, 16 / 30 * 14 / 30)
    estimate = relative_difference(a, b)
    assert ends(estimate) == pytest.approx((-0.47767, 0.61101), abs=5e-6)
    assert estimate is not None
    assert estimate.p_value == pytest.approx(0.80707, abs=5e-6)


def test_means_match_tea_tasting() -> None:
    """tea-tasting's example of pre-aggregated moments: absolute, log-relative and p-value."""
    a, b = Moments(1000, 2.0, 4.0), Moments(1010, 2.2, 4.0)
    assert difference(a, b).p_value == pytest.approx(0.0250945617, abs=1e-9)
    assert ends(difference(a, b)) == pytest.approx((0.0250245, 0.3749755), abs=1e-7)
    assert ends(log_relative_difference(a, b)) == pytest.approx((0.0117527, 0.1959444), abs=1e-7)


def test_the_ratio_of_means_matches_tea_tasting() -> None:
    """The delta method on moments gives tea-tasting's statistic and p-value."""
    estimate = difference(TEA_A.linearised(), TEA_B.linearised())
    assert estimate.se is not None
    assert estimate.value / estimate.se == pytest.approx(1.7835645102, abs=1e-9)
    assert estimate.p_value == pytest.approx(0.0746456950, abs=1e-9)


@pytest.mark.parametrize(
    ("counts", "p_value"),
    [([821588, 815482], 1.822e-6), ([600, 400], 2.54e-10), ([2023, 1977], 0.467)],
)
def test_sample_ratio_p_values_match_the_published_ones(counts: list[int], p_value: float) -> None:
    """Kohavi's book, the SRM FAQ, and tea-tasting's table (exact binomial there, 0.477)."""
    found = sample_ratio(counts, [0.5, 0.5]).p_value
    assert found == pytest.approx(p_value, rel=2e-3)


def test_zero_weight_arms_add_no_degree_of_freedom() -> None:
    """df = arms with positive weight - 1; an arm of weight zero is no cell of the test."""
    with_idle = sample_ratio([600, 400, 0], [0.5, 0.5, 0.0])
    assert with_idle.df == 1
    assert with_idle.p_value == pytest.approx(sample_ratio([600, 400], [0.5, 0.5]).p_value, rel=1e-9)


def test_a_unit_in_an_arm_of_weight_zero_is_a_mismatch() -> None:
    """What cannot happen under the weights has p = 0."""
    assert sample_ratio([500, 500, 1], [0.5, 0.5, 0.0]).failed


def test_three_arms_are_the_plain_chi_squared() -> None:
    """With one epoch the pooled test is scipy's χ²."""
    found = pooled_sample_ratio([[310, 330, 360]], [[1, 1, 1]])
    assert found.p_value == pytest.approx(scipy_stats.chisquare([310, 330, 360]).pvalue, rel=1e-9)


def test_a_ramp_is_not_a_mismatch() -> None:
    """Epochs of different allocation are judged against their own weights (PostHog #43804)."""
    assert not pooled_sample_ratio([[900, 100], [500, 500]], [[0.9, 0.1], [0.5, 0.5]]).failed
    assert sample_ratio([1400, 600], [0.5, 0.5]).failed


def test_no_units_and_one_arm_are_not_tested() -> None:
    """Where nothing can deviate there is no p-value."""
    assert sample_ratio([0, 0], [0.5, 0.5]).p_value is None
    assert sample_ratio([10], [1.0]).p_value is None
    assert pooled_sample_ratio([], []).p_value is None


def test_one_request_per_unit_is_welch() -> None:
    """The jackknife over units of one request each is s / sqrt(n) exactly."""
    values = np.array([1.0, 4.0, 2.0, 8.0, 5.0])
    estimate = clustered_ratio(values, np.ones(5))
    expected = scipy_stats.ttest_1samp(values, 0.0)
    assert estimate is not None
    assert estimate.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert estimate.df == pytest.approx(4.0)


def test_one_pair_per_unit_is_the_paired_t_test() -> None:
    """Clustering by unit changes nothing when every unit has one pair."""
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.5, 2.1, 3.9, 4.2])
    estimate = paired_difference(second - first, np.ones(4))
    assert estimate is not None
    assert estimate.p_value == pytest.approx(scipy_stats.ttest_rel(second, first).pvalue, rel=1e-9)


def test_mcnemar_looks_at_discordant_pairs_only() -> None:
    """Failures of one side only, with the textbook difference (b - c) / n."""
    b, c, n = 15, 5, 200
    first = np.repeat([1.0, 0.0], [c, n - c])
    second = np.concatenate([np.zeros(c), np.ones(b), np.zeros(n - b - c)])
    estimate = clustered_mcnemar(first, second, np.ones(n))
    assert estimate is not None
    assert estimate.value == pytest.approx((b - c) / n)
    assert estimate.se == pytest.approx(np.sqrt((b + c - (b - c) ** 2 / n) / (n * (n - 1))))


def test_holm_never_lowers_a_p_value_and_keeps_the_order() -> None:
    """Adjusted p-values are monotone in the given ones and at most 1."""
    given = [0.2, 0.001, 0.04, 0.04, 0.9]
    adjusted = holm(given)
    assert adjusted == pytest.approx([0.4, 0.005, 0.16, 0.16, 0.9])


def test_benjamini_and_hochbergs_own_example_comes_out() -> None:
    """Fifteen p-values of their paper (1995, section 3.2): four are rejected at 5 %; and scipy's values are ours."""
    given = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ]  # fmt: skip
    adjusted = [q for q in benjamini_hochberg(given) if q is not None]
    assert sum(q <= 0.05 for q in adjusted) == 4
    assert adjusted == pytest.approx(scipy_stats.false_discovery_control(given))


def test_a_slice_of_whole_units_is_a_two_sample_test() -> None:
    """Where no unit crosses the border and each has one pair, the contrast is Welch's difference and variance."""
    rng = np.random.default_rng(4)
    inside = np.repeat([1.0, 0.0], [40, 60])
    events = rng.random(100) < 0.3
    estimate = slice_contrast((events * inside, inside), (events * (1 - inside), 1 - inside))
    a, b = events[:40].astype(float), events[40:].astype(float)
    assert estimate is not None
    assert estimate.se is not None
    assert estimate.value == pytest.approx(a.mean() - b.mean())
    assert estimate.se**2 == pytest.approx(a.var(ddof=1) / 40 + b.var(ddof=1) / 60)
