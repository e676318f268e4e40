"""Rankings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from proxy.predictions.comparators.comparing import Options
from proxy.predictions.comparators.rankings import kendall, measure, overlap, rank_biased_overlap, top_k
from proxy.predictions.outputs import Output

rankings = st.lists(st.integers(0, 12), unique=True, max_size=10)


def defined_rbo(a, b, p):
    """Equation 32 of Webber, Moffat and Zobel 2010, sum by sum."""
    short, long = sorted((a, b), key=len)
    s, l = len(short), len(long)  # noqa: E741
    x = [len(set(short[:d]) & set(long[:d])) for d in range(l + 1)]
    total = sum(x[d] / d * p**d for d in range(1, l + 1))
    total += sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * total + ((x[l] - x[s]) / l + x[s] / s) * p**l


@given(rankings.filter(bool), rankings.filter(bool), st.floats(0.1, 0.99))
def test_rbo_is_the_papers_equation(a, b, p):
    """Also for lists of different length; bounded and symmetric."""
    found = rank_biased_overlap(a, b, p)
    assert found == pytest.approx(defined_rbo(a, b, p), abs=1e-9)
    assert 0 <= found <= 1
    assert found == pytest.approx(rank_biased_overlap(b, a, p), abs=1e-12)


def test_rbo_by_hand():
    """Two items exchanged on top: agreement 0 at depth 1 and 1 from depth 2 on, so p."""
    assert rank_biased_overlap(["a", "b", "c"], ["b", "a", "c"], 0.9) == pytest.approx(0.9)
    assert rank_biased_overlap(["a"], ["b"], 0.9) == 0
    assert rank_biased_overlap([], ["b"], 0.9) == 0
    assert rank_biased_overlap([], [], 0.9) == 1


@given(st.permutations(range(7)))
def test_tau_is_scipys(order):
    """Without ties, tau-a and tau-b are one."""
    assert kendall(list(range(7)), order) == pytest.approx(kendalltau(range(7), [order.index(i) for i in range(7)])[0])


def test_tau_is_of_common_items():
    """What only one has is left out; of one item there is no order."""
    assert kendall([1, 9, 2, 3], [3, 2, 8, 1]) == -1
    assert kendall([1, 2], [1, 3]) is None


def test_overlap_at_k_is_a_share():
    """Order within the first k does not count."""
    assert overlap([1, 2, 3, 4], [2, 1, 5, 6], 2) == 1
    assert overlap([1, 2, 3, 4], [2, 1, 5, 6], 4) == 0.5
    assert overlap([1, 2], [1], 10) == 0.5
    assert overlap([], [], 10) == 1


def test_scores_rank_their_indices():
    """The highest first; the second best class may go while the best stays."""
    a, b = Output(values=[0.1, 0.6, 0.3], shape=(3,)), Output(values=[0.3, 0.6, 0.1], shape=(3,))
    assert top_k(a, b, Options(k=1)) == {"top_k": 1.0}
    assert top_k(a, b, Options(k=2)) == {"top_k": 0.5}
    assert measure(a, b, Options(k=2))["kendall"] == pytest.approx(1 / 3), "one of three pairs is exchanged"
