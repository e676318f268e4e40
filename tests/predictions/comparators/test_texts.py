"""Texts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.predictions.comparators.comparing import Options
from proxy.predictions.comparators.texts import _distance, edit_similarity, measure, normalised, token_overlap
from proxy.predictions.outputs import Output

short = st.text("abc ", max_size=12)


def defined_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


@given(short.filter(bool), short)
def test_the_distance_is_levenshteins(a, b):
    """The bits of integers give what the table gives."""
    assert _distance(a, b) == defined_distance(a, b)


@given(short, short)
def test_edit_similarity_is_symmetric_and_bounded(a, b):
    """1 for equal texts alone."""
    found = edit_similarity(a, b)
    assert found == edit_similarity(b, a)
    assert 0 <= found <= 1
    assert (found == 1) == (a == b)


def test_published_distances():
    """kitten to sitting takes three edits, Saturday to Sunday three (Wagner and Fischer's problem)."""
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)
    assert edit_similarity("Saturday", "Sunday") == pytest.approx(1 - 3 / 8)


def test_normal_forms_are_the_same():
    """White space and the composition of characters are spelling."""
    assert normalised("cafe\u0301 \n au\tlait ") == normalised("caf\xe9 au lait")
    assert normalised("A") != normalised("a")


def test_words_in_common_count_as_often_as_they_occur():
    """Three of four and four words: 2 * 3 / 8."""
    assert token_overlap(["a", "a", "b", "c"], ["a", "a", "b", "d"]) == 0.75
    assert token_overlap([], []) == 1


def test_megabytes_are_still_told_apart():
    """Past the bound words stand for characters, and the result stays between nothing and the same."""
    draws = random.Random(1)
    words = [f"w{draws.randrange(500)}" for _ in range(100_000)]
    other = [word if draws.random() < 0.9 else "x" for word in words]
    found = measure(
        Output(values=[" ".join(words)], shape=(1,)), Output(values=[" ".join(other)], shape=(1,)), Options()
    )
    assert found["normalised"] == 0
    assert found["token_overlap"] == pytest.approx(0.9, abs=0.01)
    assert 0.8 < found["edit"] < 1
