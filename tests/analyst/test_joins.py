"""Joins: what waits is bounded, and every announced leg ends once."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.analyst.joins import EXCHANGE_WAIT_S, LET_GO, MARGIN_S, MAX_WAITING_BYTES, Joins

DEADLINES = {"s": 5.0, "t": 30.0}


def test_the_longest_deadline_of_the_missing_legs_counts(world: Any) -> None:
    """An exchange waits for its slowest shadow."""
    joins = Joins()
    x = world.exchange(1, shadows=["s", "t"], ts=0.0, latency_s=1.0)
    joins.add_exchange(x, DEADLINES, 10.0)
    assert not joins.expire(31.0 + MARGIN_S).lost
    assert joins.expire(31.1 + MARGIN_S).lost == [(x, "s"), (x, "t")]
    assert not joins.waiting


def test_a_shadow_without_a_known_deadline_has_the_default(world: Any) -> None:
    """It may have been removed from the configuration since."""
    joins = Joins()
    joins.add_exchange(world.exchange(1, shadows=["gone"], ts=0.0, latency_s=0.0), DEADLINES, 10.0)
    assert not joins.expire(10.0 + MARGIN_S).lost
    assert joins.expire(10.1 + MARGIN_S).lost


def test_bodies_that_wait_are_bounded(world: Any) -> None:
    """A shadow that stalls must not fill the memory; the pair says why it is incomparable."""
    joins = Joins()
    body = b"x" * (MAX_WAITING_BYTES // 2)
    exchanges = [world.exchange(number, request=None, response=body) for number in range(3)]
    for x in exchanges:
        joins.add_exchange(x, DEADLINES, 10.0)
    assert [x.response is None for x in exchanges] == [False, False, True]
    assert exchanges[2].logging_errors == [LET_GO]
    joins.add_leg(world.leg(0))
    joins.add_exchange(again := world.exchange(9, request=None, response=body), DEADLINES, 10.0)
    assert again.response is body


def test_a_leg_that_is_read_twice_counts_once(world: Any) -> None:
    """Neither before nor after its exchange does a second one make a second pair."""
    joins = Joins()
    assert joins.add_leg(world.leg(1)) is None
    assert joins.add_leg(world.leg(1)) is None
    assert len(joins.add_exchange(world.exchange(1, shadows=["s", "t"]), DEADLINES, 10.0)) == 1
    assert joins.add_leg(world.leg(1)) is None
    assert joins.add_leg(world.leg(1, shadow="t")) is not None


events = st.lists(
    st.tuples(st.sampled_from(["exchange", "s", "t", "time"]), st.integers(0, 2)), max_size=20, unique=True
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=events)
def test_every_announced_leg_ends_exactly_once(world: Any, order: list[tuple[str, int]]) -> None:
    """In whatever order exchanges, legs and time come, and whichever of them never does."""
    joins = Joins()
    ended: list[tuple[str, str]] = []
    announced: set[str] = set()
    now_s = 0.0

    def advance(to_s: float) -> None:
        expired = joins.expire(to_s)
        ended.extend((x.exchange_id, shadow) for x, shadow in expired.lost)
        ended.extend((leg.exchange_id, leg.shadow) for leg in expired.orphans)

    for what, number in order:
        if what == "time":
            now_s += 40.0
            advance(now_s)
        elif what == "exchange":
            x = world.exchange(number, shadows=["s", "t"], ts=now_s, latency_s=0.0)
            announced.add(x.exchange_id)
            ended += [(leg.exchange_id, leg.shadow) for leg in joins.add_exchange(x, DEADLINES, 10.0)]
        else:
            leg = world.leg(number, shadow=what, ts=now_s, latency_s=0.0)
            if joins.add_leg(leg) is not None:
                ended.append((leg.exchange_id, leg.shadow))
    advance(now_s + 10 * EXCHANGE_WAIT_S)
    assert len(ended) == len(set(ended))
    assert {(x, shadow) for x in announced for shadow in ("s", "t")} <= set(ended)
    advance(now_s + 100 * EXCHANGE_WAIT_S)
    assert joins == Joins()
