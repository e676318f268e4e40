"""Job (p): the pairs are what they are called, and a cell that would measure something else fails."""

from __future__ import annotations

import pytest

from loadtests.bench import pairs
from loadtests.bench.figures import Pairs, Series
from loadtests.bench.job_pairs import pairs_of, ratio_of
from loadtests.bench.pair_bodies import FORMS, SIZES, Form, pair

SMALL = SIZES[:2]


@pytest.mark.parametrize("size", SMALL)
@pytest.mark.parametrize("name", FORMS)
def test_pairs_are_equal_or_different_as_they_are_called(name: str, size: str) -> None:
    """By the comparator that the protocol has, not by bytes."""
    form = FORMS[name]
    for seed in range(3):
        for different, outcome in ((False, "match"), (True, "mismatch")):
            legs = pair(form, size, seed, different=different)
            found = pairs.compared(form, legs)
            assert (found.outcome, found.comparator) == (outcome, form.comparator)
            assert legs[0].body != legs[1].body


@pytest.mark.parametrize("name", FORMS)
def test_pairs_are_functions_of_their_seed(name: str) -> None:
    """The same pair again, another one for another seed."""
    form = FORMS[name]
    assert pair(form, SIZES[0], 1, different=True) == pair(form, SIZES[0], 1, different=True)
    assert pair(form, SIZES[0], 1, different=True) != pair(form, SIZES[0], 2, different=True)


def test_the_largest_size_is_a_megabyte() -> None:
    """As it says, within a factor of two by protocol."""
    for name in ("V1", "V2 JSON", "other JSON", "embeddings"):
        body = pair(FORMS[name], SIZES[-1], 0, different=False)[0].body
        assert 2**19 < len(body) < 2**21


def test_a_pair_that_is_not_compared_as_its_protocol_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison of bytes would be fast, and no figure of this table."""
    monkeypatch.setitem(FORMS, "lost", Form("/nobody/knows", "v2", FORMS["V2 JSON"].write))
    with pytest.raises(RuntimeError, match=r"lost, 1 row: match .* by json, expected match by v2"):
        pairs.measure("lost", SIZES[0], 0.01)


def test_a_cell_measures_ours_and_every_peer_that_can_read_the_bodies() -> None:
    """What a cell prints is read back as a round."""
    costs = pairs.measure("V2 JSON", SIZES[0], 0.01)
    assert costs.equal_us > 0
    assert costs.different_us > 0
    assert costs.parsing_us is not None
    read = pairs_of(pairs.msgspec.json.encode(costs), 3)
    assert read == Pairs(3, costs.body_bytes, costs.equal_us, costs.different_us, costs.parsing_us, costs.deepdiff_us)


def test_a_ratio_is_the_median_of_the_rounds_and_none_without_a_peer() -> None:
    """Ours over theirs, round by round."""
    one = Series[Pairs]("V1", "", [Pairs(n, 10, ours, 9.0, 2.0, None) for n, ours in enumerate((2.0, 8.0, 4.0))])
    assert ratio_of(one, "equal_us", "parsing_us") == 2.0
    assert ratio_of(one, "different_us", "deepdiff_us") is None
