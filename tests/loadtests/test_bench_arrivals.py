"""Poisson arrivals and quantiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.arrivals import poisson_times, quantile


def test_the_same_seed_gives_the_same_times() -> None:
    """All systems of a round are asked at the same moments, and another round at others."""
    assert np.array_equal(poisson_times(1000, 2, 7), poisson_times(1000, 2, 7))
    assert not np.array_equal(poisson_times(1000, 2, 7)[:10], poisson_times(1000, 2, 8)[:10])


def test_arrivals_are_a_poisson_process() -> None:
    """The number varies by its square root, gaps are exponential: their mean is their deviation, and memory there is none."""
    counts = [poisson_times(1000, 1, seed).size for seed in range(200)]
    assert np.mean(counts) == pytest.approx(1000, abs=4 * math.sqrt(1000 / 200))
    assert np.var(counts) == pytest.approx(1000, rel=0.4)
    gaps = np.diff(poisson_times(5000, 10, 1))
    assert gaps.mean() == pytest.approx(1 / 5000, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


@given(st.floats(0.1, 5000), st.floats(0.1, 3), st.integers(0, 1000))
def test_times_are_in_order_and_within_the_window(rate: float, seconds: float, seed: int) -> None:
    """However short the window is, somebody comes."""
    times = poisson_times(rate, seconds, seed)
    assert times.size >= 1
    assert times[0] >= 0
    assert times[-1] < seconds
    assert np.all(np.diff(times) >= 0)


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1, 0), (-3, 1)])
def test_a_rate_of_nothing_is_refused(rate: float, seconds: float) -> None:
    """The message says what was given."""
    with pytest.raises(ValueError, match="both must be > 0"):
        poisson_times(rate, seconds, 1)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([5.0], 0.99, 5.0),
        (list(range(1, 101)), 0.99, 99.0),
        (list(range(1, 101)), 1.0, 100.0),
        (list(range(1, 101)), 0.0, 1.0),
        ([1.0] * 98 + [math.inf] * 2, 0.99, math.inf),
        ([1.0] * 99 + [math.inf], 0.99, 1.0),
    ],
)
def test_a_quantile_is_a_value_that_somebody_had(values: list[float], share: float, expected: float) -> None:
    """Nearest rank; one request in a hundred that hung is beyond the p99, two are not."""
    assert quantile(values, share) == expected


def test_a_quantile_of_nothing_is_no_number() -> None:
    """Not zero, which would be the best latency of all."""
    assert math.isnan(quantile([], 0.5))
