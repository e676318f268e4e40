"""Embeddings, sets and regression errors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions.comparators import errors_of_numbers, sets, vectors
from proxy.predictions.comparators.comparing import Options
from proxy.predictions.outputs import Output

numbers = st.floats(allow_nan=False, allow_infinity=False)


def made(*values, shape=None):
    return Output(values=list(values), shape=shape or (len(values),))


def test_cosine_by_hand():
    """(1, 0) and (1, 1) stand at 45 degrees, whatever their lengths; the worst row counts."""
    assert vectors.cosine([1.0, 0.0], [3.0, 3.0]) == pytest.approx(math.sqrt(0.5))
    a, b = made(1.0, 0.0, 0.0, 1.0, shape=(2, 2)), made(2.0, 0.0, 0.0, -1.0, shape=(2, 2))
    assert vectors.measure(a, b, Options()) == {"cosine": -1.0}


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5))
def test_cosine_is_symmetric_and_bounded(pairs):
    """Also where squares would leave the range of a double."""
    a, b = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    assert -1 <= vectors.cosine(a, b) <= 1
    assert vectors.cosine(a, b) == vectors.cosine(b, a)
    assert vectors.cosine(a, a) == 1


def test_jaccard_by_hand():
    """Two of four; how often and in which order does not count, the type does."""
    assert sets.measure(made("a", "b", "c", "a"), made("c", "b", "d"), Options()) == {"jaccard": 0.5}
    assert sets.measure(made(1), made(True), Options()) == {"jaccard": 0.0}
    assert sets.measure(made(), made(), Options()) == {"jaccard": 1.0}


def test_regression_errors_by_hand():
    """Shadow minus primary: 3 and -1."""
    found = errors_of_numbers.measure(made(1.0, 2.0), made(4.0, 1.0), Options())
    assert found == pytest.approx({"mae": 2.0, "rmse": math.sqrt(5), "bias": 1.0})
