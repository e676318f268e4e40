"""Probability vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from proxy.predictions.comparators.comparing import Options, Unfit
from proxy.predictions.comparators.distributions import jensen_shannon, measure, total_variation
from proxy.predictions.outputs import Output

vectors = st.lists(st.floats(0.001, 1), min_size=2, max_size=6).map(lambda row: [x / sum(row) for x in row])
pairs = st.integers(2, 6).flatmap(lambda n: st.tuples(*[st.lists(st.floats(0.001, 1), min_size=n, max_size=n)] * 2))


def test_moved_mass_is_total_variation():
    """(0.5, 0.3, 0.2) and (0.2, 0.3, 0.5) differ in 0.3 of their mass."""
    assert total_variation([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]) == pytest.approx(0.3)


@given(pairs)
def test_the_divergence_is_scipys_square(pair):
    """scipy gives the distance, the root of the divergence."""
    p, q = ([x / sum(row) for x in row] for row in pair)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
    assert 0 <= jensen_shannon(p, q) <= 1
    assert jensen_shannon(p, q) == pytest.approx(jensen_shannon(q, p), abs=1e-12)


def test_rows_are_scaled_and_the_worst_counts():
    """Counts are as good as probabilities, and one bad row is not averaged away."""
    a = Output(values=[1, 1, 1, 3], shape=(2, 2))
    b = Output(values=[2, 2, 3, 1], shape=(2, 2))
    assert measure(a, b, Options())["total_variation"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "row", [[float("nan"), 1.0], [-0.1, 1.1], [0.0, 0.0], [float("inf"), 0.0], ["a", 1.0], [10**400, 1]]
)
def test_what_is_no_distribution_is_not_measured(row):
    """Such values are left to equality."""
    with pytest.raises(Unfit):
        measure(Output(values=row, shape=(2,)), Output(values=[0.5, 0.5], shape=(2,)), Options())
