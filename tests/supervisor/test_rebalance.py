"""An overfull worker closes some connections, not all at once and not for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.supervisor.rebalance import CLOSE_RATIO, OVERFULL_BY, OVERFULL_RATIO, REST_ROUNDS, ROUNDS, Rebalancer


def test_one_worker_is_never_asked() -> None:
    """There is nowhere else to go."""
    assert Rebalancer().step({1: 10_000}) == {}


def test_chance_alone_asks_for_nothing() -> None:
    """A few connections lie anyhow, and many stray by less than a quarter."""
    assert Rebalancer().step({1: 8, 2: 0}) == {}
    assert Rebalancer().step({1: 560, 2: 440}) == {}


def test_an_overfull_worker_is_asked_for_a_part_of_what_it_has_too_much() -> None:
    """A twentieth of its connections in a second, but never below the mean."""
    assert Rebalancer().step({1: 1000, 2: 0}) == {1: 50}
    assert Rebalancer().step({1: 20, 2: 0}) == {1: 1}


def test_it_is_called_off_when_the_worker_is_overfull_no_more() -> None:
    """Once, so that what was asked and not done yet is not done later."""
    rebalancer = Rebalancer()
    assert rebalancer.step({1: 100, 2: 0}) == {1: 5}
    assert rebalancer.step({1: 60, 2: 40}) == {1: 0}
    assert rebalancer.step({1: 60, 2: 40}) == {}


def test_where_it_does_not_help_comes_a_rest() -> None:
    """Connections that end no answer cannot be closed; asking on would only harm the others of that worker."""
    rebalancer = Rebalancer()
    asked = [rebalancer.step({1: 100, 2: 0}) for _ in range(ROUNDS + REST_ROUNDS + 1)]
    assert asked[:ROUNDS] == [{1: 5}] * ROUNDS
    assert asked[ROUNDS] == {1: 0}
    assert asked[ROUNDS + 1 : -1] == [{}] * (REST_ROUNDS - 1)
    assert asked[-1] == {1: 5}


@given(st.dictionaries(st.integers(1, 50), st.integers(0, 100_000), min_size=1, max_size=20))
def test_what_is_asked_for_is_bounded(connections: dict[int, int]) -> None:
    """Only of who is overfull, at most a twentieth (or one), and never more than brings it to the mean."""
    mean = sum(connections.values()) / len(connections)
    for worker, closing in Rebalancer().step(connections).items():
        count = connections[worker]
        assert count > mean * OVERFULL_RATIO
        assert count > mean + OVERFULL_BY
        assert 1 <= closing <= max(1, count * CLOSE_RATIO)
        assert count - closing >= mean - 1
